"""What status and live views count. Reads only, cheap enough to be asked every second: totals are kept by the writers,
and only what waits is counted row by row.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossdock_controller.store import runs
from crossdock_controller.store.deliveries import State
from crossdock_controller.store.normalizer import BEGINNING, Position


@dataclass(frozen=True, slots=True)
class StreamView:
    """One stream of the intake. *waiting_records* are received and not yet normalized, since *oldest_us*."""

    stream_id: int
    site: str
    agent: str
    source: str
    records: int
    last_received_us: int
    waiting_records: int
    waiting_batches: int
    oldest_us: int


@dataclass(frozen=True, slots=True)
class SinkView:
    """One sink. *held* stand behind an earlier one of their key. *pending* is due and was not tried yet; *oldest_us* is
    when the oldest of all unfinished was received;
    *failures* in a row and *problem* while the sink as a whole gives no verdict, since *down_us*; *drain_seconds* is
    how long what waits takes at the pace of its last good calls, 0 when that is not known."""

    sink: str
    pending: int
    retrying: int
    held: int
    dead: int
    oldest_us: int
    last_done_us: int
    paused: bool
    failures: int
    problem: str
    next_try_us: int
    down_us: int = 0
    drain_seconds: float = 0.0
    draining: bool = False  # it sends what was due when a person said so, and pauses then
    said_us: int = 0  # when a person last paused, drained or resumed it
    said_by: str = ""
    said_because: str = ""
    stopped: int = 0  # by a rule, for a person

    @property
    def waiting(self) -> int:
        return self.pending + self.retrying + self.held


@dataclass(frozen=True, slots=True)
class Finished:
    """Deliveries done in runs up to *run_id*, by sink, since the run asked for."""

    run_id: int
    done: dict[str, int]


def open_intake(path: Path) -> sqlite3.Connection:
    """The intake's file for reading. Raises sqlite3.OperationalError when there is none."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    db.execute("PRAGMA busy_timeout=10000")
    return db


def streams(intake: sqlite3.Connection, decided: Mapping[int, Position]) -> list[StreamView]:
    """Every stream, oldest first. *decided*: how far each is normalized, by stream id."""
    rows = intake.execute(
        "SELECT s.id, s.site, s.agent, s.source, s.records, coalesce(b.received_us, 0) FROM streams s"
        " LEFT JOIN batches b ON b.stream_id = s.id AND b.sequence = s.last_sequence ORDER BY s.id"
    ).fetchall()
    found = []
    for stream_id, site, agent, source, records, last_us in rows:
        at = decided.get(stream_id, BEGINNING)
        batches, waiting, oldest_us = intake.execute(
            "SELECT count(*), coalesce(sum(records), 0), coalesce(min(received_us), 0) FROM batches"
            " WHERE stream_id = ? AND sequence >= ?",
            (stream_id, at.sequence),
        ).fetchone()
        waiting = waiting - at.record if batches else 0
        found.append(StreamView(stream_id, site, agent, source, records, last_us, waiting, batches, oldest_us))
    return found


def sinks(db: sqlite3.Connection) -> list[SinkView]:
    """Every sink that was ever due something, by name."""
    rows = db.execute(
        "SELECT s.id, s.name, c.event_seq, c.paused, c.failures, c.problem, c.next_try_us, c.down_us,"
        " c.drain_seq, c.said_us, c.said_by, c.said_because"
        " FROM sinks s JOIN sink_cursors c ON c.sink_id = s.id ORDER BY s.name"
    ).fetchall()
    found = []
    for sink_id, name, cursor, paused, failures, problem, next_try_us, down_us, drain_seq, said_us, by, because in rows:
        fresh, first_seq = db.execute(
            "SELECT count(*), min(event_seq) FROM deliveries"
            " WHERE sink_id = ? AND event_seq > ? AND state = ? AND chain IS NULL",
            (sink_id, cursor, int(State.PENDING)),
        ).fetchone()
        chained = dict(
            db.execute(
                "SELECT state, count(*) FROM deliveries INDEXED BY deliveries_chain"
                " WHERE sink_id = ? AND chain IS NOT NULL GROUP BY state",
                (sink_id,),
            ).fetchall()
        )
        first_chained = db.execute(
            "SELECT min(event_seq) FROM deliveries INDEXED BY deliveries_chain WHERE sink_id = ?"
            " AND chain IS NOT NULL AND state NOT IN (?, ?)",
            (sink_id, int(State.DEAD), int(State.STOPPED)),
        ).fetchone()[0]
        waiting = fresh + sum(n for state, n in chained.items() if state not in (State.DEAD, State.STOPPED))
        pace = runs.pace(db, sink_id) if waiting else 0.0
        oldest = min((seq for seq in (first_seq, first_chained) if seq is not None), default=None)
        found.append(
            SinkView(
                name,
                fresh + chained.get(int(State.PENDING), 0),
                chained.get(int(State.RETRYING), 0),
                chained.get(int(State.HELD), 0),
                chained.get(int(State.DEAD), 0) + _expired(db, sink_id),
                _received_us(db, oldest),
                runs.last_done_us(db, sink_id),
                bool(paused),
                failures,
                problem,
                next_try_us,
                down_us,
                waiting / pace if pace else 0.0,
                bool(drain_seq),
                said_us,
                by,
                because,
                chained.get(int(State.STOPPED), 0),
            )
        )
    return found


def _expired(db: sqlite3.Connection, sink: int) -> int:
    """Dead letters of a sink that are in no chain."""
    query = f"SELECT count(*) FROM deliveries WHERE sink_id = ? AND state = {int(State.EXPIRED)}"  # its own index
    found: int = db.execute(query, (sink,)).fetchone()[0]
    return found


def finished(db: sqlite3.Connection, after_run: int | None) -> Finished:
    """Deliveries done after run *after_run*; with None only the newest run's number, to begin with."""
    newest: int = db.execute("SELECT coalesce(max(id), 0) FROM runs").fetchone()[0]
    if after_run is None:
        return Finished(newest, {})
    rows = db.execute(
        "SELECT s.name, sum(r.done) FROM runs r JOIN sinks s ON s.id = r.sink_id"
        " WHERE r.id > ? AND r.id <= ? GROUP BY 1",
        (after_run, newest),
    )
    return Finished(newest, dict(rows.fetchall()))


def _received_us(db: sqlite3.Connection, seq: int | None) -> int:
    """When the batch of event *seq* reached the controller; 0 for None."""
    row = db.execute(
        "SELECT i.received_us FROM events e JOIN inputs i ON i.id = e.input_id WHERE e.seq = ?", (seq,)
    ).fetchone()
    return row[0] if row else 0


def sealed(intake: sqlite3.Connection, agent: str, source: str, epoch: bytes, sequence: int) -> bytes | None:
    """One raw batch, None when it is past the retention time."""
    row = intake.execute(
        "SELECT b.sealed FROM streams s JOIN batches b ON b.stream_id = s.id"
        " WHERE s.agent = ? AND s.source = ? AND s.epoch = ? AND b.sequence = ?",
        (agent, source, epoch, sequence),
    ).fetchone()
    return row[0] if row else None


def corrected(db: sqlite3.Connection, seqs: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Events of *seqs* that a retried dead letter became: {seq: (letter, when it was retried)}."""
    rows = db.execute(
        "SELECT e.seq, d.id, d.resolved_us FROM json_each(?) q JOIN events e ON e.seq = q.value"
        " JOIN dead_letters d ON d.input_id = e.input_id AND d.kind = 'record' AND d.state = 'retried'"
        " AND json_extract(d.locator, '$.record') = e.record",
        (json.dumps(list(seqs)),),
    )
    return {seq: (letter, at_us) for seq, letter, at_us in rows}


def received_since(intake: sqlite3.Connection, agent: str, since_us: int) -> int:
    """Records of *agent* that came after *since_us*."""
    found: int = intake.execute(
        "SELECT coalesce(sum(b.records), 0) FROM batches b JOIN streams s ON s.id = b.stream_id"
        " WHERE b.received_us > ? AND s.agent = ?",
        (since_us, agent),
    ).fetchone()[0]
    return found
