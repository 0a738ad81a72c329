"""A reading by key beside the one by watermark: for the first load of an old table, and to reconcile.

The reading by watermark goes on as ever and is asked again at least every `poll_seconds`, between two ranges of keys:
a fresh row never waits for a load or a scan. Each side leaves its position in every checkpoint.

The load (`initial_load: key`) begins once the reading by watermark watches from now on, and sends what is there in the
order of the key. A row that changes meanwhile is sent by both, each time as it is: the later one last.

Reconciling compares all rows with what is kept of them (`sql.keyscan`) and with what was taken meanwhile
(`sql.taken`). A row neither knows was missed: committed later than the look-back, without a watermark, changed without
touching it. Rows above the floor of the look-back window are left to the reading by watermark.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from loguru import logger

from crossdock_agent.sources.base import Draft, Finding, SourceContext
from crossdock_agent.sql.brake import ReconcileSettings, held_back, is_accepted, is_usual
from crossdock_agent.sql.hashes import HashSet
from crossdock_agent.sql.keychunks import Chunks, Kept, KeptLostError, next_version
from crossdock_agent.sql.keydraft import KeyBatch
from crossdock_agent.sql.keyreading import KeyReading, content_hash, mark_columns, marked
from crossdock_agent.sql.keyscan import KeyScan, Verdict
from crossdock_agent.sql.overlay import Overlay, OverlayState
from crossdock_agent.sql.position import POSITION_VERSION, Position, decoded
from crossdock_agent.sql.reader import TableReader
from crossdock_agent.sql.revision import Entry
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.times import SECOND_US
from crossdock_agent.sql.watermark import WatermarkTable


class BesideTable(TableReader):
    def __init__(self, settings: SqlTableSettings, context: SourceContext) -> None:
        super().__init__(settings, context)
        self._reconcile = settings.reconcile
        self._log = logger.bind(source=context.name, table=settings.table)
        by_key = settings.initial_load == "key"
        start = {"start": "now"} if by_key else {}
        self._live = WatermarkTable(
            msgspec.structs.replace(settings, reconcile=None, initial_load="watermark", **start), context
        )
        self._keys: KeyReading | None = None
        self._known: bytes | None = None  # the checkpoint for which all below stands as it does ...
        self._loaded = False  # ... if it does
        self._position: bytes | None = None  # of the reading by watermark
        self._is_loaded = not by_key
        self._behind: bytes | None = None
        self._begun_us = 0
        self._taken = Overlay(OverlayState(), context.memory.recall)
        self._gone = HashSet()  # keys whose delete the reconciliation under way has found by its scan ...
        self._told = HashSet()  # ... and those of rows the scan never knew, in drafts that were handed over
        self._is_unmet_held = False  # too many of the latter: not looked for again before the next scan
        self._make_scan(Kept())
        self._asked = float("-inf")  # when the reading by watermark was asked last

    # --- the contract

    def check(self) -> Iterator[Finding]:
        yield from self._live.check()

    def close(self) -> None:
        self._live.close()
        self._keys = None

    # --- one pass

    def _read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        if not self._loaded or checkpoint != self._known:
            self._load(checkpoint)
        self._loaded = False  # until the pass has come to its end
        yield from self._by_watermark()
        while not self._context.stop.is_set() and (work := self._work()) is not None:
            yield from work
            if self._context.stop.is_set():
                break
            if self._context.monotonic() - self._asked >= self._settings.poll_seconds:
                yield from self._by_watermark()
        if self._context.stop.is_set():
            return
        yield from self._flushed()
        self._loaded = True

    def _work(self) -> Iterator[Draft] | None:
        """The next piece of what is to be read by key; None: nothing is due."""
        if not self._is_loaded:
            return self._load_page(self._by_key())
        if self._reconcile is None:
            return None
        if self._is_unmet_due():
            return self._unmet(self._by_key())
        if self._scan.under_way or self._is_due(self._reconcile):
            return self._scan_range(self._by_key())
        return None

    def _by_watermark(self) -> Iterator[Draft]:
        yield from self._flushed()
        with contextlib.closing(self._live.read(self._position)) as drafts:  # type: ignore[type-var]  # it is a generator
            for draft in drafts:
                self._position = draft.header.checkpoint
                yield self._beside(draft)
        self._asked = self._context.monotonic()

    def _flushed(self) -> Iterator[Draft]:
        if self._scan.has_more and self._keys is not None:
            yield self._scan.flush(self._keys)

    def _beside(self, draft: Draft) -> Draft:
        """*draft*, with the marks that every batch of this source has, and all positions."""
        header, payload, remember = draft.header, draft.payload, draft.remember
        if self._reconcile is not None:
            head = b"\xdd" + header.records.to_bytes(4, "big")
            rows = [bytes(row) for row in msgspec.msgpack.decode(head + payload, type=list[msgspec.Raw])]
            payload = b"".join(marked(row, len(header.columns), "upsert", 0) for row in rows)
            reading = self._by_key()
            keys = [key for row in rows if (key := reading.key_of_packed(row)) is not None]
            remember = (*remember, *self._taken.add([content_hash(row) for row in rows], keys))
            mark_columns(header)
        header.checkpoint = self.checkpoint()
        return Draft(header, payload, remember, draft.on_ack)

    # --- the first load

    def _load_page(self, reading: KeyReading) -> Iterator[Draft]:
        page = next(reading.pages(self._behind, None), None)
        if self._context.stop.is_set():
            return
        batch = KeyBatch()
        remember: list[bytes] = []
        keys: list[bytes] = []
        rows = zip(page.rows, page.packed, page.hashes, strict=True) if page is not None else ()
        for row, packed, content in rows:
            sent = marked(packed, reading.cells, "upsert", 0) if self._reconcile is not None else packed
            why_long = reading.why_long(packed)
            if not batch.fits(len(sent), why_long):
                yield self._load_draft(reading, batch, remember, keys)
                batch, remember, keys = KeyBatch(), [], []
            self._behind = reading.key(row)
            batch.add(sent, reading.shown(self._behind), why_long)
            remember.append(content)
            keys.append(self._behind)
        self._is_loaded = page is None or page.is_last
        if self._is_loaded:
            self._behind = None
            self._log.info("the rows that were there at first are read")
        yield self._load_draft(reading, batch, remember, keys, closes=self._is_loaded)

    def _load_draft(
        self, reading: KeyReading, batch: KeyBatch, hashes: list[bytes], keys: list[bytes], *, closes: bool = False
    ) -> Draft:
        header = reading.header()
        written: tuple[tuple[str, bytes], ...] = ()
        if self._reconcile is not None:
            written = self._taken.add(hashes, keys)
            mark_columns(header)
        return batch.draft(header, self.checkpoint(), written, closes=closes)

    # --- reconciling

    def _is_due(self, settings: ReconcileSettings) -> bool:
        if not self._live.is_settled:
            return False
        if is_accepted(settings, self._kept.missing, self._kept.accept) and self._kept.missing:
            return True
        return self._context.wall_us() - self._begun_us >= settings.every_seconds * SECOND_US or not self._begun_us

    def _scan_range(self, reading: KeyReading) -> Iterator[Draft]:
        if not self._scan.under_way:
            self._begun_us = self._context.wall_us()
            self._taken.turn()
            self._gone, self._told, self._is_unmet_held = HashSet(), HashSet(), False
            self._context.counters.set("reconcile_missed", 0)
            self._context.counters.set("reconcile_vanished", 0)
        try:
            yield from self._scan.step(reading, self._settings.table, self._settings.poll_seconds)
        except KeptLostError as lost:
            self._log.warning("what was known of the rows is lost ({}): they are compared anew", lost)
            self._context.counters.add("rows_forgotten")
            self._make_scan(Kept(accept=self._kept.accept))
            self._is_unmet_held = True
            self._begun_us = 0  # at once

    def _is_unmet_due(self) -> bool:
        """A scan has ended, perhaps before a restart, and rows taken before it began are still to be looked for."""
        state = self._taken.state
        return state.turn > state.first and not (self._scan.under_way or self._kept.held or self._is_unmet_held)

    def _unmet(self, reading: KeyReading) -> Iterator[Draft]:
        """Rows taken since the scan before, which the one that has ended did not meet because they are gone already."""
        settings = self._reconcile or ReconcileSettings()
        count = sum(len(gone) for gone in self._gone_of(reading))
        if not is_usual(settings, count, self._kept.rows):
            if not is_accepted(settings, count, self._kept.accept):
                self._is_unmet_held = True
                self._context.counters.set("vanished_held_back", count)
                raise held_back(self._settings.table, count, self._kept.rows, self._settings.poll_seconds)
            self._kept.accept = settings.accept_vanished
        batch, found, told = KeyBatch(), HashSet(), list[int]()
        for gone in self._gone_of(reading):
            for key, content in gone.items():
                if _number(key) in found:
                    continue
                found.add([_number(key)])
                self._context.counters.add("reconcile_vanished")
                version = next_version(0, content)
                self._kept.seed = next_version(self._kept.seed, content)
                row = marked(reading.only_key(key), reading.cells, "delete", version)
                if not settings.deletes:
                    continue
                if not batch.fits(len(row)):
                    self._told.add(told)
                    yield batch.draft(mark_columns(reading.header()), self.checkpoint(), (), closes=False)
                    batch, told = KeyBatch(), []
                batch.add(row, reading.shown(key))
                told.append(_number(key))
        if self._context.stop.is_set():
            return
        self._taken.forget()
        yield batch.draft(mark_columns(reading.header()), self.checkpoint(), (), closes=True)

    def _gone_of(self, reading: KeyReading) -> Iterator[dict[bytes, bytes]]:
        """Keys taken that have no row now, and were not sent as deleted, with the content they had last."""
        for taken in self._taken.before():
            if self._context.stop.is_set():
                return
            rows = {key: content for key, content in taken if not self._is_told(_number(key))}
            there = reading.existing(list(rows))
            yield {key: content for key, content in rows.items() if key not in there}

    def _is_told(self, number: int) -> bool:
        return number in self._gone or number in self._told

    def judge(self, row: Sequence[Any], content: bytes, _kept: Entry | None) -> Verdict:
        if content in self._taken:
            return Verdict.KNOWN
        if self._kept.scans == 0 and self._settings.start == "now":  # what was there before is not wanted
            return Verdict.KNOWN
        if self._keys is not None and self._live.is_ahead(self._keys.mark(row)):
            return Verdict.LATER
        unsure = self._kept.scans == 0 and self._taken.state.overflowed
        self._context.counters.add("reconcile_sent_again" if unsure else "reconcile_missed")
        return Verdict.SEND

    def vanished(self, key: bytes) -> bool:
        self._gone.add([_number(key)])
        self._context.counters.add("reconcile_vanished")
        return self._reconcile is not None and self._reconcile.deletes

    # --- state

    def checkpoint(self) -> bytes:
        position = Position(
            POSITION_VERSION, self._position, self._is_loaded, self._behind, self._begun_us, self._settings.key_basis,
            self._kept, self._taken.state,
        )  # fmt: skip
        self._known = msgspec.msgpack.encode(position)
        return self._known

    def _load(self, checkpoint: bytes | None) -> None:
        if checkpoint != self._known:  # the last draft was not kept
            self._told = HashSet()
        stored = decoded(checkpoint)
        by_key, recall = self._settings.initial_load == "key", self._context.memory.recall
        self._known = checkpoint
        if stored is None:
            self._position, self._is_loaded = checkpoint, checkpoint is not None or not by_key
            self._behind, self._begun_us, kept, taken = None, 0, Kept(), OverlayState()
        else:
            self._position, self._is_loaded, self._behind = stored.live, stored.loaded, stored.behind
            self._begun_us, kept, taken = stored.begun_us, stored.kept, stored.taken
            if stored.basis != self._settings.key_basis:
                self._log.warning("'key' or 'where' were changed: the rows are compared anew")
                kept = Kept()
        self._taken = Overlay(taken, recall)
        self._make_scan(kept)

    def _make_scan(self, kept: Kept) -> None:
        self._kept, context = kept, self._context
        self._scan = KeyScan(
            self, Chunks(kept, context.memory.recall), self._reconcile or ReconcileSettings(), context.counters,
            context.stop, context.monotonic,
        )  # fmt: skip

    def _by_key(self) -> KeyReading:
        database = self._live.database()
        if self._keys is None or self._keys.database is not database:
            self._keys = KeyReading(database, self._settings, self._context.stop)
        return self._keys

    def _cancel(self) -> None:
        keys = self._keys
        if keys is not None:
            keys.database.cancel()


def _number(key: bytes) -> int:
    return int.from_bytes(content_hash(key), "big")
