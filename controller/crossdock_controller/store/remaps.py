"""Raw batches that are mapped again on purpose: what was asked for, how far it is, and what became of it.

How far it is moves in the transaction of what was made, and only from where it was seen: two workers never make the
same twice, and a crash repeats a window that left nothing behind.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from crossdock.errors import Refused
from crossdock_controller.store.connection import transaction
from crossdock_controller.store.normalizer import Position


@dataclass(slots=True)
class RemapCounts:
    """*records* looked at; documents that came out as they were (*unchanged*), as a new version (*changed*), for the
    first time (*added*; of dead letters: *healed*), that a later record has replaced (*superseded*), or that a person
    had settled (*kept*); records that are *dead* or *ignored* now, or in batches that cannot be read."""

    records: int = 0
    unchanged: int = 0
    changed: int = 0
    added: int = 0
    healed: int = 0
    superseded: int = 0
    kept: int = 0
    dead: int = 0
    ignored: int = 0
    unread: int = 0

    def add(self, other: RemapCounts) -> None:
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


COUNTS = tuple(field.name for field in fields(RemapCounts))


@dataclass(frozen=True, slots=True)
class Part:
    """One stream of a remap: from *at* to before *end*. *attempts*: how often its next window was begun in vain."""

    stream_id: int
    source_id: int
    at: Position
    end: Position
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Remap:
    """*state*: running, done, cancelled or failed (then *problem* says why). *total*: records to look at."""

    id: int
    source: str
    site: str
    chosen: str
    because: str
    created_by: str
    created_us: int
    rate: float
    state: str
    problem: str
    ended_by: str
    ended_us: int
    total: int
    counts: RemapCounts


class Moved(Exception):  # noqa: N818 - no fault: another worker did it, or it was cancelled
    """Nothing was written."""


_SELECT = (
    "SELECT id, source, site, chosen, because, created_by, created_us, rate, state, problem, ended_by, ended_us, total,"
    f" {', '.join(COUNTS)} FROM remaps"
)


def create(
    db: sqlite3.Connection,
    *,
    source: str,
    site: str,
    chosen: str,
    because: str,
    by: str,
    now_us: int,
    rate: float,
    total: int,
    parts: Sequence[Part],
) -> int:
    """In a transaction. The number it has."""
    cursor = db.execute(
        "INSERT INTO remaps(source, site, chosen, because, created_by, created_us, rate, total)"
        " VALUES(?,?,?,?,?,?,?,?)",
        (source, site, chosen, because, by, now_us, rate, total),
    )
    number = int(cursor.lastrowid or 0)
    db.executemany(
        "INSERT INTO remap_parts(remap_id, stream_id, source_id, sequence, record, end_sequence, end_record)"
        " VALUES(?,?,?,?,?,?,?)",
        [(number, p.stream_id, p.source_id, *_flat(p.at), *_flat(p.end)) for p in parts],
    )
    return number


def running(db: sqlite3.Connection, source: str = "") -> Remap | None:
    """The oldest that runs; of *source* only when given."""
    row = db.execute(
        _SELECT + " WHERE state = 'running' AND (? = '' OR source = ?) ORDER BY id LIMIT 1", (source, source)
    ).fetchone()
    return _remap(row) if row else None


def get(db: sqlite3.Connection, number: int) -> Remap:
    """Raises Refused."""
    row = db.execute(_SELECT + " WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise Refused(f"there is no replay of records {number}", hint="crossdock mapping replays shows them")
    return _remap(row)


def list_all(db: sqlite3.Connection, limit: int) -> list[Remap]:
    """Newest first."""
    return [_remap(row) for row in db.execute(_SELECT + " ORDER BY id DESC LIMIT ?", (limit,))]


def next_part(db: sqlite3.Connection, number: int) -> Part | None:
    """The oldest stream that is not finished: of one source, older epochs go first."""
    row = db.execute(
        "SELECT stream_id, source_id, sequence, record, end_sequence, end_record, attempts FROM remap_parts"
        " WHERE remap_id = ? AND finished = 0 ORDER BY stream_id LIMIT 1",
        (number,),
    ).fetchone()
    if row is None:
        return None
    return Part(row[0], row[1], Position(row[2], row[3]), Position(row[4], row[5]), row[6])


def attempt(db: sqlite3.Connection, number: int, part: Part) -> None:
    """Remember that a window is begun: who dies of it leaves that behind."""
    with transaction(db):
        db.execute(
            "UPDATE remap_parts SET attempts = attempts + 1 WHERE remap_id = ? AND stream_id = ?",
            (number, part.stream_id),
        )


def move(
    db: sqlite3.Connection, number: int, part: Part, to: Position, counts: RemapCounts, *, finished: bool, now_us: int
) -> None:
    """In a transaction, with what was made. Raises Moved when it is not where *part* says, or does not run any more."""
    moved = db.execute(
        "UPDATE remap_parts SET sequence = ?, record = ?, attempts = 0, finished = ?"
        " WHERE remap_id = ? AND stream_id = ? AND sequence = ? AND record = ? AND finished = 0"
        " AND EXISTS (SELECT 1 FROM remaps WHERE id = ? AND state = 'running')",
        (*_flat(to), int(finished), number, part.stream_id, *_flat(part.at), number),
    ).rowcount
    if moved != 1:
        raise Moved
    added = ", ".join(f"{name} = {name} + ?" for name in COUNTS)
    db.execute(f"UPDATE remaps SET {added} WHERE id = ?", (*(getattr(counts, name) for name in COUNTS), number))
    if finished:
        db.execute(
            "UPDATE remaps SET state = 'done', ended_us = ? WHERE id = ?"
            " AND NOT EXISTS (SELECT 1 FROM remap_parts WHERE remap_id = ? AND finished = 0)",
            (now_us, number, number),
        )


def end(db: sqlite3.Connection, number: int, state: str, *, by: str, problem: str, now_us: int) -> None:
    """In a transaction. Raises Refused when it does not run any more."""
    changed = db.execute(
        "UPDATE remaps SET state = ?, ended_by = ?, problem = ?, ended_us = ? WHERE id = ? AND state = 'running'",
        (state, by, problem, now_us, number),
    ).rowcount
    if changed != 1:
        raise Refused(f"replay of records {number} does not run any more", hint="crossdock mapping replays shows it")


@dataclass(frozen=True, slots=True)
class Version:
    """An event of a document, and where it came from."""

    seq: int
    id: bytes
    document: str
    key: str
    input_id: int
    record: int
    body: tuple[int, int, int]


_VERSION = "SELECT seq, id, document, key, input_id, record, body_id, body_start, body_length FROM events"


def by_id(db: sqlite3.Connection, event_id: bytes) -> Version | None:
    return _version(db.execute(_VERSION + " WHERE id = ?", (event_id,)).fetchone())


def latest(db: sqlite3.Connection, document: str, key: str) -> Version | None:
    """The last event of a document."""
    row = db.execute(_VERSION + " WHERE document = ? AND key = ? ORDER BY seq DESC LIMIT 1", (document, key)).fetchone()
    return _version(row)


def latest_of(db: sqlite3.Connection, document: str, key: str, input_id: int, record: int) -> Version | None:
    """The last event of a document that was made of this record."""
    row = db.execute(
        _VERSION + " WHERE document = ? AND key = ? AND input_id = ? AND record = ? ORDER BY seq DESC LIMIT 1",
        (document, key, input_id, record),
    ).fetchone()
    return _version(row)


def has_later(db: sqlite3.Connection, document: str, key: str, input_id: int, record: int) -> bool:
    """Whether a later record than this one made an event of the document."""
    row = db.execute(
        "SELECT 1 FROM events WHERE document = ? AND key = ?"
        " AND (input_id > ? OR (input_id = ? AND record > ?)) LIMIT 1",
        (document, key, input_id, input_id, record),
    ).fetchone()
    return row is not None


def grown(db: sqlite3.Connection, seen: int, keys: Sequence[tuple[str, str]]) -> bool:
    """Whether one of the documents *keys* (document, key) has an event beyond *seen*."""
    row = db.execute(
        "SELECT 1 FROM json_each(?) q CROSS JOIN events e INDEXED BY events_key"
        " ON e.document = json_extract(q.value, '$[0]') AND e.key = json_extract(q.value, '$[1]')"
        " AND e.seq > ? LIMIT 1",
        (json.dumps(keys), seen),
    ).fetchone()
    return row is not None


def input_ids(db: sqlite3.Connection, source_id: int, epoch: bytes, sequences: Collection[int]) -> dict[int, int]:
    """{sequence: input id} of batches that were normalized."""
    if not sequences:
        return {}
    rows = db.execute(
        "SELECT sequence, id FROM inputs WHERE source_id = ? AND epoch = ? AND sequence BETWEEN ? AND ?",
        (source_id, epoch, min(sequences), max(sequences)),
    )
    return dict(rows.fetchall())


@dataclass(frozen=True, slots=True)
class LetterAt:
    """A dead letter of records: which of its input."""

    id: int
    input_id: int
    state: str
    record: int
    records: int


def letters_of(db: sqlite3.Connection, inputs: Iterable[int]) -> list[LetterAt]:
    found: list[LetterAt] = []
    for input_id in inputs:
        rows = db.execute(
            "SELECT id, input_id, state, json_extract(locator, '$.record'), records FROM dead_letters"
            " WHERE kind = 'record' AND input_id = ?",
            (input_id,),
        )
        found += [LetterAt(*row) for row in rows]
    return found


def _flat(position: Position) -> tuple[int, int]:
    return position.sequence, position.record


def _remap(row: Sequence[Any]) -> Remap:
    values = [*row[:13], RemapCounts(*row[13:])]
    return Remap(*values)


def _version(row: Sequence[Any] | None) -> Version | None:
    if row is None:
        return None
    values = [*row[:6], (row[6], row[7], row[8])]
    return Version(*values)
