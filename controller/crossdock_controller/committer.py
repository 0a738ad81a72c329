"""Group commit: many streams' batches share one transaction and one fsync, and nobody is answered before it.

While one group is being written (on its own thread) the next one gathers. Groups are bounded by bytes, so that a
commit stays short however many agents come back at once. While the disk takes nothing, or is filled up to the floor,
all are told to come back; a damaged file, or one that another controller holds, ends the controller.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from crossdock.complaints import Complaints
from crossdock.errors import CrossdockError, Retryable
from crossdock_controller.store import faults
from crossdock_controller.store.holder import HolderLost
from crossdock_controller.store.intake import Incoming, IntakeWriter, Stored
from crossdock_controller.store.room import Room

_T = TypeVar("_T")

GROUP_BYTES = 32 * 1024 * 1024
RETRY_SECONDS = 2.0  # a full disk or a locked file: agents are told to come back


class Committer:
    """Use from one event loop; `run` must be running for `submit` to return.

    *room* says when the disk is too full to store more; *fatal* is told why nothing may be written any more.
    """

    def __init__(
        self,
        writer: IntakeWriter,
        wake: Callable[[], None],
        room: Room | None = None,
        fatal: Callable[[CrossdockError], None] = lambda _error: None,
    ) -> None:
        self._writer = writer
        self._wake = wake
        self._room = room
        self._fatal = fatal
        self._queue: deque[tuple[Incoming, asyncio.Future[Stored]]] = deque()
        self._some = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="intake")
        self._complaints = Complaints()
        self._trouble: CrossdockError | None = None  # why the last commit failed ...
        self._retry_at = 0.0  # ... and until when none is tried

    def refusing(self) -> Retryable | None:
        """Why batches are not taken now; None when they are."""
        if self._trouble is not None and time.monotonic() < self._retry_at:
            return _come_back(self._trouble)
        short = self._room.short() if self._room is not None else None
        return _come_back(short) if short is not None else None

    def submit(self, batch: Incoming) -> asyncio.Future[Stored]:
        """Its result is on disk; its exception says that nothing was stored (the sender keeps the batch)."""
        future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._queue.append((batch, future))
        self._some.set()
        return future

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            group = self._take()
            if not group:
                self._some.clear()
                continue
            refusal = self.refusing()
            if refusal is not None:
                self._refuse(group, refusal)
                continue
            batches = [batch for batch, _ in group]
            try:
                answers = await loop.run_in_executor(self._thread, self._commit, batches)
            except Exception as error:  # noqa: BLE001 - every waiting stream must hear of it, whatever it was
                self._refuse(group, self._failed(error))
                continue
            self._trouble = None
            self._complaints.over("intake", "batches are stored again")
            for (_, future), answer in zip(group, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
            self._wake()

    def _failed(self, error: Exception) -> Retryable:
        """What the waiting streams are told of a commit that failed: nothing was stored."""
        found = error if isinstance(error, CrossdockError) else faults.of(error, self._writer.path)
        self._trouble = found or Retryable(f"the intake failed unexpectedly: {error!r}")
        self._retry_at = time.monotonic() + RETRY_SECONDS if found is not None else 0.0
        if isinstance(found, faults.StoreDamaged | HolderLost):
            self._fatal(found)
        return _come_back(self._trouble)

    def _refuse(self, group: list[tuple[Incoming, asyncio.Future[Stored]]], why: Retryable) -> None:
        self._complaints.make("intake", f"nothing is stored, agents keep it and resend: {why}", batches=len(group))
        for _, future in group:
            if not future.done():
                future.set_exception(_come_back(why))
                future.exception()  # a stream ends at its first refusal: nobody may come for the others

    async def in_thread(self, call: Callable[[], _T]) -> _T:
        """Run *call* on the thread that owns the writer."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._writer.close()

    def _commit(self, batches: list[Incoming]) -> list[Stored]:
        return self._writer.commit(batches, time.time_ns() // 1000)

    def _take(self) -> list[tuple[Incoming, asyncio.Future[Stored]]]:
        group: list[tuple[Incoming, asyncio.Future[Stored]]] = []
        size = 0
        while self._queue and size < GROUP_BYTES:
            batch, future = self._queue.popleft()
            group.append((batch, future))
            size += len(batch.sealed)
        return group


def _come_back(why: CrossdockError) -> Retryable:
    """A new error for each stream that is told: they are raised in several places."""
    return Retryable(f"intake: {why.message.removeprefix('intake: ')}", hint=why.hint, after_seconds=RETRY_SECONDS)
