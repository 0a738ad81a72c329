"""A file is complete when we ourselves have seen it unchanged for long enough. A timestamp is only somebody's word.

Copying programs give a growing file its final time and size at once (Windows Explorer, robocopy), and clocks of file
servers differ; so the age of a file says nothing. What is compared are our own looks, by our own steady clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable


class Settling:
    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._looks: dict[str, tuple[Hashable, float]] = {}

    def waits(self, name: str, seen: bytes) -> bool:
        """Whether the time of *name* is not up and it still looks as before from outside: its look begins with *seen*.
        Then there is no need to open it. What changed inside shows when the time is up."""
        before = self._looks.get(name)
        if before is None or not isinstance(before[0], bytes) or not before[0].startswith(seen):
            return False
        return self._monotonic() - before[1] < self._seconds

    def settled(self, name: str, look: Hashable) -> bool:
        """Whether *name* has looked like this for the time; with 0 seconds one look is enough."""
        now = self._monotonic()
        before = self._looks.get(name)
        if before is None or before[0] != look:
            self._looks[name] = (look, now)
            return self._seconds == 0
        return now - before[1] >= self._seconds

    def forget(self, name: str) -> None:
        """It changed under our eyes: its time begins anew."""
        self._looks.pop(name, None)

    def keep_only(self, names: Collection[str]) -> None:
        for name in self._looks.keys() - names:
            del self._looks[name]
