"""One source, one thread: read, seal, append, wait. A batch enters the outbox with the checkpoint after it, or not.

The pump alone knows outbox, backpressure, schedule, budget and backoff; the source knows none of them. A full outbox
stops the reading, a failing source is tried again with backoff, a failing release never stops reading. In quiet hours
and while a budget, the source's own or the whole agent's, is used up nothing is read, and releases go on; so it is
while a person has paused the source.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from loguru import logger

from crossdock.codec import Sealer
from crossdock.errors import BufferCorrupt, BufferFull, ConfigError, CrossdockError
from crossdock.lifecycle import Stop, Supervisor
from crossdock.redaction import KNOWN
from crossdock.retry import Backoff
from crossdock.siteconfig import SourceConfig
from crossdock_agent.budget import Throttle
from crossdock_agent.limits import OPEN, Gate
from crossdock_agent.outbox import Append, Outbox, Writer
from crossdock_agent.releases import Releases
from crossdock_agent.sources.base import Counters, Draft, Source, SourceContext
from crossdock_agent.timetable import LOOK_SECONDS, Guard, Timetable

RETRY = Backoff(first_seconds=1.0, max_seconds=60.0)
BUSY_GAP_SECONDS = 0.1  # between two passes: events of a file being written do not make a pass each
BLOCKED_SECONDS = 1.0  # how often a blocked pump looks for a stop and for releases


def wall_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Clock:
    """What a pump knows of time. *wait* gives up after so many seconds; *cpu* is that of the calling thread."""

    monotonic: Callable[[], float] = time.monotonic
    wall_us: Callable[[], int] = wall_us
    cpu: Callable[[], float] = time.thread_time
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait


@dataclass(slots=True)
class Progress:
    """What a pump has done since it started, for status and heartbeats. Written by its thread only."""

    state: str = "waiting"  # running, throttled, waiting, quiet, paused, blocked, failing, stopped
    records: int = 0
    batches: int = 0
    last_read_us: int = 0
    error: str = ""
    hint: str = ""
    failures: int = 0
    blocked_since_us: int = 0  # 0 unless blocked
    throttled_by: str = ""  # "budget", or the limit of the whole agent; with the state "throttled"
    misconfigured: bool = False  # the last failure was about the settings, not the world


class _Memory:
    """The source's ledger as it stands after all it has handed over, committed or on the way.

    Rows on the way are answered from here: waiting for their commit would be a sync for every file. They are forgotten
    once the outbox has them, so that no more is held than the writer may queue.
    """

    def __init__(self, name: str, outbox: Outbox) -> None:
        self._name = name
        self._outbox = outbox
        self.writer: Writer | None = None
        self._appended = 0  # batches given to the writer
        self._queued: dict[str, tuple[int, bytes | None]] = {}  # key: (number of its batch, value), oldest batch first

    def open_writer(self) -> Writer:
        """The writer to append to; a new one where there was none or the last one failed."""
        if self.writer is None or self.writer.error is not None:
            self.writer = self._outbox.writer(self._name)  # waits for what the old one had queued
            self._appended = 0
            self._queued.clear()
        return self.writer

    def appended(self, batch: Append) -> None:
        """*batch* was queued."""
        self._appended += 1
        for key, value in batch.remember:
            self._queued.pop(key, None)
            self._queued[key] = (self._appended, value)
        self._forget_committed()

    def recall(self, key: str) -> bytes | None:
        self._forget_committed()
        if key in self._queued:
            return self._queued[key][1]
        return self._outbox.recall(self._name, key)

    def unreleased(self) -> list[bytes]:
        if self.writer is not None:
            self.writer.flush()
        return self._outbox.unreleased(self._name)

    def rows(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        found = [(key, self._queued.get(key, (0, value))[1]) for key, value in self._committed(after, limit)]
        return [(key, value) for key, value in found if value is not None]

    def _committed(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        self._forget_committed()
        return self._outbox.ledger(self._name, after, limit)

    def _forget_committed(self) -> None:
        """A writer counts a batch out after its commit. One that failed counts it out too, and its error stands."""
        if self.writer is None or not self._queued:
            return
        committed = self._appended - self.writer.queued
        while self._queued:
            key, (number, _) = next(iter(self._queued.items()))
            if number > committed:
                break
            del self._queued[key]


@dataclass(slots=True)
class _Due:
    """Why the thread should wake. A pass or a release or the end."""

    event: threading.Event = field(default_factory=threading.Event)
    reading: bool = True
    deaf: bool = False  # nothing may be read now: being woken for it would only cost time
    not_before: float = 0.0  # monotonic: a pass that is due begins then


class Pump:
    """Runs *config*'s source from `start` to `stop`. *build* makes the source from the context given here."""

    def __init__(
        self,
        config: SourceConfig,
        revision: int,
        outbox: Outbox,
        secret: Callable[[str], str],
        build: Callable[[SourceConfig, SourceContext], Source],
        rng: random.Random,
        zone: str = "UTC",
        clock: Clock = Clock(),
        gate: Gate = OPEN,
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config = config
        self.zone = zone
        self.revision = revision
        self.progress = Progress()
        self.counters = Counters()
        self.settled = threading.Event()  # the first pass has ended
        self._outbox = outbox
        self._rng = rng
        self._clock = clock
        self._stop = Stop()
        self._due = _Due()
        self._memory = _Memory(config.name, outbox)
        self._sealer = Sealer()
        self._need_bytes = 0  # what a full outbox must have room for
        self._supervisor = Supervisor(self._stop)
        context = SourceContext(
            config.name, self._memory, self.counters, self._stop, secret, clock.monotonic, clock.wall_us
        )  # fmt: skip
        self.source = build(config, context)
        self.timetable = Timetable(config, zone, self.source.poll_seconds())
        self._guard = Guard(self.timetable, clock.monotonic(), clock.wall_us())
        self._due.reading = self.timetable.first_at_once
        self._throttle = Throttle(config.budget, clock.monotonic())
        self._throttled = 0.0  # seconds
        self._gate = gate
        self._paused = paused
        self._releases = Releases(self.source, outbox, config.name, self.counters, rng)
        self._log = logger.bind(source=config.name)

    # --- for others

    def start(self) -> None:
        self._stop.on_set(self._due.event.set)
        self._outbox.on_release(self.config.name, self._release_due)
        self._supervisor.start(f"source:{self.config.name}", self.run)

    def wake(self) -> None:
        """A pass is due: by schedule, or by a hint."""
        self._due.reading = True
        if not self._due.deaf:
            self._due.event.set()

    def look(self) -> None:
        """It was paused or resumed: look now, and read on where it stood if it may."""
        self._due.reading = True
        self._due.event.set()

    def stop(self, seconds: float = 10.0) -> bool:
        """True when the thread ended in time. One that did not can append nothing once another has begun."""
        self._stop.set()
        return not self._supervisor.join(seconds)

    def ask_to_stop(self) -> None:
        self._stop.set()

    def _release_due(self) -> None:
        self._releases.look()
        self._due.event.set()

    # --- the source's thread

    def run(self, stop: Stop) -> None:
        """The supervised part. Errors that are not ours end it, and the supervisor starts it again."""
        due = self._due
        self._begin()
        try:
            while not stop.is_set():
                due.event.clear()
                self._releases.run()
                held_back = self._held_back() if due.reading else 0.0
                if due.reading and not held_back:
                    due.reading = False
                    self._pass(stop)
                    self.settled.set()
                    self._guard.restart(self._clock.monotonic(), self._clock.wall_us())
                elif not stop.is_set():
                    self._wait(held_back)
        except Exception as error:
            self._failed(error)
            raise
        finally:
            due.reading = True
            if stop.is_set():
                self.progress.state = "stopped"
            self.source.close()

    def _begin(self) -> None:
        """The first pass comes at once; at a moment of its own where the operator has asked for jitter."""
        now = self._clock.monotonic()
        if not self._due.reading:
            self.settled.set()
        elif self.timetable.jitter_seconds and not self.progress.failures:
            self._due.not_before = now + self._rng.uniform(0, self.timetable.jitter_seconds)
        self._guard.restart(now, self._clock.wall_us())

    def _held_back(self) -> float:
        """Seconds for which a pass that is due may not begin; asked again at least every minute, because the clock may
        be moved meanwhile."""
        now, spread = self._clock.monotonic(), self.timetable.spread_seconds
        if self._paused():
            self.progress.state = "paused"
            self.settled.set()
            return LOOK_SECONDS
        quiet = self.timetable.quiet_seconds(self._clock.wall_us())
        if quiet:
            self.progress.state = "quiet"
            self.settled.set()
            self._due.not_before = now + quiet + self._rng.uniform(0, spread)
        elif self._due.not_before > now + spread:
            self._due.not_before = now
        return max(0.0, self._due.not_before - now)

    def _wait(self, held_back: float) -> None:
        """Until something is due, or until it is time to look again whether it is."""
        due = self._due
        if held_back:
            seconds = min(held_back, LOOK_SECONDS)
        else:
            seconds = self._guard.wait(self._clock.monotonic(), self._clock.wall_us())
            if not seconds:
                due.reading = True
        due.deaf = bool(held_back)
        if held_back or not due.reading:
            self._clock.wait(due.event, min(seconds, self._releases.seconds_to_retry()))
        due.deaf = False

    def _pass(self, stop: Stop) -> None:
        progress = self.progress
        progress.state = "running" if not progress.failures else "failing"
        self._pause(self._throttle.worked(self._clock.cpu(), self._clock.monotonic()), stop, releases=True)
        if self.settled.is_set():  # the first pass shows whether the settings are right: that must not wait
            self._wait_for_limits(stop, releases=True)
        try:
            self._read(stop)
        except BufferFull as error:
            self._wait_for_space(error, stop)
            self._due.reading = True
            self._due.event.set()
            return
        except BufferCorrupt:
            raise
        except CrossdockError as error:
            self._failed(error)
            stop.wait(RETRY.delay(progress.failures, self._rng, at_least=getattr(error, "after_seconds", None)))
            self._due.reading = True
            self._due.event.set()
            return
        progress.state, progress.error, progress.hint, progress.failures = "waiting", "", "", 0
        stop.wait(BUSY_GAP_SECONDS)

    def _read(self, stop: Stop) -> None:
        """One pass: all that the source has ready. Returns when it is on disk."""
        name = self.config.name
        writer = self._memory.open_writer()
        writer.flush()  # what an abandoned pass left queued belongs to the checkpoint
        self._throttle.begin_pass()
        drafts = self.source.read(self._outbox.checkpoint(name))
        try:
            for draft in drafts:
                if not self._may_take(draft, stop):
                    break
                self._append(writer, draft)
                if stop.is_set() or self._is_over(draft, stop):
                    break
                if draft.header.closes:  # between two units the source holds nothing open
                    self._releases.run()
        finally:
            _abandon(drafts)
        writer.flush()

    def _may_take(self, draft: Draft, stop: Stop) -> bool:
        """Waits for the bytes of *draft*. False when the pass is to end first; the draft is then read again."""
        wait = self._throttle.before(_size(draft), self._clock.monotonic())
        self._pause(wait, stop, releases=_is_of_file(draft))
        self._wait_for_limits(stop, releases=_is_of_file(draft))
        if self._paused():
            self._due.reading = True
            return False
        return not stop.is_set()

    def _wait_for_limits(self, stop: Stop, *, releases: bool) -> None:
        """Until the agent as a whole may use more of its host."""
        while not stop.is_set() and not self._paused():
            seconds, resource = self._gate.read_wait(self.config.lane)
            if not seconds:
                return
            self.settled.set()  # it can be read
            self._pause(seconds, stop, releases=releases, by=resource)
            if resource == "memory":  # a pause a batch: what is in hand must be able to leave
                return

    def _is_over(self, draft: Draft, stop: Stop) -> bool:
        """Whether the pass ends after *draft*, which was taken: the rest stays for a later one."""
        header, now = draft.header, self._clock.monotonic()
        self._throttle.took(_size(draft), header.records + len(header.rejects), now)
        if self._throttle.is_enough and (header.closes or not _is_of_file(draft)):
            # not in the middle of a file: a large one is hashed anew up to where it is taken up again
            self.counters.add("polls_cut_short")
            return True
        self._pause(self._throttle.worked(self._clock.cpu(), now), stop, releases=_is_of_file(draft))
        if self.timetable.quiet_seconds(self._clock.wall_us()) or self._paused():
            self._due.reading = True
            return True
        return stop.is_set()

    def _pause(self, seconds: float, stop: Stop, *, releases: bool, by: str = "budget") -> None:
        """Wait for the budget, or for the limit it is held back *by*. A stop ends it at once, and what was acknowledged
        is released meanwhile if *releases* may come now: not in the middle of a table, whose page in hand may hold the
        very rows that would be deleted."""
        if seconds <= 0:
            return
        now = began = self._clock.monotonic()
        state, self.progress.state = self.progress.state, "throttled"
        self.progress.throttled_by = by
        self._due.deaf = True
        while not stop.is_set() and not self._paused() and now < began + seconds:
            self._due.event.clear()
            if releases:
                self._releases.run()
            if not stop.is_set():
                self._clock.wait(self._due.event, began + seconds - now)
            now = self._clock.monotonic()
            self.counters.set("throttled_seconds", int(self._throttled + now - began))
        self._throttled += now - began
        self.progress.state, self._due.deaf = state, False

    def _append(self, writer: Writer, draft: Draft) -> None:
        progress, header = self.progress, draft.header
        now = self._clock.wall_us()
        header.read_at_us, header.revision = now, self.revision
        sealed = self._sealer.seal(header, draft.payload)
        self._need_bytes = len(sealed.data)
        records = header.records + len(header.rejects)
        batch = Append(
            source=self.config.name,
            lane=self.config.lane,
            sealed=sealed.data,
            crc32=sealed.crc32,
            records=records,
            raw_bytes=len(draft.payload),
            read_at_us=now,
            checkpoint=header.checkpoint,
            remember=draft.remember,
            on_ack=draft.on_ack,
        )
        writer.append(batch)
        self._gate.appended(batch.size)
        self._memory.appended(batch)
        progress.records += records
        progress.batches += 1
        progress.last_read_us = now
        if header.closes:
            self._log.bind(origin=header.origin.name, total=header.origin.first_record + records).info("unit read")

    def _wait_for_space(self, error: BufferFull, stop: Stop) -> None:
        progress = self.progress
        progress.state, progress.error, progress.hint = "blocked", error.message, error.hint
        progress.blocked_since_us = self._clock.wall_us()
        self._log.warning("reading stops: {}", error)
        self.settled.set()
        while not stop.is_set() and not self._outbox.wait_for_space(
            self._need_bytes, BLOCKED_SECONDS, self.config.lane
        ):
            self._releases.run()
        progress.error, progress.hint, progress.blocked_since_us = "", "", 0
        self._log.info("reading goes on")

    def _failed(self, error: Exception) -> None:
        progress = self.progress
        progress.failures += 1
        said = KNOWN.clean(str(getattr(error, "message", error))) or type(error).__name__  # it travels to the centre
        if progress.failures == 1 or progress.error != said:
            self._log.warning("source cannot be read, trying again: {}", error)
        progress.state, progress.error, progress.hint = "failing", said, KNOWN.clean(str(getattr(error, "hint", "")))
        progress.misconfigured = isinstance(error, ConfigError)
        self.settled.set()


def _size(draft: Draft) -> int:
    return len(draft.payload) + sum(len(reject.sample) for reject in draft.header.rejects)


def _is_of_file(draft: Draft) -> bool:
    return draft.header.origin.kind == "file"


def _abandon(drafts: Iterator[Draft]) -> None:
    close = getattr(drafts, "close", None)
    if close is not None:
        close()
