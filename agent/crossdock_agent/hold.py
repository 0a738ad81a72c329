"""Watches a new configuration for as long as its hold lasts, on a thread that exists no longer than that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOOK_SECONDS = 0.5
AGAIN_SECONDS = 10.0  # until the end of a hold is tried again


class Hold:
    """*fault* says what speaks against it (empty: nothing). Then *failed* is called with it; else, at the end,
    *passed*, which says whether that could be written down: else the watch goes on and it is called again. Whoever is
    called looks first whether it was cancelled meanwhile. All on the hold's own thread."""

    def __init__(
        self,
        seconds: float,
        fault: Callable[[], str],
        passed: Callable[[Hold], bool],
        failed: Callable[[Hold, str], None],
    ) -> None:
        self._seconds = seconds
        self._fault = fault
        self._passed = passed
        self._failed = failed
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="configuration-hold", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        """The hold ends undecided. Does not wait: it may be called under the lock that the callbacks take."""
        self._over.set()

    @property
    def cancelled(self) -> bool:
        return self._over.is_set()

    def _run(self) -> None:
        end = time.monotonic() + self._seconds
        while not self._over.is_set():
            fault = self._fault()
            if fault:
                self._failed(self, fault)
                return
            left = end - time.monotonic()
            if left <= 0:
                if self._passed(self):
                    return
                left = AGAIN_SECONDS
                end = time.monotonic() + left
            self._over.wait(min(left, LOOK_SECONDS))
