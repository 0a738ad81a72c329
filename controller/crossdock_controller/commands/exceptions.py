"""Exceptions: what is wrong, whose it is and until when; and the ways to settle all of one cause at once.

The owner is found when somebody looks, by the teams of the revision in force; what was assigned by hand comes
first, for as long as anything of it is open that was open then.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from crossdock.errors import Refused
from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.commands import owners
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit, connection, exception_views, exceptions
from crossdock_controller.store.exception_views import ItemRow, Note, Tally

SAMPLES = 20
A_CALL = 2000  # letters: a call answers within a second or two, and its caller asks for the next ones
MOST_US = 4_102_444_800_000_000  # the year 2100
Text = Annotated[str, Meta(min_length=1, max_length=2000)]
Cause = Annotated[str, Meta(min_length=1, max_length=2000)]
_RANK = {"reject": 0, "hold": 1, "warn": 2}


@dataclass(frozen=True, slots=True)
class Group:
    """All open items of one cause. *due_us* is 0 when nobody owns it; *sample* is the title of one of them."""

    cause: str
    kind: str
    severity: str
    count: int
    oldest_us: int
    newest_us: int
    owner: str
    assigned: bool
    members: list[str]
    due_us: int
    overdue: bool
    sites: list[str]
    documents: list[str]
    sample: str


@dataclass(frozen=True, slots=True)
class Shown:
    """*items* are the oldest SAMPLES of the group; *history* is what was done about the cause, oldest first."""

    group: Group
    items: list[ItemRow]
    history: list[Note]
    next: list[str]


@dataclass(frozen=True, slots=True)
class Step:
    """What became of some letters: *refused* are (letter, why), at most 20 of the *left*. Ask on, with this *cause* and
    *after*, until *more* is false."""

    cause: str
    done: int
    left: int
    refused: list[tuple[int, str]]
    after: int
    more: bool


@served
def exceptions_list(
    data: DataDirectory,
    *,
    by: str,
    now_us: int,
    mine: bool = False,
    overdue: bool = False,
    site: str = "",
    document: str = "",
    within: Sites = EVERYWHERE,
) -> list[Group]:
    """Open exceptions by cause: what is due first comes first, what has no owner last. On record: titles name what was
    in records. *mine*: those of teams whose member the caller is, and those assigned to the caller."""
    with closing(connection.connect(data.state)) as db:
        teams = owners.read(db)
        found = [t for t in exception_views.tallies(db) if within(t.site) and site in {"", t.site}]
        found = [t for t in found if not document or document.lower() in teams.document_of(t).lower()]
        groups = _groups(db, teams, found, now_us)
        with connection.transaction(db):
            details = {"causes": len(groups), "site": site, "document": document}
            audit.append(db, actor=by, action="exceptions.list", details=details, now_us=now_us)
    me = by.partition(":")[2] or by
    return [g for g in groups if (not overdue or g.overdue) and (not mine or me in g.members)]


@served
def exceptions_show(data: DataDirectory, cause: Cause, *, by: str, now_us: int, within: Sites = EVERYWHERE) -> Shown:
    """One cause with its oldest items and what was done about it, on record. *cause* is the whole, or how it
    begins when no other begins so. Raises Refused when nothing of it is open."""
    with closing(connection.connect(data.state)) as db:
        name, tallies = _open(db, cause, within)
        (group,) = _groups(db, owners.read(db), tallies, now_us)
        found = [item for item in exception_views.items(db, name) if within(item.site)][:SAMPLES]
        history = [note for note in exception_views.notes(db, name) if within(note.site)]
        with connection.transaction(db):
            audit.append(db, actor=by, action="exceptions.show", target=name, now_us=now_us)
    return Shown(group, found, _once(history), _next(group, found))


@served
def exceptions_assign(
    data: DataDirectory,
    cause: Cause,
    to: Annotated[str, Meta(max_length=200)] | None = None,
    due_us: Annotated[int, Meta(ge=0, le=MOST_US)] | None = None,
    *,
    by: str,
    now_us: int,
    within: Sites = EVERYWHERE,
) -> Group:
    """From now on *cause* is that of *to* (a user or a team; "" gives it back to the team whose it is by rule), or is
    due at *due_us* (0: by the team's hours again), at the caller's sites."""
    if to is None and due_us is None:
        raise Refused("nothing was said to change", hint="name somebody, or --due TIME")
    with closing(connection.connect(data.state)) as db:
        name, tallies = _open(db, cause, within)
        sites = sorted({t.site for t in tallies})
        said = [] if to is None else [f"to {to}" if to else "to its team again"]
        said += [] if due_us is None else [f"due {_moment(due_us)}" if due_us else "due by the team's hours again"]
        with connection.transaction(db):
            exception_views.assign(db, name, sites, assigned=to, due_us=due_us, by=by, now_us=now_us)
            exception_views.note(db, name, sites, what="assigned", text=", ".join(said), by=by, now_us=now_us)
        return _groups(db, owners.read(db), tallies, now_us)[0]


@served
def exceptions_note(
    data: DataDirectory, cause: Cause, text: Text, *, by: str, now_us: int, within: Sites = EVERYWHERE
) -> None:
    """Keep *text* beside the cause, with who wrote it."""
    with closing(connection.connect(data.state)) as db:
        name, tallies = _open(db, cause, within)
        with connection.transaction(db):
            sites = sorted({t.site for t in tallies})
            exception_views.note(db, name, sites, what="noted", text=text, by=by, now_us=now_us)
            audit.append(db, actor=by, action="exceptions.note", target=name, now_us=now_us)


@served
def exceptions_retry(
    data: DataDirectory,
    cause: Cause,
    changes: Mapping[str, str],
    note: Annotated[str, Meta(max_length=2000)] = "",
    after: int = 0,
    *,
    by: str,
    now_us: int,
    within: Sites = EVERYWHERE,
) -> Step:
    """Try dead letters of *cause* again, records with *changes* to their columns: at most A_CALL, beyond item *after*.
    Documents that a rule holds are released.

    Each letter is on record as if it had been retried alone; one that is still refused stays open and counts as left.
    """
    from crossdock_controller import clearing

    with closing(connection.connect(data.state)) as db:
        name, page, more = _page(db, cause, after, within)
        _only_letters(name, page, changes)
        numbers = [item.letter for item in page if item.letter is not None]
        held = _held(page)
        cleared = (
            clearing.settle_holds(db, held, release=True, by=by, note=note)
            if held
            else clearing.retry(db, owners.runtimes(db), numbers, changes, by=by, note=note)
        )
        if cleared.done:
            what = "fixed" if changes else "retried"
            said = f"{cleared.done} of {len(numbers)}" + (f": {', '.join(sorted(changes))} set" if changes else "")
            _record(db, name, page, what, said, f"exceptions.{'fix' if changes else 'retry'}", by, now_us)
    _wake(data)
    return Step(name, cleared.done, cleared.left, cleared.refused, page[-1].id if page else after, more)


@served
def exceptions_resolve(
    data: DataDirectory,
    cause: Cause,
    because: Text,
    after: int = 0,
    *,
    by: str,
    now_us: int,
    within: Sites = EVERYWHERE,
) -> Step:
    """Settle what is open of *cause*, on record with the reason: dead letters and held documents are discarded, at
    most A_CALL items beyond item *after*."""
    from crossdock_controller import clearing

    with closing(connection.connect(data.state)) as db:
        name, page, more = _page(db, cause, after, within)
        numbers = [item.letter for item in page if item.letter is not None]
        cleared = clearing.discard(db, numbers, by=by, note=because)
        cleared.done += clearing.settle_holds(db, _held(page), release=False, by=by, note=because).done
        others = [item.id for item in page if item.letter is None and item.kind != "hold"]
        with connection.transaction(db):
            exceptions.resolve_items(db, others, by=by, outcome=because, now_us=now_us)
        _record(db, name, page, "resolved", because, "exceptions.resolve", by, now_us)
    _wake(data)
    done = cleared.done + len(others)
    return Step(name, done, cleared.left, cleared.refused, page[-1].id if page else after, more)


def _open(db: sqlite3.Connection, cause: str, within: Sites) -> tuple[str, list[Tally]]:
    """(whole name, what is open of it at the caller's sites). Raises Refused."""
    found = [t for t in exception_views.tallies(db, cause) if within(t.site)]
    if found:
        return cause, found
    every = [t for t in exception_views.tallies(db) if t.cause.startswith(cause) and within(t.site)]
    names = sorted({t.cause for t in every})
    if len(names) == 1:
        return names[0], every
    if names:
        raise Refused(f"{len(names)} causes begin with {cause!r}", hint=f"which one: {', '.join(names[:3])} ...?")
    raise Refused(f"nothing is open of {cause!r}", hint="crossdock exceptions list shows what is")


def _page(db: sqlite3.Connection, cause: str, after: int, within: Sites) -> tuple[str, list[ItemRow], bool]:
    """(cause, its next items at the caller's sites, whether there may be more)."""
    name = cause
    if not after:
        name, _ = _open(db, cause, within)
    elif not exception_views.items(db, cause, after=after, limit=1):
        return cause, [], False
    found: list[ItemRow] = []
    while len(found) < A_CALL:
        rows = exception_views.items(db, name, after=after, limit=A_CALL)
        if not rows:
            return name, found, False
        after = rows[-1].id
        found += [item for item in rows if within(item.site)]
    return name, found, True


def _only_letters(name: str, page: list[ItemRow], changes: Mapping[str, str]) -> None:
    """Raises Refused, naming the way out, for what is not settled by trying again."""
    other = next((item for item in page if item.letter is None and (changes or item.kind != "hold")), None)
    if other is None:
        return
    ways = {
        "hold": "crossdock exceptions retry releases them as they are",
        "code": "crossdock codes gives it a meaning; what waited goes on",
        "difference": f"crossdock reconcile {name.split(':')[1] if ':' in name else 'NAME'} --now compares again",
    }
    raise Refused(
        f"{name!r} is no dead letter that could be {'corrected' if changes else 'tried again'}",
        hint=ways.get(other.kind, "crossdock exceptions resolve settles it"),
    )


def _held(page: list[ItemRow]) -> list[int]:
    """Events that a rule holds."""
    return [item.event_seq for item in page if item.kind == "hold" and item.event_seq is not None]


def _record(
    db: sqlite3.Connection, name: str, page: list[ItemRow], what: str, said: str, action: str, by: str, now_us: int
) -> None:
    sites = sorted({item.site for item in page})
    with connection.transaction(db):
        exception_views.note(db, name, sites, what=what, text=said, by=by, now_us=now_us)
        audit.append(db, actor=by, action=action, target=name, details={"items": len(page)}, now_us=now_us)


def _groups(db: sqlite3.Connection, teams: owners.Owners, tallies: list[Tally], now_us: int) -> list[Group]:
    by_cause: dict[str, list[Tally]] = {}
    for tally in tallies:
        by_cause.setdefault(tally.cause, []).append(tally)
    assigned = exception_views.assignments(db)
    groups = [_group(teams, assigned, cause, of, now_us) for cause, of in by_cause.items()]
    return sorted(groups, key=lambda g: (not g.due_us, g.due_us, _RANK.get(g.severity, 3), g.cause))


def _group(
    teams: owners.Owners,
    assigned: Mapping[tuple[str, str], exception_views.Assignment],
    cause: str,
    tallies: list[Tally],
    now_us: int,
) -> Group:
    owned = [teams.ownership(t, assigned.get((cause, t.site))) for t in tallies]
    names = list(dict.fromkeys(o.owner for o in owned if o.owner))
    due_us = min((o.due_us for o in owned if o.due_us), default=0)
    newest = max(tallies, key=lambda t: t.newest_us)
    return Group(
        cause=cause,
        kind=newest.kind,
        severity=min((t.severity for t in tallies), key=lambda s: _RANK.get(s, 3)),
        count=sum(t.count for t in tallies),
        oldest_us=min(t.oldest_us for t in tallies),
        newest_us=newest.newest_us,
        owner=", ".join(names),
        assigned=any(o.assigned for o in owned),
        members=sorted({m for o in owned for m in (*o.members, *([o.owner] if o.assigned else []))}),
        due_us=due_us,
        overdue=0 < due_us < now_us,
        sites=sorted({t.site for t in tallies}),
        documents=sorted({d for t in tallies if (d := teams.document_of(t))}),
        sample=newest.title,
    )


def _once(history: list[Note]) -> list[Note]:
    """A note for several sites is one note."""
    return list({(n.at_us, n.actor, n.what, n.text): n for n in history}.values())


def _next(group: Group, items: list[ItemRow]) -> list[str]:
    cause = f'"{group.cause}"'
    if group.kind == "record":
        return [
            f"look at one: crossdock dead show {items[0].letter}",
            f"correct all of them: crossdock exceptions fix {cause} --set COLUMN=VALUE",
            f"or correct the mapping, apply it, then: crossdock exceptions retry {cause}",
        ]
    if group.kind == "delivery":
        return [f"when {items[0].sink} would take them now: crossdock exceptions retry {cause}"]
    if group.kind == "hold":
        return [
            f"look at one: crossdock holds show {items[0].event_seq}",
            f"release all of them: crossdock exceptions retry {cause}",
            f'or give them up: crossdock exceptions resolve {cause} --because "why"',
        ]
    if group.kind == "code":
        _, _, said = group.cause.partition(":")
        name, _, value = said.partition(":")
        return [f"say what it means, and what waited goes on: crossdock codes set {name} {value}=MEANING"]
    if group.kind == "difference":
        return [f"crossdock reconcile {group.cause.split(':')[1]} --now"]
    return [f'crossdock exceptions resolve {cause} --because "why"']


def _moment(at_us: int) -> str:
    return f"{dt.datetime.fromtimestamp(at_us / 1_000_000, dt.UTC):%Y-%m-%d %H:%M} UTC"


def _wake(data: DataDirectory) -> None:
    from crossdock_controller.store.wake import Waker

    with closing(Waker(data.state)) as waker:
        waker.wake("normalize")
        waker.wake("dispatch")
