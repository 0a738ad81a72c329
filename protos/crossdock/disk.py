"""A file that took its name stays there after a power cut only once its directory was synced, too."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Makes the names in *path* durable where a directory can be synced; Windows journals them without (and has no way
    to ask). Raises OSError."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep_private(database: Path) -> None:
    """Make an SQLite file and what stands beside it the owner's alone; files that come later take its mode (SQLite's
    os_unix.c). Its directory is private already: this is for the day when somebody opens that one up, or copies."""
    if os.name != "posix":
        return
    for suffix in ("", "-wal", "-shm", "-journal"):
        path = database.with_name(database.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
