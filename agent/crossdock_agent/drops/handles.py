"""Opening a file never hinders the program that writes, renames or deletes it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO, cast

if sys.platform == "win32":
    import ctypes
    import msvcrt
    import os
    from ctypes import wintypes

    _GENERIC_READ = 0x80000000
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

    def open_shared(path: Path) -> BinaryIO:
        """Unbuffered. Raises OSError; PermissionError also when a writer lets nobody in (ERROR_SHARING_VIOLATION)."""
        handle = _kernel.CreateFileW(str(path), _GENERIC_READ, _SHARE_ALL, None, _OPEN_EXISTING, _SEQUENTIAL, None)
        if handle == _INVALID:
            raise ctypes.WinError(ctypes.get_last_error())
        return cast(BinaryIO, os.fdopen(msvcrt.open_osfhandle(handle, os.O_RDONLY), "rb", buffering=0))

else:

    def open_shared(path: Path) -> BinaryIO:
        """Unbuffered. Raises OSError."""
        return cast(BinaryIO, path.open("rb", buffering=0))
