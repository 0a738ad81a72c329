"""Whatever waits when the commit thread comes round goes into one transaction with one sync.

So a busy source does not pay a sync per batch, and a quiet one does not wait behind it. An append may return before
it is durable; nothing depends on that: the checkpoint is in the same transaction, and only committed batches are sent.
When a commit fails, its appends and the later ones of the same writers fail too, and those sources read again from the
committed checkpoint. Acknowledgements are tried until they hold: nobody sends them again.

Kept batches give way in the same transactions (see `trim`), and before anything else when the disk is short of space.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from loguru import logger

from crossdock.errors import BufferCorrupt, BufferFull, CrossdockError, Retryable
from crossdock.siteconfig import OutboxConfig
from crossdock_agent.outbox import schema
from crossdock_agent.outbox.rows import Append, Position
from crossdock_agent.outbox.store import Store
from crossdock_agent.outbox.trim import STEP_BYTES, Trim

QUEUE_BATCHES = 256  # a writer's appends not yet committed: many small files share one sync ...
QUEUE_BYTES = 4 * 1024 * 1024  # ... and large batches are enough long before: ledger rows are counted
RETRY_SECONDS = 1.0  # between attempts at a commit that the disk refused
VACUUM_PAGES = 256  # 2 MiB a step, so that an append never waits long behind one
SPARE_PAGES = 2048  # 16 MiB stay in the file for the next batches
BUSY_SPARE_PAGES = 8192  # 64 MiB while a backlog drains: finding one free page among many takes time in their number
BUSY_VACUUM_PAGES = 512  # given back at most between two commits: an append waits for that long ...
ACK_BATCHES = 64  # ... and for so many batches of a source, which are fewer pages than are given back
IDLE_SECONDS = 600.0  # between looks at the age of kept batches while nothing is committed


@dataclass(slots=True)
class _Call:
    """Something to do in a transaction of the commit thread, and what came of it."""

    run: Callable[[Store], object]
    done: threading.Event = field(default_factory=threading.Event)
    result: object = None
    error: CrossdockError | None = None


def _nobody() -> None:
    """No pump runs for the source now: its next one looks for itself."""


class Writer:
    """One source's way in, for one run of its pump. After an error it stays failed: ask the outbox for a new one."""

    def __init__(self, source: str, group: GroupCommit) -> None:
        self.source = source
        self.queued = 0
        self.queued_bytes = 0
        self.error: CrossdockError | None = None  # of a failed commit
        self.closed = False
        self._group = group

    def append(self, batch: Append) -> None:
        """Queue *batch* behind this writer's earlier ones; waits when many are queued.

        Raises BufferFull (nothing was queued, the writer may go on), or the error that failed an earlier append.
        """
        self._group.append(self, batch)

    def has_room(self) -> bool:
        if self.closed or not self.queued:
            return True
        return self.queued < QUEUE_BATCHES and self.queued_bytes < QUEUE_BYTES and self._group.has_room()

    def flush(self) -> None:
        """Wait until all appends are on disk. Raises the error that failed one."""
        self._group.flush(self)

    def close(self) -> None:
        """Refuse further appends and wait for those queued: a late reader cannot interleave with its successor."""
        self._group.close_writer(self)


class GroupCommit:
    """The queue and the thread. *refuse* says why a batch of a size and lane cannot be taken; *on_corrupt* is called
    once."""

    def __init__(
        self,
        store: Store,
        limits: OutboxConfig,
        refuse: Callable[[int, str], BufferFull | None],
        on_corrupt: Callable[[BufferCorrupt], None],
    ) -> None:
        self.changed = threading.Condition()  # notified when anything below changes
        self.positions: dict[str, Position] = store.positions()
        self.queued_bytes = 0
        self.appended_bytes = 0  # sealed bytes committed since opening
        self.queue_limit: int | None = None  # of all writers together
        self.log_bytes = self._log_bytes = schema.WAL_BYTES  # from the next commit on, and as it is
        self.closing = False
        self.corrupt: BufferCorrupt | None = None
        self._store = store
        self._trim = Trim(store, limits)
        self._refuse = refuse
        self._on_corrupt = on_corrupt
        self._appends: deque[tuple[Writer, Append]] = deque()
        self._acks: dict[str, int] = {}
        self._taken: dict[str, int] = {}  # those of them that the transaction under way acknowledges, or begins to
        self._calls: deque[_Call] = deque()
        self._listeners: list[Callable[[], None]] = []
        self._release_due: dict[str, Callable[[], None]] = {}
        self.free_bytes = store.free_pages() * schema.PAGE_BYTES  # in the file: appended to without more of the disk
        self._standing = self.positions, self.free_bytes  # after the last transaction, for the thread
        self._vacuum_due = self.free_bytes > SPARE_PAGES * schema.PAGE_BYTES
        self._asked_bytes = 0  # of kept batches, to be given up at once
        self._is_relief_vain = False  # the last attempt to give some up gave up nothing
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Commit what is queued and end the thread."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self._thread.join()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def on_release(self, source: str, due: Callable[[], None]) -> None:
        self._release_due[source] = due

    def append(self, writer: Writer, batch: Append) -> None:
        with self.changed:
            self._wait(writer, writer.has_room)
            if writer.closed:
                raise Retryable(f"source {writer.source} was stopped")
            refusal = self._refuse(len(batch.sealed), batch.lane)
            if refusal is not None:
                raise refusal
            self._appends.append((writer, batch))
            self._count(writer, 1, batch)
            self.changed.notify_all()

    def has_room(self) -> bool:
        return self.queue_limit is None or self.queued_bytes < self.queue_limit

    def flush(self, writer: Writer) -> None:
        with self.changed:
            self._wait(writer, lambda: writer.queued == 0)

    def close_writer(self, writer: Writer) -> None:
        with self.changed:
            writer.closed = True
            self.changed.notify_all()
            self.changed.wait_for(lambda: writer.queued == 0 or not self._thread.is_alive())

    def acknowledge(self, source: str, sequence: int) -> None:
        with self.changed:
            self._acks[source] = max(sequence, self._acks.get(source, 0))
            self.changed.notify_all()

    def forget_acknowledgements(self, source: str | None = None) -> None:
        """Of *source*, or of all: what no transaction has begun with does not count any more."""
        with self.changed:
            for acks in (self._acks, self._taken):
                for name in [source] if source is not None else list(acks):
                    acks.pop(name, None)

    def set_limits(self, limits: OutboxConfig) -> None:
        with self.changed:
            self._trim.limits = limits
            self._trim.due = True
            self.changed.notify_all()

    def kept_bytes(self) -> int:
        return sum(p.kept_bytes for p in self.positions.values())

    def give_up(self, need_bytes: int) -> int:
        """Have kept batches of *need_bytes* deleted before the next append; how many bytes there are to give up."""
        kept = self.kept_bytes()
        with self.changed:
            if kept and need_bytes > self._asked_bytes:
                self._asked_bytes = need_bytes
                self.changed.notify_all()
        return kept

    def call(self, run: Callable[[Store], object]) -> object:
        """What *run* returned inside a transaction, once that is committed."""
        call = _Call(run)
        with self.changed:
            if self.closing or self.corrupt:
                raise self.corrupt or Retryable("the outbox is closing")
            self._calls.append(call)
            self.changed.notify_all()
        call.done.wait()
        if call.error is not None:
            raise call.error
        return call.result

    def condemn(self, error: BufferCorrupt) -> None:
        """Refuse everything from now on: the file is damaged."""
        with self.changed:
            first, self.corrupt = self.corrupt is None, self.corrupt or error
            self.changed.notify_all()
        if first:
            self._on_corrupt(error)

    def _wait(self, writer: Writer, ready: Callable[[], bool]) -> None:
        self.changed.wait_for(lambda: ready() or writer.error or self.corrupt or self.closing)
        error = writer.error or self.corrupt
        if error is not None:
            raise error
        if self.closing:
            raise Retryable("the outbox is closing")

    def _count(self, writer: Writer, sign: int, batch: Append) -> None:
        writer.queued += sign
        writer.queued_bytes += sign * batch.size
        self.queued_bytes += sign * len(batch.sealed)

    # --- the commit thread

    def _run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(
                    lambda: self._busy() or self.closing or self._vacuum_due,
                    IDLE_SECONDS if any(p.kept_bytes for p in self.positions.values()) else None,
                )
                busy = self._busy()
                if not busy and self.closing:
                    return
            if busy or not self._vacuum_due:
                self._commit()
                self._vacuum_between()
            else:
                self._vacuum_due = self._vacuum()

    def _busy(self) -> bool:
        trimming = self.corrupt is None and (self._trim.due or self._asked_bytes)
        return bool(self._appends or self._acks or self._calls or trimming)

    def _commit(self) -> None:
        with self.changed:
            appends, self._appends = self._appends, deque()
            acks = self._take_acks()
            calls, self._calls = self._calls, deque()
            asked, self._asked_bytes = self._asked_bytes, 0
        releases: list[str] = []
        self._is_relief_vain = bool(asked) and not self._relieve(asked)
        failure = self._write([batch for writer, batch in appends if writer.error is None], acks, calls, releases)
        with self.changed:
            for writer, batch in appends:
                self._count(writer, -1, batch)
                if failure is None and writer.error is None:
                    self.appended_bytes += len(batch.sealed)
                writer.error = writer.error or failure
            if failure is None:
                self.positions, self.free_bytes = self._standing
                self._vacuum_due = self.free_bytes > SPARE_PAGES * schema.PAGE_BYTES
                self._acknowledge_later(acks)
            elif not self.closing and not isinstance(failure, BufferCorrupt):
                for source, sequence in self._taken.items():
                    self._acks[source] = max(sequence, self._acks.get(source, 0))
            self._taken = {}
            self.changed.notify_all()
        for call in calls:
            call.error = failure
            call.done.set()
        if failure is not None:
            self._failed(failure)
        for listener in list(self._listeners):
            listener()
        for source in releases if failure is None else ():
            self._release_due.get(source, _nobody)()

    def _take_acks(self) -> dict[str, int]:
        """How far this transaction acknowledges, by source: a part where there is much."""
        self._taken, self._acks = self._acks, {}
        return {
            source: min(sequence, self.positions[source].acked_sequence + ACK_BATCHES)
            if source in self.positions
            else sequence
            for source, sequence in self._taken.items()
        }

    def _acknowledge_later(self, acks: Mapping[str, int]) -> None:
        """What is left goes into the next transaction, unless there was nothing up to where this one came."""
        for source, sequence in self._taken.items():
            if acks[source] < sequence and self.positions[source].acked_sequence >= acks[source]:
                self._acks[source] = max(sequence, self._acks.get(source, 0))

    def _write(
        self, appends: list[Append], acks: dict[str, int], calls: deque[_Call], releases: list[str]
    ) -> CrossdockError | None:
        """One transaction; adds to *releases* the sources that have tokens due by it."""
        if self.corrupt is not None:
            return self.corrupt
        try:
            if self.log_bytes != self._log_bytes:
                self._store.set_log(self.log_bytes)
                self._log_bytes = self.log_bytes
            with self._store.transaction():
                for source, sequence in acks.items():
                    if self._store.acknowledge(source, sequence):
                        releases.append(source)
                self._trim.step(sum(len(batch.sealed) for batch in appends))
                for batch in appends:
                    self._store.append(batch)
                for call in calls:
                    call.result = call.run(self._store)
            self._standing = self._store.positions(), self._store.free_pages() * schema.PAGE_BYTES
        except sqlite3.Error as error:
            self._trim.due = False  # with the next commit that holds
            if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL" and not self._is_relief_vain:
                self.give_up(STEP_BYTES)  # at once, and not again at once when that was in vain: it would never end
            return schema.classify(error, self._store.path)
        except CrossdockError as error:
            return error
        except Exception as error:  # noqa: BLE001 - if this thread ended, everybody would wait for it for ever
            self._trim.due = False
            logger.bind(part="outbox").opt(exception=error).error("outbox commit failed unexpectedly: {}", error)
            return Retryable(
                f"outbox {self._store.path} cannot be written: {type(error).__name__}: {error}",
                hint="the agent's log says where it failed; report it",
            )
        return None

    def _relieve(self, need_bytes: int) -> int:
        """The disk is short of space: kept batches go first. Bytes given up."""
        try:
            return self._trim.relieve(need_bytes)
        except sqlite3.Error as error:
            self._failed(schema.classify(error, self._store.path))
            return 0

    def _failed(self, failure: CrossdockError) -> None:
        if isinstance(failure, BufferCorrupt):
            self.condemn(failure)
            return
        logger.bind(part="outbox").warning("outbox commit failed, the sources read again: {}", failure)
        if self._acks:
            time.sleep(RETRY_SECONDS)  # the disk said no: not at once again

    def _vacuum_between(self) -> None:
        """While a backlog drains without a pause, the file shrinks with it: afterwards it would take far longer."""
        if self.corrupt is not None:
            return
        try:
            surplus = self._store.free_pages() - BUSY_SPARE_PAGES
            if surplus > 0:
                self._store.vacuum(min(surplus, BUSY_VACUUM_PAGES))
        except sqlite3.Error as error:
            self._failed(schema.classify(error, self._store.path))

    def _vacuum(self) -> bool:
        """One step; True while more is to be given back."""
        try:
            free = self._store.free_pages()
            if free > SPARE_PAGES:
                free = self._store.vacuum(VACUUM_PAGES)
        except sqlite3.Error as error:
            self._failed(schema.classify(error, self._store.path))
            return False
        self.free_bytes = free * schema.PAGE_BYTES
        return free > SPARE_PAGES
