"""The current state: what a document is now, how it came to be, what each system has of it; and which there are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from crossdock.errors import ConfigError
from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.commands.trace import _kind
from crossdock_controller.hints import did_you_mean
from crossdock_controller.paths import DataDirectory
from crossdock_controller.projecting import NAMES, refs_of
from crossdock_controller.served import served
from crossdock_controller.store import audit, connection, projection, state_views
from crossdock_controller.store import trace as traces
from crossdock_controller.store.bodies import Bodies
from crossdock_controller.store.deliveries import State
from crossdock_controller.store.state_views import Row

MOST = 1000
MOST_CHANGES = 100  # of one version
STATES = ("pending", "retrying", "held", "dead", "discarded", "done")
Word = Annotated[str, Meta(max_length=300)]


@dataclass(frozen=True, slots=True)
class Change:
    """One field from the version before to this one; None where it was not there."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Version:
    """*number* counts this document's versions from 1; *changes* is empty for the first."""

    number: int
    seq: int
    at_us: int
    received_us: int
    site: str
    agent: str
    source: str
    place: str
    revision: int
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Belief:
    """What a sink has: version *has* (0: none). *state* is that of the latest version it was to get; *waiting* are
    (version, state) of what it does not have yet."""

    sink: str
    has: int
    state: str
    waiting: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Known:
    """A document as it is now, its versions oldest first, and what each sink has of it."""

    document: str
    key: str
    body: Any
    versions: list[Version]
    sinks: list[Belief]


@dataclass(frozen=True, slots=True)
class Found:
    """The latest version of a document. *states* are of its deliveries, by sink."""

    document: str
    key: str
    seq: int
    at_us: int
    site: str
    source: str
    place: str
    states: dict[str, str]


@served
def get(
    data: DataDirectory, number: Word, document: Word = "", *, by: str, now_us: int, within: Sites = EVERYWHERE
) -> list[Known]:
    """Documents of this number, or whole key; on record. Empty for an unknown one. Raises ConfigError for a kind that
    there is not."""
    kind = _kind(data, document) if document else ""
    with closing(connection.connect(data.state)) as db:
        with connection.transaction(db):
            audit.append(db, actor=by, action="state.get", target=number, details={"document": kind}, now_us=now_us)
        bodies = Bodies(db)
        with connection.snapshot(db):
            found = state_views.keys(db, _kinds(db, kind), number)
            known = [_known(db, bodies, document, key, within) for document, key in found]
    return [k for k in known if k is not None]


@served
def find(
    data: DataDirectory,
    refs: dict[str, str],
    document: Word = "",
    since_us: Annotated[int, Meta(ge=0)] = 0,
    site: Word = "",
    state: Word = "",
    limit: Annotated[int, Meta(ge=1, le=MOST)] = 100,
    *,
    by: str,
    now_us: int,
    within: Sites = EVERYWHERE,
) -> list[Found]:
    """The latest version of each document that fits all that is asked, newest first; on record. *refs* are what it
    refers to, by name (customer, supplier, sku, order, shipment, reference). Raises ConfigError for other words."""
    for name in refs:
        if name not in NAMES:
            raise ConfigError(f"documents are not known by {name!r}", hint=did_you_mean(name, NAMES))
    if state and state not in STATES:
        raise ConfigError(f"{state!r} is no state of a delivery", hint=did_you_mean(state, STATES))
    kind = _kind(data, document) if document else ""
    with closing(connection.connect(data.state)) as db:
        with connection.transaction(db):
            details = {"document": kind, "by": sorted(refs), "site": site, "state": state}
            audit.append(db, actor=by, action="state.find", details=details, now_us=now_us)
        bodies = Bodies(db)
        with connection.snapshot(db):
            found: list[Found] = []
            for row in _candidates(db, _kinds(db, kind), refs, since_us, state):
                if site not in {"", row.site} or not within(row.site) or not _refers(bodies, row, refs):
                    continue
                states = {sink: word for sink, _, word in state_views.standing(db, [row.seq])}
                if state and state not in states.values():
                    continue
                found.append(Found(row.document, row.key, row.seq, row.at_us, row.site, row.source, row.place, states))
                if len(found) >= limit:
                    break
    return found


def _kinds(db: sqlite3.Connection, kind: str) -> list[str]:
    """Every kind in the log that *kind* means: a whole name, or the end of several; all without one."""
    return [k for k in traces.documents(db) if k.lower().endswith(kind.lower())]


def _candidates(
    db: sqlite3.Connection, kinds: Sequence[str], refs: dict[str, str], since_us: int, state: str
) -> Iterator[Row]:
    """Latest versions, newest first, among which all are that fit."""
    sets = [projection.referring(db, name, value) for name, value in refs.items()]
    if state in {"retrying", "held", "dead"}:
        sets.append(state_views.in_state(db, State[state.upper()]))
    if sets:
        wanted = {found for found in set.intersection(*sets) if found[0] in kinds}
        yield from (row for row in state_views.latest(db, wanted) if row.at_us >= since_us)
        return
    seen: set[tuple[str, str]] = set()
    before: int | None = None
    while rows := state_views.newest(db, kinds, since_us, before):
        for row in rows:
            if (row.document, row.key) not in seen:
                seen.add((row.document, row.key))
                yield row
        before = rows[-1].seq


def _refers(bodies: Bodies, row: Row, refs: dict[str, str]) -> bool:
    """Whether the latest version still does: an earlier one may have."""
    if not refs:
        return True
    body = msgspec.json.decode(state_views.body(bodies, row))
    return refs.items() <= refs_of(row.document, body)


def _known(db: sqlite3.Connection, bodies: Bodies, document: str, key: str, within: Sites) -> Known | None:
    """As the caller may see it: versions of other sites are left out; None when none is left."""
    rows = [row for row in state_views.versions(db, document, key) if within(row.site)]
    if not rows:
        return None
    number = {row.seq: n for n, row in enumerate(rows, 1)}
    told: list[Version] = []
    before: Any = None
    for row in rows:
        body = msgspec.json.decode(state_views.body(bodies, row))
        changes = _changes(before, body) if told else []
        told.append(
            Version(
                number[row.seq], row.seq, row.at_us, row.received_us, row.site, row.agent, row.source, row.place,
                row.revision, changes,
            )
        )  # fmt: skip
        before = body
    return Known(document, key, before, told, _beliefs(db, number))


def _beliefs(db: sqlite3.Connection, number: dict[int, int]) -> list[Belief]:
    by_sink: dict[str, list[tuple[int, str]]] = {}
    for sink, seq, state in state_views.standing(db, number):
        by_sink.setdefault(sink, []).append((number[seq], state))
    return [
        Belief(
            sink=sink,
            has=max((n for n, state in stands if state == "done"), default=0),
            state=stands[-1][1],
            waiting=[(n, state) for n, state in stands if state != "done"],
        )
        for sink, stands in by_sink.items()
    ]


def _changes(before: Any, after: Any) -> list[Change]:
    was, now = dict(_leaves(before, "")), dict(_leaves(after, ""))
    paths = [p for p in {**was, **now} if was.get(p) != now.get(p)]
    return [Change(p, was.get(p), now.get(p)) for p in paths[:MOST_CHANGES]]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Values by dotted path; elements of lists are counted from 1."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for n, inner in enumerate(value, 1):
            yield from _leaves(inner, f"{path}.{n}")
    else:
        yield path, value if isinstance(value, str) else msgspec.json.encode(value).decode()
