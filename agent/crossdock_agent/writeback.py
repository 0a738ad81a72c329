"""Write-back at this site: the inbox, and a desk for each writer that the configuration names.

Without a writer there is no inbox, no thread and no stream. What was received while one was there is finished, or waits
until its writer comes back.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from loguru import logger

from crossdock.errors import ConfigError, Retryable
from crossdock.lifecycle import Stop, Supervisor
from crossdock.siteconfig import WriterConfig
from crossdock_agent.desk import Desk
from crossdock_agent.inbox import Arrived, Inbox, Receipt
from crossdock_agent.problems import Problems
from crossdock_agent.writers import base
from crossdock_agent.writers.base import Writer, WriterContext

QUEUED = 2000  # deliveries received and not yet in the inbox: the stream waits above it
RETRY_SECONDS = 2.0
PURGE_SECONDS = 3600.0
PROBLEM = "inbox"


class _Running:
    """A desk, its thread and its own stop."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.stop = Stop()
        self.supervisor = Supervisor(self.stop)
        self.supervisor.start(f"writer {desk.config.name}", desk.run)

    def end(self) -> bool:
        self.stop.set()
        return not self.supervisor.join()


class WriteBack:
    """`run` is a supervised part; `build` and `use` are called with each configuration."""

    def __init__(
        self, path: Path, policy_path: Path, problems: Problems, secret: Callable[[str], str], rng: random.Random
    ) -> None:
        self._path, self._policy_path, self._problems = path, policy_path, problems
        self._secret, self._rng = secret, rng
        self.needed = threading.Event()  # there is something to receive, or to tell
        self._inbox: Inbox | None = None
        self._opening = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._changed = threading.Condition()
        self._arrived: deque[Arrived] = deque()
        self._listener: Callable[[Sequence[Receipt]], None] | None = None
        self._purge_at = time.monotonic() + PURGE_SECONDS
        if path.exists():
            self.needed.set()

    # --- configuration

    def build(self, configs: Sequence[WriterConfig]) -> tuple[dict[str, Writer], list[str]]:
        """New writers for what does not run just so already, and what is wrong with the others."""
        made: dict[str, Writer] = {}
        faults: list[str] = []
        for config in configs:
            running = self._running.get(config.name)
            if running is not None and running.desk.config == config:
                continue
            context = WriterContext(config.name, self._recaller(config.name), self._secret, _wall_us)
            try:
                made[config.name] = base.build(config.kind, config.settings, context)
            except ConfigError as error:
                faults.append(str(error))
            except Exception as error:  # noqa: BLE001 - a writer with a bug, or without its driver, is its own fault
                logger.bind(writer=config.name).opt(exception=error).error("writer cannot be set up")
                faults.append(f"writer {config.name}: cannot be set up: {type(error).__name__}: {error}")
        return made, faults

    def use(self, configs: Sequence[WriterConfig], made: dict[str, Writer]) -> None:
        """Run *configs*: unchanged writers run on, the others end after what they have in hand."""
        wanted = {config.name: config for config in configs}
        for name in [n for n in self._running if n not in wanted or n in made]:
            if not self._running.pop(name).end():
                logger.bind(writer=name).warning("writer did not stop in time")
        for name, writer in made.items():
            desk = Desk(
                wanted[name], writer, self.inbox(), self._policy_path, self._problems, self._tell, self._rng
            )  # fmt: skip
            self._running[name] = _Running(desk)
        if wanted:
            self.needed.set()

    def stop(self) -> None:
        for running in self._running.values():
            running.stop.set()
        for running in self._running.values():
            running.end()
        self._running = {}
        with self._opening:
            if self._inbox is not None:
                self._inbox.close()
                self._inbox = None

    def inbox(self) -> Inbox:
        """Raises Retryable."""
        with self._opening:
            if self._inbox is None:
                self._inbox = Inbox(self._path)
            return self._inbox

    # --- what arrives

    def received(self, delivery: Arrived) -> None:
        """Queue it for the inbox; waits while too much is queued."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._arrived) < QUEUED, 60.0)
            self._arrived.append(delivery)
            self._changed.notify_all()

    def run(self, stop: Stop) -> None:
        """Commit what arrives, all that came meanwhile together, and wake its writers."""

        def wake() -> None:
            with self._changed:
                self._changed.notify_all()

        stop.on_set(wake)
        try:
            while not stop.is_set():
                with self._changed:
                    self._changed.wait_for(lambda: bool(self._arrived) or stop.is_set())
                    group = list(self._arrived)
                if group and not self._commit(group):
                    stop.wait(RETRY_SECONDS)
        finally:
            stop.forget(wake)

    def _commit(self, group: list[Arrived]) -> bool:
        try:
            self.inbox().receive(group)
            if time.monotonic() >= self._purge_at:
                self._purge_at = time.monotonic() + PURGE_SECONDS
                self.inbox().purge(_wall_us())
        except Retryable as error:
            self._problems.report(PROBLEM, str(error))
            return False
        self._problems.clear(PROBLEM)
        with self._changed:
            for _ in group:
                self._arrived.popleft()
            self._changed.notify_all()
        names = {one.writer for one in group}
        for name in names:
            running = self._running.get(name)
            if running is not None:
                running.desk.wake()
        self._tell(self.inbox().settled(one.id for one in group))
        absent = names - self._running.keys()
        if absent:
            self._tell([_unknown(one, sorted(self._running)) for one in group if one.writer in absent])
        return True

    # --- what is told

    def listen(self, listener: Callable[[Sequence[Receipt]], None] | None) -> None:
        """Whom receipts are told, from now on; the inbox has those of before."""
        self._listener = listener

    def _tell(self, receipts: Sequence[Receipt]) -> None:
        listener = self._listener
        if listener is not None and receipts:
            listener(receipts)

    def _recaller(self, writer: str) -> Callable[[str], bytes | None]:
        return lambda key: self.inbox().recall(writer, key)


def _unknown(one: Arrived, known: list[str]) -> Receipt:
    reason = f"there is no writer {one.writer!r} at this agent now; it has {', '.join(known) or 'none'}"
    return Receipt(one.id, one.attempt, one.sequence, "retry", "no_writer", reason, "")


def _wall_us() -> int:
    return time.time_ns() // 1000
