"""The replay of a sink, as the sink's own line runs it: so much ahead of what is sent, and no faster than its rate."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from crossdock_controller.meter import Meter
from crossdock_controller.store import replays

AHEAD = 1000  # deliveries due at once: a cancel takes back no more, and nothing else waits behind more


@dataclass(slots=True)
class Replaying:
    """Of one line."""

    _id: int = 0
    _meter: Meter = field(default_factory=lambda: Meter(0.0))

    def wanted(self, db: sqlite3.Connection, sink: int, now_us: int) -> bool:
        """Whether more of a replay is to be made due now."""
        found = replays.running(db, sink)
        if found is None:
            return False
        number, rate = found
        if number != self._id:
            self._id, self._meter = number, Meter(rate)
        return self._meter.allows(replays.PAGE, now_us) > 0 and replays.ahead(db, number) < AHEAD

    def step(self, db: sqlite3.Connection, sink: int, now_us: int) -> bool:
        """Make the next page due. In a transaction, under the lease of the sink, after everything sent is persisted."""
        limit = self._meter.allows(replays.PAGE, now_us)
        self._meter.take(replays.step(db, sink, self._id, limit, now_us))
        return True
