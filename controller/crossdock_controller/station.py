"""Where a worker process stands: its connection, proof of life, leases and bell. Closed, nothing of it is left."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack

from loguru import logger

from crossdock.errors import CrossdockError
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import connection, leases
from crossdock_controller.store.wake import Bell

RENEW_SECONDS = 10.0  # a third of a lease


class Station:
    """Used from the thread that made it. *owner* is the name in which leases are held."""

    def __init__(self, data: DataDirectory, role: str, *, cache_mib: int = 8) -> None:
        self.state = data.state
        with ExitStack() as stack:
            self.db = connection.connect(data.state, cache_mib=cache_mib, fence=data.holder)
            stack.callback(self.db.close)
            alive = leases.Owner(data.state, role)
            stack.callback(alive.close)
            self.owner, self.hand = alive.name, alive.hand
            self.reap()
            stack.callback(self._release)
            self.bell = Bell(self.db, role, self.owner)
            stack.callback(self.bell.close)
            self._renewed = time.monotonic()
            self._closing = stack.pop_all()

    def reap(self) -> None:
        """Free what dead workers left leased."""
        leases.reap(self.db, self.state)

    def renew(self) -> None:
        """Keep the leases; to be called every few seconds."""
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self._renewed = time.monotonic()
            leases.renew(self.db, self.owner, time.time_ns() // 1000)

    def close(self) -> None:
        self._closing.close()

    def _release(self) -> None:
        """A store that cannot be written, or is another's, is left as it is: whoever comes next finds us dead."""
        try:
            leases.release_all(self.db, self.owner)
        except (sqlite3.Error, CrossdockError) as error:
            logger.warning("leases could not be given back: {}", error)
