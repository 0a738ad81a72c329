"""A scan of a table in the order of its key, compared chunk by chunk with what is kept: changed, new and vanished rows.

A row that is new or has another hash is sent as it is met. A row that was not met is *missing*, no more: rows move
while a scan goes by. Once every range has been read to its end, the missing ones are counted, and when they are not
suspiciously many, a second way through (the sweep) asks for each of them by its exact key. What is then not there was
deleted.

A crash repeats a range or a sweep of it at most: a chunk and the records it accounts for are one draft.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, Protocol

from crossdock.lifecycle import Stop
from crossdock_agent.sources.base import Counters, Draft
from crossdock_agent.sql.brake import VanishSettings, held_back, is_accepted, is_usual
from crossdock_agent.sql.keychunks import (
    CHUNK_ROWS,
    GONE,
    IDLE,
    NOWHERE,
    SCAN,
    SWEEP,
    UNREAD,
    Chunk,
    Chunks,
    forget_gone,
    joined_seed,
    next_version,
)  # fmt: skip
from crossdock_agent.sql.keydraft import KeyBatch
from crossdock_agent.sql.keyreading import KeyReading, mark_columns, marked
from crossdock_agent.sql.revision import Entry, Revision

DRAFT_CHUNKS = 16  # chunks written with one batch: some 500 KB
LINGER_SECONDS = 1.0  # a record waits no longer for others, once its range is read


class Verdict(Enum):
    SEND = 1
    KNOWN = 2  # it was sent by somebody else
    LATER = 3  # somebody else will send it, or did: leave it for the next scan


class Host(Protocol):
    """Whose scan this is."""

    def judge(self, _row: Sequence[Any], _content: bytes, _kept: Entry | None) -> Verdict:
        """What to do with a row that is new (nothing is kept of it) or not as it was."""

    def checkpoint(self) -> bytes:
        """With `Chunks.kept` in it, as it is now."""

    def vanished(self, _key: bytes) -> bool:
        """The row of a key is gone; True to send that."""


class KeyScan:
    """One table, scan after scan. `step` reads one range, or sweeps one chunk."""

    def __init__(
        self, host: Host, chunks: Chunks, settings: VanishSettings, counters: Counters, stop: Stop,
        monotonic: Callable[[], float],
    ) -> None:  # fmt: skip
        self._host, self.chunks, self._settings = host, chunks, settings
        self._counters, self._stop, self._monotonic = counters, stop, monotonic
        self._batch = KeyBatch()
        self._born = 0.0  # when the batch got its first record
        self._revision: Revision | None = None
        self._ahead: tuple[int, Chunk] | None = None  # the next chunk, when it was looked at already
        self._low: bytes | None = None  # where the next range begins ...
        self._next = NOWHERE  # ... and its chunk
        self._is_placed = False
        self._astray = 0  # rows that the scan did not meet, and the sweep found
        self._is_unwritten = False  # the only chunk was just made
        self._opened = chunks.kept.phase != IDLE  # the checkpoint handed over last says that a scan is under way

    @property
    def under_way(self) -> bool:
        return self.chunks.kept.phase != IDLE

    def run(self, reading: KeyReading, table: str, poll_seconds: float) -> Iterator[Draft]:
        """One scan to its end, or what is left of one. Ends early at a stop. Raises what `step` does."""
        while True:
            yield from self.step(reading, table, poll_seconds)
            if self._stop.is_set() or not self.under_way:
                return

    def step(self, reading: KeyReading, table: str, poll_seconds: float) -> Iterator[Draft]:
        """The next range of the scan under way, or the first of a new one.

        Raises Retryable when too many rows are missing at the end, KeptLostError, and what the database raises.
        """
        kept = self.chunks.kept
        if kept.phase == IDLE:
            self._begin(SCAN)
        self._place()
        if self._next != NOWHERE or kept.head == NOWHERE:  # else it was broken off behind the last range
            yield from self._scan(reading) if kept.phase == SCAN else self._sweep(reading)
            if self._stop.is_set():
                return
            if self._is_due():
                yield self.flush(reading)
        if self._next == NOWHERE:
            yield from self._end(reading, table, poll_seconds)

    def flush(self, reading: KeyReading, *, closes: bool = False) -> Draft:
        """What was gathered, with every chunk it changed."""
        self._save()
        header = mark_columns(reading.header())
        draft = self._batch.draft(header, self._host.checkpoint(), self.chunks.take(), closes=closes)
        self._batch, self._opened = KeyBatch(), self.under_way
        return draft

    @property
    def has_more(self) -> bool:
        """True when something waits for `flush`."""
        return not self._batch.is_empty or self.chunks.dirty > 0

    def _is_due(self) -> bool:
        if self._batch.is_empty:
            return self.chunks.dirty >= DRAFT_CHUNKS
        return self._monotonic() - self._born > LINGER_SECONDS

    # --- where the scan stands

    def _begin(self, phase: int) -> None:
        self.chunks.kept.phase, self.chunks.kept.before = phase, NOWHERE
        self._is_placed = False

    def _place(self) -> None:
        if self._is_placed:
            return
        kept = self.chunks.kept
        self._ahead, self._low, self._next = None, None, kept.head
        if kept.before != NOWHERE:
            before = self.chunks.load(kept.before)
            self._low, self._next = before.hi, before.next
        self._is_placed = True

    def _open(self) -> Revision:
        """The next chunk; the very first one is made, its range the whole table."""
        kept = self.chunks.kept
        if self._next == NOWHERE:
            kept.head = self._next = self.chunks.allocate()
            self._ahead = (self._next, Chunk())
            self._is_unwritten = True
        slot, chunk = self._ahead if self._ahead is not None else (self._next, self.chunks.load(self._next))
        self._ahead = None
        self._revision = Revision(slot, chunk, self._low)
        return self._revision

    def _save(self) -> None:
        revision = self._revision
        if revision is None or not revision.dirty:
            return
        chunk = revision.chunk()
        self.chunks.put(revision.slot, chunk, *revision.counted)
        revision.counted, revision.dirty, self._is_unwritten = (chunk.rows, chunk.missing), False, False

    def _leave(self, revision: Revision) -> None:
        """*revision* is done: write it if it changed, and go on behind it."""
        self._save()
        self._revision = None
        self.chunks.kept.before = revision.slot
        self._low, self._next = revision.high, revision.next
        if revision.total == 0 and self.chunks.kept.slots == 1 and self._is_unwritten:  # an empty table needs none
            self.chunks.kept.head, self.chunks.kept.before, self.chunks.kept.slots = NOWHERE, NOWHERE, 0

    def _end(self, reading: KeyReading, table: str, poll_seconds: float) -> Iterator[Draft]:
        kept, settings = self.chunks.kept, self._settings
        fault = None
        if kept.phase == SCAN and kept.missing:
            if is_usual(settings, kept.missing, kept.rows):
                self._begin(SWEEP)
            elif is_accepted(settings, kept.missing, kept.accept):
                kept.accept = settings.accept_vanished
                self._begin(SWEEP)
            else:
                fault = held_back(table, kept.missing, kept.rows, poll_seconds)
        if kept.phase == SWEEP and not self._is_placed:
            return
        kept.phase, kept.before, kept.scans, kept.held = IDLE, NOWHERE, kept.scans + 1, fault is not None
        self._is_placed = False
        self._counters.set("rows_kept", kept.rows)
        self._counters.set("vanished_held_back", kept.missing if fault is not None else 0)
        self._counters.set("keys_out_of_order", self._astray)
        self._astray = 0
        if self.has_more or self._opened:
            yield self.flush(reading, closes=True)
        if fault is not None:
            raise fault

    # --- the way through the table

    def _scan(self, reading: KeyReading) -> Iterator[Draft]:
        revision = self._open()
        while True:
            for page in reading.pages(revision.low, revision.high):
                if revision.passes(page.hashes):
                    continue
                revision.open()
                for row, packed, content in zip(page.rows, page.packed, page.hashes, strict=True):
                    yield from self._meet(reading, revision, row, packed, content)
                    if revision.is_large:
                        self._split(reading, revision)
                del page, row, packed
            if self._stop.is_set():
                return
            revision.end()
            if not self._absorbs(revision):
                break
        self._leave(revision)

    def _meet(
        self, reading: KeyReading, revision: Revision, row: Sequence[Any], packed: bytes, content: bytes
    ) -> Iterator[Draft]:
        key = reading.key(row)
        if revision.is_last(key):
            raise reading.not_unique(key)
        kept = revision.find(key)
        if kept is not None and kept[0] == content:
            revision.meet(key, kept)
            return
        verdict = self._host.judge(row, content, kept)
        seed = joined_seed(revision.seed, self.chunks.kept.seed)
        version = seed if kept is None else next_version(kept[1], kept[0])
        if verdict is Verdict.LATER:
            is_known = kept is not None and kept[0] != GONE
            revision.meet(key, kept if kept is not None and is_known else (UNREAD, version))
            return
        if verdict is Verdict.SEND:
            row, why_long = marked(packed, reading.cells, "upsert", version), reading.why_long(packed)
            yield from self._send(reading, row, reading.shown(key), why_long)
        revision.meet(key, (content, version))

    def _send(self, reading: KeyReading, row: bytes, key: str, why_long: str | None = None) -> Iterator[Draft]:
        if not self._batch.fits(len(row), why_long) or self.chunks.dirty >= DRAFT_CHUNKS:
            yield self.flush(reading)
        if self._batch.is_empty:
            self._born = self._monotonic()
        self._batch.add(row, key, why_long)

    def _split(self, reading: KeyReading, revision: Revision) -> None:
        slot, counted, new = revision.slot, revision.counted, self.chunks.allocate()
        left = revision.split(new, reading)
        if left is None:
            self.chunks.give_up(new)
            return
        self.chunks.put(slot, left, *counted)
        self.chunks.kept.before = slot

    def _absorbs(self, revision: Revision) -> bool:
        """True when *revision* is small and took the next chunk into itself: its range is still to be read."""
        if revision.next == NOWHERE or revision.total >= CHUNK_ROWS // 4:
            return False
        slot, chunk = revision.next, self.chunks.load(revision.next)
        if revision.total + chunk.rows + len(chunk.absent) > CHUNK_ROWS:
            self._ahead = (slot, chunk)
            return False
        revision.absorb(chunk)
        self.chunks.give_up(slot)
        return True

    # --- the sweep

    def _sweep(self, reading: KeyReading) -> Iterator[Draft]:
        revision = self._open()
        missing = [key for key, (content, _) in revision.absent.items() if content != GONE]
        there = reading.existing(missing) if missing else set()
        if self._stop.is_set():
            return
        for key in missing:
            if key in there:  # moved behind the scan's back; the next scan will meet it
                self._astray += 1
                continue
            content, version = revision.absent[key]
            version = next_version(version, content)
            if self._host.vanished(key):
                yield from self._send(
                    reading, marked(reading.only_key(key), reading.cells, "delete", version), reading.shown(key)
                )
            revision.absent[key] = (GONE, version)
            revision.dirty = True
        seed = forget_gone(revision.absent, revision.seed)
        if seed != revision.seed:
            revision.seed, revision.dirty = seed, True
        self._leave(revision)
