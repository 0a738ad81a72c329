"""What both transports are put through: one numbered file, the sender killed, then the receiver killed and away."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import workload

SENDER_DIES_AT = 0.2  # of the records received
SENDER_AWAY_SECONDS = 2.0
RECEIVER_DIES_AT = 0.5
RECEIVER_AWAY_SECONDS = 20.0
QUIET_SECONDS = 60.0  # nothing more has come for so long: what is missing is lost
PATIENCE_SECONDS = 900.0


class Transport(Protocol):
    def drop(self, source: Path) -> None:
        """Give the file to the sender."""

    def progress(self) -> float:
        """How much the receiver holds, between 0 and 1; more when something is doubled."""

    def kill_receiver(self) -> None: ...

    def start_receiver(self) -> None: ...

    def kill_sender(self) -> None: ...

    def start_sender(self) -> None: ...

    def counts(self) -> dict[str, Counter[int]]:
        """{where: how often each record number is there}."""


@dataclass(frozen=True, slots=True)
class Count:
    lost: int
    doubled: int


@dataclass(slots=True)
class Outcome:
    """*at*: progress when sender and receiver were killed; *seconds*: until the last record came."""

    seconds: float
    at: tuple[float, float]
    counts: dict[str, Count] = field(default_factory=dict)


def write(path: Path, rows: int) -> None:
    """The file of `make bench`, each line with its number (from 0) as SKU."""
    with path.open("wb") as file:
        file.write((";".join(workload.COLUMNS) + "\n").encode(workload.ENCODING))
        for i in range(rows):
            row = workload.row(i)
            row[1] = f"SKU-{i:07}"
            file.write((";".join(row) + "\n").encode(workload.ENCODING))


def number_of(line: bytes) -> int | None:
    """The number in a line, None for the header or a line that is none of ours."""
    fields = line.split(b";", 2)
    if len(fields) < 3 or not fields[1].startswith(b"SKU-") or not fields[1][4:].isdigit():
        return None
    return int(fields[1][4:])


def judge(numbers: Counter[int], rows: int) -> Count:
    return Count(rows - len(numbers), sum(times - 1 for times in numbers.values()))


def tally(lines: Iterable[bytes]) -> Counter[int]:
    numbers = Counter(number_of(line) for line in lines)
    numbers.pop(None, None)
    return Counter({n: times for n, times in numbers.items() if n is not None})


def put_through(transport: Transport, source: Path, rows: int) -> Outcome:
    began = time.monotonic()
    transport.drop(source)
    first = _reached(transport, SENDER_DIES_AT, began)
    transport.kill_sender()
    time.sleep(SENDER_AWAY_SECONDS)
    transport.start_sender()
    second = _reached(transport, RECEIVER_DIES_AT, began)
    transport.kill_receiver()
    time.sleep(RECEIVER_AWAY_SECONDS)
    transport.start_receiver()
    seconds = _settled(transport, began)
    counts = {where: judge(numbers, rows) for where, numbers in transport.counts().items()}
    return Outcome(seconds, (first, second), counts)


def _reached(transport: Transport, share: float, began: float) -> float:
    """The progress that was found; less than *share* when nothing comes any more."""
    quiet = _Quiet(QUIET_SECONDS)
    return _poll(transport, lambda progress: progress >= share or quiet.after(progress), began, 0.002)


def _settled(transport: Transport, began: float) -> float:
    """Seconds until the last growth: until all is there and a little more, or nothing comes any more."""
    whole, lacking = _Quiet(5.0), _Quiet(QUIET_SECONDS)

    def over(progress: float) -> bool:
        quiet = (whole.after(progress), lacking.after(progress))
        return quiet[0] if progress >= 1.0 else quiet[1]

    _poll(transport, over, began, 0.1)
    return lacking.grown - began


class _Quiet:
    """Whether nothing has changed for *seconds*; *grown* is when it last did."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last, self.grown = seconds, -1.0, time.monotonic()

    def after(self, progress: float) -> bool:
        now = time.monotonic()
        if progress != self._last:
            self._last, self.grown = progress, now
        return now - self.grown > self._seconds


def _poll(transport: Transport, done: Callable[[float], bool], began: float, every: float) -> float:
    while not done(progress := transport.progress()):
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise TimeoutError(f"only {progress:.0%} arrived in {PATIENCE_SECONDS:.0f} s")
        time.sleep(every)
    return progress
