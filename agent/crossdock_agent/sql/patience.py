"""A driver that never returns holds up its own thread, not the source.

A frozen server, or a firewall that forgot a connection, lets a driver wait for ever: its statement timeout is kept by
the server, and its kernel goes on answering. So each connection has a thread of its own, and whoever asks waits for an
answer no longer than agreed; then the thread is left behind with its connection. Few are left behind before the source
refuses to make more of them: a restart of the agent is then the only way to be rid of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

from crossdock.errors import CrossdockError, SourceUnavailable

MOST_LEFT_BEHIND = 8

T = TypeVar("T")
_left_behind: set[threading.Thread] = set()
_lock = threading.Lock()


class _Call(Generic[T]):
    def __init__(self, function: Callable[[], T]) -> None:
        self._function, self.done = function, threading.Event()
        self.result: T | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
            self.error = error
        self.done.set()


class PatientThread:
    """Runs one call after another; used by one thread at a time."""

    def __init__(self, name: str) -> None:
        with _lock:
            _left_behind.difference_update([thread for thread in _left_behind if not thread.is_alive()])
            several = len(_left_behind)
        if several >= MOST_LEFT_BEHIND:
            raise CrossdockError(
                f"{name}: {MOST_LEFT_BEHIND} statements never came back from the driver",
                hint="find out why the database does not answer, then restart the agent",
            )
        self._name = name
        self._calls: SimpleQueue[_Call[object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"sql {name}", daemon=True)
        self._thread.start()
        self.is_lost = False

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """What *function* returns or raises. Raises SourceUnavailable when it does neither within *seconds*; nothing
        may be called after that."""
        call: _Call[T] = _Call(function)
        self._calls.put(call)  # type: ignore[arg-type]  # it is only run
        if not call.done.wait(seconds):
            self.is_lost = True
            with _lock:
                _left_behind.add(self._thread)
            self._calls.put(None)
            raise SourceUnavailable(
                f"{self._name}: the database has not answered for {seconds:g} s, and its driver waits on",
                hint="is the server frozen, or does a firewall between forget connections?",
                after_seconds=60.0,
            )
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]  # set with the event

    def stop(self) -> None:
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
            del call  # with what it holds of the connection
