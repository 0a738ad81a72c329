"""Raw batches are kept for the retention time, then purged; never one that is not normalized yet."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from loguru import logger

from crossdock.lock import is_held
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import connection, faults, normalizer
from crossdock_controller.store.intake import IntakeWriter


class _InThread(Protocol):
    def __call__(self, call: Callable[[], int], /) -> Awaitable[int]: ...


class Retention:
    def __init__(self, data: DataDirectory, keep: dt.timedelta) -> None:
        self._data = data
        self._keep_us = int(keep.total_seconds() * 1_000_000)

    async def step(self, writer: IntakeWriter, in_thread: _InThread) -> None:
        """Purge what is due, in small pieces so that commits get their turn in between."""
        normalized = await asyncio.to_thread(self._normalized)
        if is_held(self._data.backup_lock):  # a backup that begins after this look has all that is purged as normalized
            return
        before_us = time.time_ns() // 1000 - self._keep_us
        purged = 0
        with faults.told(writer.path):
            while n := await in_thread(lambda: writer.purge(before_us, normalized)):
                purged += n
        if purged:
            logger.bind(batches=purged).info("raw batches past the retention time purged")

    def _normalized(self) -> dict[int, int]:
        db = connection.connect(self._data.state)
        try:
            return normalizer.finished(db)
        finally:
            db.close()
