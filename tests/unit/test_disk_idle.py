"""The I/O class of the whole process, asked of the kernel for each of its threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, platform, threading
from pathlib import Path
from crossdock_agent import priority
GET = {"x86_64": 252, "aarch64": 31, "riscv64": 31, "ppc64le": 274, "s390x": 283}[platform.machine()]
libc = ctypes.CDLL(None)

def classes():
    return sorted({libc.syscall(GET, 1, int(t.name)) >> 13 for t in Path("/proc/self/task").iterdir()})

go_on = threading.Event()
threading.Thread(target=go_on.wait).start()
before = classes()
priority.disk_idle(True)
idle = classes()
threading.Thread(target=go_on.wait).start()
later = classes()
priority.disk_idle(False)
print(before, idle, later, classes())
go_on.set()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="asks Linux; Windows has an I/O priority of its own")
def test_every_thread_is_served_only_when_the_disk_is_idle_and_all_of_that_ends_again() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    before, idle, later, after = done.stdout.replace("] [", "]|[").strip().split("|")
    assert idle == later == "[3]"  # IOPRIO_CLASS_IDLE, also of a thread started afterwards
    assert "[3]" not in (before, after)
    assert done.stderr == ""
