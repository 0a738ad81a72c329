"""Who works on what. A lease ends with its time, or at once when its owner is provably dead.

Each worker process has an owner name and holds a file of that name locked for as long as it lives; the operating system
gives the lock back however the process ends. Whoever gets hold of another owner's lock has the proof that it is dead,
and frees its leases. The time is for what no lock tells: a process that hangs, or a file that someone deleted.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import uuid
from pathlib import Path

from crossdock.errors import Refused
from crossdock.lock import SingleInstance
from crossdock_controller.store.connection import transaction
from crossdock_controller.store.poison import Hand, accuse, in_hand

LEASE_US = 30_000_000
_SUFFIX = ".alive"
_IN_HAND = ".hand"


class LeaseLost(Exception):  # noqa: N818 - not an error: another worker has the work now, and nothing was changed
    """Someone else moved the checkpoint, or holds the lease. The transaction is rolled back."""


class Owner:
    """This process's claim to be alive. Keep it open for as long as leases are held in its name."""

    def __init__(self, state: Path, role: str) -> None:
        self.name, self._path, self._lock = _lock_new(_directory(state), role)
        self.hand = Hand(self._path.with_suffix(_IN_HAND))

    def close(self) -> None:
        """Release the leases first (`release_all`): without its file an owner can no longer be proved dead."""
        self.hand.close()
        self._lock.close()
        with contextlib.suppress(OSError):  # a reaper on Windows has it open and removes it
            self._path.unlink()


def reap(db: sqlite3.Connection, state: Path) -> list[str]:
    """Free the leases of every owner that died on this machine; their names."""
    dead = []
    for path in sorted(_directory(state).glob("*" + _SUFFIX)):
        with contextlib.suppress(Refused, OSError):  # alive, or another reaper is at it
            name = path.name.removesuffix(_SUFFIX)
            left = path.with_suffix(_IN_HAND)
            with SingleInstance(path):
                _bury(db, name, in_hand(left))
                left.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            dead.append(name)
    if dead:
        from loguru import logger  # here: `crossdock status` reads leases too, and starts a third faster without it

        logger.bind(owners=",".join(dead)).info("leases of dead workers freed")
    return dead


def renew(db: sqlite3.Connection, owner: str, now_us: int) -> None:
    """Extend every lease of *owner*."""
    with transaction(db):
        for table in ("normalizer_checkpoints", "sink_cursors"):
            db.execute(f"UPDATE {table} SET lease_until_us = ? WHERE owner = ?", (now_us + LEASE_US, owner))


def release_all(db: sqlite3.Connection, owner: str) -> None:
    with transaction(db):
        _release(db, owner)


def _bury(db: sqlite3.Connection, owner: str, had_in_hand: tuple[int, int, int, int] | None) -> None:
    """What it died at is remembered together with its leases' end."""
    with transaction(db):
        _release(db, owner)
        if had_in_hand is not None:
            accuse(db, had_in_hand, time.time_ns() // 1000)


def _release(db: sqlite3.Connection, owner: str) -> None:
    for table in ("normalizer_checkpoints", "sink_cursors"):
        db.execute(f"UPDATE {table} SET owner = NULL, lease_until_us = 0 WHERE owner = ?", (owner,))
    db.execute("DELETE FROM wakers WHERE owner = ?", (owner,))


def free_all(db: sqlite3.Connection) -> None:
    """Free every lease: whoever holds one may not write any more. In a transaction."""
    for table in ("normalizer_checkpoints", "sink_cursors"):
        db.execute(f"UPDATE {table} SET owner = NULL, lease_until_us = 0")
    db.execute("DELETE FROM wakers")


def _lock_new(directory: Path, role: str) -> tuple[str, Path, SingleInstance]:
    while True:
        name = f"{role}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        path = directory / (name + _SUFFIX)
        with contextlib.suppress(Refused):  # a reaper came between the making of the file and its locking
            lock = SingleInstance(path)
            if path.exists():
                return name, path, lock
            lock.close()


def _directory(state: Path) -> Path:
    return state.parent / "workers"
