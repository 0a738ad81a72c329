"""The free space that is left to the rest of the machine. Intake stops at the floor, normalizing at half of it;
deliveries go on, for they need next to nothing and are what gives space back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from crossdock_controller.store.faults import StoreFull, free_bytes, place

MIN_FREE_DISK_BYTES = 1024**3  # as at an agent
LOOK_SECONDS = 0.5  # how long an answer of the file system is believed


class Room:
    """Asks the file systems of *paths*. Any thread may ask."""

    def __init__(
        self,
        floor_bytes: int,
        *paths: Path,
        what: str = "intake stops",
        free: Callable[[Path], int | None] = free_bytes,
    ) -> None:
        self.floor_bytes = floor_bytes
        self._paths, self._what, self._free = paths, what, free
        self._looked_at = float("-inf")
        self._short: StoreFull | None = None

    def short(self) -> StoreFull | None:
        """Why nothing more may be stored now, or None. A new error each time: it is raised by several."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._short, self._looked_at = self._look(), now
        found = self._short
        return None if found is None else StoreFull(found.message, hint=found.hint)

    def _look(self) -> StoreFull | None:
        for path in self._paths:
            free = self._free(path)
            if free is not None and free < self.floor_bytes:
                return StoreFull(
                    f"{free} bytes are free on the disk of {path}, {self.floor_bytes} are kept free; {self._what}",
                    hint=f"free disk space under {place(path)}, or lower --min-free-disk; all goes on by itself",
                )
        return None
