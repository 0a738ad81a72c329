"""Faults that a process meets in its own libc: a moved wall clock, a disk that is full or broken. Linux with glibc.

The shim is a small shared object (`tests/chaos/shim/*.c`), loaded by LD_PRELOAD into processes started with
`Shim.environment(NAME)` and into all their children. Without a fault set it changes nothing.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

_SOURCES = Path(__file__).with_name("shim")
_BUILD = Path(__file__).parents[2] / "build" / "shim"  # ignored by git
_FLAGS = ["-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread"]

_MAGIC = b"crossdk1"
_LAYOUT = struct.Struct("<8sqi4xQ1024s")  # struct control of shim.h
_OFFSET, _ERROR, _HITS, _PATH = 8, 16, 24, 32
_ERRORS = {"": 0, "ENOSPC": errno.ENOSPC, "EIO": errno.EIO}


def usable() -> bool:
    """On Linux it must work; elsewhere there is no LD_PRELOAD."""
    return sys.platform == "linux"


def library() -> Path:
    """The shared object, compiled once for its sources. Raises RuntimeError that says what is missing."""
    sources = sorted(_SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(b"".join(s.read_bytes() for s in sources)).hexdigest()[:16]
    made = _BUILD / f"faults-{digest}.so"
    if made.exists():
        return made
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise RuntimeError(
            "no C compiler for the fault shim: run `packaging/setup.sh test`, or install gcc and libc6-dev"
        )
    _BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_BUILD) as own:
        output = (
            Path(own) / made.name
        )  # two test processes may compile at a time; the last to finish wins, with the same
        command = [compiler, *_FLAGS, "-o", str(output), *(str(s) for s in sources if s.suffix == ".c"), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise RuntimeError(f"the fault shim does not compile (are gcc and libc6-dev installed?):\n{done.stderr}")
        output.replace(made)
    return made


class Shim:
    """The control files of a set of processes, in *directory* (made when missing; one a run).

    A process that was started as NAME listens to the faults of NAME. Its children do so too, and those that were given
    a role listen to NAME-ROLE as well: `controller-normalize`, `controller-dispatch`; the agent's short helper
    processes are `agent-helper`. Offsets of both add up.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory.resolve()
        self._library = library()
        self._maps: dict[str, mmap.mmap] = {}

    def environment(self, name: str) -> dict[str, str]:
        """What a child process called *name* needs in its environment, beside the rest."""
        before = os.environ.get("LD_PRELOAD", "")
        return {
            "LD_PRELOAD": f"{self._library}:{before}" if before else str(self._library),
            "CROSSDOCK_SHIM_DIR": str(self.directory),
            "CROSSDOCK_SHIM_NAME": name,
        }

    def set(self, name: str, clock_offset_seconds: float = 0.0, errno_name: str = "", path_contains: str = "") -> None:
        """From now on *name* has exactly these faults; none of them: it is well again.

        errno_name: "", "ENOSPC" or "EIO", met by calls that write, sync, cut, rename or remove (ENOSPC: not remove) a
        file whose path contains *path_contains*.
        """
        error, path = _ERRORS[errno_name], path_contains.encode()
        if len(path) >= 1024:
            raise ValueError(f"path_contains has {len(path)} bytes; the shim takes 1023")
        control = self._map(name)
        control[_ERROR : _ERROR + 4] = bytes(4)  # nobody fails by half of the new path
        control[_PATH : _PATH + 1024] = path.ljust(1024, b"\0")
        struct.pack_into("<q", control, _OFFSET, round(clock_offset_seconds * 1e9))
        struct.pack_into("<i", control, _ERROR, error)

    def hits(self, name: str) -> int:
        """How many calls have failed so far because of the faults of *name*."""
        return int(struct.unpack_from("<Q", self._map(name), _HITS)[0])

    def close(self) -> None:
        while self._maps:
            self._maps.popitem()[1].close()

    def __enter__(self) -> Shim:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _map(self, name: str) -> mmap.mmap:
        if name not in self._maps:
            with os.fdopen(os.open(self.directory / f"{name}.ctl", os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
                if os.fstat(file.fileno()).st_size < _LAYOUT.size:
                    os.ftruncate(file.fileno(), _LAYOUT.size)
                self._maps[name] = mmap.mmap(file.fileno(), _LAYOUT.size)
            self._maps[name][:8] = _MAGIC
        return self._maps[name]
