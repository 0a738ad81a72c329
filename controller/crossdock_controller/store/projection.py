"""What follows from the event log and is kept for questions: the latest version of each document from each source, and
what documents refer to. It moves with its own cursor, in one transaction with what it writes, so it is always a prefix
of the log: late at worst, never wrong."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crossdock.errors import Corrupt
from crossdock_controller.store.bodies import Bodies
from crossdock_controller.store.connection import transaction

NAME = "current"


@dataclass(frozen=True, slots=True)
class Event:
    """*body* is None when its chunk is damaged: whoever reads the document itself reports that."""

    seq: int
    document: str
    key: str
    source_id: int
    body: bytes | None


def cursor(db: sqlite3.Connection) -> int:
    """The last event that is in; 0 before the first."""
    row = db.execute("SELECT event_seq FROM projections WHERE name = ?", (NAME,)).fetchone()
    return row[0] if row else 0


def newest(db: sqlite3.Connection) -> int:
    """The last event of the log."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return row[0] if row else 0


def page(db: sqlite3.Connection, bodies: Bodies, after: int, limit: int) -> list[Event]:
    """The next events beyond *after*, in order."""
    rows = db.execute(
        "SELECT e.seq, e.document, e.key, i.source_id, e.body_id, e.body_start, e.body_length FROM events e"
        " JOIN inputs i ON i.id = e.input_id WHERE e.seq > ? ORDER BY e.seq LIMIT ?",
        (after, limit),
    ).fetchall()
    return [Event(seq, document, key, source, _body(bodies, *place)) for seq, document, key, source, *place in rows]


def _body(bodies: Bodies, chunk: int, start: int, length: int) -> bytes | None:
    try:
        return bodies.get(chunk, start, length)
    except Corrupt:
        return None


def move(
    db: sqlite3.Connection,
    before: int,
    to: int,
    latest: Iterable[tuple[str, int, str, int]],
    refs: Sequence[tuple[str, str, str, str]],
) -> bool:
    """Write *latest* (document, source id, key, seq) and *refs* (name, value, document, key), and move the cursor from
    *before*; False, and nothing was done, when another process has moved it meanwhile."""
    with transaction(db):
        if cursor(db) != before:
            return False
        db.executemany(
            "INSERT INTO current(document, source_id, key, event_seq) VALUES(?,?,?,?)"
            " ON CONFLICT(document, source_id, key) DO UPDATE SET event_seq = excluded.event_seq",
            latest,
        )
        db.executemany("INSERT OR IGNORE INTO refs(name, value, document, key) VALUES(?,?,?,?)", refs)
        db.execute("INSERT OR REPLACE INTO projections(name, event_seq) VALUES(?,?)", (NAME, to))
    return True


def referring(db: sqlite3.Connection, name: str, value: str, limit: int = 20_000) -> set[tuple[str, str]]:
    """(document, key) of documents of which a version refers, or referred, to *value* as *name*."""
    rows = db.execute("SELECT document, key FROM refs WHERE name = ? AND value = ? LIMIT ?", (name, value, limit))
    return {(document, key) for document, key in rows}


def latest_of(
    db: sqlite3.Connection, document: str, sources: Iterable[int]
) -> list[tuple[str, int, int, str, int, int, int]]:
    """(key, seq, normalized at, site, chunk, start, length) of the latest version of each *document* from *sources*, in
    the order of the log, so that neighbours share a chunk."""
    rows = db.execute(
        "SELECT c.key, c.event_seq, i.normalized_us, s.site, e.body_id, e.body_start, e.body_length"
        " FROM json_each(?) j JOIN current c ON c.document = ? AND c.source_id = j.value"
        " JOIN events e ON e.seq = c.event_seq JOIN inputs i ON i.id = e.input_id JOIN sources s ON s.id = i.source_id"
        " ORDER BY c.event_seq",
        (json.dumps(list(sources)), document),
    )
    return rows.fetchall()
