"""How far one table of an aggregate was read for changes: its cursor, its window, and what was seen and not yet sent.

The parent and each child with a watermark have a track each. A row is a change until an aggregate that holds it was
sent: then its hash stands in the window of its own track, whichever track led to it, so that an order whose header and
lines changed together is sent once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from crossdock_agent.sources.base import SourceContext
from crossdock_agent.sql.cursor import CHECKPOINT_VERSION, Checkpoint, Cursor, Pass, Position, Scale, UnderWay
from crossdock_agent.sql.folds import Folds, present
from crossdock_agent.sql.paging import Pager, require_order
from crossdock_agent.sql.reading import Reading
from crossdock_agent.sql.rows import Page
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.times import parse
from crossdock_agent.sql.window import Window, row_hash

_REMEMBERED = 4096  # orders of watermarks; an order's rows tend to share one

Ledger = tuple[tuple[str, bytes], ...]


class Track:
    """*prefix* tells its ledger rows from those of other tracks; *extra* is how much longer than the look-back a row
    must be old before it is passed for good (in the scale's units)."""

    def __init__(self, settings: SqlTableSettings, context: SourceContext, prefix: str, extra: int | None) -> None:
        self.settings, self._context, self._prefix, self._extra = settings, context, prefix, extra
        self.scale = Scale(settings.mode == "incrementing", settings.look_back_seconds, settings.look_back_ids)
        self.pager = Pager(settings, context.stop)
        self._folds = Folds(settings)
        self.reading: Reading | None = None
        self.ceiling: int | None = None  # of the pass under way
        self.settled: int | None = None  # rows up to it are read once in this pass, and not remembered
        self._newest: object = None
        self._orders: dict[object, int | None] = {}
        self.load(None, None)

    # --- what is kept

    def load(self, stored: Checkpoint | None, hold: int | None) -> None:
        """Stand where *stored* says; *hold* is the order of the first row that was read and not sent then."""
        now = self._context.monotonic()
        self.window = Window.load(stored.segments if stored else (), self._recall, now)
        style = self.reading.style if self.reading is not None else None
        self.cursor = Cursor(self.scale, self.settings.poll_seconds, stored, now, style)
        self.at: UnderWay | None = stored.under_way if stored else None
        self.inherited = hold
        self._pending: dict[int, int | None] = {}
        self._bind()

    def stored(self) -> Checkpoint:
        high, floor = self.cursor.high, self.cursor.floor
        return Checkpoint(
            CHECKPOINT_VERSION, self.settings.basis, None if high is None else list(high),
            None if floor is None else list(floor), self.at, self.window.states(),
        )  # fmt: skip

    def keep(self) -> Ledger:
        """The marks made since the last batch, as ledger rows to be committed with the next one."""
        if not self._pending:
            return ()
        orders = self._pending.values()
        top = None if None in orders else max(order for order in orders if order is not None)
        self.window.add(list(self._pending), top, self._context.monotonic())
        self._pending = {}
        return self._named(self.window.newest_row())

    def whole_window(self) -> Ledger:
        return self._named(self.window.rows())

    def _named(self, rows: Iterable[tuple[str, bytes]]) -> Ledger:
        return tuple((self._prefix + key, value) for key, value in rows)

    def _recall(self, key: str) -> bytes | None:
        return self._context.memory.recall(self._prefix + key)

    # --- rows

    def order(self, stamp: object) -> int | None:
        """*stamp*, a watermark, in the scale's units; None when it has no order of ours."""
        if stamp is None:
            return None
        if stamp not in self._orders:
            if len(self._orders) > _REMEMBERED:
                self._orders.clear()
            self._orders[stamp] = self.scale.order([stamp])
        return self._orders[stamp]

    def age(self, order: int | None) -> float | None:
        """Seconds by the database's clock; None where the watermark is no time."""
        if order is None or self.ceiling is None or self.scale.incrementing:
            return None
        return (self.ceiling - order) / 1_000_000

    def knows(self, value: int) -> bool:
        return value in self._pending or self.window.knows((value,))

    def mark(self, packed: Iterable[bytes], orders: Iterable[int | None]) -> None:
        """These rows were sent. Those that the window will never reach back to are not remembered."""
        bound = self._bound
        for data, order in zip(packed, orders, strict=True):
            if order is None or bound is None or order > bound:
                self.mark_hash(row_hash(data), order)

    def mark_hash(self, value: int, order: int | None) -> None:
        if not self.knows(value):
            self._pending[value] = order

    # --- a pass

    def present(self, clock: Callable[[], tuple[int, int]]) -> None:
        """Find out where the present is, and on the first pass how far the table reaches."""
        reading, cursor = self._reading(), self.cursor
        first = not cursor.settled_once
        self._newest = reading.database.rows(reading.statements.newest())[0][0] if first else None
        if self._newest is not None:
            require_order(self.settings, cursor, self._newest)
        if self.scale.incrementing:
            self.ceiling = self.scale.order([self._newest]) if self._newest is not None else None
            return
        if cursor.style is None:
            moment = parse(self._newest)
            cursor.style = moment.style if moment is not None else None
        utc, server = clock()
        if cursor.style is not None and cursor.style.aware:
            self.ceiling = utc
            return
        seconds = self._folds.look_back_seconds(utc, server, self._context.monotonic())
        cursor.scale = replace(self.scale, look_back_seconds=seconds)
        self.ceiling = present(self.settings, utc, server)

    def begin_at_present(self) -> None:
        """What is in the table now is read with its parents; its own changes are followed from here."""
        self.cursor.begin_at(self._newest, self.ceiling, self._context.monotonic())
        self._bind()

    def remember_window(self) -> None:
        """What stands in the look-back window counts as sent, so that late commits are found from the start."""
        if self._newest is None:
            return
        for page in self.pager.pages(self._reading(), self.cursor, self.cursor.floor):
            top = self.scale.order(page.position(page.ends[-1]))
            self.window.add([row_hash(row) for row in page.packed], top, self._context.monotonic())

    def start(self) -> Pass:
        done = self.cursor.start(self._context.monotonic(), self.ceiling)
        self.settled = None
        if self._newest is not None and self.cursor.high is None and self._extra is not None:
            bound = self.cursor.settled_by(done, [self._newest])
            self.settled = None if bound is None else bound - self._extra
        self._bind()
        return done

    def pages(self, done: Pass) -> Iterator[Page]:
        return self.pager.pages(self._reading(), self.cursor, done.after)

    def passed(self, done: Pass, position: Position) -> None:
        """Everything up to *position* is dealt with."""
        self.at = UnderWay(list(position), done.whole, done.ceiling)

    def finish(self, done: Pass, last: Position | None, hold: Callable[[], int | None]) -> None:
        """The pass came to the table's end. *hold* is asked afterwards: the floor stays under what waits."""
        before, resumed = self.cursor.floor, self.cursor.under_way
        self.cursor.finish(done, last, self._context.monotonic())
        if done.whole and not resumed:
            self.inherited = None  # all that waits was seen again
        below = hold()
        if below is not None:
            self.cursor.cap(below, before)
        self.at, self.settled = None, None
        self._bind()
        floor = self.scale.order(self.cursor.floor)
        if self.window.prune(floor):
            self._context.counters.add("window_overflows")
        if floor is not None:
            self._pending = {h: o for h, o in self._pending.items() if o is None or o >= floor}

    def _bind(self) -> None:
        """Rows up to this order are not remembered: no pass reads them again."""
        bounds = (self.scale.order(self.cursor.floor), self.settled)
        self._bound = max((bound for bound in bounds if bound is not None), default=None)

    def open(self, reading: Reading) -> None:
        """Read by *reading* from now on; each row is a unit of its own."""
        self.reading = replace(reading, shape=replace(reading.shape, group=len(reading.shape.position)))

    def _reading(self) -> Reading:
        assert self.reading is not None  # noqa: S101 - opened before it is read
        return self.reading


def earliest(orders: Sequence[int | None]) -> int | None:
    return min((order for order in orders if order is not None), default=None)
