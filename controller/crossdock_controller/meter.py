"""So many a second in the long run, and what a second allows at once: a token bucket. Pure: time comes in."""

from __future__ import annotations

from dataclasses import dataclass, field

LEAST_SECONDS = 0.1  # waits are at least for what this long allows, so that a slow rate is no run of one each time


@dataclass(slots=True)
class Meter:
    """*rate* a second; 0 is no limit. A clock that is set back neither adds nor takes anything."""

    rate: float
    _level: float = field(init=False)
    _at_us: int | None = None

    def __post_init__(self) -> None:
        self._level = self._burst

    @property
    def _burst(self) -> float:
        return max(1.0, self.rate)

    def allows(self, most: int, now_us: int) -> int:
        """How many may go now, at most *most*."""
        if not self.rate:
            return most
        if self._at_us is not None:
            self._level = min(self._burst, self._level + max(0, now_us - self._at_us) * self.rate / 1_000_000)
        self._at_us = now_us
        return min(most, max(0, int(self._level + 1e-9)))

    def take(self, number: int) -> None:
        """*number* went; the level may go below zero, and later ones wait for it."""
        if self.rate:
            self._level -= number

    def seconds(self) -> float:
        """Until some more may go, as of the last `allows`; 0 when some may now."""
        if not self.rate or self._level >= 1 - 1e-9:
            return 0.0
        wanted = min(self._burst, max(1.0, self.rate * LEAST_SECONDS))
        return max(0.0, (wanted - self._level) / self.rate)
