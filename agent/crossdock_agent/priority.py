"""Step back behind the programs this machine is really for.

On Linux the disk follows: a process that asks for no I/O priority has the one its niceness stands for (ioprio_set(2)),
so one call lowers both, for every thread started afterwards. On Windows the priority class is lowered and the disk is
not: background mode would, but it also empties the memory of the process, which then reads it from the disk again.
"""

from __future__ import annotations

import ctypes
import os
import sys

from loguru import logger

_BELOW_NORMAL = 0x4000  # processthreadsapi.h
_IDLE = 0x40
_IDLE_FROM = 15  # of POSIX niceness, 0 to 19


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
