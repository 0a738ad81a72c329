"""Modes incrementing and timestamp: a row is passed only when no later commit can appear before it unseen.

One pass reads, in pages of one short statement each, from the floor of the look-back window (or from somewhere inside
it) to the end of the table; rows taken before are known by their hash and left out. See `sql.cursor` for what moves the
floor and `sql.window` for what is remembered. Nothing is open at the database between two pages.

A pass that was broken off goes on behind the last row of the last committed batch; batches are cut only between units,
so that the lines of one order arrive once and together.

When the newest row is older than what was settled long ago, a backup was restored or ids were handed out anew. The
source then stops with an error until that is over or the operator decides (`purged`, or a new source name): reading on
would skip rows without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import msgspec
from loguru import logger

from crossdock.errors import UNREADABLE, ConfigError
from crossdock_agent.sources.base import Draft, Finding, SourceContext
from crossdock_agent.sql.alarms import Alarms
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.cursor import CHECKPOINT_VERSION, Checkpoint, Cursor, Pass, Position, Scale, UnderWay
from crossdock_agent.sql.doctor import examine
from crossdock_agent.sql.folds import Folds, present
from crossdock_agent.sql.paging import Pager, require_order
from crossdock_agent.sql.position import live_part
from crossdock_agent.sql.reader import TableReader
from crossdock_agent.sql.reading import Reading, prepare
from crossdock_agent.sql.rows import Batch, Page
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.times import parse
from crossdock_agent.sql.window import Window, row_hash


class WatermarkTable(TableReader):
    def __init__(self, settings: SqlTableSettings, context: SourceContext) -> None:
        super().__init__(settings, context)
        self._alarms = Alarms(settings, context, logger.bind(source=context.name, table=settings.table))
        self._scale = Scale(settings.mode == "incrementing", settings.look_back_seconds, settings.look_back_ids)
        self._reading: Reading | None = None
        self._known: bytes | None = None  # the checkpoint for which cursor and window stand as they are ...
        self._loaded = False  # ... if they do: a pass that was broken off leaves them behind
        self._window = Window()
        self._cursor = Cursor(self._scale, settings.poll_seconds, None, context.monotonic())
        self._quiet: object = None  # `Database.changes` as it was when everything had been read
        self._pager = Pager(settings, context.stop)
        self._folds = Folds(settings)

    # --- the contract

    def check(self) -> Iterator[Finding]:
        yield from examine(
            self._settings,
            self._connect,
            self._context.wall_us,
        )

    def close(self) -> None:
        if self._reading is not None:
            self._reading.database.close()
        self._reading, self._quiet = None, None

    # --- for a reading beside this one

    @property
    def is_settled(self) -> bool:
        """True once the whole look-back window was read since this process began, and no pass is broken off."""
        return self._cursor.settled_once and not self._cursor.under_way

    def is_ahead(self, watermark: object) -> bool:
        """True when rows of *watermark* are still read here: it lies above the floor of the look-back window."""
        order = self._scale.order([watermark]) if watermark is not None else None
        floor = self._scale.order(self._cursor.floor)
        return order is not None and (floor is None or order > floor)

    def database(self) -> Database:
        """The one connection."""
        return self._open().database

    # --- one pass

    def _read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        reading = self._open()
        if not self._loaded or checkpoint != self._known:
            self._load(reading, checkpoint)
        changes = reading.database.changes() if reading.detects_changes else None
        if changes is not None and changes == self._quiet:
            return
        ceiling, newest = self._present(reading)
        if checkpoint is None and not self._cursor.settled_once and self._settings.start == "now":
            anchor = self._anchor(reading, newest, ceiling)
            if not self._context.stop.is_set():  # which would have left part of the window unread
                yield anchor
            return
        done = self._cursor.start(self._context.monotonic(), ceiling)
        self._loaded = False  # until the pass has come to its end
        yield from self._run(reading, done, None if newest is None else [newest], checkpoint)
        if not self._loaded:
            return
        self._quiet = changes if done.whole else None
        if not self._alarms.report(reading, self._cursor, ceiling):
            self.close()

    def _run(self, reading: Reading, done: Pass, newest: Position | None, checkpoint: bytes | None) -> Iterator[Draft]:
        """One pass, one batch behind the database: only the last batch of a pass may close it."""
        last: Position | None = None
        held: Draft | None = None
        batch = Batch()
        settled = self._cursor.settled_by(done, newest) if newest is not None else None
        for page in self._pager.pages(reading, self._cursor, done.after):
            last = page.position(page.ends[-1])
            hashes = None if self._is_settled(page, settled) else [row_hash(row) for row in page.packed]
            for start, end in self._fresh(page, hashes):
                at = start
                while at < end:
                    taken = batch.take(page, at, end)
                    if hashes is not None:
                        batch.hashes += hashes[at:taken]
                    at = taken
                    if at < end or batch.rejects:  # full
                        if held is not None:
                            yield held
                        held, batch = self._draft(reading, batch, done), Batch()
            del page, hashes  # before the next page is fetched
        if self._context.stop.is_set():
            return
        if not batch.is_empty:
            if held is not None:
                yield held
            held = self._draft(reading, batch, done)
        was_under_way = self._cursor.under_way
        self._end(reading, done, last)
        if held is None and was_under_way:  # what was left of a broken-off pass has vanished: close what it opened
            held = Draft(reading.header(self._settings.table), b"")
        if held is not None:
            held.header.closes = True
            held.header.checkpoint = checkpoint = self._checkpoint(None)
        self._known, self._loaded = checkpoint, True
        if held is not None:
            yield held

    def _fresh(self, page: Page, hashes: list[int] | None) -> Iterator[tuple[int, int]]:
        """Runs of rows (first, row after the last) whose units were not taken before."""
        if hashes is None or self._is_beyond(page):
            yield 0, page.ends[-1]
            return
        run = start = 0
        for end in page.ends:
            if self._window.knows(hashes[start:end]):
                if run < start:
                    yield run, start
                run = end
            start = end
        if run < start:
            yield run, start

    def _is_settled(self, page: Page, settled: int | None) -> bool:
        """True when all of *page* is new, and so old that the window will not reach back to it."""
        if settled is None or not self._is_beyond(page):
            return False
        last = self._scale.order(page.position(page.ends[-1]))
        return last is not None and last <= settled

    def _is_beyond(self, page: Page) -> bool:
        """True when all of *page* lies behind every row that was read before."""
        first, high = self._scale.order(page.position(page.ends[0])), self._scale.order(self._cursor.high)
        return self._cursor.high is None or (first is not None and high is not None and first > high)

    # --- state

    def _open(self) -> Reading:
        if self._reading is not None and not self._reading.database.is_current():
            self.close()
        if self._reading is None:
            database = self._connect()
            try:
                self._reading = prepare(database, self._settings)
            except BaseException:
                database.close()
                raise
        return self._reading

    def _load(self, reading: Reading, checkpoint: bytes | None) -> None:
        stored = self._decoded(checkpoint) if checkpoint is not None else None
        now = self._context.monotonic()
        self._window = Window.load(stored.segments if stored else (), self._context.memory.recall, now)
        self._cursor = Cursor(self._scale, self._settings.poll_seconds, stored, now, reading.style)
        self._known, self._loaded, self._quiet = checkpoint, True, None

    def _decoded(self, checkpoint: bytes) -> Checkpoint:
        try:
            stored = msgspec.msgpack.decode(live_part(checkpoint, self._context.name), type=Checkpoint)
        except UNREADABLE as error:
            raise ConfigError(
                f"source {self._context.name}: its checkpoint cannot be read: {error}", hint=_RENAME
            ) from error
        if stored.version != CHECKPOINT_VERSION or stored.basis != self._settings.basis:
            raise ConfigError(
                f"source {self._context.name} stands at a position of another reading ({stored.basis})", hint=_RENAME
            )
        return stored

    def _checkpoint(self, under_way: UnderWay | None) -> bytes:
        high, floor = self._cursor.high, self._cursor.floor
        return Checkpoint(
            CHECKPOINT_VERSION, self._settings.basis, None if high is None else list(high),
            None if floor is None else list(floor), under_way, self._window.states(),
        ).encode()  # fmt: skip

    def _present(self, reading: Reading) -> tuple[int | None, object]:
        """The ceiling of a pass beginning now; on the first one also the greatest watermark there is."""
        first = not self._cursor.settled_once
        newest = reading.database.rows(reading.statements.newest())[0][0] if first else None
        if newest is not None:
            require_order(self._settings, self._cursor, newest)
        if self._scale.incrementing:
            return (self._scale.order([newest]) if newest is not None else None), newest
        if self._cursor.style is None:
            moment = parse(newest)
            self._cursor.style = moment.style if moment is not None else None
        utc, server = reading.database.clock()
        if self._cursor.style is not None and self._cursor.style.aware:
            return utc, newest
        seconds = self._folds.look_back_seconds(utc, server, self._context.monotonic())
        self._cursor.scale = replace(self._scale, look_back_seconds=seconds)
        return present(self._settings, utc, server), newest

    def _end(self, reading: Reading, done: Pass, last: Position | None) -> None:
        self._cursor.finish(done, last, self._context.monotonic())
        if self._window.prune(self._scale.order(self._cursor.floor)):
            self._context.counters.add("window_overflows")
        if done.whole and last is None and not self._settings.purged:
            self._alarms.refuse_a_step_back(reading, self._cursor)

    # --- drafts

    def _draft(self, reading: Reading, batch: Batch, done: Pass) -> Draft:
        """*batch* as one that does not close the pass; its hashes are taken."""
        remember: tuple[tuple[str, bytes], ...] = ()
        if batch.hashes:
            self._window.add(batch.hashes, self._scale.order(batch.position), self._context.monotonic())
            remember = self._window.newest_row()
        header = reading.header(self._settings.table)
        header.records = len(batch.rows)
        header.rejects.extend(batch.rejects)
        header.checkpoint = self._checkpoint(UnderWay(list(batch.position), done.whole, done.ceiling))
        return Draft(header, b"".join(batch.rows), remember)

    def _anchor(self, reading: Reading, newest: object, ceiling: int | None) -> Draft:
        """An empty batch that makes `start: now` survive a restart before the first row.

        What stands in the look-back window counts as taken, so that late commits are found from the start.
        """
        now = self._context.monotonic()
        self._cursor.begin_at(newest, ceiling, now)
        for page in self._pager.pages(reading, self._cursor, self._cursor.floor) if newest is not None else ():
            self._window.add(
                [row_hash(row) for row in page.packed], self._scale.order(page.position(page.ends[-1])), now
            )
        header = reading.header(self._settings.table)
        header.closes, header.checkpoint = True, self._checkpoint(None)
        self._known = header.checkpoint
        return Draft(header, b"", self._window.rows())

    def _cancel(self) -> None:
        reading = self._reading
        if reading is not None:
            reading.database.cancel()


_RENAME = "give the source a new name to read the table from its beginning"
