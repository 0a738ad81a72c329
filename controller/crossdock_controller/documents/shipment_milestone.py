"""ShipmentMilestone: something that happened to a shipment on its way."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from crossdock_controller.documents.base import About, Document, join_key, register


@register
class ShipmentMilestone(Document, frozen=True, gc=False):
    """One event of a transport."""

    shipment_number: str
    code: str
    happened_at: datetime
    place: str = ""
    reason: str = ""
    carrier: str = ""
    tracking: str = ""
    reported_at: datetime | None = None
    expected_at: datetime | None = None
    signed_by: str = ""
    text: str = ""

    ABOUT: ClassVar[About] = {
        "shipment_number": "the shipper's number | 214 B1002 | IFTSTA RFF+CU | ShipmentID",
        "code": "`picked_up`, `departed`, `arrived`, `delivered`, `exception` ... | AT701 | STS 9011 | ConditionCode",
        "happened_at": "with the zone of the place | AT705-AT707 | DTM+334 | eventTime, eventTimeZoneOffset",
        "place": "| MS101-MS103 | LOC 3225 | bizLocation",
        "reason": "| AT702 | STS 9013 | ReasonCode",
        "carrier": "SCAC or name | B1003 | TDT C040 | CarrierParty",
        "tracking": "the carrier's number | B1001 | RFF+CN | TrackingID",
        "reported_at": "when the carrier said so | | DTM+137 | recordTime",
        "expected_at": "at the receiver, as known then | DTM 017 | DTM+17 | EstimatedDeliveryPeriod",
        "signed_by": "| K103 | | ReceivedBy",
        "text": "| | FTX | Description",
    }

    def key(self) -> str:
        parts = (self.shipment_number, self.code, self.happened_at.strftime("%Y%m%dT%H%M%SZ"), self.place)
        return join_key(self.issuer, *parts) if self.issuer else join_key(*parts)
