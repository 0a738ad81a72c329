"""The normalizer's part in a replay of records: a window whenever there is time, and at least one every second.

Everything a window makes, and how far the replay is, is one transaction. A window at which workers die is tried three
times; then the replay is failed and says so, and the normalizer goes on.
"""

from __future__ import annotations

import faulthandler
import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from loguru import logger

from crossdock.errors import Refused
from crossdock_controller import rounds
from crossdock_controller.outcomes import Mapped
from crossdock_controller.remapping import deciding
from crossdock_controller.store import bodies, dead_letters, exceptions, inputs, remaps
from crossdock_controller.store.connection import transaction
from crossdock_controller.store.intake import IntakeReader, StreamInfo
from crossdock_controller.store.remaps import Moved, Part, Remap

LOOK_SECONDS = 0.5  # between looks for a replay
TURN_SECONDS = 1.0  # a busy normalizer gives it a window so often
MOST_ATTEMPTS = 3


class Runtime(Protocol):
    @property
    def number(self) -> int: ...

    @property
    def router(self) -> rounds.Router: ...

    def engine(self, site: str, source: str) -> rounds.Engine | None: ...

    def labels(self, site: str) -> Mapping[str, str]: ...


class Remapper:
    """Used from the normalizer's thread."""

    def __init__(
        self,
        db: sqlite3.Connection,
        intake: IntakeReader,
        runtime_at: Callable[[str], Runtime | None],
        sink_number: Callable[[str], int],
        wake: Callable[[str], None],
        round_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*round_seconds*: the process ends when a window takes longer; 0 for no limit."""
        self._round_seconds = round_seconds
        self._db, self._intake, self._runtime_at = db, intake, runtime_at
        self._sink_number, self._wake, self._clock = sink_number, wake, clock
        self._bodies = bodies.Bodies(db)
        self._look_at = self._turn_at = float("-inf")
        self._batches: dict[tuple[int, int], int] = {}  # of a window, where one group fills it

    def step(self, *, busy: bool) -> bool:
        """One window, if it is time for one; whether there was."""
        now = self._clock()
        if now < self._look_at or (busy and now < self._turn_at):
            return False
        job = remaps.running(self._db)
        if job is None:
            self._look_at = now + LOOK_SECONDS
            return False
        self._turn_at = now + TURN_SECONDS
        try:
            records = self._window(job)
        except (Moved, Refused):  # or a person settled a letter meanwhile: the window is decided anew
            return True
        if job.rate > 0:
            self._look_at = self._clock() + records / job.rate
        return True

    def _window(self, job: Remap) -> int:
        """How many records were looked at. Raises Moved."""
        part = remaps.next_part(self._db, job.id)
        if part is None:
            self._fail(job, "it has no stream left and did not end")
            return 0
        stream = next((s for s in self._intake.streams() if s.id == part.stream_id), None)
        runtime = self._runtime_at(stream.site) if stream is not None else None
        engine = runtime.engine(stream.site, stream.source) if runtime is not None and stream is not None else None
        if stream is None or runtime is None or engine is None:
            self._fail(job, f"no mapping is in force for {job.source}" + (f" at {stream.site}" if stream else ""))
            return 0
        if part.attempts >= MOST_ATTEMPTS:
            self._fail(
                job, f"the worker died {part.attempts} times at batch {part.at.sequence} of agent {stream.agent}"
            )
            return 0
        remaps.attempt(self._db, job.id, part)
        size = self._batches.get((job.id, part.stream_id), deciding.BATCHES)
        if self._round_seconds:  # a regular expression that never ends holds the interpreter's lock
            faulthandler.dump_traceback_later(self._round_seconds, exit=True)
        try:
            window = deciding.decide(self._db, self._bodies, self._intake, stream, part, engine, size)
        except rounds.EngineFault as error:
            self._fail(job, str(error))
            return 0
        finally:
            if self._round_seconds:
                faulthandler.cancel_dump_traceback_later()
        if window.more:
            self._batches[job.id, part.stream_id] = size * 2
        else:
            self._batches.pop((job.id, part.stream_id), None)
        self._commit(job, part, stream, runtime, window)
        return window.counts.records

    def _commit(self, job: Remap, part: Part, stream: StreamInfo, runtime: Runtime, window: deciding.Window) -> None:
        documents = [m for _, m in window.mapped]
        due = rounds.route_all(documents, _route(runtime, stream), self._sink_number)
        packed = bodies.pack([m.body for m in documents])
        now_us = time.time_ns() // 1000
        note = f"mapped again by replay {job.id}: {job.because}"
        with transaction(self._db):
            remaps.move(self._db, job.id, part, window.to, window.counts, finished=window.finished, now_us=now_us)
            if remaps.grown(self._db, window.seen, [(m.document, m.key) for m in documents]):
                raise Moved
            holding = any(m.holds for m in documents)
            rounds.append(self._db, window.mapped, packed, due, now_us=now_us, holding=holding)
            for letter in window.healed:
                dead_letters.resolve(self._db, letter.id, "retried", job.created_by, note, now_us)
            healed = [letter.id for letter in window.healed]
            exceptions.resolve_letters(self._db, healed, by=job.created_by, outcome="retried", now_us=now_us)
            counted = deciding.inputs_of(window.healed).items()
            inputs.add_counts(self._db, [(i, inputs.Counts(mapped=n, dead=-n)) for i, n in counted])
        if documents:
            self._wake("dispatch")
        log = logger.bind(source=stream.source, site=stream.site, replay=job.id, records=window.counts.records)
        log.debug("mapped again: {} new versions, {} healed", len(documents), len(window.healed))

    def _fail(self, job: Remap, problem: str) -> None:
        logger.bind(source=job.source, replay=job.id).error("the replay of records failed: {}", problem)
        try:
            with transaction(self._db):
                remaps.end(self._db, job.id, "failed", by="", problem=problem, now_us=time.time_ns() // 1000)
        except Refused:
            logger.bind(replay=job.id).debug("it was ended meanwhile")


def _route(runtime: Runtime, stream: StreamInfo) -> Callable[[Mapped], tuple[str, ...]]:
    route, labels, site, source = runtime.router.route, runtime.labels(stream.site), stream.site, stream.source
    return lambda m: route(m.document, m.key, site, source, labels, m.fields)
