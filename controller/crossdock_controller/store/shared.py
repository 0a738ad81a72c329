"""One connection to state.db for an event loop. Writes that wait at the same time share one transaction and one sync.

A call runs on the thread of its own; whoever awaits it goes on when what it wrote is on the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from crossdock.errors import Retryable
from crossdock_controller.store import connection

_T = TypeVar("_T")
_Call = Callable[[sqlite3.Connection], Any]
_Waiting = tuple[_Call, "asyncio.Future[Any]"]
_Settled = tuple["asyncio.Future[Any]", Any, BaseException | None]

GROUP_CALLS = 500  # so that a transaction stays short


class SharedConnection:
    """Use from one event loop."""

    def __init__(self, path: Path, name: str, *, fence: str = "") -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._db = connection.connect(path, check_same_thread=False, fence=fence)
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()

    @property
    def db(self) -> sqlite3.Connection:
        """The connection itself: before the loop runs, and after `close`."""
        return self._db

    async def read(self, call: Callable[[sqlite3.Connection], _T]) -> _T:
        """*call* by itself, after the writes that were asked for before it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(self._db))

    async def write(self, call: Callable[[sqlite3.Connection], _T]) -> _T:
        """*call* in a transaction that it shares with others, in the order of asking. It must be safe to run twice:
        when one of a group fails, none is stored, and each is run again by itself."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        with self._lock:
            self._waiting.append((call, future))
            first = len(self._waiting) == 1
        if first:
            loop.run_in_executor(self._thread, self._drain, loop)
        return await future

    def stop(self) -> None:
        """Waits for what was asked for; `close` next."""
        self._thread.shutdown(wait=True)

    def close(self) -> None:
        self._db.close()

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        while group := self._take():
            settled = self._run(group) or [one for waiting in group for one in self._run([waiting], alone=True) or ()]
            loop.call_soon_threadsafe(_settle, settled)

    def _take(self) -> list[_Waiting]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(GROUP_CALLS, len(self._waiting)))]

    def _run(self, group: list[_Waiting], *, alone: bool = False) -> list[_Settled] | None:
        """All of *group* in one transaction; None when one of them failed and each is to be tried by itself."""
        try:
            with connection.transaction(self._db):
                return [(future, call(self._db), None) for call, future in group]
        except Exception as error:  # noqa: BLE001 - whoever asked must hear of it, whatever it was
            if not alone and not isinstance(error, Retryable):  # that was the lock: one by one would wait as long again
                return None
            return [(future, None, error) for _, future in group]


def _settle(settled: list[_Settled]) -> None:
    for future, result, error in settled:
        if future.done():  # its asker was cancelled
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
