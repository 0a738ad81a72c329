"""What was promised for after the acknowledgement is done in the end, token by token, and never holds up reading.

A hundred thousand files may become due by one acknowledgement: they are fetched and done in pieces, and between two
pieces the source may read, or stop.
"""

from __future__ import annotations

import random
import threading
import time

from loguru import logger

from crossdock.errors import CrossdockError
from crossdock.retry import Backoff
from crossdock_agent.outbox import Outbox
from crossdock_agent.sources.base import Counters, Source

RETRY = Backoff(first_seconds=2.0, max_seconds=300.0)
NEVER = float("inf")
PIECE = 100  # tokens done before the thread looks round
MOST_FAILED = 10_000  # with so many waiting for another attempt, no new ones are tried: the fault is the same for all


class Releases:
    """Calls `Source.release` for one source, on its thread. A token that fails waits for its own next attempt."""

    def __init__(self, source: Source, outbox: Outbox, name: str, counters: Counters, rng: random.Random) -> None:
        self._source = source
        self._outbox = outbox
        self._name = name
        self._counters = counters
        self._rng = rng
        self._look = threading.Event()
        self._look.set()
        self._done_to = 0  # every token up to this id was tried; those not finished are in `_failed`
        self._failed: dict[int, tuple[int, float]] = {}  # release id: (attempts, next attempt, monotonic)
        self._next_attempt = NEVER
        self._waiting = 0

    def look(self) -> None:
        """New tokens may be due. From any thread."""
        self._look.set()

    def seconds_to_retry(self) -> float:
        return 0.0 if self._look.is_set() else max(0.0, self._next_attempt - time.monotonic())

    def run(self) -> None:
        """Release a piece of what is due now; cheap when nothing is. `seconds_to_retry` is 0 while more is due."""
        now = time.monotonic()
        if not self._look.is_set() and self._next_attempt > now:
            return
        self._look.clear()
        pending = self._again(now)
        pending += self._fresh(PIECE - len(pending))
        done = [i for i, token in pending if self._release(i, token)]
        if done:
            self._finish(done)
        if pending:
            self._look.set()
        self._next_attempt = min((due for _, due in self._failed.values()), default=NEVER)
        if len(pending) == PIECE and self._waiting > PIECE:  # counting them all for each piece would take long
            self._waiting -= len(done)
        else:
            self._waiting = self._outbox.releases_waiting(self._name)
        self._counters.set("releases_waiting", self._waiting)

    def _again(self, now: float) -> list[tuple[int, bytes]]:
        """What failed and is due for another attempt."""
        rows: list[tuple[int, bytes]] = []
        for i in [i for i, (_, due) in self._failed.items() if due <= now][:PIECE]:
            row = self._outbox.releases(self._name, i - 1, 1)
            if row and row[0][0] == i:
                rows += row
            else:
                del self._failed[i]
        return rows

    def _fresh(self, limit: int) -> list[tuple[int, bytes]]:
        """What was not tried yet."""
        if not limit or len(self._failed) >= MOST_FAILED:
            return []
        while rows := self._outbox.releases(self._name, self._done_to, limit):
            self._done_to = rows[-1][0]
            if fresh := [row for row in rows if row[0] not in self._failed]:
                return fresh
        return []

    def _finish(self, ids: list[int]) -> None:
        try:
            self._outbox.finish_releases(ids)
        except CrossdockError:  # they are still there: doing them again does no harm
            self._done_to = 0
            self._look.set()
            raise

    def _release(self, release_id: int, token: bytes) -> bool:
        try:
            self._source.release(token)
        except (CrossdockError, OSError) as error:
            attempts = self._failed.get(release_id, (0, 0.0))[0] + 1
            self._failed[release_id] = (attempts, time.monotonic() + RETRY.delay(attempts, self._rng))
            if attempts == 1:
                logger.bind(source=self._name).warning("acknowledged, but not yet released, trying again: {}", error)
            return False
        self._failed.pop(release_id, None)
        return True
