"""Windows keeps a secret for this machine: CryptProtectData and its reverse, and nothing else.

Machine scope: any account here could undo it, so the file it goes into is the service's alone (see `files.protect`).
What it adds is that a copy of the file is worth nothing on another machine.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from crossdock.errors import ConfigError

UI_FORBIDDEN = 0x1
LOCAL_MACHINE = 0x4
_ENTROPY = b"crossdock-agent key 1"  # so that no other program's blob is taken for a key


class Blob(ctypes.Structure):
    """DATA_BLOB."""

    _fields_ = (("size", ctypes.c_uint32), ("data", ctypes.POINTER(ctypes.c_char)))


class Dpapi:
    """*protect* and *unprotect* are crypt32's CryptProtectData and CryptUnprotectData, *free* is LocalFree."""

    def __init__(
        self, protect: Callable[..., int], unprotect: Callable[..., int], free: Callable[[Any], object]
    ) -> None:
        self._protect = protect
        self._unprotect = unprotect
        self._free = free

    def protect(self, data: bytes) -> bytes:
        """Raises ConfigError when Windows refuses."""
        return self._call(self._protect, data, "wrap the private key")

    def unprotect(self, data: bytes) -> bytes:
        """Raises ConfigError when it was made on another machine, or is damaged."""
        return self._call(self._unprotect, data, "unwrap the private key; was its directory copied from elsewhere?")

    def _call(self, function: Callable[..., int], data: bytes, purpose: str) -> bytes:
        given, entropy, made = _blob(data), _blob(_ENTROPY), Blob()
        done = function(
            ctypes.pointer(given), None, ctypes.pointer(entropy), None, None, UI_FORBIDDEN | LOCAL_MACHINE,
            ctypes.pointer(made),
        )  # fmt: skip
        if not done:
            raise ConfigError(
                f"Windows (DPAPI) does not {purpose} (error {_last_error()})", hint="enrol again with a new token"
            )
        try:
            return ctypes.string_at(made.data, made.size)
        finally:
            self._free(made.data)


def _blob(data: bytes) -> Blob:
    buffer = ctypes.create_string_buffer(data, len(data))
    blob = Blob(len(data), ctypes.cast(buffer, ctypes.POINTER(ctypes.c_char)))
    blob.kept = buffer  # the pointer alone keeps nothing alive
    return blob


if sys.platform == "win32":

    def of_windows() -> Dpapi:
        crypt32 = ctypes.WinDLL("crypt32", use_last_error=True)
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        pointer = ctypes.POINTER(Blob)
        for function in (crypt32.CryptProtectData, crypt32.CryptUnprotectData):
            function.argtypes = [
                pointer, ctypes.c_void_p, pointer, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, pointer,
            ]  # fmt: skip
            function.restype = ctypes.c_int
        kernel32.LocalFree.argtypes = [ctypes.c_void_p]
        kernel32.LocalFree.restype = ctypes.c_void_p
        return Dpapi(crypt32.CryptProtectData, crypt32.CryptUnprotectData, kernel32.LocalFree)

    def _last_error() -> int:
        return ctypes.get_last_error()
else:

    def of_windows() -> Dpapi:
        raise ConfigError("DPAPI is a part of Windows", hint="this key was made there: enrol again with a new token")

    def _last_error() -> int:
        return ctypes.get_errno()
