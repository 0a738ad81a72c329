"""Every statement on the outbox file. A batch, its checkpoint, its ledger rows and its token are written as one.

Sequences that come in and go out are the wire's: they begin at 1 with each epoch (`base_sequence`, see `schema`).
A `Store` does not lock: the writing half belongs to the group-commit thread, the reading half is used under its lock.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from crossdock.errors import BufferCorrupt
from crossdock_agent.outbox import schema
from crossdock_agent.outbox.kept import Kept, minute_now
from crossdock_agent.outbox.rows import Append, Loss, Missing, Position, StoredBatch, source_crc

LOSSES = 20  # of those found, the last ones are remembered


class Store:
    """Two connections to one sound file (`schema.open_checked` first): one writes, one reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writes = schema.connect(path)
        self._reads = schema.connect(path)
        self.kept = Kept(self._writes)
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
            self.kept.forget()
            if self._writes.in_transaction:
                self._writes.execute("ROLLBACK")
            raise

    # --- written inside a transaction

    def append(self, batch: Append) -> int:
        """Its sequence: one after the source's last."""
        source_id = self._source_id(batch.source, batch.lane)
        size = len(batch.sealed)
        ((sequence, base),) = self._writes.execute(
            "UPDATE sources SET last_sequence = last_sequence + 1, checkpoint = ?, lane = ?, crc32 = ?,"
            " batches = batches + 1, records = records + ?, bytes = bytes + ? WHERE id = ?"
            " RETURNING last_sequence, base_sequence",
            (
                batch.checkpoint,
                batch.lane,
                source_crc(batch.source.encode(), batch.lane.encode(), batch.checkpoint),
                batch.records,
                size,
                source_id,
            ),
        ).fetchall()
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
        return int(sequence) - int(base)

    def acknowledge(self, source: str, sequence: int) -> bool:
        """The controller has the batches of *source* up to *sequence*: queue their tokens; True when one is now due.

        The batches stay (see `kept`). An unknown source has none.
        """
        row = self._writes.execute(
            "SELECT id, acked_sequence, min(last_sequence, base_sequence + ?), released_sequence FROM sources"
            " WHERE name = ?",
            (sequence, source),
        ).fetchone()
        if row is None or row[2] <= row[1]:
            return False
        source_id, acked, until, released = (int(value) for value in row)
        batches, records, size, tokens = self._writes.execute(
            "SELECT count(*), sum(records), sum(bytes), count(on_ack) FROM batches"
            " WHERE source_id = ? AND sequence > ? AND sequence <= ?",
            (source_id, acked, until),
        ).fetchone()
        self._writes.execute(
            "UPDATE sources SET acked_sequence = ?1, released_sequence = max(released_sequence, ?1),"
            " batches = batches - ?2, records = records - ?3, bytes = bytes - ?4,"
            " kept_batches = kept_batches + ?2, kept_bytes = kept_bytes + ?4 WHERE id = ?5",
            (until, batches, records, size, source_id),
        )
        self.kept.acknowledged(source_id, acked + 1, minute_now())
        if not tokens:
            return False
        return (
            self._writes.execute(
                "INSERT INTO releases (source_id, token) SELECT source_id, on_ack FROM batches"
                " WHERE source_id = ? AND sequence > ? AND sequence <= ? AND on_ack IS NOT NULL ORDER BY sequence",
                (source_id, max(acked, released), until),
            ).rowcount
            > 0
        )

    def renew(self, known: Mapping[str, int]) -> list[Missing]:
        """Begin a new epoch: see `Kept.renew`."""
        for source, sequence in known.items():
            self.acknowledge(source, sequence)  # what it has is not sent under another number
        self._set_meta("epoch", os.urandom(schema.EPOCH_BYTES))
        self.forget_opening()  # its sequences are of the epoch that ended
        missing = self.kept.renew(known)
        if missing:
            losses = [*self.losses(self._writes), Loss(time.time_ns() // 1000, tuple(missing))]
            self._set_meta("losses", msgspec.json.encode(losses[-LOSSES:]))
        return missing

    def finish_releases(self, ids: Sequence[int]) -> None:
        self._writes.executemany("DELETE FROM releases WHERE id = ?", [(i,) for i in ids])

    def adopt(self, checkpoints: Mapping[str, bytes]) -> None:
        """Carry on where the controller says this agent was. Only a fresh outbox may: its sequences begin at 1."""
        for source, checkpoint in checkpoints.items():
            source_id = self._source_id(source, "standard")
            self._writes.execute(
                "UPDATE sources SET checkpoint = ?, lane = 'standard', crc32 = ? WHERE id = ?",
                (checkpoint or None, source_crc(source.encode(), b"standard", checkpoint or None), source_id),
            )
        self._set_meta("fresh", b"\x00")

    def set_controller(self, store: bytes) -> None:
        self._set_meta("controller", store)

    def bind(self, agent: str) -> bool:
        """Make the outbox *agent*'s own; True when it was another's.

        Batches kept under an earlier identity become a new epoch, numbered from 1 again: the controller knows
        sequences per agent, and the sealed bytes hold none.
        """
        owner = self._meta("agent")
        if owner == agent.encode():
            return False
        self._set_meta("agent", agent.encode())
        self.forget_opening()
        if owner is None:
            return False
        self._set_meta("epoch", os.urandom(schema.EPOCH_BYTES))
        self._writes.execute("UPDATE sources SET base_sequence = acked_sequence")
        return True

    def opening(self, now: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """Where each source stood, {name: (last, acknowledged sequence)}, when the first process opened this file that
        no controller has compared it with since; that is *now* when there was none."""
        kept = self._meta("opening")
        if kept is None:
            kept = json.dumps(now).encode()
            self._set_meta("opening", kept)
        return {name: (int(last), int(acked)) for name, (last, acked) in json.loads(kept).items()}

    def forget_opening(self) -> None:
        self._writes.execute("DELETE FROM meta WHERE key = 'opening'")

    # --- written by itself

    def vacuum(self, pages: int) -> int:
        """Give up to *pages* free pages back to the disk; how many remain free."""
        # as a script: a cursor ends the pragma after its first step, which is one page with a sync of its own
        self._writes.executescript(f"PRAGMA incremental_vacuum({int(pages)})")
        return self.free_pages()

    def set_log(self, limit_bytes: int) -> None:
        """How much SQLite's log takes before all of it goes into the file."""
        self._writes.execute(f"PRAGMA wal_autocheckpoint = {max(1, limit_bytes // schema.PAGE_BYTES)}").fetchall()

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

    def controller(self) -> bytes:
        """The id of the controller's store that last welcomed this agent; empty when none has."""
        return self._meta("controller", self._reads) or b""

    def losses(self, connection: sqlite3.Connection | None = None) -> list[Loss]:
        """The latest times at which something could not be given back, oldest first."""
        kept = self._meta("losses", connection or self._reads)
        return [] if kept is None else msgspec.json.decode(kept, type=list[Loss])

    def positions(self) -> dict[str, Position]:
        """By name, as written by this process: for the thread that writes."""
        rows = self._writes.execute(
            "SELECT name, lane, last_sequence - base_sequence, acked_sequence - base_sequence, batches, records, bytes,"
            " kept_batches, kept_bytes FROM sources"
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
            "SELECT b.sequence - s.base_sequence, b.records, b.crc32, b.bytes, b.id FROM sources AS s"
            " JOIN batches AS b ON b.source_id = s.id AND b.sequence > max(s.base_sequence + ?, s.acked_sequence)"
            " WHERE s.name = ? ORDER BY b.sequence LIMIT ?",
            (after_sequence, source, limit_batches),
        ).fetchall()
        batches: list[StoredBatch] = []
        total = 0
        for sequence, records, crc32, size, row_id in rows:
            total += size
            if batches and total > limit_bytes:
                break
            found = self._reads.execute("SELECT sealed FROM batches WHERE id = ?", (row_id,)).fetchone()
            if found is None:  # acknowledged and given up meanwhile
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
            " UNION ALL SELECT on_ack, 1, sequence FROM sources AS s"
            " JOIN batches AS b ON b.source_id = s.id AND b.sequence > s.released_sequence"
            " WHERE s.name = ?1 AND on_ack IS NOT NULL ORDER BY 2, 3",
            (source,),
        )
        return [bytes(token) for token, _, _ in rows]

    def releases_waiting(self, source: str) -> int:
        row = self._reads.execute(
            "SELECT count(*) FROM releases WHERE source_id = (SELECT id FROM sources WHERE name = ?)", (source,)
        ).fetchone()
        return int(row[0])

    def oldest_us(self) -> int:
        (oldest,) = self._reads.execute(
            "SELECT min(b.read_at_us) FROM sources AS s"
            " JOIN batches AS b ON b.source_id = s.id AND b.sequence = s.acked_sequence + 1 WHERE s.batches > 0"
        ).fetchone()
        return int(oldest or 0)

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
