"""Sinks by name, and how far each was served. A cursor moves only from where its mover saw it, under a lease."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from crossdock_controller.store.connection import transaction
from crossdock_controller.store.deliveries import State
from crossdock_controller.store.leases import LEASE_US, LeaseLost


@dataclass(frozen=True, slots=True)
class SinkState:
    """*problem* is set while the sink as a whole gives no verdict; it is tried again at *next_try_us*."""

    id: int
    name: str
    event_seq: int
    owner: str | None
    paused: bool
    failures: int
    problem: str
    next_try_us: int


@dataclass(frozen=True, slots=True)
class Orders:
    """What people said of a sink. *drain_seq*: it is to send what is due of events up to that one, and pause then; 0:
    it is not being drained. *drain_total* deliveries waited when that was said. The last word: when, who and why."""

    paused: bool
    drain_seq: int = 0
    drain_total: int = 0
    said_us: int = 0
    said_by: str = ""
    said_because: str = ""


def sink_id(db: sqlite3.Connection, name: str) -> int:
    """The number of this sink, given to it when first asked for. Opens a transaction when it is new."""
    row = db.execute("SELECT id FROM sinks WHERE name = ?", (name,)).fetchone()
    if row is None:
        with transaction(db):
            db.execute("INSERT OR IGNORE INTO sinks(name) VALUES(?)", (name,))
            row = db.execute("SELECT id FROM sinks WHERE name = ?", (name,)).fetchone()
            db.execute("INSERT OR IGNORE INTO sink_cursors(sink_id, event_seq) VALUES(?, 0)", (row[0],))
    number: int = row[0]
    return number


def states(db: sqlite3.Connection) -> list[SinkState]:
    """Every sink that was ever due something, by name."""
    rows = db.execute(
        "SELECT s.id, s.name, c.event_seq, c.owner, c.paused, c.failures, c.problem, c.next_try_us"
        " FROM sinks s JOIN sink_cursors c ON c.sink_id = s.id ORDER BY s.name"
    )
    return [SinkState(i, name, at, owner, bool(paused), *rest) for i, name, at, owner, paused, *rest in rows]


def claim(db: sqlite3.Connection, sink: int, owner: str, now_us: int) -> int | None:
    """Lease the sink: its cursor, or None while another dispatcher has it."""
    with transaction(db):
        row = db.execute(
            "UPDATE sink_cursors SET owner = ?, lease_until_us = ?"
            " WHERE sink_id = ? AND (owner IS NULL OR owner = ? OR lease_until_us < ?) RETURNING event_seq",
            (owner, now_us + LEASE_US, sink, owner, now_us),
        ).fetchone()
    return row[0] if row else None


def release(db: sqlite3.Connection, sink: int, owner: str) -> None:
    with transaction(db):
        db.execute(
            "UPDATE sink_cursors SET owner = NULL, lease_until_us = 0 WHERE sink_id = ? AND owner = ?", (sink, owner)
        )


def move(db: sqlite3.Connection, sink: int, owner: str, *, at: int, to: int) -> None:
    """Compare and swap, within the caller's transaction (*to* may equal *at*: the lease alone). Raises LeaseLost."""
    moved = db.execute(
        "UPDATE sink_cursors SET event_seq = ? WHERE sink_id = ? AND owner = ? AND event_seq = ?", (to, sink, owner, at)
    ).rowcount
    if moved != 1:
        raise LeaseLost(f"sink {sink} is no longer at {at} in the hands of {owner}")


def report(
    db: sqlite3.Connection, sink: int, owner: str, *, failures: int, problem: str, next_try_us: int, now_us: int
) -> None:
    """Make the sink's circuit visible; all zero when it works again. Since when it is down stays. In a transaction."""
    db.execute(
        "UPDATE sink_cursors SET failures = ?, problem = ?, next_try_us = ?,"
        " down_us = CASE WHEN ? = '' THEN 0 WHEN down_us = 0 THEN ? ELSE down_us END WHERE sink_id = ? AND owner = ?",
        (failures, problem, next_try_us, problem, now_us, sink, owner),
    )


def opened(db: sqlite3.Connection, sink: int, owner: str) -> None:
    """The sink could be made: a report that it could not is over; one that it gives no verdict is not. In a
    transaction."""
    db.execute(
        "UPDATE sink_cursors SET failures = 0, problem = '', down_us = 0"
        " WHERE sink_id = ? AND owner = ? AND next_try_us = 0",
        (sink, owner),
    )


def known(db: sqlite3.Connection, name: str) -> int | None:
    """The number of a sink that was ever due something or served; None for any other name."""
    row = db.execute("SELECT id FROM sinks WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def orders(db: sqlite3.Connection, sink: int) -> Orders:
    row = db.execute(
        "SELECT paused, drain_seq, drain_total, said_us, said_by, said_because FROM sink_cursors WHERE sink_id = ?",
        (sink,),
    ).fetchone()
    return Orders(bool(row[0]), *row[1:])


def order(db: sqlite3.Connection, sink: int, said: Orders) -> None:
    """In a transaction. What is due at a paused sink waits."""
    db.execute(
        "UPDATE sink_cursors SET paused = ?, drain_seq = ?, drain_total = ?, said_us = ?, said_by = ?,"
        " said_because = ? WHERE sink_id = ?",
        (int(said.paused), said.drain_seq, said.drain_total, said.said_us, said.said_by, said.said_because, sink),
    )


def drained(db: sqlite3.Connection, sink: int, owner: str, drain_seq: int) -> None:
    """The sink sent what it was to: it is paused now, unless a person said something else meanwhile. In a
    transaction."""
    db.execute(
        "UPDATE sink_cursors SET paused = 1, drain_seq = 0 WHERE sink_id = ? AND owner = ? AND drain_seq = ?",
        (sink, owner, drain_seq),
    )


def left_to_drain(db: sqlite3.Connection, sink: int, up_to: int, now_us: int) -> int:
    """Deliveries of events up to *up_to* that are due now: fresh, or their time has come."""
    (fresh,) = db.execute(
        "SELECT count(*) FROM deliveries WHERE sink_id = ?1 AND event_seq <= ?2 AND state = ?3 AND chain IS NULL"
        " AND event_seq > (SELECT event_seq FROM sink_cursors WHERE sink_id = ?1)",
        (sink, up_to, int(State.PENDING)),
    ).fetchone()
    (due,) = db.execute(
        "SELECT count(*) FROM deliveries INDEXED BY deliveries_due"
        " WHERE sink_id = ? AND due_us <= ? AND event_seq <= ?",
        (sink, now_us, up_to),
    ).fetchone()
    return int(fresh) + int(due)
