"""When the outbox will be full, and how long it will drain: arithmetic over what was watched, no clock and no file.

Without a link only what is read counts, smoothed over an hour and over a day: the faster of the two is believed, since
a night must not hide what the morning brings. Time in which a full outbox held the reading back says nothing about the
sources and is left out. With a link the outbox itself says it: by how much it grew or shrank since the link came, over
ten minutes at most. What was not watched long enough is not known, and is said to be so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SPAN_SECONDS = 300.0  # what is read is kept in pieces of this length ...
HOUR_SECONDS = 3600.0
DAY_SECONDS = 86400.0  # ... for so long
KNOWN_SECONDS = 600.0  # a rate is known after so much watching
LINKED_SECONDS = 600.0  # the window of a slope
SLOPE_SECONDS = 15.0  # a slope is known after so long a link
FAR_SECONDS = 90 * DAY_SECONDS  # what is further off is no forecast


@dataclass(slots=True)
class Span:
    """So many seconds in which sources could read, and the sealed bytes that they put in meanwhile."""

    seconds: float = 0.0
    bytes_in: int = 0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Rates in bytes an hour, times in seconds from now; None is "not known", or "not at these rates"."""

    in_per_hour: float | None = None
    out_per_hour: float | None = None
    fills_in: float | None = None
    drains_in: float | None = None


def hourly(spans: Sequence[Span], window: float) -> float | None:
    """Bytes an hour over the newest *window* seconds of *spans*; None when they are too few to tell."""
    seconds, total = 0.0, 0.0
    for span in reversed(spans):
        part = min(1.0, (window - seconds) / span.seconds) if span.seconds else 1.0
        seconds += span.seconds * part
        total += span.bytes_in * part
        if seconds >= window:
            break
    return total * HOUR_SECONDS / seconds if seconds >= KNOWN_SECONDS else None


@dataclass(slots=True)
class Reading:
    """What sources put in, over the last day of reading."""

    spans: deque[Span] = field(default_factory=deque)

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, int]]) -> Reading:
        return cls(deque(Span(max(0.0, seconds), max(0, size)) for seconds, size in pairs))

    def pairs(self) -> list[tuple[float, int]]:
        return [(round(span.seconds, 1), span.bytes_in) for span in self.spans]

    def add(self, seconds: float, size: int) -> bool:
        """True when a span is complete, which is a moment to keep them."""
        if not self.spans or self.spans[-1].seconds >= SPAN_SECONDS:
            self.spans.append(Span())
        self.spans[-1].seconds += seconds
        self.spans[-1].bytes_in += size
        while self.spans and sum(span.seconds for span in self.spans) - self.spans[0].seconds >= DAY_SECONDS:
            self.spans.popleft()
        return self.spans[-1].seconds >= SPAN_SECONDS

    def per_hour(self) -> float | None:
        """The faster of the last hour and the last day."""
        known = [rate for window in (HOUR_SECONDS, DAY_SECONDS) if (rate := hourly(self.spans, window)) is not None]
        return max(known, default=None)


@dataclass(slots=True)
class Linked:
    """How the outbox moved since the link came: (seconds, bytes ever put in, bytes held)."""

    points: deque[tuple[float, int, int]] = field(default_factory=deque)

    def add(self, at: float, total_in: int, held: int) -> None:
        self.points.append((at, total_in, held))
        while len(self.points) > 2 and at - self.points[1][0] >= LINKED_SECONDS:
            self.points.popleft()

    def clear(self) -> None:
        self.points.clear()

    def per_second(self) -> tuple[float, float] | None:
        """(out, growth of what is held) in bytes; None when it is too early to tell."""
        if not self.points:
            return None
        (began, in_then, held_then), (now, in_now, held_now) = self.points[0], self.points[-1]
        seconds = now - began
        if seconds < SLOPE_SECONDS:
            return None
        growth = (held_now - held_then) / seconds
        return max(0.0, (in_now - in_then) / seconds - growth), growth


def forecast(reading: Reading, linked: Linked | None, held: int, room: int) -> Forecast:
    """*linked* is None without a link; *room* is how many bytes still fit."""
    come = reading.per_hour()
    if linked is None:
        return Forecast(come, 0.0, _ahead(room, (come or 0.0) / HOUR_SECONDS))
    rates = linked.per_second()
    if rates is None:
        return Forecast(come)
    out, growth = rates
    return Forecast(come, out * HOUR_SECONDS, _ahead(room, growth), _ahead(held, -growth) if held else None)


def _ahead(size: int, per_second: float) -> float | None:
    if per_second <= 0:
        return None
    seconds = max(0, size) / per_second
    return seconds if seconds <= FAR_SECONDS else None
