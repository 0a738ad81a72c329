"""Codes that nobody has said the meaning of: what waits for them, and the answers of people, on record."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit, codes, connection
from crossdock_controller.store.codes import Said, Waiting

MOST = 1000
Text = Annotated[str, Meta(min_length=1, max_length=MOST)]


@dataclass(frozen=True, slots=True)
class Answer:
    """*letters* dead letters wait for this code; they are mapped again in the background."""

    list: str
    value: str
    letters: int


@served
def codes_list(data: DataDirectory, *, by: str, now_us: int, within: Sites = EVERYWHERE) -> list[Waiting]:
    """Codes without a meaning, most waiting records first. On record: they are of records."""
    with closing(connection.connect(data.state)) as db:
        found = [waiting for waiting in codes.waiting(db) if within(waiting.site)]
        with connection.transaction(db):
            audit.append(db, actor=by, action="codes.list", details={"codes": len(found)}, now_us=now_us)
    return found


@served
def codes_export(data: DataDirectory, name: str = "", *, by: str, now_us: int) -> list[Said]:
    """What people filled in, of the list *name* or of all: to be put into the lists of the configuration."""
    with closing(connection.connect(data.state)) as db:
        found = codes.said(db, name)
        with connection.transaction(db):
            audit.append(db, actor=by, action="codes.export", target=name, now_us=now_us)
    return found


@served
def codes_set(
    data: DataDirectory, name: str, value: Text, meaning: Text, site: str = "", *, note: str = "", by: str, now_us: int
) -> Answer:
    """*value* of the list *name* means *meaning*, at *site* or everywhere; what waited is mapped again."""
    return _say(data, name, value, site, "given", meaning, by=by, note=note, now_us=now_us)


@served
def codes_ignore(
    data: DataDirectory, name: str, value: Text, site: str = "", *, note: str, by: str, now_us: int
) -> Answer:
    """Records with *value* of the list *name* are given up, those that wait and those to come."""
    return _say(data, name, value, site, "ignored", "", by=by, note=note, now_us=now_us)


def _say(
    data: DataDirectory, name: str, value: str, site: str, state: codes.State, meaning: str, *, by: str, note: str,
    now_us: int,
) -> Answer:  # fmt: skip
    from crossdock_controller.store.wake import Waker

    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        letters = codes.say(db, name, value, site, state, meaning, by=by, note=note, now_us=now_us)
    with closing(Waker(data.state)) as waker:
        waker.wake("normalize")
    return Answer(name, value, letters)
