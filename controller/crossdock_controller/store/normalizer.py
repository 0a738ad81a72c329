"""How far each stream is normalized. A checkpoint moves only from where its mover saw it, and with its data."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from crossdock_controller.store.connection import transaction
from crossdock_controller.store.leases import LEASE_US, LeaseLost


@dataclass(frozen=True, slots=True)
class Position:
    """The first record not yet decided: *record* (from 0) of batch *sequence*."""

    sequence: int
    record: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    stream_id: int
    source_id: int
    at: Position
    owner: str | None
    problem: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a source is not normalized now; its records are pending."""

    site: str
    agent: str
    source: str
    problem: str
    since_us: int


BEGINNING = Position(1, 0)


def checkpoints(db: sqlite3.Connection) -> dict[int, Checkpoint]:
    """By stream id; a stream that was never worked on has none."""
    rows = db.execute("SELECT stream_id, source_id, sequence, record, owner, problem FROM normalizer_checkpoints")
    return {i: Checkpoint(i, source, Position(s, r), owner, problem) for i, source, s, r, owner, problem in rows}


def finished(db: sqlite3.Connection) -> dict[int, int]:
    """{stream id: sequence of the last batch whose every record is decided}."""
    return dict(db.execute("SELECT stream_id, sequence - 1 FROM normalizer_checkpoints").fetchall())


def problems(db: sqlite3.Connection) -> list[Problem]:
    """Sources that wait for a person, oldest problem first."""
    rows = db.execute(
        "SELECT s.site, s.agent, s.source, c.problem, c.problem_us FROM normalizer_checkpoints c"
        " JOIN sources s ON s.id = c.source_id WHERE c.problem != '' ORDER BY c.problem_us"
    )
    return [Problem(*row) for row in rows]


def claim(db: sqlite3.Connection, stream_id: int, source_id: int, owner: str, now_us: int) -> Checkpoint | None:
    """Lease the stream: its checkpoint, or None while another worker has it."""
    with transaction(db):
        db.execute(
            "INSERT INTO normalizer_checkpoints(stream_id, source_id, sequence, record) VALUES(?,?,?,?)"
            " ON CONFLICT(stream_id) DO NOTHING",
            (stream_id, source_id, BEGINNING.sequence, BEGINNING.record),
        )
        row = db.execute(
            "UPDATE normalizer_checkpoints SET owner = ?, lease_until_us = ?"
            " WHERE stream_id = ? AND (owner IS NULL OR owner = ? OR lease_until_us < ?)"
            " RETURNING source_id, sequence, record, problem",
            (owner, now_us + LEASE_US, stream_id, owner, now_us),
        ).fetchone()
    return Checkpoint(stream_id, row[0], Position(row[1], row[2]), owner, row[3]) if row else None


def move(db: sqlite3.Connection, held: Checkpoint, to: Position) -> None:
    """Compare and swap, within the caller's transaction. Raises LeaseLost."""
    moved = db.execute(
        "UPDATE normalizer_checkpoints SET sequence = ?, record = ?, problem = '', problem_us = 0"
        " WHERE stream_id = ? AND owner = ? AND sequence = ? AND record = ?",
        (to.sequence, to.record, held.stream_id, held.owner, held.at.sequence, held.at.record),
    ).rowcount
    if moved != 1:
        raise LeaseLost(f"stream {held.stream_id} is no longer at {held.at} in the hands of {held.owner}")


def report_problem(db: sqlite3.Connection, held: Checkpoint, problem: str, now_us: int) -> None:
    """Make *problem* visible on the stream; its time stays that of the first report."""
    if problem == held.problem:
        return
    with transaction(db):
        db.execute(
            "UPDATE normalizer_checkpoints SET problem = ?, problem_us = ? WHERE stream_id = ? AND owner = ?",
            (problem, now_us, held.stream_id, held.owner),
        )
