"""The normalizer: takes each stream from its checkpoint on, round by round, and never two rounds of one stream at once.

A stream that cannot go on (no mapping, a group still open, a fault of the mapping) waits with its records in the intake
and its problem on view; the others go on. Critical streams come first; the others share what is left by weight of lane.
"""

from __future__ import annotations

import heapq
import random
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

from loguru import logger

from crossdock.complaints import Complaints
from crossdock.errors import Retryable
from crossdock.lifecycle import Stop
from crossdock.retry import Backoff
from crossdock.siteconfig import LANE_WEIGHTS
from crossdock_controller import recoding, rounds
from crossdock_controller.current import Current
from crossdock_controller.mappings.answered import People
from crossdock_controller.outcomes import Mapped
from crossdock_controller.paths import DataDirectory
from crossdock_controller.projecting import Projector
from crossdock_controller.remapping.working import Remapper
from crossdock_controller.station import Station
from crossdock_controller.store import codes, faults, inputs, normalizer, sinks
from crossdock_controller.store.intake import IntakeReader, StreamInfo
from crossdock_controller.store.leases import LeaseLost
from crossdock_controller.store.normalizer import Checkpoint
from crossdock_controller.store.room import Room
from crossdock_controller.store.wake import Waker
from crossdock_controller.suspicion import Suspicion

ROLE = "normalize"
POLL_SECONDS = 0.25
BATCHES = 16  # a round: large enough that a commit does not show, small enough that the dispatcher gets the lock often
MAX_BATCHES = 128  # a group may span so many before it is refused
RAW_BYTES = 8 * 1024 * 1024
RETRY_SECONDS = 10.0
INQUIRY_POLL_SECONDS = 0.5
TURN_SECONDS = 0.05  # of rounds for others before critical streams are looked for again
_FOREVER = float("inf")


class Engine(rounds.Engine, recoding.Engine, Protocol):
    """What the normalizer needs of `mappings.engine.Engine`."""


class Runtime(Protocol):
    """What the normalizer needs of `config.runtime.Runtime`."""

    @property
    def number(self) -> int: ...

    @property
    def router(self) -> rounds.Router: ...

    def engine(self, site: str, source: str) -> Engine | None: ...

    def labels(self, site: str) -> Mapping[str, str]: ...

    def asks(self, people: People) -> None: ...


@dataclass(slots=True)
class _Work:
    """A stream as this worker sees it."""

    checkpoint: Checkpoint
    lane: str = "critical"  # until its first batch tells: a new stream is looked at soon
    served: float = 0.0  # rounds, divided by the lane's weight
    factor: int = 1  # of the round's size; grows while one group fills it
    waits_for: tuple[int, int] | None = None  # the revision and last sequence that did not help
    until: float = 0.0
    refused: bool = False  # another worker has it


class Normalizer:
    """One worker. `step` does what can be done now; `run` calls it until the stop."""

    def __init__(
        self,
        data: DataDirectory,
        build: Callable[[Mapping[str, str], int], Runtime],
        room: Room | None = None,
        round_seconds: float = 0.0,
    ) -> None:
        """*round_seconds*: the process ends when a round takes longer; 0 for no limit."""
        self._data = data
        self._room = room
        self._complaints = Complaints()
        self._work: dict[int, _Work] = {}
        self._streams: dict[int, StreamInfo] = {}
        self._waiting: set[int] = set()  # streams that hold more than is normalized
        self._mark: int | None = None  # how far we looked into the intake
        self._sinks: dict[str, int] = {}
        with ExitStack() as stack:
            self._intake = IntakeReader(data.intake)
            stack.callback(self._intake.close)
            self._waker = Waker(data.state)
            stack.callback(self._waker.close)
            self._station = Station(data, ROLE, cache_mib=64)
            stack.callback(self._station.close)
            self._db, self._owner = self._station.db, self._station.owner
            self._suspicion = Suspicion(data, self._db, self._station.hand, round_seconds)
            stack.callback(self._suspicion.close)
            self._closing = stack.pop_all()
        self._meanings, self._recoder = codes.Meanings(self._db), recoding.Recoder(self._db)
        self._projector = Projector(self._db)
        self._current = Current(self._db, lambda tree, number: self._asking(build(tree, number)))

        self._remapper = Remapper(self._db, self._intake, self._current.at, self._sink, self._waker.wake, round_seconds)

    def _asking(self, runtime: Runtime) -> Runtime:
        runtime.asks(self._meanings)
        return runtime

    def close(self) -> None:
        """Give leases and port back."""
        self._closing.close()

    def run(self, stop: Stop) -> None:
        stop.on_set(self._station.bell.ring)
        backoff, rng, failures = Backoff(0.5, 2.0, 10.0), random.Random(), 0  # noqa: S311 - jitter
        while not stop.is_set():
            try:
                busy = self.step(stop)
                pause = self._project() if not busy or self._projector.due() else POLL_SECONDS
            except (sqlite3.Error, OSError, Retryable) as error:
                failures += 1
                self._store_failed(error)
                stop.wait(backoff.delay(failures, rng))
                continue
            failures = 0
            self._complaints.over("store", "records are normalized again")
            if not busy:
                self._station.bell.wait(pause)
        stop.forget(self._station.bell.ring)

    def _project(self) -> float:
        """A step of the current state, in the time that records leave; how long to rest when none come. It rests for
        longer than it works while it catches up: sinks need the write lock as well."""
        began = time.monotonic()
        more = self._projector.step()
        return min(POLL_SECONDS, 2 * (time.monotonic() - began)) if more else POLL_SECONDS

    def _store_failed(self, error: Exception) -> None:
        """Wait for a store that cannot be used now; nothing of the round was written. Raises what is no such thing."""
        found = error if isinstance(error, Retryable) else faults.of(error, self._data.state)
        if not isinstance(found, Retryable):
            raise found or error
        self._complaints.make("store", f"nothing is normalized now, records wait in the intake: {found}")

    def step(self, stop: Stop | None = None) -> bool:
        """A round of every critical stream that has work, then rounds of others, by weight, until TURN_SECONDS are
        over; False when there was nothing to do."""
        runtime = self._current.get()
        if runtime is None:
            return False
        self._station.renew()
        short = self._room.short() if self._room is not None else None
        if short is not None:
            raise short
        began, busy = time.monotonic(), False
        critical, others = self._chosen(runtime)
        for stream_id in critical:
            busy |= self._goes_on(stop) and self._serve(
                self._streams[stream_id], self._work[stream_id], self._at(stream_id, runtime)
            )
        while others and self._goes_on(stop):
            _, stream_id = heapq.heappop(others)
            stream, work = self._streams[stream_id], self._work[stream_id]
            moved = self._serve(stream, work, self._at(stream_id, runtime))
            busy |= moved
            if moved and stream.last_sequence >= work.checkpoint.at.sequence:
                heapq.heappush(others, (work.served, stream_id))
            if time.monotonic() - began > TURN_SECONDS:
                break
        busy = self._recode(runtime, stop) or busy
        return (self._goes_on(stop) and self._remapper.step(busy=busy)) or busy

    def _recode(self, runtime: Runtime, stop: Stop | None) -> bool:
        """A portion of what waited for a code that a person answered meanwhile."""
        if not self._goes_on(stop):
            return False
        moved = self._recoder.step(lambda site: self._current.at(site) or runtime, self._lanes)
        if moved:
            self._waker.wake("dispatch")
        return moved

    def _lanes(self) -> dict[tuple[str, str], str]:
        return {(s.site, s.source): self._work[i].lane for i, s in self._streams.items() if i in self._work}

    def _at(self, stream_id: int, in_force: Runtime) -> Runtime:
        """The revision that the stream's site is to run."""
        return self._current.at(self._streams[stream_id].site) or in_force

    @staticmethod
    def _goes_on(stop: Stop | None) -> bool:
        return stop is None or not stop.is_set()

    def _chosen(self, runtime: Runtime) -> tuple[list[int], list[tuple[float, int]]]:
        """Streams with work: the critical ones by age, and the others as a heap by what they were served."""
        self._look()
        critical: list[int] = []
        others: list[tuple[float, int]] = []
        first: dict[tuple[str, str], int] = {}  # by agent and source: the oldest epoch that goes before later ones
        for stream_id in sorted(self._waiting):
            name = (self._streams[stream_id].agent, self._streams[stream_id].source)
            revision = self._at(stream_id, runtime).number
            if name in first and self._goes_first(first[name], revision):
                continue
            first[name] = stream_id
            work = self._work[stream_id]
            if not self._ready(self._streams[stream_id], revision):
                continue
            if work.lane == "critical":
                critical.append(stream_id)
            else:
                others.append((work.served, stream_id))
        heapq.heapify(others)
        return critical, others

    def _look(self) -> None:
        """What came into the intake since the last look. A fleet's streams are many, and few of them move at once."""
        mark = self._mark
        if mark is None:
            mark = self._intake.newest()
            self._streams = {s.id: s for s in self._intake.streams()}
            self._meet(list(self._streams.values()))
            self._waiting = set(self._streams)
        mark, moved = self._intake.arrivals(mark)
        if any(i not in self._work for i in moved):
            self._streams = {s.id: s for s in self._intake.streams()}
            self._meet([s for s in self._streams.values() if s.id not in self._work])
        self._mark = mark  # last: after a look that failed halfway, the next one sees the same streams again
        for stream_id, last in moved.items():
            known = self._streams[stream_id]
            self._streams[stream_id] = replace(known, last_sequence=max(last, known.last_sequence))
        self._waiting.update(moved)
        self._waiting -= {
            i for i in self._waiting if self._streams[i].last_sequence < self._work[i].checkpoint.at.sequence
        }

    def _meet(self, streams: list[StreamInfo]) -> None:
        """Remember streams seen for the first time; a newcomer has no arrears to catch up."""
        known = normalizer.checkpoints(self._db)
        served = min((w.served for w in self._work.values()), default=0.0)
        for stream in streams:
            if stream.id not in self._work:
                new = Checkpoint(stream.id, 0, normalizer.BEGINNING, None, "")
                self._work[stream.id] = _Work(known.get(stream.id, new), served=served)

    def _ready(self, stream: StreamInfo, revision: int) -> bool:
        work = self._work[stream.id]
        return work.waits_for != (revision, stream.last_sequence) or time.monotonic() >= work.until

    def _goes_first(self, stream_id: int, revision: int) -> bool:
        """Whether an older epoch has records to decide before a later one of its source: order is kept (rule 7).

        Not when it waits for more of an open group: an older epoch brings no more.
        """
        stream, work = self._streams[stream_id], self._work[stream_id]
        if work.until == _FOREVER and not self._ready(stream, revision):
            return False
        if work.checkpoint.owner != self._owner:  # another worker may have finished it meanwhile
            work.checkpoint = normalizer.checkpoints(self._db).get(stream_id, work.checkpoint)
        return stream.last_sequence >= work.checkpoint.at.sequence

    def _serve(self, stream: StreamInfo, work: _Work, runtime: Runtime) -> bool:
        """One round of *stream*; whether it moved."""
        try:
            if not self._claimed(stream, work):
                return False
            engine = runtime.engine(stream.site, stream.source)
            if engine is None:
                problem = f"no mapping for source {stream.source} at {stream.site} in revision {runtime.number}"
                self._wait(stream, work, runtime, problem, _FOREVER)
                return False
            return self._round(stream, work, runtime, engine)
        except rounds.EngineFault as error:
            logger.bind(source=stream.source, site=stream.site).opt(exception=error).error("{}", error)
            self._wait(stream, work, runtime, str(error), time.monotonic() + RETRY_SECONDS)
        except LeaseLost as error:
            logger.bind(source=stream.source, site=stream.site).warning("stream given up: {}", error)
            del self._work[stream.id]
            self._mark = None  # look at all of them anew
        return False

    def _claimed(self, stream: StreamInfo, work: _Work) -> bool:
        if work.checkpoint.owner == self._owner:
            return True
        source = inputs.source_id(self._db, stream.site, stream.agent, stream.source)
        held = normalizer.claim(self._db, stream.id, source, self._owner, _now_us())
        if held is None:
            self._station.reap()
            self._suspicion.look_again()
            held = normalizer.claim(self._db, stream.id, source, self._owner, _now_us())
        if held is None:
            work.waits_for, work.until = (self._number(stream.site), stream.last_sequence), time.monotonic() + 1.0
            return False
        work.checkpoint = held
        return stream.last_sequence >= held.at.sequence

    def _round(self, stream: StreamInfo, work: _Work, runtime: Runtime, engine: rounds.Engine) -> bool:
        started = time.monotonic()
        at = work.checkpoint.at
        suspect = self._suspicion.of(stream, at)
        problem = self._suspicion.untried(stream, at, suspect) if suspect is not None else ""
        if problem:
            self._wait(stream, work, runtime, problem, time.monotonic() + INQUIRY_POLL_SECONDS)
            return False
        most = BATCHES if suspect is None else 1  # at a time
        limit = min(most * work.factor, MAX_BATCHES)
        stored = self._intake.batches(stream.id, at.sequence, limit)
        if not stored:
            return False
        work.lane = stored[0].lane
        aside, whole = self._suspicion.aside(stream, at)
        opened, bad = rounds.open_batches(stored, RAW_BYTES * work.factor, whole)
        if not opened and bad is not None:
            decided = self._suspicion.letter(stream, at, bad, aside)
        else:
            # A group that more batches cannot close, because there is no room for them or a damaged one comes next.
            full = bad is not None or len(opened) == MAX_BATCHES or work.factor >= MAX_BATCHES // most
            with self._suspicion.in_hand(stream, at, opened[-1].stored.sequence):
                try:
                    decided = rounds.decide(stream, at, opened, engine, self._db, cap_reached=False, aside=aside)
                    if decided.to == at and full:
                        decided = rounds.decide(stream, at, opened, engine, self._db, cap_reached=True, aside=aside)
                except rounds.EngineFault as error:
                    self._suspicion.set_culprits_aside(stream, at, opened, engine, error, aside)
                    return True
            if decided.to == at:
                return self._wait_for_more(
                    stream, work, runtime, more=len(opened) < len(stored) or len(stored) == limit
                )
        self._commit(stream, work, runtime, decided, started)
        return True

    def _wait_for_more(self, stream: StreamInfo, work: _Work, runtime: Runtime, *, more: bool) -> bool:
        """Every record belongs to one open group: take more of what is there, or wait for it to come."""
        if more:
            work.factor *= 2
            return True
        work.waits_for, work.until = (runtime.number, stream.last_sequence), _FOREVER
        return False

    def _commit(self, stream: StreamInfo, work: _Work, runtime: Runtime, decided: rounds.Round, started: float) -> None:
        documents = [m for _, m in decided.mapped]
        route = _route(runtime, stream)
        due = rounds.route_all(documents, route, self._sink)
        critical = work.lane == "critical"
        new = rounds.commit(self._db, decided, work.checkpoint, due, runtime.number, _now_us(), critical=critical)
        work.checkpoint = Checkpoint(stream.id, work.checkpoint.source_id, decided.to, self._owner, "")
        work.served += 1 / LANE_WEIGHTS.get(work.lane, 1)
        work.factor, work.waits_for = 1, None
        if new:
            self._waker.wake("dispatch")
        log = logger.bind(
            source=stream.source, site=stream.site, batches=len(decided.rows), records=decided.records, events=new,
            dead=len(decided.dead), ms=int((time.monotonic() - started) * 1000),
        )  # fmt: skip
        log.debug("normalized")
        for problem in runtime.router.take_problems():
            log.warning("route {} could not be decided {} times: {}", problem.route, problem.count, problem.text)

    def _wait(self, stream: StreamInfo, work: _Work, runtime: Runtime, problem: str, until: float) -> None:
        if work.checkpoint.problem != problem:
            logger.bind(source=stream.source, site=stream.site).warning("records wait in the intake: {}", problem)
            normalizer.report_problem(self._db, work.checkpoint, problem, _now_us())
            held = work.checkpoint
            work.checkpoint = Checkpoint(held.stream_id, held.source_id, held.at, held.owner, problem)
        work.waits_for, work.until = (runtime.number, stream.last_sequence), until

    def _sink(self, name: str) -> int:
        if name not in self._sinks:
            self._sinks[name] = sinks.sink_id(self._db, name)
        return self._sinks[name]

    def _number(self, site: str) -> int:
        runtime = self._current.at(site)
        return runtime.number if runtime is not None else 0


def _route(runtime: Runtime, stream: StreamInfo) -> Callable[[Mapped], tuple[str, ...]]:
    route, labels, site, source = runtime.router.route, runtime.labels(stream.site), stream.site, stream.source
    return lambda m: route(m.document, m.key, site, source, labels, m.fields)


def _now_us() -> int:
    return time.time_ns() // 1000


def run_normalizer(
    data: DataDirectory,
    stop: Stop,
    *,
    min_free_disk_bytes: int = 0,
    round_seconds: float = 60.0,
) -> None:
    """Work until *stop*. Raises StoreDamaged, HolderLost, and what a restart may mend: sqlite3.Error, Retryable."""
    from crossdock_controller.config.runtime import Runtime as Configured

    # Half of what intake stops at: what was taken in can still be delivered while new records wait at the sites.
    room = Room(min_free_disk_bytes // 2, data.state, what="nothing more is normalized")
    normalizer_ = Normalizer(data, Configured.from_tree, room, round_seconds)
    try:
        normalizer_.run(stop)
    finally:
        normalizer_.close()
