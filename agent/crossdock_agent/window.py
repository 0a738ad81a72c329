"""How much may be under way, and whose turn it is: pure arithmetic, no clock and no thread.

Lanes share the uplink by weight (rule 10). The window is what a fresh critical batch may find in front of it, so it
shrinks when acknowledgements come late: a thin line must not hold eight megabytes of bulk data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crossdock.siteconfig import LANE_WEIGHTS

MAX_BYTES = 8 * 1024 * 1024
MIN_BYTES = 512 * 1024
MAX_BATCHES = 256
FAST_SECONDS = 0.5  # acknowledged this soon: the line takes more
SLOW_SECONDS = 1.5  # ... this late: too much is queued in front
CRITICAL_EXTRA = 1.25  # critical batches find room when bulk ones have filled the window


@dataclass(slots=True)
class Window:
    """Bytes and batches sent and not yet acknowledged, against a limit that follows the line."""

    limit_bytes: int = 2 * 1024 * 1024
    bytes: int = 0
    batches: int = 0
    _until_shrink: int = 0  # bytes to be acknowledged before the next halving: one halving a window

    def open(self, lane: str) -> bool:
        """True when a batch may go now: one more than fits at most, and always one, however large."""
        extra = CRITICAL_EXTRA if lane == "critical" else 1.0
        return self.batches < MAX_BATCHES * extra and self.bytes < self.limit_bytes * extra

    def sent(self, size: int) -> None:
        self.bytes += size
        self.batches += 1

    def acknowledged(self, size: int, seconds: float) -> None:
        """A batch of *size* was acknowledged *seconds* after it was sent."""
        self.forget(size)
        self._until_shrink -= size
        if seconds <= FAST_SECONDS:
            self.limit_bytes = min(MAX_BYTES, self.limit_bytes + size)
        elif seconds >= SLOW_SECONDS and self._until_shrink <= 0:
            self._until_shrink = self.limit_bytes
            self.limit_bytes = max(MIN_BYTES, self.limit_bytes // 2)

    def forget(self, size: int) -> None:
        """A batch of *size* is no longer under way, without saying anything about the line."""
        self.bytes -= size
        self.batches -= 1


@dataclass(slots=True)
class Turns:
    """Whose turn it is: stride scheduling over lanes by bytes (Waldspurger, 1995), round robin inside a lane."""

    _used: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LANE_WEIGHTS, 0.0))
    _idle: set[str] = field(default_factory=lambda: set(LANE_WEIGHTS))
    _last: dict[str, str] = field(default_factory=dict)

    def order(self, ready: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
        """(lane, source) to try, first choice first; *ready* has the sources that could send, by lane."""
        busy = [lane for lane in LANE_WEIGHTS if ready.get(lane)]
        floor = min((self._used[lane] for lane in busy if lane not in self._idle), default=0.0)
        for lane in busy:
            if lane in self._idle:  # no credit for time spent idle, and no debt from before
                self._used[lane] = floor
        self._idle = set(LANE_WEIGHTS) - set(busy)
        busy.sort(key=lambda lane: (self._used[lane], -LANE_WEIGHTS[lane]))
        return [(lane, self._next(lane, sorted(ready[lane]))) for lane in busy]

    def took(self, lane: str, source: str, size: int) -> None:
        self._used[lane] += size / LANE_WEIGHTS[lane]
        self._last[lane] = source

    def _next(self, lane: str, sources: list[str]) -> str:
        last = self._last.get(lane, "")
        return next((source for source in sources if source > last), sources[0])
