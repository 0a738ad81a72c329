"""Dead letters: what was set aside and why; corrected and retried, or given up, by a person, on record."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Annotated

from msgspec import Meta

from crossdock.errors import ConfigError
from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit, codes, connection, dead_letters, revisions, targets
from crossdock_controller.store.dead_letters import DeadLetter

PAGE = 100
MOST = 10_000


@served
def dead_list(
    data: DataDirectory,
    *,
    by: str,
    now_us: int,
    state: str | None = "open",
    source: str | None = None,
    limit: Annotated[int, Meta(ge=1, le=MOST)] = PAGE,
    within: Sites = EVERYWHERE,
) -> list[DeadLetter]:
    """Newest first; *state* None means every state. On record: they hold what was in the records."""
    with closing(connection.connect(data.state)) as db:
        found = _page(db, state, source, limit, within)
        details = {"letters": len(found), "source": source or ""}
        with connection.transaction(db):
            audit.append(db, actor=by, action="dead.list", details=details, now_us=now_us)
    return found


def _page(db: sqlite3.Connection, state: str | None, source: str | None, limit: int, within: Sites) -> list[DeadLetter]:
    """The newest *limit* of the sites in *within*."""
    found: list[DeadLetter] = []
    before: int | None = None
    while len(found) < limit:
        page = dead_letters.list_all(db, state=state, source=source, limit=limit, before=before)
        found += [letter for letter in page if within(letter.site)]
        if len(page) < limit:
            break
        before = page[-1].id
    return found[:limit]


@served
def dead_show(data: DataDirectory, letter: int, *, by: str, now_us: int) -> DeadLetter:
    """One in full, on record. Raises Refused when there is none of that number."""
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        audit.append(db, actor=by, action="dead.show", target=str(letter), now_us=now_us)
        return dead_letters.get(db, letter)


@served
def dead_retry(
    data: DataDirectory, letter: int, changes: Mapping[str, str], by: str, note: str, force: bool = False
) -> DeadLetter:
    """Try it again, with *changes* to its columns ("QTY", or "2.QTY" for its second row); the letter as it is after.
    *force*: even after a later version of its document.

    Raises Refused when it is not open or has no such column, Rejected when the mapping still cannot take it.
    """
    from crossdock_controller import letters
    from crossdock_controller.config.runtime import Runtime
    from crossdock_controller.store.wake import Waker

    with closing(connection.connect(data.state)) as db:
        number = targets.read(db).of(dead_letters.get(db, letter).site)  # by what its site is to run
        tree = revisions.tree(db, number)
        if tree is None:
            raise ConfigError("there is no configuration to map it by", hint="crossdock apply DIR")
        runtime = Runtime.from_tree(tree, number)
        runtime.asks(codes.Meanings(db))
        found = letters.retry(db, runtime, letter, changes, by=by, note=note, force=force)
    with closing(Waker(data.state)) as waker:
        waker.wake("normalize")
        waker.wake("dispatch")
    return found


@served
def dead_discard(data: DataDirectory, letter: int, by: str, note: str) -> DeadLetter:
    """Give it up; what it held goes on. Raises Refused when it is not open any more."""
    from crossdock_controller import letters
    from crossdock_controller.store.wake import Waker

    with closing(connection.connect(data.state)) as db:
        found = letters.discard(db, letter, by=by, note=note)
    with closing(Waker(data.state)) as waker:
        waker.wake("dispatch")
    return found
