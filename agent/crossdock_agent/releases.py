"""What was promised for after the acknowledgement is done in the end, token by token, and never holds up reading."""

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
        self._failed: dict[int, tuple[int, float]] = {}  # release id: (attempts, next attempt, monotonic)

    def look(self) -> None:
        """New tokens may be due. From any thread."""
        self._look.set()

    def seconds_to_retry(self) -> float:
        if self._look.is_set():
            return 0.0
        return max(0.0, min((due for _, due in self._failed.values()), default=NEVER) - time.monotonic())

    def run(self) -> None:
        """Release what is due now; cheap when nothing is."""
        now = time.monotonic()
        if not self._look.is_set() and all(due > now for _, due in self._failed.values()):
            return
        self._look.clear()
        pending = self._outbox.releases(self._name)
        done = [i for i, token in pending if self._failed.get(i, (0, 0.0))[1] <= now and self._release(i, token)]
        if done:
            self._outbox.finish_releases(done)
        self._counters.set("releases_waiting", len(pending) - len(done))

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
