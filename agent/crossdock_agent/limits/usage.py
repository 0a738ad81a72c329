"""What this process uses of its machine, as the operating system counts it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

_IO = Path("/proc/self/io")
_STATM = Path("/proc/self/statm")


def cpu_seconds() -> float:
    """Of all threads, user and system."""
    return time.process_time()


def written_bytes() -> int | None:
    """Bytes this process has caused to be written to disks; None where the system does not count them apart from what
    goes to the network (Windows) or keeps the count from us. What lies in memory (tmpfs) is not counted by Linux."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        lines = _IO.read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("write_bytes:")), None)


def resident_bytes() -> int | None:
    """Memory the process has in use; None where this is not known."""
    if sys.platform == "win32":
        return _working_set()
    try:
        pages = int(_STATM.read_text("ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


if sys.platform == "win32":
    import ctypes

    class _Counters(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS of psapi.h."""

        _fields_ = (
            ("cb", ctypes.c_uint32), ("PageFaultCount", ctypes.c_uint32), ("PeakWorkingSetSize", ctypes.c_size_t),
            ("WorkingSetSize", ctypes.c_size_t), ("QuotaPeakPagedPoolUsage", ctypes.c_size_t),
            ("QuotaPagedPoolUsage", ctypes.c_size_t), ("QuotaPeakNonPagedPoolUsage", ctypes.c_size_t),
            ("QuotaNonPagedPoolUsage", ctypes.c_size_t), ("PagefileUsage", ctypes.c_size_t),
            ("PeakPagefileUsage", ctypes.c_size_t),
        )  # fmt: skip

    def _working_set() -> int | None:
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        kernel.K32GetProcessMemoryInfo.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)
        counters = _Counters(cb=ctypes.sizeof(_Counters))
        if not kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb):
            return None
        return int(counters.WorkingSetSize)
