"""Giving a file its final name without ever taking another file's: the temporary name is gone when, and only when, the
final one was given. That is what a crash is decided by."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

_NO_REPLACE = 1  # RENAME_NOREPLACE of renameat2(2)
_AT_CWD = -100
_TRIES = 50  # on Windows a reader or a virus scanner may hold a file for a moment
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def move_new(source: Path, target: Path) -> bool:
    """Rename; False, and nothing done, when there is a *target*. Raises OSError."""
    if sys.platform == "win32":
        return _patiently(lambda: _rename_windows(source, target))
    rename = _renameat2()
    if rename is not None:
        if rename(_AT_CWD, os.fsencode(source), _AT_CWD, os.fsencode(target), _NO_REPLACE) == 0:
            return True
        code = ctypes.get_errno()
        if code == errno.EEXIST:
            return False
        if code not in _UNSUPPORTED:
            raise OSError(code, os.strerror(code), str(source), None, str(target))
    if os.path.lexists(target):  # a file system without it: who makes a file between here and the next line loses it
        return False
    source.rename(target)
    return True


def move_over(source: Path, target: Path) -> None:
    """Rename, in place of what is there. Raises OSError."""

    def replace() -> bool:
        source.replace(target)
        return True

    _patiently(replace)


def write_synced(path: Path, data: bytes) -> None:
    """A new file at *path*, on the disk. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o644), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _rename_windows(source: Path, target: Path) -> bool:
    try:
        source.rename(target)  # never over another file there
    except FileExistsError:
        return False
    return True


def _patiently(step: Callable[[], bool]) -> bool:
    for attempt in range(_TRIES):
        try:
            return step()
        except PermissionError:
            if sys.platform != "win32" or attempt == _TRIES - 1:
                raise
            time.sleep(0.05)
    raise AssertionError("the last try returns or raises")


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    try:
        return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    except OSError:
        return None
