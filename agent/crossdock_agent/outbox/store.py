"""Every statement on the outbox file. A batch, its checkpoint, its ledger rows and its token are written as one.

A `Store` does not lock: the writing half belongs to the group-commit thread, the reading half is used under its lock.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crossdock.errors import BufferCorrupt
from crossdock_agent.outbox import schema


@dataclass(frozen=True, slots=True)
class Append:
    """One sealed batch of a source with everything that is committed together with it."""

    source: str
    lane: str
    sealed: bytes
    crc32: int
    records: int  # rejects counted
    raw_bytes: int
    read_at_us: int
    checkpoint: bytes
    remember: tuple[tuple[str, bytes | None], ...] = ()  # None: the row goes
    on_ack: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of it all, as a queue counts them."""
        return len(self.sealed) + sum(len(key) + len(value or b"") for key, value in self.remember)


@dataclass(frozen=True, slots=True)
class StoredBatch:
    sequence: int
    records: int
    crc32: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Position:
    """Where a source stands; batches, records and bytes count what is not yet acknowledged."""

    lane: str
    last_sequence: int = 0
    acked_sequence: int = 0
    batches: int = 0
    records: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    batches: int
    records: int
    bytes: int
    oldest_us: int  # when the oldest batch was read; 0 when there is none


class Store:
    """Two connections to one sound file (`schema.open_checked` first): one writes, one reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writes = schema.connect(path)
        self._reads = schema.connect(path)
        self._ids = {str(name): int(i) for i, name in self._writes.execute("SELECT id, name FROM sources")}

    def close(self) -> None:
        self._reads.close()
        self._writes.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is committed and synced at the end, or undone."""
        self._writes.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writes.execute("COMMIT")
        except BaseException:
            self._ids = {}
            if self._writes.in_transaction:
                self._writes.execute("ROLLBACK")
            raise

    # --- written inside a transaction

    def append(self, batch: Append) -> int:
        """Its sequence: one after the source's last."""
        source_id = self._source_id(batch.source, batch.lane)
        size = len(batch.sealed)
        (sequence,) = self._writes.execute(
            "UPDATE sources SET last_sequence = last_sequence + 1, checkpoint = ?, lane = ?,"
            " batches = batches + 1, records = records + ?, bytes = bytes + ? WHERE id = ? RETURNING last_sequence",
            (batch.checkpoint, batch.lane, batch.records, size, source_id),
        ).fetchall()[0]
        self._writes.execute(
            "INSERT INTO batches (source_id, sequence, records, raw_bytes, bytes, crc32, read_at_us, on_ack, sealed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                source_id,
                sequence,
                batch.records,
                batch.raw_bytes,
                size,
                batch.crc32,
                batch.read_at_us,
                batch.on_ack,
                batch.sealed,
            ),
        )
        self._writes.executemany(
            "INSERT INTO ledger (source_id, key, value) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET value = excluded.value",
            [(source_id, key, value) for key, value in batch.remember if value is not None],
        )
        self._writes.executemany(
            "DELETE FROM ledger WHERE source_id = ? AND key = ?",
            [(source_id, key) for key, value in batch.remember if value is None],
        )
        return int(sequence)

    def acknowledge(self, source: str, sequence: int) -> bool:
        """Drop the batches of *source* up to *sequence* and queue their tokens; True when a token is now due. An
        unknown source has none."""
        row = self._writes.execute("SELECT id FROM sources WHERE name = ?", (source,)).fetchone()
        if row is None:
            return False
        source_id = int(row[0])
        gone = self._writes.execute(
            "DELETE FROM batches WHERE source_id = ? AND sequence <= ? RETURNING sequence, records, bytes, on_ack",
            (source_id, sequence),
        ).fetchall()
        if not gone:
            return False
        self._writes.execute(
            "UPDATE sources SET acked_sequence = ?, batches = batches - ?, records = records - ?, bytes = bytes - ?"
            " WHERE id = ?",
            (max(g[0] for g in gone), len(gone), sum(g[1] for g in gone), sum(g[2] for g in gone), source_id),
        )
        tokens = [(source_id, token) for _, _, _, token in sorted(gone, key=lambda g: int(g[0])) if token is not None]
        self._writes.executemany("INSERT INTO releases (source_id, token) VALUES (?, ?)", tokens)
        return bool(tokens)

    def finish_releases(self, ids: Sequence[int]) -> None:
        self._writes.executemany("DELETE FROM releases WHERE id = ?", [(i,) for i in ids])

    def adopt(self, checkpoints: Mapping[str, bytes]) -> None:
        """Carry on where the controller says this agent was. Only a fresh outbox may: its sequences begin at 1."""
        for source, checkpoint in checkpoints.items():
            source_id = self._source_id(source, "standard")
            self._writes.execute("UPDATE sources SET checkpoint = ? WHERE id = ?", (checkpoint or None, source_id))
        self._set_meta("fresh", b"\x00")

    def bind(self, agent: str) -> bool:
        """Make the outbox *agent*'s own; True when it was another's.

        Batches kept under an earlier identity become a new epoch, numbered from 1 again: the controller knows
        sequences per agent, and the sealed bytes hold none.
        """
        owner = self._meta("agent")
        if owner == agent.encode():
            return False
        self._set_meta("agent", agent.encode())
        if owner is None:
            return False
        self._set_meta("epoch", os.urandom(schema.EPOCH_BYTES))
        # in order, because (source_id, sequence) is unique at every step
        self._writes.execute(
            "UPDATE batches SET sequence = -(sequence - (SELECT acked_sequence FROM sources WHERE id = source_id))"
        )
        self._writes.execute("UPDATE batches SET sequence = -sequence")
        self._writes.execute("UPDATE sources SET last_sequence = last_sequence - acked_sequence, acked_sequence = 0")
        return True

    # --- written by itself

    def vacuum(self, pages: int) -> int:
        """Give up to *pages* free pages back to the disk; how many remain free."""
        # as a script: a cursor ends the pragma after its first step, which is one page with a sync of its own
        self._writes.executescript(f"PRAGMA incremental_vacuum({int(pages)})")
        return self.free_pages()

    def free_pages(self) -> int:
        return int(self._writes.execute("PRAGMA freelist_count").fetchone()[0])

    def pages(self) -> int:
        return int(self._writes.execute("PRAGMA page_count").fetchone()[0])

    # --- read

    def epoch(self) -> bytes:
        value = self._meta("epoch", self._reads)
        if value is None:
            raise BufferCorrupt(f"outbox {self.path} has no epoch")
        return value

    def fresh(self) -> bool:
        return self._meta("fresh", self._reads) == b"\x01"

    def positions(self) -> dict[str, Position]:
        """By name, as written by this process: for the thread that writes."""
        rows = self._writes.execute(
            "SELECT name, lane, last_sequence, acked_sequence, batches, records, bytes FROM sources"
        )
        return {str(row[0]): Position(*row[1:]) for row in rows}

    def checkpoint(self, source: str) -> bytes | None:
        row = self._reads.execute("SELECT checkpoint FROM sources WHERE name = ?", (source,)).fetchone()
        return None if row is None else row[0]

    def page(self, source: str, after_sequence: int, limit_bytes: int, limit_batches: int) -> list[StoredBatch]:
        """The next batches of *source* in order, at least one if there is one, else within both limits.

        Raises BufferCorrupt when a stored checksum differs.
        """
        rows = self._reads.execute(
            "SELECT sequence, records, crc32, bytes, b.id FROM batches AS b"
            " WHERE source_id = (SELECT id FROM sources WHERE name = ?) AND sequence > ? ORDER BY sequence LIMIT ?",
            (source, after_sequence, limit_batches),
        ).fetchall()
        batches: list[StoredBatch] = []
        total = 0
        for sequence, records, crc32, size, row_id in rows:
            total += size
            if batches and total > limit_bytes:
                break
            found = self._reads.execute("SELECT sealed FROM batches WHERE id = ?", (row_id,)).fetchone()
            if found is None:  # acknowledged meanwhile
                continue
            if zlib.crc32(found[0]) != crc32:
                raise BufferCorrupt(f"outbox {self.path}: batch {source}/{sequence} differs from its checksum")
            batches.append(StoredBatch(sequence, records, crc32, found[0]))
        return batches

    def recall(self, source: str, key: str) -> bytes | None:
        row = self._reads.execute(
            "SELECT value FROM ledger WHERE source_id = (SELECT id FROM sources WHERE name = ?) AND key = ?",
            (source, key),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def ledger(self, source: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        rows = self._reads.execute(
            "SELECT key, value FROM ledger WHERE source_id = (SELECT id FROM sources WHERE name = ?) AND key > ?"
            " ORDER BY key LIMIT ?",
            (source, after, limit),
        )
        return [(str(key), bytes(value)) for key, value in rows]

    def releases(self, source: str, after: int, limit: int) -> list[tuple[int, bytes]]:
        rows = self._reads.execute(
            "SELECT id, token FROM releases WHERE source_id = (SELECT id FROM sources WHERE name = ?) AND id > ?"
            " ORDER BY id LIMIT ?",
            (source, after, limit),
        )
        return [(int(i), bytes(token)) for i, token in rows]

    def unreleased(self, source: str) -> list[bytes]:
        rows = self._reads.execute(
            "SELECT token, 0, id FROM releases WHERE source_id = (SELECT id FROM sources WHERE name = ?1)"
            " UNION ALL SELECT on_ack, 1, sequence FROM batches"
            " WHERE source_id = (SELECT id FROM sources WHERE name = ?1) AND on_ack IS NOT NULL ORDER BY 2, 3",
            (source,),
        )
        return [bytes(token) for token, _, _ in rows]

    def releases_waiting(self, source: str) -> int:
        row = self._reads.execute(
            "SELECT count(*) FROM releases WHERE source_id = (SELECT id FROM sources WHERE name = ?)", (source,)
        ).fetchone()
        return int(row[0])

    def oldest_us(self) -> int:
        row = self._reads.execute("SELECT read_at_us FROM batches ORDER BY id LIMIT 1").fetchone()
        return 0 if row is None else int(row[0])

    # ---

    def _source_id(self, name: str, lane: str) -> int:
        known = self._ids.get(name)
        if known is None:
            self._writes.execute("INSERT INTO sources (name, lane) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, lane))
            known = int(self._writes.execute("SELECT id FROM sources WHERE name = ?", (name,)).fetchone()[0])
            self._ids[name] = known
        return known

    def _meta(self, key: str, connection: sqlite3.Connection | None = None) -> bytes | None:
        row = (connection or self._writes).execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def _set_meta(self, key: str, value: bytes) -> None:
        self._writes.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
        )
