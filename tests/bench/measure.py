"""CPU time and peak memory of whole process trees, and what this machine is.

CPU is user plus system time between `start` and `stop`; what a child used before it ended counts for its parent. Peak
memory is the kernel's own mark (VmHWM on Linux, PeakWorkingSetSize on Windows), since the process began.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    name: str
    cpu_seconds: float
    peak_rss_mb: float


class Meter:
    """`Meter({"agent": pid})`, `start()`, the work, `stop()`: one Usage a process, children named apart."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = {name: psutil.Process(pid) for name, pid in roots.items()}
        self._before: dict[psutil.Process, float] = {}
        self._wall = 0.0

    def start(self) -> None:
        self._before = {process: _cpu_seconds(process) for process, _ in self._processes()}

    def stop(self) -> list[Usage]:
        usages = []
        for process, name in self._processes():
            try:
                used = _cpu_seconds(process) - self._before.get(process, 0.0)
                usages.append(Usage(name, round(used, 3), round(_peak_bytes(process) / 2**20, 1)))
            except psutil.NoSuchProcess:
                continue
        return usages

    def _processes(self) -> list[tuple[psutil.Process, str]]:
        found = []
        for name, root in self._roots.items():
            found.append((root, name))
            found += [(child, f"{name}: {_role(child)}") for child in root.children(recursive=True)]
        return found


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return times.user + times.system + ended


def _peak_bytes(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = process.memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


def _role(process: psutil.Process) -> str:
    """What stands after --role in the command line, or the program's name."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return "ended"
    return words[words.index("--role") + 1] if "--role" in words[:-1] else process.name()


def machine(directory: Path) -> dict[str, object]:
    """What a reader needs to compare: processor, versions, and how long a synced 4 KiB write takes in *directory*."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
        "fsync_ms": round(_fsync_ms(directory), 3),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _fsync_ms(directory: Path, times: int = 50) -> float:
    """Median of *times* appended and synced 4 KiB blocks."""
    took = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    return sorted(took)[times // 2] * 1000
