"""What went back to sites, and taking it back: a person asks, the site's own receipt answers."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

from msgspec import Meta

from crossdock.errors import Refused
from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit, connection, site_deliveries, site_links
from crossdock_controller.store.site_deliveries import SiteDelivery

PAGE = 100
MOST = 10_000


@served
def writebacks(
    data: DataDirectory,
    *,
    sink: str | None = None,
    document: str | None = None,
    key: str | None = None,
    state: str | None = None,
    limit: Annotated[int, Meta(ge=1, le=MOST)] = PAGE,
    within: Sites = EVERYWHERE,
) -> list[SiteDelivery]:
    """Newest first, of the last KEEP_DAYS; *state* is waiting, applied, rejected or undone."""
    with closing(connection.connect(data.state)) as db:
        asked = limit if within is EVERYWHERE else MOST
        found = site_deliveries.listed(db, sink=sink, document=document, key=key, state=state, limit=asked)
    return [row for row in found if within(row.site)][:limit]


@served
def undo(data: DataDirectory, sink: str, document: str, key: str, because: str, by: str, now_us: int) -> SiteDelivery:
    """Have the site put back what was there before the latest version of this document, if it is still as we wrote it.

    The order waits for the site like a delivery. Raises Refused when there is nothing to take back.
    """
    from crossdock_controller.store.wake import Waker

    if not because.strip():
        raise Refused("an undo needs its reason", hint="it stays on record: --because WHY")
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        row = site_deliveries.last_applied(db, sink, document, key)
        if row is None:
            raise Refused(
                f"nothing of {document} {key} is at a site by sink {sink}, as far as is known",
                hint=f"crossdock writebacks --sink {sink} shows what is",
            )
        agents = site_links.agents_of(db, row.site)
        if row.agent not in agents:
            raise Refused(
                f"agent {row.agent}, which wrote it, is not at site {row.site} any more",
                hint="what was there before is known to that agent alone: correct it at the site",
            )
        id_ = site_deliveries.put_undo(db, row, now_us)
        details = {"sink": sink, "site": row.site, "document": document, "key": key, "of": row.id, "because": because}
        audit.append(db, actor=by, action="writebacks.undo", target=id_.hex(), details=details, now_us=now_us)
        found = site_deliveries.get(db, id_)
    with closing(Waker(data.state)) as waker:
        waker.wake("downlink")
    assert found is not None  # noqa: S101 - it was put a moment ago
    return found
