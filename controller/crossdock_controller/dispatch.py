"""The dispatcher: a supervised thread for each sink, so that one that hangs or fails slows no other.

A sink is served under its lease, by one dispatcher at a time. When a revision changes a sink, its line ends after the
call in progress and begins anew; a line whose sink hangs keeps its lease, for nobody else may send meanwhile.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from loguru import logger

from crossdock.complaints import Complaints
from crossdock.errors import ConfigError, Corrupt, CrossdockError, Retryable
from crossdock.lifecycle import Stop, Supervisor
from crossdock.redaction import KNOWN
from crossdock.retry import Backoff
from crossdock.secrets import Secrets
from crossdock_controller.current import Current
from crossdock_controller.judging import Policy
from crossdock_controller.line import Line, now_us
from crossdock_controller.paths import DataDirectory
from crossdock_controller.sinks.base import Sink, SinkContext, kinds
from crossdock_controller.station import Station
from crossdock_controller.store import connection, faults, leases, sinks
from crossdock_controller.store.connection import transaction
from crossdock_controller.store.holder import HolderLost
from crossdock_controller.store.leases import LeaseLost

ROLE = "dispatch"
POLL_SECONDS = 0.25
CLAIM_SECONDS = 0.5
JOIN_SECONDS = 5.0
_HOUR_US = 3_600_000_000
STORE_BACKOFF = Backoff(0.5, 2.0, 10.0)


class SinkDef(Protocol):
    """What the dispatcher needs of `config.models.SinkDef`. Two that are equal make the same sink."""

    @property
    def kind(self) -> str: ...

    @property
    def retry_hours(self) -> float: ...

    @property
    def retry_attempts(self) -> int | None: ...

    @property
    def rate(self) -> float | None: ...

    @property
    def supersede(self) -> Sequence[str]: ...

    @property
    def ttl_hours(self) -> Mapping[str, float]: ...

    @property
    def versions(self) -> Mapping[str, int]: ...

    def typed(self) -> Any: ...


class Runtime(Protocol):
    """What the dispatcher needs of `config.runtime.Runtime`."""

    @property
    def number(self) -> int: ...

    @property
    def sinks(self) -> Mapping[str, SinkDef]: ...


Opener = Callable[
    [str, SinkDef], tuple[Sink, int]
]  # (name, definition) to (sink, deliveries a call); raises ConfigError


def opener(data: DataDirectory) -> Opener:
    """Makes sinks of the registered kinds; relative paths in their settings are relative to the data directory."""
    secrets = Secrets(data.root)

    def open_sink(name: str, definition: SinkDef) -> tuple[Sink, int]:
        kind = kinds().get(definition.kind)
        if kind is None:
            raise ConfigError(
                f"sink {name}: unknown kind {definition.kind!r}", hint=f"known kinds: {', '.join(sorted(kinds()))}"
            )
        context = SinkContext(name, secrets.resolve, str(data.root), data.holder)
        return kind.create(definition.typed(), context), kind.run_size

    return open_sink


@dataclass(slots=True)
class _Served:
    """A sink's thread: its definition, its own stop, and its bell."""

    definition: SinkDef
    stop: Stop = field(default_factory=Stop)
    bell: threading.Event = field(default_factory=threading.Event)
    supervisor: Supervisor | None = None


class Dispatcher:
    """One worker process. `tick` follows the revision in force; the threads do the rest."""

    def __init__(
        self, data: DataDirectory, build: Callable[[Mapping[str, str], int], Runtime], open_sink: Opener | None = None
    ) -> None:
        self._data = data
        self._open_sink = open_sink if open_sink is not None else opener(data)
        self._served: dict[str, _Served] = {}
        self._complaints = Complaints()
        self._rng = random.Random()  # noqa: S311 - jitter
        self._ended_by: Exception | None = None  # the store is damaged or another's: no line goes on
        self._station = Station(data, ROLE)
        self._current = Current(self._station.db, build)

    def run(self, stop: Stop) -> None:
        """Until *stop*. Raises StoreDamaged, HolderLost."""
        stop.on_set(self._station.bell.ring)
        failures = 0
        while not stop.is_set():
            try:
                self.tick()
            except (sqlite3.Error, OSError, Retryable) as error:
                failures += 1
                self._store_failed(error)
                stop.wait(STORE_BACKOFF.delay(failures, self._rng))
            else:
                failures = 0
            if self._ended_by is not None:
                raise self._ended_by
            if self._station.bell.wait(POLL_SECONDS):
                for served in self._served.values():
                    served.bell.set()
        stop.forget(self._station.bell.ring)

    def tick(self) -> None:
        """Keep the leases, and make the threads those of the revision in force, and of sinks that the revision being
        rolled out adds to them: what its sites route there is delivered. A sink that it changes or removes stays as it
        is until it is in force."""
        self._station.renew()
        runtime = self._current.get()
        if runtime is None:
            return
        rolling = self._current.rolling
        wanted = {**(rolling.sinks if rolling is not None else {}), **runtime.sinks}
        for name, served in list(self._served.items()):
            if wanted.get(name) != served.definition:
                _end(served)
                if served.supervisor is None or not served.supervisor.join(0.0):
                    del self._served[name]
        for name, definition in wanted.items():
            if name not in self._served:
                self._served[name] = self._start(name, definition)

    def close(self) -> None:
        """End every thread after its call in progress; one that hangs is left to the end of the process."""
        for served in self._served.values():
            _end(served)
        deadline = time.monotonic() + JOIN_SECONDS  # for all of them together: many that hang end as soon as one
        late = [
            name
            for served in self._served.values()
            if served.supervisor is not None
            for name in served.supervisor.join(max(0.0, deadline - time.monotonic()))
        ]
        if late:
            logger.bind(sinks=",".join(late)).warning("sinks did not return from their last call; it will be repeated")
        self._station.close()

    def _start(self, name: str, definition: SinkDef) -> _Served:
        served = _Served(definition)
        served.supervisor = Supervisor(served.stop, backoff=Backoff(0.5, 2.0, 30.0))
        served.supervisor.start(f"sink {name}", lambda stop: self._serve(name, served, stop))
        return served

    def _serve(self, name: str, served: _Served, stop: Stop) -> None:
        """On the sink's own thread: until the stop, or until something fails and the supervisor begins anew."""
        try:
            with faults.told(self._data.state):
                self._serve_line(name, served, stop)
        except (faults.StoreDamaged, HolderLost) as error:
            self._end_all(error)
        except faults.StoreUnavailable as error:
            self._complaints.make("store", f"sink {name} cannot be served now: {error}")
            stop.wait(STORE_BACKOFF.delay(3, self._rng))
            raise

    def _serve_line(self, name: str, served: _Served, stop: Stop) -> None:
        with ExitStack() as stack:
            db = stack.enter_context(
                closing(connection.connect(self._data.state, cache_mib=16, fence=self._data.holder))
            )
            number = sinks.sink_id(db, name)
            cursor = self._claimed(db, number, stop)
            if cursor is None:
                return
            stack.callback(self._release, db, number)
            sink, run_size = self._opened(db, number, name, served.definition)
            stack.callback(self._close, name, sink)
            line = Line(db, number, name, sink, run_size, self._station.owner, cursor, _policy(served.definition))
            try:
                self._work(line, served, stop)
            except LeaseLost as error:
                logger.bind(sink=name).warning("sink given up, another dispatcher has it: {}", error)
                raise CrossdockError(f"the lease of sink {name} was lost") from error

    @staticmethod
    def _close(name: str, sink: Sink) -> None:
        try:
            sink.close()
        except (sqlite3.Error, OSError) as error:
            logger.bind(sink=name).warning("sink did not close well: {}", error)

    def _release(self, db: sqlite3.Connection, number: int) -> None:
        """What cannot be written now ends with the lease's time, or when the next process finds us dead."""
        try:
            sinks.release(db, number, self._station.owner)
        except (sqlite3.Error, Retryable, HolderLost) as error:
            logger.warning("the lease of a sink could not be given back: {}", error)

    def _store_failed(self, error: Exception, sink: str = "") -> None:
        """Wait for a store that cannot be used now. Raises what is no such thing."""
        found = error if isinstance(error, Retryable) else faults.of(error, self._data.state)
        if not isinstance(found, Retryable):
            raise found or error
        self._complaints.make("store", f"deliveries cannot be recorded now, so none are sent: {found}", sink=sink)

    def _end_all(self, error: Exception) -> None:
        """No line goes on: `run` raises it."""
        self._ended_by = self._ended_by or error
        self._station.bell.ring()

    def _opened(self, db: sqlite3.Connection, number: int, name: str, definition: SinkDef) -> tuple[Sink, int]:
        """The sink and its run size; why it could not be made is on view until it can."""
        try:
            found = self._open_sink(name, definition)
        except (CrossdockError, sqlite3.Error, OSError) as error:
            with transaction(db):
                sinks.report(
                    db,
                    number,
                    self._station.owner,
                    failures=1,
                    problem=KNOWN.clean(str(error)),
                    next_try_us=0,
                    now_us=now_us(),
                )
            if isinstance(error, CrossdockError):
                raise
            # Of the sink: it must not be taken for one of the store.
            raise CrossdockError(f"sink {name} cannot be opened: {error}") from error
        with transaction(db):
            sinks.opened(db, number, self._station.owner)
        return found

    def _claimed(self, db: sqlite3.Connection, number: int, stop: Stop) -> int | None:
        """The cursor, once the lease is to be had; None when the stop came first."""
        while not stop.is_set():
            cursor = sinks.claim(db, number, self._station.owner, now_us())
            if cursor is not None:
                return cursor
            if not leases.reap(db, self._data.state):
                stop.wait(CLAIM_SECONDS)
        return None

    def _work(self, line: Line, served: _Served, stop: Stop) -> None:
        failures = 0
        while not stop.is_set():
            try:
                busy = line.step()
                seconds = 0.0 if busy else line.seconds_to_wait(POLL_SECONDS)
            except Corrupt as error:  # a document in the store is not what was written
                raise faults.damaged(self._data.state, str(error)) from error
            except (sqlite3.Error, OSError, Retryable) as error:
                failures += 1
                self._store_failed(error, line.name)
                stop.wait(STORE_BACKOFF.delay(failures, self._rng))
                continue
            failures = 0
            self._complaints.over("store", "deliveries are recorded and sent again")
            if not busy:
                served.bell.wait(seconds)
                served.bell.clear()
        line.save()


def _policy(definition: SinkDef) -> Policy:
    return Policy(
        max_age_us=int(definition.retry_hours * _HOUR_US),
        max_attempts=definition.retry_attempts,
        rate=definition.rate or 0.0,
        supersede=frozenset(definition.supersede),
        ttl_us={document: int(hours * _HOUR_US) for document, hours in definition.ttl_hours.items()},
        versions=dict(definition.versions),
    )


def _end(served: _Served) -> None:
    served.stop.set()
    served.bell.set()


def run_dispatcher(data: DataDirectory, stop: Stop) -> None:
    """Work until *stop*. Raises StoreDamaged, HolderLost, and what a restart may mend: sqlite3.Error, Retryable."""
    from crossdock_controller.config.runtime import Runtime as Configured

    dispatcher = Dispatcher(data, Configured.from_tree)
    try:
        dispatcher.run(stop)
    finally:
        dispatcher.close()
