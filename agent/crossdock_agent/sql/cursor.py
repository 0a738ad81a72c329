"""How far a table was read: pure arithmetic on positions; the database alone compares values.

A *position* is the cursor's columns of a row (watermark, then key). *high* is the last one read. Everything at or below
the *floor* is settled and never read again; what lies between is the look-back window, where late commits appear.

The floor only rises after a pass that read the whole window, and only to a position that no open transaction can still
undercut: one that was read at least the look-back ago by our own steady clock, or one that lies the look-back before
both the newest timestamp and the database's clock. So a row stamped in the future never drags the floor past rows that
are still to come.

Not every pass reads the whole window. Short ones alternate with longer ones (by the ruler sequence
1 2 1 4 1 2 1 8 ...): a commit that is late by a second is found at once, one late by a minute within a fraction of it,
and a busy table is not read sixty times over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from crossdock_agent.sql.times import SECOND_US, Style, parse, render
from crossdock_agent.sql.window import SegmentState

Position = Sequence[object]

SHORTEST_REACH_SECONDS = 1.0
CHECKPOINT_VERSION = 1


class UnderWay(msgspec.Struct, frozen=True, array_like=True):
    """A pass that has not come to its end: it goes on strictly behind *at*."""

    at: list[object]
    whole: bool
    ceiling: int | str | None  # text where it does not fit msgpack's integers, as a DECIMAL(38) may not


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """What is stored with a batch. Positions are the values the database gave, as msgpack holds them."""

    version: int
    basis: str  # which table, mode and columns this is a position in
    high: list[object] | None
    floor: list[object] | None  # None: nothing is settled
    under_way: UnderWay | None
    segments: list[SegmentState]

    def encode(self) -> bytes:
        try:
            return msgspec.msgpack.encode(self)
        except OverflowError:
            return msgspec.msgpack.encode(self._with_large_as_text())

    def _with_large_as_text(self) -> Checkpoint:
        def shown(order: int | str | None) -> int | str | None:
            return order if order is None or isinstance(order, str) or -(2**63) <= order < 2**64 else str(order)

        under_way = self.under_way
        if under_way is not None:
            under_way = UnderWay(under_way.at, under_way.whole, shown(under_way.ceiling))
        segments = [(slot, generation, shown(top)) for slot, generation, top in self.segments]
        return msgspec.structs.replace(self, under_way=under_way, segments=segments)


@dataclass(frozen=True, slots=True)
class Scale:
    """Orders the first column of positions: ids as they are, timestamps as microseconds."""

    incrementing: bool
    look_back_seconds: float
    look_back_ids: int

    @property
    def look_back(self) -> int:
        """In the units of `order`."""
        return self.look_back_ids if self.incrementing else int(self.look_back_seconds * SECOND_US)

    def order(self, position: Position | None) -> int | None:
        """None when there is no position, or it is no number or time (`infinity`)."""
        if not position:
            return None
        if self.incrementing:
            return int(str(position[0]))
        moment = parse(position[0])
        return moment.us if moment is not None else None

    def settle_seconds(self, position: Position | None) -> float:
        """Age from which a position read is settled: look-back, and the width of what its value may stand for."""
        moment = None if self.incrementing or not position else parse(position[0])
        return self.look_back_seconds + (moment.style.granularity_us / SECOND_US if moment is not None else 0.0)


@dataclass(frozen=True, slots=True)
class Pass:
    """One reading from *after* (exclusive; None: the first row) to the table's end, begun at *started* (steady clock).

    *whole*: it covers the whole look-back window. *ceiling*: what the database called the present at its start (a
    clock, in the watermark's own frame, or the greatest id); nothing above it is ever settled by value.
    """

    after: Position | None
    whole: bool
    started: float
    ceiling: int | None


@dataclass(frozen=True, slots=True)
class _Mark:
    """At *time* (steady clock) the table had been read up to *position*."""

    time: float
    position: Position


class Cursor:
    """The position of one source while its process runs; `Checkpoint` is the part of it that is kept.

    *style* is how this table writes time, where that is known beforehand.
    """

    def __init__(
        self, scale: Scale, poll_seconds: float, stored: Checkpoint | None, now: float, style: Style | None = None
    ) -> None:
        self.scale = scale
        self.high: Position | None = stored.high if stored else None
        self.floor: Position | None = stored.floor if stored else None
        self.style = style
        self.settled_once = False  # a pass over the whole window has ended since this process began
        self._under_way = stored.under_way if stored else None
        self._marks: deque[_Mark] = deque()
        self._base = max(SHORTEST_REACH_SECONDS, 2 * poll_seconds)
        self._passes = 0
        if self.high is not None and self._under_way is None:
            self._marks.append(_Mark(now, self.high))

    @property
    def under_way(self) -> bool:
        """True when the last pass was broken off."""
        return self._under_way is not None

    def start(self, now: float, ceiling: int | None) -> Pass:
        """The next pass: what is left of one that was broken off, or a new one."""
        if self._under_way is not None:
            rest = self._under_way
            return Pass(rest.at, rest.whole, now, int(rest.ceiling) if rest.ceiling is not None else ceiling)
        if self.settled_once:
            self._passes += 1
            reach = self._base * (self._passes & -self._passes)
            mark = next((m for m in reversed(self._marks) if m.time <= now - reach), None)
            if mark is not None and reach < self.scale.settle_seconds(self.high):
                return Pass(mark.position, False, now, ceiling)
        return Pass(self.floor, True, now, ceiling)

    def settled_by(self, done: Pass, newest: Position | None) -> int | None:
        """The order to which *done* will raise the floor by value alone when it ends at *newest*; None: not at all."""
        if not done.whole or done.ceiling is None or newest is None:
            return None
        order = self.scale.order(newest)
        order = done.ceiling if order is None else order
        width = 0
        if self.scale.incrementing:  # ids carry no time: keep at least as wide a window as there was before
            if self.settled_once:
                return None
            high, floor = self.scale.order(self.high), self.scale.order(self.floor)
            width = high - floor if high is not None and floor is not None else 0
        return min(order, done.ceiling) - max(self.scale.look_back, width)

    def finish(self, done: Pass, last: Position | None, ended: float) -> None:
        """*done* came to the end of the table, whose last row stood at *last* (None: it found no row)."""
        newest = last if last is not None else self.high
        settled = self.settled_by(done, newest)
        self._under_way = None
        if last is not None:
            self.high = list(last)
            self._marks.append(_Mark(ended, self._capped(self.high, done.ceiling)))
        if done.whole:
            aged = [m for m in self._marks if m.time <= done.started - self.scale.settle_seconds(m.position)]
            if aged:
                self._raise(aged[-1].position)
            bound = self._shown(settled)
            if bound is not None:
                self._raise([bound])
            self.settled_once = True
        self._forget_marks()

    def cap(self, below: int, before: Position | None) -> None:
        """Keep the floor under *below* (an order): there something was read that is still to be sent. *before* is the
        floor there was, which is not gone back behind."""
        floor, old = self.scale.order(self.floor), self.scale.order(before)
        if floor is None or floor < below:
            return
        shown = self._shown(below - 1)
        self.floor = before if shown is None or (old is not None and old >= below - 1) else [shown]

    def begin_at(self, newest: object, ceiling: int | None, now: float) -> None:
        """What is in the table up to *newest* (None: it is empty) is not wanted; the window below it is watched."""
        if newest is not None:
            self.high = [newest]
            bound = self.settled_by(Pass(None, True, now, ceiling), self.high)
            shown = self._shown(bound)
            self.floor = self.high if shown is None else [shown]
            self._marks.append(_Mark(now, self._capped(self.high, ceiling)))
        self.settled_once = True

    def _capped(self, position: Position, ceiling: int | None) -> Position:
        """*position*, or the present where it lies in the future or cannot be ordered."""
        if self.scale.incrementing:
            return position
        moment = parse(position[0])
        if moment is not None and (ceiling is None or moment.us <= ceiling or self.style is None):
            self.style = moment.style
        if ceiling is None or (moment is not None and moment.us <= ceiling):
            return position
        present = self._shown(ceiling)
        return position if present is None else [present]

    def _shown(self, order: int | None) -> object | None:
        """*order* as the table writes it."""
        if order is None:
            return None
        if self.scale.incrementing:  # a whole decimal may be too long for the driver's and msgpack's integers
            return str(order) if self.high and isinstance(self.high[0], str) else order
        return render(order, self.style) if self.style is not None else None

    def _raise(self, candidate: Position) -> None:
        new, old = self.scale.order(candidate), self.scale.order(self.floor)
        if old is None or (new is not None and new >= old):
            self.floor = list(candidate)

    def _forget_marks(self) -> None:
        """Keep what the next passes may begin at or settle: twice the look-back."""
        settle = self.scale.settle_seconds(self.high)
        while len(self._marks) > 1 and self._marks[1].time <= self._marks[-1].time - 2 * settle:
            self._marks.popleft()
