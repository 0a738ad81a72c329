"""The durable log of raw batches, a file of its own. What `IntakeWriter.commit` returned as stored is on disk.

Batch identity is (agent, source, epoch, sequence); sequence is gapless from 1 within a stream (agent, source, epoch).
Once a batch contradicts the log, nothing that its sender sends behind it is stored or known: an acknowledgement speaks
for all sequences before it, and would take the refused batch along.
One process writes (the gateway); any number read, and neither waits for the other (SQLite WAL). Kept behind these two
classes so that another log (PostgreSQL, JetStream) can take their place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from crossdock_controller.store import connection, intake_schema


@dataclass(frozen=True, slots=True)
class Incoming:
    """A verified batch on its way into the log; *records* counts rejects too.

    *conflicts* is one mapping for all batches of one sender's stream: the first sequence of each (source, epoch) that
    contradicted the log.
    """

    agent: str
    site: str
    source: str
    epoch: bytes
    sequence: int
    lane: str
    records: int
    checkpoint: bytes
    sealed: bytes
    crc32: int
    conflicts: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def behind_conflict(self) -> bool:
        return self.sequence > self.conflicts.get((self.source, self.epoch), self.sequence)

    def note_conflict(self) -> None:
        first = self.conflicts.get((self.source, self.epoch), self.sequence)
        self.conflicts[self.source, self.epoch] = min(first, self.sequence)


@dataclass(frozen=True, slots=True)
class Stored:
    """*state*: "stored" now, "known" before, a "gap", or in "conflict" (the log holds this sequence with other bytes).

    *last* is the last sequence the log holds of this stream.
    """

    state: Literal["stored", "known", "gap", "conflict"]
    last: int


@dataclass(frozen=True, slots=True)
class StreamInfo:
    id: int
    agent: str
    site: str
    source: str
    epoch: bytes
    last_sequence: int
    records: int
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class StoredBatch:
    sequence: int
    lane: str
    records: int
    sealed: bytes
    crc32: int
    received_us: int


@dataclass(slots=True)
class _Stream:
    id: int
    last: int


_Key = tuple[str, str, bytes]


class IntakeWriter:
    """Appends batches; used from one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError when a newer release wrote the file."""
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=connection.Connection)
        try:
            self._db.execute("PRAGMA busy_timeout=10000")
            self._db.execute("PRAGMA synchronous=FULL")
            intake_schema.migrate(self._db, path)
            self._db.execute("PRAGMA wal_autocheckpoint=2000")
        except BaseException:
            self._db.close()
            raise
        self._streams: dict[_Key, _Stream] = {}
        self._stale = True
        self._load()

    def commit(self, incoming: Sequence[Incoming], now_us: int) -> list[Stored]:
        """Store all of *incoming* in one transaction, in order; one answer each. On an error nothing is stored.

        Raises HolderLost when another controller has the store.
        """
        if self._stale:
            self._load()
        try:
            with self._transaction():
                answers = [self._append(batch, now_us) for batch in incoming]
        except BaseException:
            self._stale = True  # what memory counted was not stored
            raise
        return answers

    def purge(self, before_us: int, normalized: dict[int, int], limit: int = 500) -> int:
        """Delete batches received before *before_us* that are normalized ({stream id: last sequence}); how many.

        At most *limit* a call. Their records stay in the account through `streams.purged_records`.
        """
        gone: list[tuple[int, int, int]] = []
        for stream_id, sequence in normalized.items():
            gone += self._db.execute(
                "SELECT id, stream_id, records FROM batches"
                " WHERE stream_id = ? AND sequence <= ? AND received_us < ? ORDER BY sequence LIMIT ?",
                (stream_id, sequence, before_us, limit - len(gone)),
            ).fetchall()
        if not gone:
            return 0
        with self._transaction():
            self._db.executemany("DELETE FROM batches WHERE id = ?", [(i,) for i, _, _ in gone])
            self._db.executemany(
                "UPDATE streams SET purged_records = purged_records + ? WHERE id = ?", [(n, s) for _, s, n in gone]
            )
        self._db.execute("PRAGMA incremental_vacuum(2000)").fetchall()
        return len(gone)

    def held_by(self, holder_id: str) -> None:
        """From now on write in the name of this holder only."""
        self._db.fence = holder_id

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        connection.fenced(self._db)
        with connection.begun(self._db):
            yield

    def _load(self) -> None:
        rows = self._db.execute("SELECT id, agent, source, epoch, last_sequence FROM streams")
        self._streams = {(a, s, e): _Stream(i, n) for i, a, s, e, n in rows}
        self._stale = False

    def _append(self, batch: Incoming, now_us: int) -> Stored:
        stream = self._stream(batch, now_us)
        if batch.sequence <= stream.last:
            if self._same(stream, batch) and not batch.behind_conflict():
                return Stored("known", stream.last)
            batch.note_conflict()
            return Stored("conflict", stream.last)
        if batch.behind_conflict():
            return Stored("conflict", stream.last)
        if batch.sequence != stream.last + 1:
            return Stored("gap", stream.last)
        self._db.execute(
            "INSERT INTO batches(stream_id, sequence, lane, records, received_us, crc32, sealed) VALUES(?,?,?,?,?,?,?)",
            (stream.id, batch.sequence, batch.lane, batch.records, now_us, batch.crc32, batch.sealed),
        )
        self._db.execute(
            "UPDATE streams SET last_sequence = ?, checkpoint = ?, records = records + ? WHERE id = ?",
            (batch.sequence, batch.checkpoint, batch.records, stream.id),
        )
        stream.last = batch.sequence
        return Stored("stored", stream.last)

    def _same(self, stream: _Stream, batch: Incoming) -> bool:
        """Whether the log holds these very bytes; a purged batch is taken for the same."""
        row = self._db.execute(
            "SELECT crc32 FROM batches WHERE stream_id = ? AND sequence = ?", (stream.id, batch.sequence)
        ).fetchone()
        return row is None or row[0] == batch.crc32

    def _stream(self, batch: Incoming, now_us: int) -> _Stream:
        key = (batch.agent, batch.source, batch.epoch)
        found = self._streams.get(key)
        if found is None:
            cursor = self._db.execute(
                "INSERT INTO streams(agent, site, source, epoch, created_us) VALUES(?,?,?,?,?)",
                (batch.agent, batch.site, batch.source, batch.epoch, now_us),
            )
            assert cursor.lastrowid is not None  # noqa: S101 - an INSERT has one
            found = self._streams[key] = _Stream(cursor.lastrowid, 0)
        return found


class IntakeReader:
    """Reads the log from any process; one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA busy_timeout=10000")
        self._db.execute("PRAGMA query_only=1")

    def streams(self) -> list[StreamInfo]:
        """Every stream, oldest first: a source's older epochs come before its newer ones."""
        rows = self._db.execute(
            "SELECT id, agent, site, source, epoch, last_sequence, records, checkpoint FROM streams ORDER BY id"
        )
        return [StreamInfo(*row) for row in rows]

    def newest(self) -> int:
        """A mark for `arrivals`: everything stored so far. Take it first, then read `streams`."""
        mark: int = self._db.execute("SELECT coalesce(max(id), 0) FROM batches").fetchone()[0]
        return mark

    def arrivals(self, mark: int) -> tuple[int, dict[int, int]]:
        """(the next mark, {stream id: its last sequence}) of what was stored after *mark*: costs what came, not what
        there is."""
        rows = self._db.execute(
            "SELECT max(id), stream_id, max(sequence) FROM batches WHERE id > ? GROUP BY stream_id", (mark,)
        ).fetchall()
        return max((i for i, _, _ in rows), default=mark), {stream: sequence for _, stream, sequence in rows}

    def batches(self, stream_id: int, from_sequence: int, limit: int) -> list[StoredBatch]:
        """At most *limit* batches of a stream, by sequence, from *from_sequence* on."""
        rows = self._db.execute(
            "SELECT sequence, lane, records, sealed, crc32, received_us FROM batches"
            " WHERE stream_id = ? AND sequence >= ? ORDER BY sequence LIMIT ?",
            (stream_id, from_sequence, limit),
        )
        return [StoredBatch(*row) for row in rows]

    def first_since(self, stream_id: int, since_us: int) -> int | None:
        """The first sequence of a stream that was received at *since_us* or later; None when there is none."""
        row = self._db.execute(
            "SELECT min(sequence) FROM batches WHERE stream_id = ? AND received_us >= ?", (stream_id, since_us)
        ).fetchone()
        return int(row[0]) if row[0] is not None else None

    def records_between(self, stream_id: int, first: int, last: int) -> int:
        """How many records the batches of these sequences hold, as far as they are kept."""
        row = self._db.execute(
            "SELECT coalesce(sum(records), 0) FROM batches WHERE stream_id = ? AND sequence BETWEEN ? AND ?",
            (stream_id, first, last),
        ).fetchone()
        return int(row[0])

    def checkpoints(self, agent: str) -> list[tuple[str, bytes, int, bytes]]:
        """(source, epoch, sequence, checkpoint) of the agent's newest stream of each source."""
        rows = self._db.execute(
            "SELECT source, epoch, last_sequence, checkpoint FROM streams"
            " WHERE id IN (SELECT max(id) FROM streams WHERE agent = ? AND last_sequence > 0 GROUP BY source)",
            (agent,),
        )
        return list(rows)

    def of_epoch(self, agent: str, epoch: bytes) -> list[tuple[str, int]]:
        """(source, last sequence) of what the log holds of the agent's *epoch*."""
        rows = self._db.execute(
            "SELECT source, last_sequence FROM streams WHERE agent = ? AND epoch = ?", (agent, epoch)
        )
        return list(rows)

    def close(self) -> None:
        self._db.close()
