"""A complaint that repeats is logged when it begins, once in a while with how often it came, and when it is over.

A fault that lasts must not fill the disk with lines that say the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

REPEAT_SECONDS = 60.0


@dataclass(slots=True)
class _Standing:
    logged_at: float
    unsaid: int = 0


class Complaints:
    """By name; what is complained of may change meanwhile. Any thread may use it."""

    def __init__(self, repeat_seconds: float = REPEAT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._repeat = repeat_seconds
        self._clock = clock
        self._standing: dict[str, _Standing] = {}
        self._lock = threading.Lock()

    def make(self, name: str, text: str, **fields: object) -> bool:
        """Whether it was logged now."""
        now = self._clock()
        with self._lock:
            known = self._standing.get(name)
            if known is not None and now - known.logged_at < self._repeat:
                known.unsaid += 1
                return False
            unsaid = known.unsaid if known is not None else 0
            self._standing[name] = _Standing(now)
        again = f" ({unsaid} more times since)" if unsaid else ""
        logger.bind(**fields).error("{}: {}{}", name, text, again)
        return True

    def over(self, name: str, text: str) -> bool:
        """Whether there was one; then its end is logged."""
        with self._lock:
            known = self._standing.pop(name, None)
        if known is not None:
            logger.info("{}: {}", name, text)
        return known is not None

    @property
    def standing(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._standing)
