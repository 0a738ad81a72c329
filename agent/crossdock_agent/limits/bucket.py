"""Token buckets: rates by a clock that nobody can set. Pure: time comes in, waits go out."""

from __future__ import annotations

BURST_SECONDS = 0.2  # of its rate: what a shared bucket saves up
BORROW_SECONDS = 30.0  # of its rate: what the critical lane may take beyond it at most
_SHORTEST = 0.001  # seconds: a rounding error is no reason to look again at once


class Bucket:
    """Tokens that come at *rate* a second, at most *capacity* of them. Over any time, at most what came in that time,
    what was there, and one taking of more than the capacity (which leaves a debt) is taken."""

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        self._rate, self._capacity = rate, capacity
        self._level, self._at = capacity, now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until *amount* may be taken; 0: now. More than the capacity may be taken from a full bucket."""
        self._fill(now)
        return max(0.0, (min(amount, self._capacity) - self._level) / self._rate)

    def take(self, amount: float, now: float) -> None:
        self._fill(now)
        self._level -= amount

    def _fill(self, now: float) -> None:
        self._level = min(self._capacity, self._level + max(0.0, now - self._at) * self._rate)
        self._at = now


class SharedBucket:
    """A bucket of all lanes, whose takings may be known only afterwards: whoever comes may take while there is no debt.

    The critical lane is asked for its own debt alone, and that may reach `BORROW_SECONDS`: it waits exactly as if it
    were alone, and the others wait until all is paid back. Over any time no more is taken than came in it, the burst
    twice, what may be borrowed, and a taking of either. *rate* None: nothing is limited, and nothing counted.
    """

    def __init__(self, rate: float | None, now: float) -> None:
        self._rate = rate
        self._level = self._critical = (rate or 0.0) * BURST_SECONDS
        self._at = now

    @property
    def rate(self) -> float | None:
        return self._rate

    def set_rate(self, rate: float | None, now: float) -> None:
        """From now on. A debt stays what it is; a burst saved at a higher rate does not stay."""
        if rate == self._rate:
            return
        self._fill(now)
        self._rate = rate
        burst = (rate or 0.0) * BURST_SECONDS
        self._level, self._critical = (
            (0.0, 0.0) if rate is None else (min(self._level, burst), min(self._critical, burst))
        )

    def room(self, lane: str, now: float) -> float:
        """What may be taken now without waiting afterwards; negative: that much is lacking."""
        if self._rate is None:
            return float("inf")
        self._fill(now)
        return self._critical + self._rate * BORROW_SECONDS if lane == "critical" else self._level

    def wait(self, lane: str, now: float) -> float:
        """Seconds until *lane* may take; 0: now."""
        room = self.room(lane, now)
        if room >= 0 or self._rate is None:
            return 0.0
        return max(_SHORTEST, -room / self._rate)

    def take(self, amount: float, now: float, lane: str | None = None) -> None:
        """By *lane*; None: nobody knows by which, so it counts for all."""
        if self._rate is not None:
            self._fill(now)
            self._level -= amount
            self._critical -= amount if lane in ("critical", None) else 0.0

    def _fill(self, now: float) -> None:
        if self._rate is not None:
            came, burst = max(0.0, now - self._at) * self._rate, self._rate * BURST_SECONDS
            self._level = min(burst, self._level + came)
            self._critical = min(burst, self._critical + came)
        self._at = now


class Meter:
    """How fast a counter that only grows has grown over the last *seconds*, looked at now and then."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._seen: list[tuple[float, float]] = []

    def note(self, total: float, now: float) -> None:
        if self._seen and now - self._seen[-1][0] < self._seconds / 20:
            return
        self._seen.append((now, total))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._seconds:
            del self._seen[0]

    def rate(self, total: float, now: float) -> float:
        """Per second; 0 before it was ever looked at."""
        if not self._seen or now <= self._seen[0][0]:
            return 0.0
        return max(0.0, total - self._seen[0][1]) / (now - self._seen[0][0])
