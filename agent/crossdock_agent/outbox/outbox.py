"""The outbox as the other parts see it: full means refused, never dropped; damaged means finished, never guessed.

Thread-safe: pumps append while the uplink reads and acknowledges (see `groupcommit`).
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, cast

from crossdock.errors import BufferCorrupt, BufferFull, CrossdockError
from crossdock.siteconfig import LANE_SHARES, OutboxConfig
from crossdock_agent.outbox import schema
from crossdock_agent.outbox.groupcommit import GroupCommit, Writer
from crossdock_agent.outbox.rows import Loss, Missing, Position, Stats, StoredBatch
from crossdock_agent.outbox.store import Store

RESUME_FRACTION = 10  # a full outbox resumes reading when a tenth is free, at most ...
RESUME_BYTES = 64 * 1024 * 1024  # ... this much: not one source re-opened for every batch that leaves
DISK_SECONDS = 1.0  # how long a reading of the free disk space is believed

T = TypeVar("T")


def _report_nowhere(_error: BufferCorrupt) -> None:
    """Whoever does not ask for a call learns of damage by the error that each method then raises."""


class Outbox:
    """Use it in a `with` statement: the commit thread lives inside.

    *quarantined* says what was set aside at opening. *on_corrupt* is called once, from any thread, when damage shows
    later; everything is refused from then on, and the owner closes it, calls `quarantine` and opens a new one.
    """

    def __init__(
        self,
        path: Path,
        limits: OutboxConfig,
        *,
        migrate: Callable[[Path], None] = schema.migrate,
        on_corrupt: Callable[[BufferCorrupt], None] = _report_nowhere,
    ) -> None:
        self.path = path
        self.limits = limits
        self.quarantined = schema.open_checked(path, migrate)
        self._store = Store(path)
        self.epoch = self._store.epoch()
        self.fresh = self._store.fresh()
        self.store = self._store.controller()
        self.generation = 0  # moves when acknowledgements of before must not count any more
        self._is_renumbering = False
        self._group = GroupCommit(self._store, limits, self._refusal, on_corrupt)
        self._read_lock = threading.Lock()
        self._writers: dict[str, Writer] = {}
        self._disk_free = 0
        self._disk_read_at = float("-inf")

    def __enter__(self) -> Self:
        self._group.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._group.close()
        with self._read_lock:
            self._store.close()

    # --- for pumps

    def writer(self, source: str) -> Writer:
        """The only way in for *source*; an earlier writer of it is closed first, so `checkpoint` is final then."""
        earlier = self._writers.get(source)
        if earlier is not None:
            earlier.close()
        self._writers[source] = Writer(source, self._group)
        return self._writers[source]

    def checkpoint(self, source: str) -> bytes | None:
        """How far *source* has read: the checkpoint of its last committed batch."""
        return self._read(lambda store: store.checkpoint(source))

    def recall(self, source: str, key: str) -> bytes | None:
        """A ledger row of *source*, as committed; what its writer has queued is not in it."""
        return self._read(lambda store: store.recall(source, key))

    def unreleased(self, source: str) -> list[bytes]:
        """Tokens of *source* as committed, acknowledged or not, that are not finished, oldest first."""
        return self._read(lambda store: store.unreleased(source))

    def ledger(self, source: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Committed ledger rows of *source* with keys greater than *after*, by key, at most *limit*."""
        return self._read(lambda store: store.ledger(source, after, limit))

    def releases(self, source: str, after: int = 0, limit: int = -1) -> list[tuple[int, bytes]]:
        """Tokens whose batches are acknowledged and which are not finished, oldest first: (id, token); those with ids
        greater than *after*, at most *limit*."""
        return self._read(lambda store: store.releases(source, after, limit))

    def releases_waiting(self, source: str) -> int:
        """How many there are."""
        return self._read(lambda store: store.releases_waiting(source))

    def finish_releases(self, ids: Sequence[int]) -> None:
        self._group.call(lambda store: store.finish_releases(ids))

    def on_release(self, source: str, due: Callable[[], None]) -> None:
        """Call *due*, from the commit thread, when acknowledgements made tokens of *source* due."""
        self._group.on_release(source, due)

    def wait_for_space(self, need_bytes: int, seconds: float, lane: str = "critical") -> bool:
        """True when *need_bytes* of *lane* and some more fit; False after *seconds* or when the outbox closes."""
        deadline = time.monotonic() + seconds
        reserve = max(need_bytes, min(self.limits.max_bytes // RESUME_FRACTION, RESUME_BYTES))
        changed = self._group.changed
        with changed:
            while self._refusal(reserve, lane) is not None:
                left = deadline - time.monotonic()
                if left <= 0 or self._group.closing:
                    return False
                changed.wait(min(left, DISK_SECONDS))
            return True

    # --- for the uplink

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call *listener* after each commit, from the commit thread; the result ends that."""
        return self._group.subscribe(listener)

    def positions(self) -> dict[str, Position]:
        """Where each source stands, as committed."""
        return self._group.positions

    def page(self, source: str, after_sequence: int, limit_bytes: int, limit_batches: int = 64) -> list[StoredBatch]:
        """The next batches of *source* after *after_sequence*, in order; at least one if there is one.

        Raises BufferCorrupt when a stored checksum differs; the outbox is finished then.
        """
        return self._read(lambda store: store.page(source, after_sequence, limit_bytes, limit_batches))

    def acknowledge(self, source: str, epoch: bytes, sequence: int, generation: int | None = None) -> None:
        """The controller has every batch of *source* up to *sequence*. Returns at once; a crash before the commit
        only sends again. Acknowledgements of another epoch, another *generation* or of unknown sources are ignored."""
        with self._group.changed:
            is_due = epoch == self.epoch and generation in (None, self.generation)
            if is_due and not self._is_renumbering:
                self._group.acknowledge(source, sequence)  # which sources there are, only the file knows at any moment

    def rewind(self, source: str, sequence: int) -> int | None:
        """The controller has *source* only up to *sequence* any more: what was acknowledged after it is to be sent
        again; how many batches. None, and nothing is changed, when some of them are not kept any more: see `renew`."""
        with self._group.changed:
            self.generation += 1
            self._group.forget_acknowledgements(source)  # of before; what is being committed is so before this is
        return cast("int | None", self._group.call(lambda store: store.kept.rewind(source, sequence)))

    def renew(self, known: Mapping[str, int]) -> list[Missing]:
        """Begin a new epoch with everything that a controller which has *known* ({source: sequence} of this epoch)
        lacks and that is still here; what is not here any more. Streams must begin anew after it."""
        with self._group.changed:
            self.generation += 1
            self._is_renumbering = True
            self._group.forget_acknowledgements()
        with self._read_lock:  # until the epoch is known, nobody reads new numbers that would go out under the old one
            try:
                return cast("list[Missing]", self._group.call(lambda store: store.renew(known)))
            finally:
                self._learn_epoch()  # also after a failure: it may have come after the commit
                with self._group.changed:
                    self._is_renumbering = False
                    self.generation += 1  # a stream that began meanwhile ends, too

    # --- for the control stream

    def adopt(self, checkpoints: Mapping[str, bytes]) -> None:
        """A fresh outbox carries on from the controller's checkpoints."""
        self._group.call(lambda store: store.adopt(checkpoints))
        self.fresh = False

    def bind(self, agent: str) -> bool:
        """See `Store.bind`; call before any part reads or sends."""
        renumbered = bool(self._group.call(lambda store: store.bind(agent)))
        self.epoch = self._read(Store.epoch)
        return renumbered

    def losses(self) -> list[Loss]:
        """What could not be given back to a restored controller, oldest first."""
        return self._read(Store.losses)

    def remember_store(self, store: bytes) -> None:
        """The controller's store that welcomed this agent: what another acknowledged does not count from now on."""
        with self._group.changed:
            self.generation += 1
            self._group.forget_acknowledgements()  # a large one is committed in parts: the rest of it is of before, too
        self._group.call(lambda file: file.set_controller(store))
        self.store = store

    def opening(self) -> dict[str, tuple[int, int]]:
        """Where each source stood, {name: (last, acknowledged sequence)}, before any process appended to this file that
        the controller has not yet compared it with: `compared` ends that. Ask before any source reads.

        It is in the file, because a process may read, and end, before it reaches the controller.
        """
        now = {name: (at.last_sequence, at.acked_sequence) for name, at in self.positions().items()}
        return cast("dict[str, tuple[int, int]]", self._group.call(lambda store: store.opening(now)))

    def compared(self) -> None:
        """The controller knows of nothing that this file does not: sending may begin."""
        self._group.call(Store.forget_opening)

    def condemn(self, reason: str) -> None:
        """The file cannot be trusted for a reason only the caller can see (it went back in time)."""
        self._group.condemn(BufferCorrupt(f"outbox {self.path}: {reason}"))

    def stats(self) -> Stats:
        at = list(self._group.positions.values())
        oldest = self._read(Store.oldest_us)
        return Stats(sum(p.batches for p in at), sum(p.records for p in at), sum(p.bytes for p in at), oldest)

    @property
    def appended_bytes(self) -> int:
        """Sealed bytes committed since opening."""
        return self._group.appended_bytes

    def held_bytes(self) -> int:
        """Sealed bytes not yet acknowledged, as committed."""
        return sum(p.bytes for p in self._group.positions.values())

    def room_bytes(self) -> int:
        """How many more a critical source may put in: within the limit, and within the disk down to its floor."""
        held, limits = self.held_bytes(), self.limits
        disk = self.disk_free() + self._group.free_bytes + self._group.kept_bytes()  # kept batches give way
        return max(0, min(limits.max_bytes - held, disk - limits.min_free_disk_bytes))

    def takes(self, lane: str) -> bool:
        """Whether a batch of *lane* would be taken now."""
        return self._refusal(1, lane) is None

    def disk_free(self, *, fresh: bool = False) -> int:
        """Free bytes where the outbox lies, at most a second old, or read now."""
        now = time.monotonic()
        if fresh or now - self._disk_read_at > DISK_SECONDS:
            self._disk_free, self._disk_read_at = shutil.disk_usage(self.path.parent).free, now
        return self._disk_free

    def set_limits(self, limits: OutboxConfig) -> None:
        self.limits = limits
        self._group.set_limits(limits)

    def set_queue(self, limit_bytes: int | None) -> None:
        """How many bytes of batches may wait for their commit, of all sources together; None: each has its own."""
        with self._group.changed:
            self._group.queue_limit = limit_bytes
            self._group.changed.notify_all()

    def set_log(self, limit_bytes: int | None) -> None:
        """How many bytes may be written at one stroke beside the batches themselves; None: as many as is fastest."""
        self._group.log_bytes = min(limit_bytes or schema.WAL_BYTES, schema.WAL_BYTES)

    def _refusal(self, size: int, lane: str) -> BufferFull | None:
        """The last places are kept for the lanes above *lane*: a bulk source cannot take them from a critical one."""
        share = LANE_SHARES.get(lane, 1.0)
        held, limit = self._group.queued_bytes + self.held_bytes(), int(self.limits.max_bytes * share)
        if held and held + size > limit:
            kept = "" if share == 1.0 else f" (the rest is kept for lanes above {lane})"
            return BufferFull(
                f"outbox holds {held} of {limit} bytes{kept}; reading stops, the sources keep their data",
                hint="it goes on by itself once the controller takes batches; is the controller reachable?",
            )
        floor = int(self.limits.min_free_disk_bytes * (2.0 - share))
        need = size + self._group.queued_bytes + floor
        if need > self.disk_free() and need > (free := self.disk_free(fresh=True)) + self._reclaimed(need - free):
            return BufferFull(
                f"{free} bytes are free on the disk of {self.path}, {floor} stay reserved; reading stops",
                hint="free disk space there, or lower the site's outbox.min_free_disk_bytes",
            )
        return None

    def _reclaimed(self, need_bytes: int) -> int:
        """Bytes of the file that an append may use instead of the disk's; kept batches of as many are given up."""
        free = self._group.free_bytes
        return free + (self._group.give_up(need_bytes - free) if need_bytes > free else 0)

    def _learn_epoch(self) -> None:
        """Under the lock of reading. With an epoch that nobody knows nothing may be sent: then it is finished."""
        try:
            self.epoch = self._store.epoch()
        except (sqlite3.Error, BufferCorrupt) as error:
            self.condemn(f"its epoch cannot be read after it changed: {error}")

    def _read(self, query: Callable[[Store], T]) -> T:
        if self._group.corrupt is not None:
            raise self._group.corrupt
        failure: CrossdockError
        with self._read_lock:
            try:
                return query(self._store)
            except sqlite3.Error as error:
                failure = schema.classify(error, self.path)
            except BufferCorrupt as error:
                failure = error
        if isinstance(failure, BufferCorrupt):
            self._group.condemn(failure)
        raise failure
