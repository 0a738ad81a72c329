"""What an error of SQLite means to whoever runs the controller: come back later, or stop and restore.

A store that is full, read-only or on a failing disk is waited for: nothing of the transaction was written. A store that
is damaged is never worked on further, for what follows from wrong pages is worse than a pause.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossdock.errors import Corrupt, Retryable

_LITTLE_BYTES = 1024 * 1024  # an I/O error with less than this free is a full disk: SQLite could not grow a side file
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DISK = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class StoreUnavailable(Retryable):
    """The store cannot be written (or read) now. Nothing of the transaction is in it; the same may work later."""


class StoreFull(StoreUnavailable):
    """There is no room on the disk of the store, or less than is kept free."""


class StoreDamaged(Corrupt):
    """The store's file is not what was written. The controller stops."""


def of(error: BaseException, path: Path) -> StoreUnavailable | StoreDamaged | None:
    """What *error* says about the store at *path*; None when it says nothing about it (a fault of ours)."""
    if isinstance(error, StoreUnavailable | StoreDamaged):
        return error
    if isinstance(error, OSError):
        return full(path, str(error)) if error.errno in _NO_ROOM else None
    if not isinstance(error, sqlite3.Error):
        return None
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in _DAMAGED:
        return damaged(path, str(error))
    if code in _BUSY:
        return StoreUnavailable(f"{path} is locked by another process", hint="is a backup or an editor holding it?")
    if code not in _DISK:
        return None
    free = free_bytes(path)
    if code == sqlite3.SQLITE_FULL or (free is not None and free < _LITTLE_BYTES):
        return full(path, str(error))
    name = getattr(error, "sqlite_errorname", "")
    return StoreUnavailable(
        f"{path} cannot be used now: {error} ({name})",
        hint="check the disk and its mount (read-only?), and that this user may write there",
    )


def full(path: Path, said: str) -> StoreFull:
    free = free_bytes(path)
    known = "" if free is None else f", {free} bytes are free on its disk"
    return StoreFull(
        f"{path} cannot grow: {said}{known}", hint=f"free disk space under {place(path)}; all goes on by itself"
    )


def damaged(path: Path, said: str) -> StoreDamaged:
    return StoreDamaged(
        f"{path} is damaged: {said}",
        hint="keep a copy of the file, check the disk, and restore the data directory from its last backup"
        " (crossdock restore DIR); agents keep what is not acknowledged",
    )


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Raises StoreUnavailable or StoreDamaged in place of the errors that mean it."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        found = of(error, path)
        if found is None:
            raise
        raise found from error


def place(path: Path) -> Path:
    """The directory whose disk holds *path*, links followed."""
    return path.resolve().parent


def free_bytes(path: Path) -> int | None:
    """Free for this user on the disk of *path*; None when the directory cannot be asked."""
    try:
        return shutil.disk_usage(place(path)).free
    except OSError:
        return None
