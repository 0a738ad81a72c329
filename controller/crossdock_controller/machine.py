"""Which machine and which process: enough to prove that a process which left its name behind is gone.

Only a proof counts. Where there is none (another machine, another container, a system that does not tell), the answer
is "perhaps alive", and whoever asks has to watch for signs of life.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def host() -> str:
    return platform.node() or "unknown"


def machine() -> str:
    """This boot of this host, and this container of it: process ids mean the same only within."""
    try:
        boot = _BOOT.read_text("ascii").strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot = space = sys.platform
    return f"{host()} {boot} {space}"


def file_number(path: Path) -> str:
    """The number of the file on its disk: a copy has another one. Empty where the system has none."""
    return str(path.stat().st_ino or "")


def is_gone(machine_of: str, pid: int) -> bool:
    """True only when process *pid* of *machine_of* certainly runs no more."""
    if machine_of != machine() or pid == os.getpid():
        return False
    return not _windows_runs(pid) if sys.platform == "win32" else not _posix_runs(pid)


def _posix_runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Dead, and not yet buried by its parent: it writes nothing any more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return False
    return bool(fields) and fields[0] in {"Z", "X"}


def _windows_runs(pid: int) -> bool:
    if sys.platform != "win32":
        return True
    import ctypes

    query_limited_information, still_active, access_denied = 0x1000, 259, 5
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    handle = kernel.OpenProcess(query_limited_information, False, pid)
    if not handle:
        return bool(ctypes.get_last_error() == access_denied)
    code = ctypes.c_ulong()
    known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return not known or code.value == still_active
