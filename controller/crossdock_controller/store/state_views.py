"""What is known of documents now: by key, by what they refer to, by where their deliveries stand."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crossdock_controller.outcomes import Locator
from crossdock_controller.store import projection
from crossdock_controller.store.bodies import Bodies
from crossdock_controller.store.deliveries import State

MOST_VERSIONS = 200
MOST_SCANNED = 500_000  # events, for a question that no index answers
_PAGE = 5000


@dataclass(frozen=True, slots=True)
class Row:
    """One version of a document, and where it came from."""

    seq: int
    document: str
    key: str
    site: str
    agent: str
    source: str
    place: str
    received_us: int
    at_us: int  # normalized
    revision: int
    body: tuple[int, int, int]


_SELECT = (
    "SELECT e.seq, e.document, e.key, s.site, s.agent, s.source, i.origin_kind, i.origin_name, e.record, e.line,"
    " e.locator, i.received_us, i.normalized_us, i.revision, e.body_id, e.body_start, e.body_length"
    " FROM events e JOIN inputs i ON i.id = e.input_id JOIN sources s ON s.id = i.source_id"
)


def keys(db: sqlite3.Connection, kinds: Sequence[str], number: str, limit: int = 20) -> list[tuple[str, str]]:
    """(document, key) of every document of *kinds* with this key; or, where there is none, with this number, by
    whichever issuer; or with it as a part of the key."""
    exact = [(k, number) for k in kinds if _exists(db, k, number)]
    if exact:
        return exact
    numbered = sorted(found for found in projection.referring(db, "number", number) if found[0] in kinds)
    if numbered:
        return numbered[:limit]
    found: list[tuple[str, str]] = []
    for kind in kinds:  # a look at every key of the kind: a line or location after it, or not taken in yet
        rows = db.execute(
            "SELECT DISTINCT document, key FROM events WHERE document = ?1"
            " AND instr(':' || key || ':', ':' || ?2 || ':') LIMIT ?3",
            (kind, number, limit),
        )
        found += [(document, key) for document, key in rows]
    return found[:limit]


def _exists(db: sqlite3.Connection, kind: str, key: str) -> bool:
    query = "SELECT 1 FROM events WHERE document = ? AND key = ? LIMIT 1"
    return db.execute(query, (kind, key)).fetchone() is not None


def versions(db: sqlite3.Connection, document: str, key: str) -> list[Row]:
    """Oldest first; of many the latest MOST_VERSIONS."""
    rows = db.execute(
        _SELECT + " WHERE e.document = ? AND e.key = ? ORDER BY e.seq DESC LIMIT ?", (document, key, MOST_VERSIONS)
    )
    return [_row(row) for row in rows][::-1]


def latest(db: sqlite3.Connection, found: Iterable[tuple[str, str]]) -> list[Row]:
    """The latest version of each (document, key), newest first."""
    rows = db.execute(
        "WITH asked AS (SELECT json_extract(value, '$[0]') AS document, json_extract(value, '$[1]') AS key"
        f" FROM json_each(?)) {_SELECT} JOIN asked a ON e.document = a.document AND e.key = a.key"
        " WHERE e.seq = (SELECT max(seq) FROM events WHERE document = a.document AND key = a.key) ORDER BY e.seq DESC",
        (json.dumps(list(found)),),
    )
    return [_row(row) for row in rows]


def in_state(db: sqlite3.Connection, state: State, limit: int = 20_000) -> set[tuple[str, str]]:
    """(document, key) of deliveries that went wrong and stand so."""
    rows = db.execute(
        "SELECT DISTINCT e.document, e.key FROM sinks k JOIN deliveries d ON d.sink_id = k.id AND d.chain IS NOT NULL"
        " JOIN events e ON e.seq = d.event_seq WHERE d.state = ? LIMIT ?",
        (int(state), limit),
    )
    return {(document, key) for document, key in rows}


def newest(db: sqlite3.Connection, kinds: Sequence[str], since_us: int, before: int | None) -> list[Row]:
    """The next versions below *before*, newest first: of *kinds*, normalized since then; empty at the end."""
    bottom = (before if before is not None else projection.newest(db) + 1) - _PAGE
    while bottom > -_PAGE and projection.newest(db) - bottom < MOST_SCANNED + _PAGE:
        rows = db.execute(
            _SELECT + " WHERE e.seq >= ? AND e.seq < ? AND +e.document IN (SELECT value FROM json_each(?))"
            " AND i.normalized_us >= ? ORDER BY e.seq DESC",
            (bottom, bottom + _PAGE, json.dumps(list(kinds)), since_us),
        ).fetchall()
        if rows:
            return [_row(row) for row in rows]
        bottom -= _PAGE
    return []


def standing(db: sqlite3.Connection, seqs: Iterable[int]) -> list[tuple[str, int, str]]:
    """(sink, seq, state in a word) of every delivery of the events *seqs*, in order."""
    rows = db.execute(
        "SELECT k.name, d.event_seq, d.state FROM json_each(?) j CROSS JOIN sinks k"
        " CROSS JOIN deliveries d ON d.sink_id = k.id AND d.event_seq = j.value ORDER BY k.name, d.event_seq",
        (json.dumps(list(seqs)),),
    )
    return [(name, seq, State(state).name.lower()) for name, seq, state in rows]


def body(bodies: Bodies, row: Row) -> bytes:
    """Raises Corrupt."""
    return bodies.get(*row.body)


def _row(row: Sequence[object]) -> Row:
    seq, document, key, site, agent, source, kind, name, record, line, locator, received, at, revision, *where = row
    place = Locator(kind, name, record, line, locator or "").text()  # type: ignore[arg-type]
    return Row(seq, document, key, site, agent, source, place, received, at, revision, tuple(where))  # type: ignore[arg-type]
