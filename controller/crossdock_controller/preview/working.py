"""A process of a preview: `worker --role preview`. The request is the first line of its standard input, each further
line a task; each has one line as its answer. It has the lowest priority, and opens both stores for reading."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import IO

import msgspec

from crossdock_controller import rounds
from crossdock_controller.config.load import load
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.outcomes import Outcomes
from crossdock_controller.paths import DataDirectory
from crossdock_controller.preview.comparing import Comparison
from crossdock_controller.preview.model import Request, Result, Task
from crossdock_controller.store import codes, connection, revisions, targets
from crossdock_controller.store.intake import IntakeReader, StoredBatch, StreamInfo
from crossdock_controller.store.normalizer import Position

BATCHES = 16
MOST_BATCHES = 128  # as the normalizer: a group may span so many
RAW_BYTES = 8 * 1024 * 1024
NICENESS = 15


def run(data: DataDirectory, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Until the tasks end. Raises what the stores raise when they cannot be read."""
    be_nice()
    with closing(Previewer(data, msgspec.json.decode(requests.readline(), type=Request))) as previewer:
        for line in requests:
            answers.write(msgspec.json.encode(previewer.run(msgspec.json.decode(line, type=Task))) + b"\n")
            answers.flush()


def be_nice() -> None:
    if sys.platform != "win32":  # there, the process was started below normal
        os.nice(NICENESS)


class Previewer:
    """Runs both mappings over batches. Used from one thread."""

    def __init__(self, data: DataDirectory, request: Request) -> None:
        self._request = request
        self._db = connection.connect(data.state)
        self._db.execute("PRAGMA query_only=1")
        self._proposed = self._asking(Runtime(load(request.tree, request.environment), 0))
        self._intake = IntakeReader(data.intake)
        self._targets = targets.read(self._db)
        self._built: dict[int, Runtime | None] = {}
        self._streams = {stream.id: stream for stream in self._intake.streams()}

    def close(self) -> None:
        self._intake.close()
        self._db.close()

    def run(self, task: Task) -> Result:
        stream = self._streams[task.stream_id]
        in_force = self._in_force(stream.site)
        before = in_force.engine(stream.site, stream.source) if in_force is not None else None
        after = self._proposed.engine(stream.site, stream.source)
        result = Result()
        _Walk(self._db, self._intake, stream, task, before, after, result, self._request.changes).go()
        return result

    def _asking(self, runtime: Runtime) -> Runtime:
        """Codes have the meanings that people gave them, in both."""
        runtime.asks(codes.Meanings(self._db))
        return runtime

    def _in_force(self, site: str) -> Runtime | None:
        number = self._targets.of(site)
        if number not in self._built:
            tree = revisions.sound(self._db, [number])[0].get(number)
            self._built[number] = self._asking(Runtime.from_tree(tree, number)) if tree is not None else None
        return self._built[number]


class _Walk:
    """Both engines over the batches of one task, window by window, always over the same records."""

    def __init__(
        self,
        db: sqlite3.Connection,
        intake: IntakeReader,
        stream: StreamInfo,
        task: Task,
        before: rounds.Engine | None,
        after: rounds.Engine | None,
        result: Result,
        most: int,
    ) -> None:
        self._db, self._intake, self._stream, self._task = db, intake, stream, task
        self._engines = (before, after)
        self._counts = result.source(stream.site, stream.source)
        self._comparison = Comparison(result, stream.site, stream.source, most)
        self._problems = result.problems

    def go(self) -> None:
        at, batches = Position(self._task.first, 0), BATCHES
        while at.sequence <= self._task.last:
            limit = min(batches, self._task.last - at.sequence + 1)
            stored = self._intake.batches(self._stream.id, at.sequence, limit)
            if not stored:  # removed meanwhile, its time is over
                return
            opened, bad = rounds.open_batches(stored, RAW_BYTES * (batches // BATCHES))
            if not opened:
                at = self._unread(at, stored[0])
                continue
            reaches = len(opened) == limit and limit == self._task.last - at.sequence + 1
            full = bad is not None or batches >= MOST_BATCHES
            to = self._window(at, opened, cap_reached=full and not reaches)
            if to == at and reaches:
                self._counts.open += sum(b.stored.records for b in opened) - at.record
                return
            batches = batches * 2 if to == at else BATCHES
            at = to

    def _unread(self, at: Position, batch: StoredBatch) -> Position:
        self._counts.unread += batch.records - at.record
        return Position(batch.sequence + 1, 0)

    def _window(self, at: Position, opened: Sequence[rounds.Opened], *, cap_reached: bool) -> Position:
        """Compare what both make of *opened*; how far both have decided."""
        found = []
        for engine, name in zip(self._engines, ("in force", "proposed"), strict=True):
            if engine is None:
                continue
            try:
                found.append(self._run(engine, at, opened, cap_reached=cap_reached))
            except sqlite3.Error:
                raise
            except Exception as error:  # noqa: BLE001 - a mapping that fails is what a person wants to know
                self._problems.append(
                    f"{self._stream.source} at {self._stream.site}: the mapping {name} fails on batch"
                    f" {opened[0].stored.sequence} of agent {self._stream.agent}: {error!r}"
                )
                self._counts.unread += sum(b.stored.records for b in opened) - at.record
                return Position(opened[-1].stored.sequence + 1, 0)
        to = min((_after(opened, out) for out in found), key=lambda p: (p.sequence, p.record), default=None)
        if to is None:
            to = Position(opened[-1].stored.sequence + 1, 0)
        nothing = [Outcomes() for _ in opened]
        before, after = (
            _until(opened, found.pop(0), to) if engine is not None else nothing for engine in self._engines
        )
        self._comparison.add(before, after)
        self._counts.records += _records_until(opened, to) - at.record
        return to

    def _run(
        self, engine: rounds.Engine, at: Position, opened: Sequence[rounds.Opened], *, cap_reached: bool
    ) -> list[Outcomes]:
        skips = [at.record, *([0] * (len(opened) - 1))]
        batches = [(b.header, b.payload, skip) for b, skip in zip(opened, skips, strict=True)]
        return engine.run(batches, rounds.LogLookup(self._db), cap_reached=cap_reached)


def _after(opened: Sequence[rounds.Opened], outcomes: Sequence[Outcomes]) -> Position:
    for batch, outcome in zip(opened, outcomes, strict=True):
        if outcome.open_records:
            return Position(batch.stored.sequence, batch.stored.records - outcome.open_records)
    return Position(opened[-1].stored.sequence + 1, 0)


def _records_until(opened: Sequence[rounds.Opened], to: Position) -> int:
    return sum(b.stored.records for b in opened if b.stored.sequence < to.sequence) + to.record


def _until(opened: Sequence[rounds.Opened], outcomes: Sequence[Outcomes], to: Position) -> Sequence[Outcomes]:
    """What was decided of records before *to*; the rest comes again with the next window."""
    if _after(opened, outcomes) == to:
        return outcomes
    kept = []
    for batch, out in zip(opened, outcomes, strict=True):
        if batch.stored.sequence > to.sequence or (batch.stored.sequence == to.sequence and not to.record):
            kept.append(Outcomes())
        elif batch.stored.sequence < to.sequence:
            kept.append(out)
        else:
            end = batch.header.origin.first_record + to.record
            mapped = [m for m in out.mapped if m.locator.record < end]
            dead = [d for d in out.dead if d.locator.record < end]
            kept.append(Outcomes(mapped, dead, out.ignored))
    return kept
