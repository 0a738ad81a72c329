"""One agent, one controller and the line between them, without sockets and threads of ours: every step is the test's.

The outbox, the sending bookkeeping (`Transfer`), the comparison at the welcome (`Control`), the gateway's half of a
stream (`_UplinkStream`), the group commit (`Committer`) and the intake are the product's own. A crash is the copy of
the files as another process' eyes would find them.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from crossdock.errors import BufferCorrupt, CrossdockError
from crossdock.siteconfig import OutboxConfig
from crossdock.v1.link_pb2 import Ack, Batch, Heartbeat, Welcome
from crossdock_agent.control import Control
from crossdock_agent.outbox import Outbox, quarantine
from crossdock_agent.problems import Problems
from crossdock_agent.transfer import Transfer
from crossdock_controller.committer import Committer
from crossdock_controller.fleet import Caller
from crossdock_controller.gateway import LinkService, _UplinkStream
from crossdock_controller.store.intake import Incoming, IntakeReader, IntakeWriter, Stored

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a crash here is a copy of files: no disk is needed
ROOMY = OutboxConfig(min_free_disk_bytes=0)
CALLER = Caller("atl1", "atl1")


class Clock:
    """What `transfer` sees as time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class IdleError(Exception):
    """The sender would wait now."""


def new_directory() -> Path:
    return Path(tempfile.mkdtemp(prefix="crossdock-", dir=MEMORY))


def power_cut(directory: Path) -> Path:
    """A copy of *directory* as it lies on the disk now; the WAL index is rebuilt by whoever opens it."""
    copy = new_directory()
    for file in directory.iterdir():
        if not file.name.endswith("-shm"):
            shutil.copy(file, copy / file.name)
    return copy


class AgentSide:
    """A process of the agent: its outbox, open, and whether it was welcomed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.welcomed = False
        self.condemned: list[BufferCorrupt] = []
        self.outbox = Outbox(directory / "outbox.db", ROOMY, on_corrupt=self.condemned.append)
        self.outbox.__enter__()
        assert self.outbox.quarantined is None
        self.given_back = False  # streams must begin anew
        nothing: Any = None
        unconfigured: Any = SimpleNamespace(revision=0, hash="")
        trusting: Any = SimpleNamespace(authorities=tuple, welcomed=lambda _welcome: None)
        self.control = Control(
            self.outbox, nothing, unconfigured, nothing, trusting, Problems(), Heartbeat, self._welcome, lambda: None,
            self._on_given_back, random.Random(1),
        )  # fmt: skip

    def _welcome(self) -> None:
        self.welcomed = True

    def _on_given_back(self) -> None:
        self.given_back = True

    def settle(self) -> None:
        """Wait until the commit thread has done all it was given."""
        if not self.condemned:
            self.outbox._group.call(lambda _store: None)

    def close(self) -> None:
        self.outbox.__exit__(None, None, None)

    def crashed(self) -> AgentSide:
        copy = power_cut(self.directory)
        self.close()
        shutil.rmtree(self.directory)
        return AgentSide(copy)

    def set_aside(self) -> AgentSide:
        """What `app` does about a damaged outbox."""
        self.close()
        quarantine(self.outbox.path, self.condemned[0].message)
        return AgentSide(self.directory)


class _Held(Executor):
    """Runs what it is given when the test says so."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()

    def submit(self, call: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, call, args))
        return future

    def run_one(self) -> None:
        future, call, args = self.waiting.popleft()
        try:
            result = call(*args)
        except Exception as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        else:
            future.set_result(result)


class _Writer(IntakeWriter):
    """*before* is called before each append: to fail it, or to see what is on the disk in the middle of a commit."""

    before: Callable[[], None] | None = None

    def _append(self, batch: Incoming, now_us: int) -> Stored:
        if self.before is not None:
            self.before()
        return super()._append(batch, now_us)


class ControllerSide:
    """A process of the controller: its intake, open, and the loop on which its streams live. *store* is its id."""

    def __init__(self, directory: Path, store: bytes) -> None:
        self.directory = directory
        self.store = store
        self.writer = _Writer(directory / "intake.db")
        self.reader = IntakeReader(directory / "intake.db")
        self.loop = asyncio.new_event_loop()
        self._held = _Held()
        self.committer = Committer(self.writer, lambda: None)
        self.committer._thread.shutdown()
        self.committer._thread = self._held  # type: ignore[assignment]
        self._run = self.loop.create_task(self.committer.run())
        fleet: Any = SimpleNamespace(store=store, size=1)
        self._link = LinkService(fleet, self.committer, self.reader)

    def turn(self) -> None:
        """Let every task come to where it waits."""
        for _ in range(8):
            self.loop.run_until_complete(asyncio.sleep(0))

    def busy(self) -> bool:
        return bool(self._held.waiting)

    def commit(self) -> None:
        self._held.run_one()
        self.turn()

    def commit_fails(self) -> None:
        def full() -> None:
            raise sqlite3.OperationalError("disk full")

        self.writer.before = full
        self.commit()
        self.writer.before = None

    def welcome(self, hello: Any) -> Welcome:
        welcomed = self.loop.run_until_complete(self._link._welcome(CALLER, hello)).welcome
        assert isinstance(welcomed, Welcome)
        return welcomed

    def close(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()
        self.reader.close()
        self.writer.close()

    def crashed(self, *, committing: bool) -> ControllerSide:
        """The next process, on what the disk held: when *committing*, in the middle of the commit that waits."""
        copies: list[Path] = []
        if committing and self.busy():
            self.writer.before = lambda: copies.append(power_cut(self.directory))
            self._held.run_one()
        else:
            copies.append(power_cut(self.directory))
        self.close()
        for gone in (self.directory, *copies[:-1]):
            shutil.rmtree(gone)
        return ControllerSide(copies[-1], self.store)


class Line:
    """One stream: what is under way in both directions, and which ends still use it."""

    def __init__(self, agent: AgentSide, controller: ControllerSide, problems: Problems, rng: random.Random) -> None:
        self.up: deque[Batch] = deque()
        self.down: deque[Ack] = deque()
        self.mine = True  # the agent's end is open
        self.theirs = True
        self.transfer = Transfer(agent.outbox, problems, rng, lambda: None)
        self.transfer._changed.wait = self._would_wait  # type: ignore[method-assign]
        self._controller = controller
        self._arriving: asyncio.Queue[Batch | None] = asyncio.Queue()
        self._stream = _UplinkStream(CALLER, controller.committer, lambda _agent: True)
        self._tasks = [
            controller.loop.create_task(self._stream.receive(self._requests())),
            controller.loop.create_task(self._answer()),
        ]

    def send(self, count: int) -> int:
        """Put at most *count* batches on the line; how many there were to send."""
        requests = self.transfer.requests()
        sent = 0
        try:
            while sent < count:
                self.up.append(next(requests))
                sent += 1
        except (IdleError, StopIteration):
            pass
        finally:
            requests.close()  # type: ignore[attr-defined]
        return sent

    def arrive(self, count: int) -> None:
        for _ in range(min(count, len(self.up))):
            self._arriving.put_nowait(self.up.popleft())
        self._controller.turn()

    def hear(self, count: int) -> None:
        """The agent takes at most *count* answers."""
        for _ in range(min(count, len(self.down))):
            self.transfer.received(self.down.popleft())

    def leave(self) -> None:
        """The agent's end is gone; what it sent may still arrive."""
        self.mine = False
        self.transfer.end()
        self.down.clear()

    def drop(self) -> None:
        """The controller's end is gone."""
        self.theirs = False
        self.up.clear()
        if not self._controller.loop.is_closed():
            self._arriving.put_nowait(None)
            self._controller.turn()

    async def _requests(self) -> AsyncIterator[Batch]:
        while (batch := await self._arriving.get()) is not None:
            yield batch

    async def _answer(self) -> None:
        try:
            async for ack in self._stream.acks():
                if self.mine:
                    self.down.append(ack)
        except CrossdockError:  # the gateway aborts the stream
            self.theirs = False
            self.up.clear()

    @staticmethod
    def _would_wait(_seconds: float | None = None) -> bool:
        raise IdleError
