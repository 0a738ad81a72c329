"""Payment: money that moved, and the invoices it settles."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Line, Money, Party, numbered_key, register


class PaymentLine(Line, frozen=True, gc=False):
    """One invoice that is settled, whole or in part."""

    invoice_number: str
    amount: Money
    discount: Money | None = None
    adjustment: Money | None = None
    reason: str = ""

    ABOUT: ClassVar[About] = {
        "invoice_number": "| RMR02 (IV) | DOC 1004 | BillingReference",
        "amount": "settled | RMR04 | MOA+12 | PaidAmount",
        "discount": "taken | RMR06 | MOA+52 | SettlementDiscountAmount",
        "adjustment": "other difference | ADX01 | AJT, MOA+165 |",
        "reason": "of the adjustment | ADX02 | AJT 4465 |",
    }


@register
class Payment(Document, frozen=True, gc=False):
    """What was paid."""

    number: str
    lines: tuple[PaymentLine, ...] = ()
    paid_on: date | None = None
    amount: Money | None = None
    method: str = ""
    status: str = ""
    payer: Party | None = None
    payee: Party | None = None
    reference: str = ""

    ABOUT: ClassVar[About] = {
        "number": "of the payment | 820 TRN02 | REMADV BGM 1004 | RemittanceAdvice/ID",
        "paid_on": "value date | BPR16 | DTM+209 | PaymentDate",
        "amount": "in all | BPR02 | MOA+9 | TotalPaymentAmount",
        "method": "`transfer`, `card`, `cheque` ... | BPR04 | PAI 4461 | PaymentMeansCode",
        "status": "| BPR01 | BGM 1225 |",
        "payer": "| N1 PR | NAD+PR | AccountingCustomerParty",
        "payee": "| N1 PE | NAD+PE | AccountingSupplierParty",
        "reference": "at the bank | TRN04 | RFF+AEK | PaymentID",
    }

    def key(self) -> str:
        return numbered_key(self.issuer, self.number)
