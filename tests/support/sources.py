"""A written fake source for the agent's core: it reads lines from memory, and fails when told to."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from crossdock.errors import ConfigError, CrossdockError
from crossdock.siteconfig import SourceConfig
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_agent.sources import base


class Tape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tape: str
    batch: int = 1  # records in a batch
    poll: float = 0.05
    version: int = 1
    origin: str = "file"


class Reel:
    """What a tape holds, and what happens when it is read. Shared with the test by its name."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.failure: CrossdockError | None = None
        self.release_failure: Exception | None = None
        self.released: list[bytes] = []
        self.started = 0  # sources made
        self.closed = 0
        self.passes = 0
        self.gate = threading.Event()  # cleared: a pass waits before each batch
        self.gate.set()
        self.remember: list[bytes | None] = []


REELS: dict[str, Reel] = {}


def reel(name: str) -> Reel:
    return REELS.setdefault(name, Reel())


def lines_that_do_not_compress(count: int, size: int = 20_000) -> list[bytes]:
    """Each takes pages of its own in the outbox."""
    rng = random.Random(7)
    return [b"%d " % i + rng.randbytes(size).replace(b"\n", b" ") for i in range(count)]


class TapeSource:
    def __init__(self, settings: Tape, context: base.SourceContext) -> None:
        self._settings = settings
        self._context = context
        self._reel = reel(settings.tape)
        self._reel.started += 1
        if settings.tape == "wrong":
            raise ConfigError(f"source {context.name}: there is no tape {settings.tape!r}", hint="name another")

    def read(self, checkpoint: bytes | None) -> Iterator[base.Draft]:
        self._reel.passes += 1
        at = int(checkpoint or b"0")
        while at < len(self._reel.lines) or self._reel.failure:
            while not self._reel.gate.wait(0.02):
                if self._context.stop.is_set():
                    return
            if self._reel.failure is not None:
                raise self._reel.failure
            lines = self._reel.lines[at : at + self._settings.batch]
            at += len(lines)
            header = BatchHeader(
                format="jsonl", records=len(lines), checkpoint=b"%d" % at, closes=at == len(self._reel.lines),
                origin=Origin(kind=self._settings.origin, name=self._settings.tape, first_record=at - len(lines)),
            )  # fmt: skip
            yield base.Draft(header, b"\n".join(lines), ((f"line{at}", b"taken"),), b"%d" % at)
            self._reel.remember.append(self._context.memory.recall(f"line{at}"))

    def release(self, token: bytes) -> None:
        if self._reel.release_failure is not None:
            raise self._reel.release_failure
        self._reel.released.append(token)

    def check(self) -> Iterator[base.Finding]:
        yield base.Finding("tape", self._reel.failure is None, "the tape turns", "oil it")

    def watch(self) -> list[Path]:
        return []

    def poll_seconds(self) -> float:
        return self._settings.poll

    def close(self) -> None:
        self._reel.closed += 1


def install() -> None:
    """Make the kind `tape` known, with no reels."""
    REELS.clear()
    base.register("tape", Tape, TapeSource)


def config(name: str, **settings: object) -> SourceConfig:
    lane = settings.pop("lane", "standard")
    return SourceConfig(name=name, kind="tape", lane=lane, settings={"tape": name, **settings})  # type: ignore[arg-type]
