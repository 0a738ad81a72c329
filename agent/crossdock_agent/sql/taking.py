"""Taking rows out of a table that is written for us: the passes over it, whoever it belongs to.

What is there and not in flight is read, so no look-back is needed: a row that commits late, with a lower id, is simply
there later. A pass looks through the whole table, in pages of one short statement each, and jumps over runs of ids that
are in flight. Only while those are scattered over many runs does it go on from the last id read, and looks at the rest
every `rescan_seconds`.

With *ordered*, a pass takes what one state of the table shows, up to a page of rows, always from the beginning; the
next state is looked at when those rows are in a batch. That keeps the order within each key: of two changes of a row,
the later one is visible only where the earlier one is, whether one transaction made both or two, one behind the other
(the row is locked until the first is committed). Reading on from page to page would not do: a transaction that commits
between two of them shows its later change first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from loguru import logger

from crossdock.errors import UNREADABLE, ConfigError, CrossdockError
from crossdock_agent.sources.base import Draft, Finding, SourceContext
from crossdock_agent.sql import taken
from crossdock_agent.sql.connections import Database, SqliteDatabase
from crossdock_agent.sql.paging import FIRST_PAGE_ROWS, PAGE_BYTES, SMALLEST_PAGE_ROWS, fitting
from crossdock_agent.sql.reading import connect
from crossdock_agent.sql.releasing import Deed, Releaser, Taking
from crossdock_agent.sql.rows import Batch, Page
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.taken import Key, Taken
from crossdock_agent.sql.window import row_hash

STATE_BYTES = 1024 * 1024  # of one state of the table so much at a time, or a page of rows
CHECKPOINT_VERSION = 1
SCATTERED_RUNS = 5_000  # up to so many runs of ids in flight, each pass looks through the whole table
NOTHING = -(2**61)  # below every id
ASIDE_ROWS = 10_000  # rows too long to travel that are remembered, so that each is reported once


class UnderWay(msgspec.Struct, frozen=True, array_like=True):
    """A pass that has not come to its end: it goes on behind *at*, up to *bound*."""

    at: list[object]
    bound: int | None
    whole: bool


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    version: int
    basis: str
    serial: int  # of the draft: no two checkpoints are the same
    high: list[object] | None  # the last position of the last complete pass
    under_way: UnderWay | None
    extra: bytes = b""  # of whoever uses the taker

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is taken: *prepare* finds the table, *basis* says what a position is a position in."""

    origin: str
    basis: str
    prepare: Callable[[Database, Sequence[str] | None], Taking]
    deed: Deed
    ordered: bool
    max_in_flight: int
    rescan_seconds: float


@dataclass(slots=True)
class _Gathered:
    """Rows for one draft, with their keys and hashes."""

    batch: Batch = field(default_factory=Batch)
    keys: list[Key] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)


class _Rows:
    """A page with, for each row, its key, the number that stands for it, and a hash of its content."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.keys: list[Key] = list(page.positions())
        self.numbers = taken.numbers(self.keys)
        self.hashes = [row_hash(row) for row in page.packed]
        self.ascending = bool(self.keys) and len(self.keys[0]) == 1 and all(taken.is_whole(key[0]) for key in self.keys)


class Taker:
    """Passes over one table, and the releases. *extra* travels in each checkpoint; set it before a pass."""

    def __init__(self, settings: SqlTableSettings, context: SourceContext, plan: Plan) -> None:
        self._settings, self._context, self._plan = settings, context, plan
        self._releaser = Releaser(settings, context, plan.deed, plan.prepare)
        self._taking: Taking | None = None
        self._taken = Taken()
        self._aside: dict[int, int] = {}  # number of key: hash of content
        self._loaded = False
        self._known: bytes | None = None
        self._serial, self._high = 0, None  # type: int, list[object] | None
        self._under_way: UnderWay | None = None
        self._scanned = float("-inf")
        self._quiet: object = None  # `Database.changes` as it was before all was read
        self._paused = self._more = False
        self._rows = FIRST_PAGE_ROWS
        self.extra = b""
        self._log = logger.bind(source=context.name, table=settings.table)

    # --- for the source

    def open(self) -> Taking:
        if self._taking is not None and not self._taking.reading.database.is_current():
            self.close()
        if self._taking is None:
            database = connect(self._settings, self._context.secret, self._context.wall_us)
            try:
                self._taking = self._plan.prepare(database, None)
            except BaseException:
                database.close()
                raise
        return self._taking

    def load(self, checkpoint: bytes | None) -> None:
        """Make the state in memory that of *checkpoint* and of the batches committed by then."""
        self._releaser.rest()
        if self._loaded and checkpoint == self._known:
            return
        stored = self._decoded(checkpoint)
        self._taken = Taken()
        for token in self._context.memory.unreleased():
            self._taken.add(token, taken.numbers(taken.decode(token).all_keys()))
        aside = self._context.memory.recall("aside")
        self._aside = dict(msgspec.msgpack.decode(aside, type=list[tuple[int, int]])) if aside is not None else {}
        self._serial = stored.serial if stored else 0
        self._high = stored.high if stored else None
        # without rows in flight all of the table is unread: the outbox file may be a new one
        self._under_way = stored.under_way if stored and self._taken.rows else None
        self.extra = stored.extra if stored else b""
        self._known, self._loaded, self._quiet = checkpoint, True, None
        self._scanned = float("-inf")

    def passing(self) -> Iterator[Draft]:
        """One pass over what is not in flight; `load` and `open` come first. The last draft closes."""
        taking, plan = self.open(), self._plan
        database = taking.reading.database
        self._context.counters.set("rows_in_flight", self._taken.rows)
        if self._is_full():
            return
        by_commits = self._settings.where is None and not taking.reading.table.is_view  # and not by the clock
        changes = database.changes() if by_commits else None
        if changes is not None and changes == self._quiet:
            return
        now = self._context.monotonic()
        begun, fresh = self._under_way, self._under_way is None
        if plan.ordered:
            begun, fresh = None, True  # the rest of a broken-off pass is part of the next state
        whole = begun.whole if begun else (
            self._taken.scattered <= SCATTERED_RUNS or now - self._scanned >= plan.rescan_seconds
        )  # fmt: skip
        if not whole and plan.ordered:
            return
        if begun is None:
            bound = None if plan.ordered else self._bound(taking)
            begun = UnderWay(([] if whole else self._high) or [], bound, whole)
            if whole:
                self._scanned = now
        self._more = True
        while self._more:
            self._loaded = self._more = False  # until the pass has come to its end
            yield from self._run(taking, begun)
            self._more = self._more and self._loaded and not self._paused
        if self._loaded:
            # one that went on from where it was broken off ended at a bound of then
            self._quiet = changes if whole and fresh and not self._paused else None
            if isinstance(database, SqliteDatabase):
                self._context.counters.set("undecodable_texts", database.undecodable)

    def draft(self, taking: Taking, gathered: _Gathered) -> Draft:
        """*gathered* as a batch; it counts as in flight from here on."""
        header = taking.reading.header(self._plan.origin)
        header.records = len(gathered.batch.rows)
        header.rejects.extend(gathered.batch.rejects)
        token = None
        if gathered.keys:
            token = taken.encode(self._plan.basis, taking.names, gathered.keys, gathered.hashes)
            self._taken.add(token, taken.numbers(gathered.keys))
        remember = ()  # type: tuple[tuple[str, bytes], ...]
        if gathered.batch.rejects:
            remember = (("aside", msgspec.msgpack.encode(list(self._aside.items())[-ASIDE_ROWS:])),)
        header.checkpoint = self.checkpoint()
        return Draft(header, b"".join(gathered.batch.rows), remember, token)

    def checkpoint(self) -> bytes:
        """A new one, of where things stand."""
        self._serial += 1
        return Checkpoint(
            CHECKPOINT_VERSION, self._plan.basis, self._serial, self._high, self._under_way, self.extra
        ).encode()

    def committed(self, checkpoint: bytes) -> None:
        """*checkpoint* is of the last draft, and nothing else is on its way."""
        self._known, self._loaded = checkpoint, True

    def release(self, token: bytes) -> None:
        due = taken.decode(token)
        if due.basis != self._plan.basis:
            raise ConfigError(
                f"source {self._context.name} has read from {due.basis} before, and those rows are not released",
                hint="give the source a new name, or its earlier settings until nothing waits for release",
            )
        self._releaser.release(due)
        self._taken.drop(token)
        self._quiet = None

    def check(self) -> Iterator[Finding]:
        yield from self._releaser.check()

    def close(self) -> None:
        self._releaser.close()
        if self._taking is not None:
            self._taking.reading.database.close()
        self._taking, self._quiet = None, None

    def cancel(self) -> None:
        taking = self._taking
        if taking is not None:
            taking.reading.database.cancel()

    # --- one pass

    def _run(self, taking: Taking, begun: UnderWay) -> Iterator[Draft]:
        """One batch behind the database: only the last one of a pass may close it."""
        resumed, self._under_way = self._under_way is not None, begun
        self._taken.index()
        held: Draft | None = None
        gathered = _Gathered()
        last: Sequence[object] = begun.at
        self._paused = False
        for rows in self._one_state(taking) if self._plan.ordered else map(_Rows, self._pages(taking, begun)):
            page = rows.page
            for start, end in self._fresh(rows):
                at = start
                while at < end:
                    at = self._take(gathered, rows, at, end)
                    if at < end or gathered.batch.rejects:  # full
                        if held is not None:
                            yield held
                        held, gathered = self.draft(taking, gathered), _Gathered()
            last = page.position(page.ends[-1])
            del page, rows  # before the next one is fetched
            if self._taken.rows + len(gathered.keys) >= self._plan.max_in_flight:
                self._paused = True
                break
        if not self._context.stop.is_set():
            yield from self._end(taking, held, gathered, list(last), resumed=resumed)

    def _end(
        self, taking: Taking, held: Draft | None, gathered: _Gathered, last: list[object], *, resumed: bool
    ) -> Iterator[Draft]:
        if gathered.batch.rows or gathered.batch.rejects:
            if held is not None:
                yield held
            held = self.draft(taking, gathered)
        if not self._paused:
            self._under_way, self._high = None, last or self._high
            if held is None and resumed:  # what was left of a broken-off pass has vanished: close what it opened
                held = Draft(taking.reading.header(self._plan.origin), b"")
        if held is not None:
            held.header.closes = True
            held.header.checkpoint = self._known = self.checkpoint()
        self._loaded = True
        if held is not None:
            yield held
        self._is_full()

    def _bound(self, taking: Taking) -> int | None:
        """The greatest id there is now, where ids are whole numbers; below all of them where there is no row: one that
        comes now belongs to the next pass. (PostgreSQL knows no greatest uuid.)"""
        database = taking.reading.database
        if database.dialect.name != "sqlite" and taking.cursor[0].kind != "integer":
            return None
        newest = database.rows(taking.reading.statements.newest())[0][0]
        if newest is None:
            return NOTHING
        return newest if taken.is_whole(newest) else None

    def _one_state(self, taking: Taking) -> Iterator[_Rows]:
        """Up to a page of rows that are not in flight, of one state; `_more`: there may be others.

        A database without a snapshot of several statements gives what its first page shows, and no more while that is
        in flight.
        """
        database, found, fresh, size = taking.reading.database, deque[_Rows](), 0, 0
        with database.snapshot():
            for page in self._pages(taking, UnderWay([], None, whole=True)):
                rows = _Rows(page)
                count = sum(end - start for start, end in self._fresh(rows))
                if count:
                    found.append(rows)
                    fresh, size = fresh + count, size + page.bytes
                del page, rows  # before the next one is fetched
                if not database.dialect.snapshot or fresh >= self._settings.page_rows or size >= STATE_BYTES:
                    self._more = fresh > 0
                    break
        while found:
            yield found.popleft()

    def _pages(self, taking: Taking, begun: UnderWay) -> Iterator[Page]:
        reading, limit, bound = taking.reading, self._settings.page_rows, begun.bound
        after: Sequence[object] | None = begun.at or None
        least = SMALLEST_PAGE_ROWS
        while not self._context.stop.is_set():
            beyond = self._beyond(after)
            asked = fitting(reading, beyond, min(self._rows, limit), least, self._settings.max_lob_bytes)
            rows = reading.database.rows(*reading.statements.page(beyond, asked))
            full = len(rows) >= asked
            if bound is not None and rows and _above(rows[-1][reading.shape.position[0]], bound):
                rows = [row for row in rows if not _above(row[reading.shape.position[0]], bound)]
                full = False
            page = Page(reading.shape, rows, full=full, may_split=True)
            if page.ends:
                after = page.position(page.ends[-1])
                yield page
            elif full and asked >= limit:
                raise CrossdockError(
                    f"table {self._settings.table}: more than {limit} rows share one key",
                    hint="name columns in 'key' that tell rows apart",
                )
            if not full:
                return
            large = page.bytes > PAGE_BYTES and page.ends
            least = SMALLEST_PAGE_ROWS if page.ends else min(limit, asked * 10)  # rows of one key: whatever their size
            del rows, page  # before the next one is fetched
            self._rows = max(SMALLEST_PAGE_ROWS, asked // 4) if large else min(limit, asked * 10)

    def _beyond(self, after: Sequence[object] | None) -> Sequence[object] | None:
        """*after*, or the end of the run in flight that it is in."""
        if after is None or len(after) != 1 or not taken.is_whole(after[0]):
            return None if after is None else [taken.bindable(value) for value in after]
        end = self._taken.run_end(int(str(after[0])))
        return after if end is None else [end]

    def _fresh(self, rows: _Rows) -> Iterator[tuple[int, int]]:
        """Runs of rows (first, row after the last) that are neither in flight nor set aside."""
        end, last = rows.page.ends[-1], self._taken.last
        if not self._aside and (last is None or (rows.ascending and rows.numbers[0] > last)):
            yield 0, end
            return
        run: int | None = None
        for row, number in enumerate(rows.numbers[:end]):
            if number in self._taken or self._aside.get(number) == rows.hashes[row]:
                if run is not None:
                    yield run, row
                run = None
            elif run is None:
                run = row
        if run is not None:
            yield run, end

    def _take(self, gathered: _Gathered, rows: _Rows, start: int, end: int) -> int:
        """Rows from *start* on into *gathered*; the row after the last one. One too long to travel is set aside."""
        before = len(gathered.batch.rejects)
        stop = gathered.batch.take(rows.page, start, end)
        kept = stop
        if len(gathered.batch.rejects) > before:
            kept = stop - 1
            self._aside[rows.numbers[kept]] = rows.hashes[kept]
        if start < stop and self._under_way is not None:
            self._under_way = UnderWay(list(rows.keys[stop - 1]), self._under_way.bound, self._under_way.whole)
        gathered.keys += rows.keys[start:kept]
        gathered.hashes += rows.hashes[start:kept]
        return stop

    def _is_full(self) -> bool:
        full = self._taken.rows >= self._plan.max_in_flight
        counters = self._context.counters
        counters.set("rows_in_flight", self._taken.rows)
        if full and not counters.snapshot().get("paused_in_flight"):
            self._log.warning("{} rows are in flight, reading pauses; the table keeps the rest", self._taken.rows)
        counters.set("paused_in_flight", int(full))
        return full

    def _decoded(self, checkpoint: bytes | None) -> Checkpoint | None:
        if checkpoint is None:
            return None
        rename = "give the source a new name to read the table from its beginning"
        try:
            stored = msgspec.msgpack.decode(checkpoint, type=Checkpoint)
        except UNREADABLE as error:
            raise ConfigError(
                f"source {self._context.name}: its checkpoint cannot be read: {error}", hint=rename
            ) from error
        if stored.version != CHECKPOINT_VERSION or stored.basis != self._plan.basis:
            raise ConfigError(
                f"source {self._context.name} stands at a position of another reading ({stored.basis})", hint=rename
            )
        return stored


def guarded(taker: Taker, context: SourceContext, drafts: Iterator[Draft]) -> Iterator[Draft]:
    """*drafts*; a statement broken off by the stop is no failure, any error discards the connection."""
    context.stop.on_set(taker.cancel)
    try:
        yield from drafts
    except CrossdockError:
        taker.close()
        if not context.stop.is_set():
            raise
    finally:
        context.stop.forget(taker.cancel)


def _above(value: Any, bound: int) -> bool:
    return not taken.is_whole(value) or value > bound
