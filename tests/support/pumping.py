"""One pump on the test's own thread, with a clock that only waiting moves."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from crossdock.codec import open_sealed
from crossdock.lifecycle import Stop
from crossdock.siteconfig import OutboxConfig, SourceConfig
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_agent import pump, pumps
from crossdock_agent.outbox import Outbox


class FakeClock:
    """Monotonic and wall move together by *seconds*; `set_wall` is a person who sets the machine's clock.

    *steps* are called one by one, each at the end of a wait; when there are none left the pump is stopped.
    """

    def __init__(self, wall: str = "2026-11-26 12:00:00+00:00") -> None:
        self.seconds = 0.0
        self.cpu = 0.0
        self.waits: list[float] = []
        self.stop = Stop()
        self.steps: Iterator[object] = iter(())
        self._wall = datetime.fromisoformat(wall).timestamp()

    @property
    def wall(self) -> datetime:
        return datetime.fromtimestamp(self._wall + self.seconds).astimezone()

    def set_wall(self, text: str) -> None:
        self._wall = datetime.fromisoformat(text).timestamp() - self.seconds

    def end(self) -> None:
        self.stop.set()

    def clock(self) -> pump.Clock:
        return pump.Clock(
            lambda: self.seconds, lambda: int((self._wall + self.seconds) * 1e6), lambda: self.cpu, self._wait
        )

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        if event.is_set():
            return True
        self.waits.append(seconds)
        self.seconds += seconds
        if next(self.steps, self) is self:
            self.stop.set()
        return event.is_set()


@dataclass
class Pumping:
    """A pump and its outbox. `run` until the clock has no step left."""

    config: SourceConfig
    outbox: Outbox
    clock: FakeClock
    zone: str = "UTC"
    kept: list[tuple[BatchHeader, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pump = self._new()

    def _new(self) -> pump.Pump:
        rng = random.Random(3)
        return pump.Pump(
            self.config, 1, self.outbox, lambda text: text, pumps.build_source, rng, self.zone, self.clock.clock()
        )

    def run(self, steps: Iterator[object], *, restart: bool = False) -> None:
        if restart:
            self.pump = self._new()
        self.clock.stop, self.clock.steps = Stop(), steps
        self.outbox.on_release(self.config.name, self.pump._release_due)
        self.pump.run(self.clock.stop)

    def batches(self) -> list[tuple[BatchHeader, bytes]]:
        """All batches appended so far, in order."""
        self.outbox.writer(self.config.name).flush()
        after = len(self.kept)
        while page := self.outbox.page(self.config.name, after, 2**26):
            self.kept += [open_sealed(batch.sealed) for batch in page]
            after = len(self.kept)
        return self.kept


@contextmanager
def pumping(directory: Path, config: SourceConfig, clock: FakeClock, **more: Any) -> Iterator[Pumping]:
    with Outbox(directory / "outbox.db", OutboxConfig(min_free_disk_bytes=0)) as outbox:
        yield Pumping(config, outbox, clock, **more)


def steps(*actions: Callable[[], object]) -> Iterator[object]:
    for action in actions:
        yield action()


def idle(times: int) -> Iterator[object]:
    """So many waits without anything happening."""
    for _ in range(times):
        yield None


def each(times: int, action: Callable[[], object]) -> Iterator[object]:
    """*action* after each of so many waits."""
    for _ in range(times):
        yield action()
