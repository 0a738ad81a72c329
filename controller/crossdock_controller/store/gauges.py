"""What became of the records of each source since a moment: what a rollout's health is judged by.

Batches and dead letters are numbered as they come, so a moment is a number, found by halving. Counting from it reads
what came since, and nothing older.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment: the newest batch and the newest dead letter then."""

    input: int
    letter: int


@dataclass(frozen=True, slots=True)
class Gauge:
    """Of one source of one agent since a mark: records decided, records among them set aside, deliveries given up."""

    site: str
    agent: str
    source: str
    records: int = 0
    dead: int = 0
    dead_deliveries: int = 0
    reason: str = ""  # code and field of the newest dead letter: its own words may hold values of the record


def now(db: sqlite3.Connection) -> Mark:
    row = db.execute(
        "SELECT (SELECT coalesce(max(id), 0) FROM inputs), (SELECT coalesce(max(id), 0) FROM dead_letters)"
    ).fetchone()
    return Mark(row[0], row[1])


def at(db: sqlite3.Connection, at_us: int) -> Mark:
    """The mark of the moment *at_us*, near enough: rows are in order of time but for those written together."""
    end = now(db)
    return Mark(
        _halve(db, "inputs", "normalized_us", end.input, at_us),
        _halve(db, "dead_letters", "created_us", end.letter, at_us),
    )


def since(db: sqlite3.Connection, mark: Mark) -> list[Gauge]:
    """One for each source that had anything since *mark*."""
    found: dict[int, list[int]] = {}
    for source, records, dead in db.execute(
        "SELECT source_id, sum(records), sum(dead) FROM inputs WHERE id > ? GROUP BY source_id", (mark.input,)
    ):
        found[source] = [records, dead, 0]
    for source, deliveries in db.execute(
        "SELECT source_id, count(*) FROM dead_letters WHERE id > ? AND kind = 'delivery' GROUP BY source_id",
        (mark.letter,),
    ):
        found.setdefault(source, [0, 0, 0])[2] = deliveries
    return [_gauge(db, source, counts, mark) for source, counts in sorted(found.items())]


def _gauge(db: sqlite3.Connection, source: int, counts: list[int], mark: Mark) -> Gauge:
    site, agent, name = db.execute("SELECT site, agent, source FROM sources WHERE id = ?", (source,)).fetchone()
    reason = ""
    if counts[1] or counts[2]:
        row = db.execute(
            "SELECT code, field FROM dead_letters WHERE id > ? AND source_id = ? ORDER BY id DESC LIMIT 1",
            (mark.letter, source),
        ).fetchone()
        reason = " in ".join(text for text in row if text) if row else ""
    records, dead, deliveries = counts
    return Gauge(site, agent, name, records, dead, deliveries, reason)


def _halve(
    db: sqlite3.Connection,
    table: Literal["inputs", "dead_letters"],
    column: Literal["normalized_us", "created_us"],
    end: int,
    at_us: int,
) -> int:
    """The greatest number below which everything was written before *at_us*."""
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        row = db.execute(f"SELECT {column} FROM {table} WHERE id > ? ORDER BY id LIMIT 1", (middle,)).fetchone()
        if row is not None and row[0] < at_us:
            low = middle + 1
        else:
            high = middle
    return low
