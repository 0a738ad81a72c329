"""Opening a file never hinders the program that writes, renames or deletes it, however long its path is."""

from __future__ import annotations

import errno
import ntpath
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

_HELD = (32, 33)  # winerror.h: ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION
_VERBATIM = "\\\\?\\"

if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    _GENERIC_READ = 0x80000000
    _SHARE_READ = 0x1
    _SHARE_ALL = 0x1 | 0x2 | 0x4  # read, write, delete: Python's open() leaves out delete
    _OPEN_EXISTING = 3
    _SEQUENTIAL = 0x08000000
    _INVALID = wintypes.HANDLE(-1).value
    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.CreateFileW.restype = wintypes.HANDLE
    _kernel.CreateFileW.argtypes = [
        wintypes.LPCWSTR, wintypes.DWORD, wintypes.DWORD, wintypes.LPVOID,
        wintypes.DWORD, wintypes.DWORD, wintypes.HANDLE,
    ]  # fmt: skip

    def _open(path: Path, share: int) -> BinaryIO:
        handle = _kernel.CreateFileW(str(path), _GENERIC_READ, share, None, _OPEN_EXISTING, _SEQUENTIAL, None)
        if handle == _INVALID:
            raise ctypes.WinError(ctypes.get_last_error())
        return cast(BinaryIO, os.fdopen(msvcrt.open_osfhandle(handle, os.O_RDONLY), "rb", buffering=0))

    def open_shared(path: Path) -> BinaryIO:
        """Unbuffered. Raises OSError; PermissionError also when a writer lets nobody in (ERROR_SHARING_VIOLATION)."""
        return _open(path, _SHARE_ALL)

    def _open_alone(path: Path) -> BinaryIO:
        """Fails while any program has it open for writing or deleting. Other readers are let in."""
        return _open(path, _SHARE_READ)

    open_alone: Callable[[Path], BinaryIO] | None = _open_alone

else:

    def open_shared(path: Path) -> BinaryIO:
        """Unbuffered. Raises OSError; PermissionError also for somebody's link to what is not his."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in its place does not hold us up
        try:
            _refuse_borrowed(descriptor, path)
            return cast(BinaryIO, os.fdopen(descriptor, "rb", buffering=0))
        except BaseException:
            os.close(descriptor)
            raise

    def _refuse_borrowed(descriptor: int, path: Path) -> None:
        """Who may write into a folder could put a link there to what only we may read, and have it delivered. So the
        name must belong to root, to us, or to the owner of what was opened (as Linux's `protected_symlinks`). Looked at
        after the opening: whatever is swapped meanwhile, the two owners are compared."""
        named, opened = os.lstat(path), os.fstat(descriptor)
        if not stat.S_ISREG(opened.st_mode):
            raise PermissionError(errno.EPERM, "is no file any more", str(path))
        if named.st_uid not in (0, os.geteuid(), opened.st_uid):
            raise PermissionError(
                errno.EPERM, "is a link of somebody who does not own what it leads to (chown -h it)", str(path)
            )

    open_alone: Callable[[Path], BinaryIO] | None = None  # no system but Windows refuses a second open


def is_held(path: Path, opener: Callable[[Path], BinaryIO] | None) -> bool:
    """Whether another program holds *path* open for writing, as *opener* (`open_alone`) finds it; where there is none
    nobody can say, and the answer is no. Raises OSError for anything else."""
    if opener is None:
        return False
    try:
        opener(path).close()
    except OSError as error:
        if getattr(error, "winerror", None) in _HELD:
            return True
        raise
    return False


def verbatim(path: str, *, windows: bool = sys.platform == "win32") -> str:
    """*path* as Windows takes it to the letter: longer than 260 characters, with dots or blanks at the end of a name,
    or with a reserved name (learn.microsoft.com, "Naming Files, Paths, and Namespaces"). Unchanged elsewhere."""
    if not windows or path.startswith(_VERBATIM):
        return path
    whole = ntpath.abspath(path)
    if whole.startswith("\\\\"):
        return f"{_VERBATIM}UNC{whole[1:]}"
    return _VERBATIM + whole
