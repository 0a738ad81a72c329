"""Step back behind the programs this machine is really for.

On Linux the disk follows: a process that asks for no I/O priority has the one its niceness stands for (ioprio_set(2)),
so one call lowers both, for every thread started afterwards. On Windows the priority class is lowered and the disk is
not: background mode would, but it also empties the memory of the process, which then reads it from the disk again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from pathlib import Path

from loguru import logger

_BELOW_NORMAL = 0x4000  # processthreadsapi.h
_IDLE = 0x40
_IDLE_FROM = 15  # of POSIX niceness, 0 to 19

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}  # the C library has no call
_ONE_THREAD = 1  # linux/ioprio.h
_IDLE_CLASS = 3 << 13
_NO_CLASS = 0  # as niceness says
_PROCESS_IO_PRIORITY = 33  # of NtSetInformationProcess
_VERY_LOW, _NORMAL = 0, 2


def lower(nice: int) -> None:
    """Run at least as nicely as *nice* (0 to 19). Call before threads start. Never raises: the agent runs anyway."""
    if nice <= 0:
        return
    try:
        _lower(nice)
    except OSError as error:
        logger.warning("the agent's priority cannot be lowered to nice {}: {}", nice, error)


def _lower(nice: int) -> None:
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        kernel.SetPriorityClass.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        wanted = _IDLE if nice >= _IDLE_FROM else _BELOW_NORMAL
        if not kernel.SetPriorityClass(kernel.GetCurrentProcess(), wanted):
            raise ctypes.WinError(ctypes.get_last_error())
    else:
        now = os.getpriority(os.PRIO_PROCESS, 0)
        if nice > now:  # who started it nicer had a reason; going back up is not ours, and not allowed
            os.setpriority(os.PRIO_PROCESS, 0, nice)


def disk_idle(idle: bool) -> None:
    """Let the disk serve this process only when nobody else asks, or as before. Never raises: the agent runs anyway.

    Threads started later have it from the one that starts them. On Linux it counts under an I/O scheduler that knows
    classes (bfq); on others nothing changes.
    """
    try:
        _disk_idle(idle)
    except OSError as error:
        logger.warning("the agent's disk priority cannot be changed: {}", error)


def _disk_idle(idle: bool) -> None:
    if sys.platform == "win32":
        kernel, ntdll = ctypes.WinDLL("kernel32"), ctypes.WinDLL("ntdll")
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        ntdll.NtSetInformationProcess.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32)
        wanted = ctypes.c_uint32(_VERY_LOW if idle else _NORMAL)
        status = ntdll.NtSetInformationProcess(
            kernel.GetCurrentProcess(), _PROCESS_IO_PRIORITY, ctypes.byref(wanted), ctypes.sizeof(wanted)
        )
        if status < 0:
            raise OSError(f"NtSetInformationProcess says {status & 0xFFFFFFFF:#010x}")
    elif sys.platform.startswith("linux"):
        number = _IOPRIO_SET.get(platform.machine())
        if number is None:
            raise OSError(f"not known how on {platform.machine()}")
        library = ctypes.CDLL(None, use_errno=True)
        for thread in Path("/proc/self/task").iterdir():
            wanted = _IDLE_CLASS if idle else _NO_CLASS
            if library.syscall(number, _ONE_THREAD, int(thread.name), wanted) and ctypes.get_errno() != errno.ESRCH:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    else:
        raise OSError(f"{sys.platform} has no such class")
