"""An asyncio client behind the blocking contract of a sink: a loop on a thread of its own, and calls that end in time.

The thread lives between calls too, so that heartbeats are answered and a lost connection is noticed while nothing is
sent. Whatever is still running on the loop when it is closed is cancelled, waited for, and gone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from loguru import logger

_GRACE_SECONDS = 5.0  # what a call's own end may take beyond its time, before the loop itself is taken to hang
_CLOSE_SECONDS = 5.0

T = TypeVar("T")


class LoopThread:
    """Started by the first call; after `close`, the next call starts another. Used from one thread at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def call(self, make: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
        """The result of the coroutine that *make* makes on the loop. Raises TimeoutError, and what it raises."""
        future = asyncio.run_coroutine_threadsafe(_bounded(make, seconds), self._started())
        try:
            return future.result(seconds + _GRACE_SECONDS)
        except TimeoutError:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the loop and end its thread; a loop that hangs is left behind, with a word in the log."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CLOSE_SECONDS + _GRACE_SECONDS)
        if thread.is_alive():
            logger.warning("the event loop of {} did not end; it is left behind", self._name)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = self._loop = asyncio.new_event_loop()
            loop.set_exception_handler(self._stray)
            self._thread = threading.Thread(target=_run, args=(loop,), name=self._name, daemon=True)
            self._thread.start()
        return self._loop

    def _stray(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a client's background task raised: the call that depends on it fails by itself."""
        error = context.get("exception")
        logger.bind(error=type(error).__name__).debug("{}: {}", self._name, context.get("message", ""))


async def _bounded(make: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
    async with asyncio.timeout(seconds):
        return await make()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(_wind_up())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _wind_up() -> None:
    """Cancel what runs, until nothing does: a cancelled task may start another to clean up."""
    me = asyncio.current_task()
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            while tasks := [task for task in asyncio.all_tasks() if task is not me]:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            await asyncio.get_running_loop().shutdown_asyncgens()
            await asyncio.get_running_loop().shutdown_default_executor()
    except TimeoutError:
        logger.warning("tasks of a broker's client did not end when they were cancelled")
