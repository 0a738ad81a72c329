"""Connections to state.db. What a transaction committed is on the disk (WAL, synchronous=FULL), or nothing of it is.

Three processes write: waiting for the write lock is done here, in short steps. SQLite's own busy handler sleeps up to
100 ms a time, which would leave the lock idle for longer than most of our transactions hold it.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossdock_controller.store import faults, holder

BUSY_SECONDS = 30.0
CHECKPOINT_PAGES = 4000  # 32 MB of log between checkpoints: a round of the normalizer fits
_STEP_SECONDS = 0.002


class Connection(sqlite3.Connection):
    """*fence* is the id of the holder in whose name it writes; empty for a command, which is of no holder."""

    fence = ""


def connect(path: Path, *, check_same_thread: bool = True, cache_mib: int = 8, fence: str = "") -> sqlite3.Connection:
    """A connection in autocommit mode; `transaction` opens transactions. The schema must be there (`migrate`)."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=check_same_thread, factory=Connection)
    db.fence = fence
    db.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(f"PRAGMA cache_size=-{cache_mib * 1024}")
    db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    db.execute("PRAGMA journal_size_limit=268435456")
    db.execute("PRAGMA temp_store=MEMORY")
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """One write transaction: committed at the end, rolled back on any error.

    Raises StoreUnavailable when the lock was not to be had within BUSY_SECONDS, HolderLost when another controller has
    the store; nothing was done then.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while not begin(db):
        if time.monotonic() > deadline:
            raise faults.StoreUnavailable(
                "the state database is locked by another process", hint="is a backup or an editor holding it?"
            )
        time.sleep(_STEP_SECONDS * (0.5 + random.random()))  # noqa: S311 - jitter
    with begun(db):
        yield


@contextmanager
def begun(db: sqlite3.Connection) -> Iterator[None]:
    """The transaction that `begin` began: committed at the end, rolled back on any error."""
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def begin(db: sqlite3.Connection) -> bool:
    """Begin a write transaction now; False when another process has the lock. Raises HolderLost."""
    db.execute("PRAGMA busy_timeout=0")
    try:
        db.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    finally:
        db.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
    fenced(db)
    return True


def fenced(db: sqlite3.Connection) -> None:
    """In a write transaction: rolled back unless the connection's holder still has the store. Raises HolderLost."""
    fence: str = getattr(db, "fence", "")
    if not fence:
        return
    try:
        holder.check(db, fence)
    except BaseException:
        db.execute("ROLLBACK")
        raise


def check_fence(db: sqlite3.Connection) -> None:
    """Raises HolderLost when another controller has the store: to be asked before something is done outside of it."""
    fence: str = getattr(db, "fence", "")
    if fence:
        holder.check(db, fence)


@contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """One consistent view for several reads; it blocks nobody."""
    db.execute("BEGIN")
    try:
        db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()  # the view is taken at the first read
        yield
    finally:
        db.execute("ROLLBACK")
