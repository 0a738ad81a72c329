"""Documents that a rule holds: what and why; released, or given up, by a person, on record."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

from msgspec import Meta

from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit, connection, holds
from crossdock_controller.store.holds import Held, State

PAGE = 100
MOST = 10_000


@served
def holds_list(
    data: DataDirectory,
    *,
    by: str,
    now_us: int,
    state: State | None = "open",
    document: str | None = None,
    limit: Annotated[int, Meta(ge=1, le=MOST)] = PAGE,
    within: Sites = EVERYWHERE,
) -> list[Held]:
    """Oldest first; *state* None means every state. On record: the reasons name what was in records."""
    found: list[Held] = []
    after = 0
    with closing(connection.connect(data.state)) as db:
        while len(found) < limit:
            page = holds.list_all(db, state=state, document=document, limit=limit, after=after)
            found += [held for held in page if within(held.site)]
            if len(page) < limit:
                break
            after = page[-1].seq
        with connection.transaction(db):
            audit.append(db, actor=by, action="holds.list", details={"held": len(found[:limit])}, now_us=now_us)
    return found[:limit]


@served
def holds_show(data: DataDirectory, event: int, *, by: str, now_us: int) -> Held:
    """One in full, on record. Raises Refused when that event was never held."""
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        audit.append(db, actor=by, action="holds.show", target=str(event), now_us=now_us)
        return holds.get(db, event)


@served
def holds_release(data: DataDirectory, event: int, *, by: str, note: str, now_us: int) -> Held:
    """Its deliveries are due now, and so is what waited behind it. Raises Refused when it is not held any more."""
    with closing(connection.connect(data.state)) as db:
        with connection.transaction(db):
            holds.release(db, event, by=by, note=note, now_us=now_us)
        found = holds.get(db, event)
    _wake(data)
    return found


@served
def holds_discard(data: DataDirectory, event: int, *, by: str, note: str, now_us: int) -> Held:
    """It goes nowhere; what waited behind it is due now. Raises Refused when it is not held any more."""
    with closing(connection.connect(data.state)) as db:
        with connection.transaction(db):
            holds.discard(db, event, by=by, note=note, now_us=now_us)
        found = holds.get(db, event)
    _wake(data)
    return found


def _wake(data: DataDirectory) -> None:
    from crossdock_controller.store.wake import Waker

    with closing(Waker(data.state)) as waker:
        waker.wake("dispatch")
