"""One source, one thread: read, seal, append, wait. A batch enters the outbox with the checkpoint after it, or not.

The pump alone knows outbox, backpressure, schedule and backoff; the source knows none of them. A full outbox stops the
reading, a failing source is tried again with backoff, a failing release never stops reading.
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
from crossdock.retry import Backoff
from crossdock.siteconfig import SourceConfig
from crossdock_agent.outbox import Append, Outbox, Writer
from crossdock_agent.releases import Releases
from crossdock_agent.sources.base import Counters, Draft, Source, SourceContext

RETRY = Backoff(first_seconds=1.0, max_seconds=60.0)
BUSY_GAP_SECONDS = 0.1  # between two passes: events of a file being written do not make a pass each
BLOCKED_SECONDS = 1.0  # how often a blocked pump looks for a stop and for releases


def wall_us() -> int:
    return time.time_ns() // 1000


@dataclass(slots=True)
class Progress:
    """What a pump has done since it started, for status and heartbeats. Written by its thread only."""

    state: str = "waiting"  # running, waiting, blocked, failing, stopped
    records: int = 0
    batches: int = 0
    last_read_us: int = 0
    error: str = ""
    hint: str = ""
    failures: int = 0
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
    reading: bool = True  # the first pass comes at once


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
    ) -> None:
        self.config = config
        self.revision = revision
        self.progress = Progress()
        self.counters = Counters()
        self.settled = threading.Event()  # the first pass has ended
        self._outbox = outbox
        self._rng = rng
        self._stop = Stop()
        self._due = _Due()
        self._memory = _Memory(config.name, outbox)
        self._sealer = Sealer()
        self._need_bytes = 0  # what a full outbox must have room for
        self._supervisor = Supervisor(self._stop)
        context = SourceContext(
            config.name, self._memory, self.counters, self._stop, secret, time.monotonic, wall_us
        )  # fmt: skip
        self.source = build(config, context)
        self._poll_seconds = self.source.poll_seconds()
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
        try:
            while not stop.is_set():
                self._due.event.clear()
                self._releases.run()
                if self._due.reading:
                    self._due.reading = False
                    self._pass(stop)
                    self.settled.set()
                patience = self._patience()  # 0 while more is to be released: that alone is no reason to read
                if not stop.is_set() and not self._due.event.wait(patience) and patience:
                    self._due.reading = True
        except Exception as error:
            self._failed(error)
            raise
        finally:
            self._due.reading = True
            if stop.is_set():
                self.progress.state = "stopped"
            self.source.close()

    def _patience(self) -> float:
        """Seconds to wait for a wake-up at most: the schedule goes by the wall clock, which people set back."""
        return min(2 * self._poll_seconds + 1.0, self._releases.seconds_to_retry())

    def _pass(self, stop: Stop) -> None:
        progress = self.progress
        progress.state = "running" if not progress.failures else "failing"
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
        drafts = self.source.read(self._outbox.checkpoint(name))
        try:
            for draft in drafts:
                self._append(writer, draft)
                if stop.is_set():
                    break
                if draft.header.closes:  # between two units the source holds nothing open
                    self._releases.run()
        finally:
            _abandon(drafts)
        writer.flush()

    def _append(self, writer: Writer, draft: Draft) -> None:
        progress, header = self.progress, draft.header
        now = wall_us()
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
        self._memory.appended(batch)
        progress.records += records
        progress.batches += 1
        progress.last_read_us = now
        if header.closes:
            self._log.bind(origin=header.origin.name, total=header.origin.first_record + records).info("unit read")

    def _wait_for_space(self, error: BufferFull, stop: Stop) -> None:
        self.progress.state, self.progress.error, self.progress.hint = "blocked", error.message, error.hint
        self._log.warning("reading stops: {}", error)
        self.settled.set()
        while not stop.is_set() and not self._outbox.wait_for_space(self._need_bytes, BLOCKED_SECONDS):
            self._releases.run()
        self.progress.error = self.progress.hint = ""
        self._log.info("reading goes on")

    def _failed(self, error: Exception) -> None:
        progress = self.progress
        progress.failures += 1
        said = str(getattr(error, "message", error)) or type(error).__name__
        if progress.failures == 1 or progress.error != said:
            self._log.warning("source cannot be read, trying again: {}", error)
        progress.state, progress.error, progress.hint = "failing", said, str(getattr(error, "hint", ""))
        progress.misconfigured = isinstance(error, ConfigError)
        self.settled.set()


def _abandon(drafts: Iterator[Draft]) -> None:
    close = getattr(drafts, "close", None)
    if close is not None:
        close()
