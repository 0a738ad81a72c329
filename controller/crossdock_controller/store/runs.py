"""What was tried: one row for each call of a sink, and one for each delivery of it that was not done."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    event_seq: int
    attempt: int
    at_us: int
    outcome: str  # "retry", "rejected" or "no_verdict"
    code: str
    reason: str


def add(
    db: sqlite3.Connection, sink: int, *, started_us: int, ended_us: int, deliveries: int, done: int, problem: str = ""
) -> int:
    """One call of the sink; *problem* when it gave no verdict at all. Its id. In a transaction."""
    cursor = db.execute(
        "INSERT INTO runs(sink_id, started_us, ended_us, deliveries, done, problem) VALUES(?,?,?,?,?,?)",
        (sink, started_us, ended_us, deliveries, done, problem),
    )
    assert cursor.lastrowid is not None  # noqa: S101 - an INSERT has one
    return cursor.lastrowid


def last_us(db: sqlite3.Connection) -> int:
    """When the last call of any sink ended, by the clock of then; 0 for never."""
    row = db.execute("SELECT ended_us FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    return row[0] if row else 0


def last_done_us(db: sqlite3.Connection, sink: int) -> int:
    """When something was last delivered there; 0 for never."""
    row = db.execute(
        "SELECT ended_us FROM runs WHERE sink_id = ? AND done > 0 ORDER BY id DESC LIMIT 1", (sink,)
    ).fetchone()
    return row[0] if row else 0


def pace(db: sqlite3.Connection, sink: int) -> float:
    """Deliveries a second of call time, by the sink's last good runs; 0 when there is none."""
    done, took_us = db.execute(
        "SELECT coalesce(sum(done), 0), coalesce(sum(ended_us - started_us), 0)"
        " FROM (SELECT started_us, ended_us, done FROM runs WHERE sink_id = ? AND done > 0 ORDER BY id DESC LIMIT 50)",
        (sink,),
    ).fetchone()
    return float(done) * 1_000_000 / took_us if took_us else 0.0


def add_attempts(db: sqlite3.Connection, sink: int, attempts: Iterable[Attempt]) -> None:
    """In a transaction."""
    db.executemany(
        "INSERT OR REPLACE INTO attempts(sink_id, event_seq, attempt, at_us, outcome, code, reason)"
        " VALUES(?,?,?,?,?,?,?)",
        [(sink, a.event_seq, a.attempt, a.at_us, a.outcome, a.code, a.reason) for a in attempts],
    )
