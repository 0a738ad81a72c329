"""The event log: every version of every document, in the order it was decided. An id is in it once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from itertools import chain

COLUMNS = 14
_INSERT = (
    "INSERT OR IGNORE INTO events(seq, id, document, key, input_id, record, line, records, locator, warnings,"
    " body_id, body_start, body_length, version) VALUES"
)
_ONE = "(" + ",".join("?" * COLUMNS) + ")"
_GROUP = 32  # rows a statement: a third less time than one row each (measured), and far below the limit of parameters
_INSERT_ONE = _INSERT + _ONE
_INSERT_GROUP = _INSERT + ",".join([_ONE] * _GROUP)

# seq, id, document, key, input_id, record, line, records, locator, warnings, where the body is, version of the entity
Row = tuple[int, bytes, str, str, int, int, int, int, str | None, str | None, int, int, int, int]


def next_seq(db: sqlite3.Connection) -> int:
    """The number the next event gets. In a transaction: it stays true until the commit."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return (row[0] if row else 0) + 1


def append(db: sqlite3.Connection, rows: Sequence[Row]) -> set[int]:
    """Insert *rows* (seq from `next_seq`, gapless). In a transaction.

    Returns the seqs that were left out because the log has an event of their id already.
    """
    if not rows:
        return set()
    before = db.total_changes
    whole = len(rows) - len(rows) % _GROUP
    groups = (list(chain.from_iterable(rows[i : i + _GROUP])) for i in range(0, whole, _GROUP))
    db.executemany(_INSERT_GROUP, groups)
    db.executemany(_INSERT_ONE, rows[whole:])
    if db.total_changes - before == len(rows):
        return set()
    first, last = rows[0][0], rows[-1][0]
    stored = {seq for (seq,) in db.execute("SELECT seq FROM events WHERE seq BETWEEN ? AND ?", (first, last))}
    return {row[0] for row in rows} - stored


def known(db: sqlite3.Connection, document: str, keys: Iterable[str]) -> set[str]:
    """Which of *keys* have an event of *document*."""
    rows = db.execute(
        "SELECT k.value FROM json_each(?) k WHERE EXISTS (SELECT 1 FROM events WHERE document = ? AND key = k.value)",
        (json.dumps(list(keys)), document),
    )
    return {key for (key,) in rows}


def has(db: sqlite3.Connection, event_id: bytes) -> bool:
    """Whether the log has an event of this id, of whatever key."""
    return db.execute("SELECT 1 FROM events WHERE id = ?", (event_id,)).fetchone() is not None


def latest(db: sqlite3.Connection, document: str, keys: Iterable[str]) -> list[tuple[str, int, int, int, int]]:
    """Key, place of the body and version of the last event of *document* for each of *keys*, but for those that were
    held and then discarded; those without are left out. In the order of their bodies."""
    rows = db.execute(
        "SELECT e.key, e.body_id, e.body_start, e.body_length, e.version FROM json_each(?1) k JOIN events e ON e.seq ="
        " (SELECT x.seq FROM events x WHERE x.document = ?2 AND x.key = k.value AND NOT EXISTS"
        " (SELECT 1 FROM holds h WHERE h.event_seq = x.seq AND h.state = 'discarded') ORDER BY x.seq DESC LIMIT 1)"
        " ORDER BY e.body_id, e.body_start",
        (json.dumps(list(keys)), document),
    )
    return rows.fetchall()


def later(db: sqlite3.Connection, document: str, key: str, input_id: int, record: int) -> int | None:
    """The last event of this document that came of a later record of the same source; None when there is none."""
    row = db.execute(
        "SELECT max(e.seq) FROM events e JOIN inputs i ON i.id = e.input_id WHERE e.document = ?1 AND e.key = ?2"
        " AND i.source_id = (SELECT source_id FROM inputs WHERE id = ?3)"
        " AND (e.input_id > ?3 OR (e.input_id = ?3 AND e.record > ?4))",
        (document, key, input_id, record),
    ).fetchone()
    return row[0] if row else None


def of_unit(db: sqlite3.Connection, document: str, keys: Collection[str], unit: bytes) -> dict[str, list[bytes]]:
    """Ids of events of *document* that came from *unit* (the first bytes of their ids), by key, for those of *keys*."""
    if not keys:
        return {}
    rows = db.execute(
        "SELECT e.key, e.id FROM json_each(?) k JOIN events e ON e.document = ? AND e.key = k.value"
        " WHERE substr(e.id, 1, ?) = ?",
        (json.dumps(list(keys)), document, len(unit), unit),
    )
    found: dict[str, list[bytes]] = {}
    for key, event_id in rows:
        found.setdefault(key, []).append(event_id)
    return found
