"""Supervised threads and one stop signal. A part that fails restarts with backoff, others run on."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from loguru import logger

from crossdock.errors import CrossdockError
from crossdock.retry import Backoff

HEALTHY_SECONDS = 60.0  # a part that ran this long starts its backoff anew


class Stop:
    """Set once, seen by all: every wait in the process goes through one of these."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._wakers: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def set(self) -> None:
        self._event.set()
        with self._lock:
            wakers = list(self._wakers)
        for waker in wakers:
            waker()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """True when the stop came, False when *seconds* passed."""
        return self._event.wait(seconds)

    def on_set(self, waker: Callable[[], None]) -> None:
        """Call *waker* when the stop comes (at once if it has): to cancel a blocking call."""
        with self._lock:
            self._wakers.append(waker)
        if self._event.is_set():
            waker()

    def forget(self, waker: Callable[[], None]) -> None:
        with self._lock:
            if waker in self._wakers:
                self._wakers.remove(waker)


def stop_on_signals(stop: Stop) -> None:
    """SIGINT and SIGTERM (on Windows also SIGBREAK) set *stop*. Call from the main thread."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, handle)


@dataclass(slots=True)
class PartHealth:
    name: str
    state: str = "starting"  # starting, running, failing, stopped
    failures: int = 0
    error: str = ""
    hint: str = ""


@dataclass(slots=True)
class Supervisor:
    """Runs each part on a thread of its own until the stop.

    A part is `run(stop)`: it returns when the stop is set (or when its work is finished), and raises to be restarted.
    """

    stop: Stop
    backoff: Backoff = field(default_factory=Backoff)
    rng: random.Random = field(default_factory=random.Random)
    parts: dict[str, PartHealth] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, name: str, run: Callable[[Stop], None]) -> PartHealth:
        health = PartHealth(name)
        self.parts[name] = health
        thread = threading.Thread(target=self._supervise, args=(health, run), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return health

    def join(self, seconds: float = 10.0) -> list[str]:
        """Waits for all parts; names of those that did not stop in time."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = [t.name for t in self._threads if t.is_alive()]
        self._threads = [t for t in self._threads if t.is_alive()]
        return late

    def _supervise(self, health: PartHealth, run: Callable[[Stop], None]) -> None:
        while not self.stop.is_set():
            started = time.monotonic()
            health.state = "running"
            try:
                run(self.stop)
            except Exception as error:  # noqa: BLE001 - the supervisor is where every failure ends up, and is reported
                if time.monotonic() - started > HEALTHY_SECONDS:
                    health.failures = 0
                self._failed(health, error)
                delay = self.backoff.delay(health.failures, self.rng, at_least=getattr(error, "after_seconds", None))
                if self.stop.wait(delay):
                    break
            else:
                break
        health.state = "stopped"

    def _failed(self, health: PartHealth, error: Exception) -> None:
        health.failures += 1
        health.state = "failing"
        health.error = str(getattr(error, "message", error)) or type(error).__name__
        health.hint = str(getattr(error, "hint", ""))
        if self.stop.is_set():
            return
        log = logger.bind(part=health.name, failures=health.failures)
        if isinstance(error, CrossdockError):
            log.warning("{} failed, will restart: {}", health.name, error)
        else:
            log.opt(exception=error).error("{} failed unexpectedly, will restart: {}", health.name, error)
