"""One controller holds the store: taken at the start, shown to be alive by a heartbeat, given back at the end.

A holder that did not give it back is gone when its process is proved to be gone; else it is watched for as long as a
few heartbeats take, by whether the row changes, so that clocks do not matter. A store that lies in another file, or on
another host, than its last holder had it in is a copy until a person says otherwise: the original may be running, and
two that deliver from one history are what nobody wants.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from loguru import logger

from crossdock.errors import Refused
from crossdock_controller import machine
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import connection, faults, holder, leases
from crossdock_controller.store.holder import Holder, HolderLost

BEAT_SECONDS = 2.0
WATCH_SECONDS = 10.0  # five heartbeats of silence; a holder that only slept is fenced all the same
_LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Seen:
    """Who stood in each file before us; None where nobody did."""

    state: Holder | None
    intake: Holder | None

    @property
    def any(self) -> Holder | None:
        return self.state or self.intake


def look(data: DataDirectory) -> Seen:
    return Seen(holder.at(data.state), holder.at(data.intake))


def described(found: Holder, now_us: int) -> str:
    """ "a controller at HOST (pid 12, since 2026-..., last sign of life 3 s ago, in /var/lib/crossdock)"."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(found.since_us / 1_000_000))
    silent = max(0, (now_us - found.beat_us) // 1_000_000)
    return f"a controller at {found.host} (pid {found.pid}, since {since}, last sign of life {silent} s ago)"


def clear_way(data: DataDirectory, *, take_over: bool, wait: Callable[[float], object] = time.sleep) -> Seen:
    """Whoever held the store, once it is certain that it does not any more, or *take_over* says to go on all the same.

    Raises Refused. Nothing is written. Before the schema is touched: a newer release must not migrate a file in use.
    """
    seen = look(data)
    found = seen.any
    if found is None or found.released_us:
        return seen
    now_us = time.time_ns() // 1000
    if take_over:
        logger.warning("taking the store over from {}, as told to", described(found, now_us))
        return seen
    copied = _copied(data, seen)
    if copied:
        raise Refused(
            f"{data.root} was last held by {described(found, now_us)} and not given back; {copied}",
            hint="if it is a copy of a controller that still runs, leave it alone; if that one is stopped for good,"
            f" start with: crossdock controller run --data {data.root} --take-over",
        )
    if machine.is_gone(found.machine, found.pid):
        return seen
    logger.info("watching for signs of life of {}", described(found, now_us))
    return _watched(data, seen, wait)


def _watched(data: DataDirectory, seen: Seen, wait: Callable[[float], object]) -> Seen:
    """Raises Refused when the row of either file changes within WATCH_SECONDS."""
    deadline = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < deadline:
        if wait(_LOOK_SECONDS) is True:  # told to stop
            return seen
        now = look(data)
        found = now.any
        if found is None or (found.released_us and now.any != seen.any):
            return now
        if now != seen:
            raise in_use(data, found)
        if machine.is_gone(found.machine, found.pid):
            return now
    return seen


def in_use(data: DataDirectory, found: Holder | None) -> Refused:
    who = described(found, time.time_ns() // 1000) if found is not None else "another process"
    return Refused(
        f"{data.root} is in use by {who}",
        hint="stop that one first; if it is certain that it never writes again: crossdock controller run --take-over",
    )


def _copied(data: DataDirectory, seen: Seen) -> str:
    """Why this looks like a copy of a store that another controller holds; empty when it does not."""
    for path, found in ((data.state, seen.state), (data.intake, seen.intake)):
        if found is None or found.released_us:  # the intake is taken after the state: whoever died between left it so
            continue
        if found.host != machine.host():
            return f"this is {machine.host()}"
        if found.file and path.exists() and found.file != machine.file_number(path):
            return f"{path} is not the file that it used: it was copied or restored"
    return ""


class Holding:
    """The store, held. *id* goes to every process that writes in our name."""

    def __init__(self, data: DataDirectory, seen: Seen, min_free_disk_bytes: int) -> None:
        """Takes both files. Raises HolderLost when someone came in between, StoreUnavailable when they cannot be
        written."""
        self.id = uuid.uuid4().hex
        self._data = data
        now_us = time.time_ns() // 1000
        for path, before in ((data.state, seen.state), (data.intake, seen.intake)):
            new = Holder(
                self.id, 0, machine.host(), machine.machine(), os.getpid(), str(path.resolve()),
                machine.file_number(path), now_us, now_us, 0, min_free_disk_bytes,
            )  # fmt: skip
            with faults.told(path), closing(connection.connect(path)) as db, connection.transaction(db):
                taken = holder.take(db, new, before)
                if path == data.state:
                    leases.free_all(db)  # of workers that are fenced off from now on
        logger.bind(holder=self.id[:8], generation=taken.generation).info("the store is held")

    def beat(self) -> None:
        """Into state.db. Raises HolderLost, StoreUnavailable."""
        state = self._data.state
        with faults.told(state), closing(connection.connect(state, fence=self.id)) as db, connection.transaction(db):
            holder.beat(db, self.id, time.time_ns() // 1000)

    def release(self) -> None:
        """Give both files back; one that cannot be written is found out by the next start, which waits a little."""
        for path in (self._data.state, self._data.intake):
            try:
                with closing(connection.connect(path, fence=self.id)) as db, connection.transaction(db):
                    holder.release(db, self.id, time.time_ns() // 1000)
            except HolderLost:
                return
            except (faults.StoreUnavailable, sqlite3.Error, OSError) as error:
                logger.warning("{} could not be given back, the next start watches it for a while: {}", path, error)
