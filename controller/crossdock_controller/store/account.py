"""in = delivered + superseded + pending + held + dead + discarded (+ ignored + duplicates + unrouted), per source, at
any time.

"in" is counted in the intake, everything else in state.db, row by row: nothing here reads a counter that the other side
keeps, so that agreement proves something. Only what leaves no row of its own (records that the mapping ignores, records
read twice) is counted when its batch is normalized, in that batch's row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from crossdock_controller.store.connection import connect, snapshot
from crossdock_controller.store.deliveries import SEVERITY, State, severity_sql

_UNROUTED = -1
_FIELD_OF_STATE = {
    _UNROUTED: "unrouted",
    State.DONE: "delivered",
    State.SUPERSEDED: "superseded",
    State.DISCARDED: "discarded",
    State.PENDING: "pending",
    State.RETRYING: "pending",
    State.HELD: "held",
    State.EXPIRED: "dead",
    State.STOPPED: "held",
    State.DEAD: "dead",
}


@dataclass(slots=True)
class AccountRow:
    """Records of one source at one site. A record with several deliveries counts once, by its worst.

    *waiting* is the part of *pending* that is not normalized yet; *retrying* the part that failed at least once.
    """

    site: str
    source: str
    received: int = 0
    delivered: int = 0
    pending: int = 0
    held: int = 0
    dead: int = 0
    discarded: int = 0
    ignored: int = 0
    duplicates: int = 0
    unrouted: int = 0
    waiting: int = 0
    retrying: int = 0
    superseded: int = 0

    @property
    def accounted(self) -> int:
        return (
            self.delivered + self.superseded + self.pending + self.held + self.dead + self.discarded
            + self.ignored + self.duplicates + self.unrouted
        )  # fmt: skip

    @property
    def balanced(self) -> bool:
        return self.received == self.accounted

    @property
    def missing(self) -> int:
        """Records that are nowhere; negative when some are counted twice."""
        return self.received - self.accounted


def account(state: Path, intake: Path) -> list[AccountRow]:
    """One row for each (site, source) that ever sent a record, by name. Consistent while everything runs."""
    rows: dict[tuple[str, str], AccountRow] = {}
    with closing(connect(state, cache_mib=32)) as db, snapshot(db):
        _add_events(db, rows)
        _add_letters(db, rows)
        _add_inputs(db, rows)
        checkpoints = {
            i: (sequence, record)
            for i, sequence, record in db.execute("SELECT stream_id, sequence, record FROM normalizer_checkpoints")
        }
        # The intake is read second: it can only have more batches than the checkpoints know, and those are pending.
        _add_intake(intake, checkpoints, rows)
    return [rows[name] for name in sorted(rows)]


def _row(rows: dict[tuple[str, str], AccountRow], site: str, source: str) -> AccountRow:
    return rows.setdefault((site, source), AccountRow(site, source))


def _add(row: AccountRow, field: str, records: int) -> None:
    setattr(row, field, getattr(row, field) + records)


def _add_events(db: sqlite3.Connection, rows: dict[tuple[str, str], AccountRow]) -> None:
    sinks = ",".join(str(int(i)) for (i,) in db.execute("SELECT id FROM sinks ORDER BY id"))
    worst = (
        f"SELECT max({severity_sql('d.state')}) FROM deliveries d WHERE d.sink_id IN ({sinks}) AND d.event_seq = e.seq"
    )
    query = (
        "SELECT s.site, s.source, w, sum(n) FROM"
        f" (SELECT e.input_id AS i, coalesce(({worst}), {_UNROUTED}) AS w, sum(e.records) AS n FROM events e"
        " GROUP BY 1, 2) JOIN inputs ON inputs.id = i JOIN sources s ON s.id = inputs.source_id GROUP BY 1, 2, 3"
    )
    for site, source, worst_of, records in db.execute(query):
        state = SEVERITY[worst_of] if worst_of != _UNROUTED else _UNROUTED
        row = _row(rows, site, source)
        _add(row, _FIELD_OF_STATE[state], records)
        if state == State.RETRYING:
            row.retrying += records


def _add_letters(db: sqlite3.Connection, rows: dict[tuple[str, str], AccountRow]) -> None:
    """A record letter that was retried counts where its event is; a delivery letter where its delivery is."""
    query = (
        "SELECT s.site, s.source, d.state, sum(d.records) FROM dead_letters d JOIN sources s ON s.id = d.source_id"
        " WHERE d.kind = 'record' AND d.state IN ('open', 'discarded', 'superseded') GROUP BY 1, 2, 3"
    )
    for site, source, state, records in db.execute(query):
        _add(_row(rows, site, source), "dead" if state == "open" else "discarded", records)


def _add_inputs(db: sqlite3.Connection, rows: dict[tuple[str, str], AccountRow]) -> None:
    query = (
        "SELECT s.site, s.source, sum(i.ignored), sum(i.duplicates) FROM inputs i JOIN sources s ON s.id = i.source_id"
        " GROUP BY 1, 2"
    )
    for site, source, ignored, duplicates in db.execute(query):
        row = _row(rows, site, source)
        row.ignored += ignored
        row.duplicates += duplicates


def _add_intake(intake: Path, checkpoints: dict[int, tuple[int, int]], rows: dict[tuple[str, str], AccountRow]) -> None:
    if not intake.exists():
        return
    with closing(sqlite3.connect(intake, isolation_level=None, timeout=30)) as db, snapshot(db):
        for stream, site, source, purged in db.execute(
            "SELECT id, site, source, purged_records FROM streams"
        ).fetchall():
            row = _row(rows, site, source)
            sequence, record = checkpoints.get(stream, (1, 0))
            stored = _records(db.execute("SELECT sum(records) FROM batches WHERE stream_id = ?", (stream,)))
            waiting = _records(
                db.execute("SELECT sum(records) FROM batches WHERE stream_id = ? AND sequence >= ?", (stream, sequence))
            )
            row.received += purged + stored
            row.waiting += waiting - record
            row.pending += waiting - record


def _records(rows: Iterable[tuple[int | None]]) -> int:
    return next(iter(rows))[0] or 0
