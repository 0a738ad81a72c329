"""Group commit: many streams' batches share one transaction and one fsync, and nobody is answered before it.

While one group is being written (on its own thread) the next one gathers. Groups are bounded by bytes, so that a
commit stays short however many agents come back at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from loguru import logger

from crossdock.errors import Retryable
from crossdock_controller.store.intake import Incoming, IntakeWriter, Stored

_T = TypeVar("_T")

GROUP_BYTES = 32 * 1024 * 1024
RETRY_SECONDS = 2.0  # a full disk or a locked file: agents are told to come back


class Committer:
    """Use from one event loop; `run` must be running for `submit` to return."""

    def __init__(self, writer: IntakeWriter, wake: Callable[[], None]) -> None:
        self._writer = writer
        self._wake = wake
        self._queue: deque[tuple[Incoming, asyncio.Future[Stored]]] = deque()
        self._some = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="intake")

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
            batches = [batch for batch, _ in group]
            try:
                answers = await loop.run_in_executor(self._thread, self._commit, batches)
            except Exception as error:  # noqa: BLE001 - every waiting stream must hear of it, whatever it was
                logger.error("intake could not store {} batches, agents will resend: {}", len(group), error)
                for _, future in group:
                    if not future.done():
                        future.set_exception(Retryable(f"intake: {error}", after_seconds=RETRY_SECONDS))
                continue
            for (_, future), answer in zip(group, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
            self._wake()

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
