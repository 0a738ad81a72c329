"""When kept batches (acknowledged ones, see `kept`) give way: too old, too many, or in the way of something newer.

Belongs to the commit thread. They go in steps, so that an append never waits long behind them.
"""

from __future__ import annotations

import time

from crossdock.siteconfig import OutboxConfig
from crossdock_agent.outbox.kept import minute_now
from crossdock_agent.outbox.store import Store

STEP_BYTES = 32 * 1024 * 1024  # given up in one transaction: more than is acknowledged in one
MIB = 1024 * 1024
SLACK_SHARE = 256  # this part of what may be kept is given up beyond what is needed, in whole MiB
RELIEF_BYTES = 1024 * 1024  # the same, when the disk is short of space: a small transaction needs little
EXPIRY_SECONDS = 60.0  # between looks at their age


class Trim:
    def __init__(self, store: Store, limits: OutboxConfig) -> None:
        self.limits = limits
        self.due = True  # there is, or may be, more to give up
        self._store = store
        self._expired_at = float("-inf")

    def step(self, incoming_bytes: int) -> None:
        """In a transaction, before *incoming_bytes* are appended."""
        kept, held = self._store.kept.totals()
        excess = kept - max(0, min(self.limits.keep_bytes, self.limits.max_bytes - held - incoming_bytes))
        if excess > 0:
            slack = self.limits.keep_bytes // SLACK_SHARE  # not a batch or two with every commit
            self._store.kept.give_up(min(excess + slack // MIB * MIB, STEP_BYTES))
        self.due = excess > STEP_BYTES or (kept > 0 and self._expire())

    def relieve(self, need_bytes: int) -> int:
        """Give up *need_bytes* at once, in transactions of its own; how many were. Raises sqlite3.Error."""
        total = 0
        while total < need_bytes:
            with self._store.transaction():
                freed = self._store.kept.give_up(min(need_bytes - total, RELIEF_BYTES))
            if not freed:
                break
            total += freed
        return total

    def _expire(self) -> bool:
        """What is too old; True when there is more of it."""
        now = time.monotonic()
        if now - self._expired_at < EXPIRY_SECONDS:
            return False
        before = minute_now() - int(self.limits.keep_acknowledged_hours * 60)
        if self._store.kept.give_up(STEP_BYTES, before) >= STEP_BYTES:
            return True
        self._expired_at = now
        return False
