"""One agent a state directory. The lock is the operating system's: it ends with the process, however that ends."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from crossdock.errors import ConfigError

if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


class InstanceLock:
    """Held inside its `with` block. Raises ConfigError when another process still holds it after *wait_seconds*."""

    def __init__(self, directory: Path, wait_seconds: float = 0.0) -> None:
        self._path = directory / "agent.lock"
        self._wait_seconds = wait_seconds
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        file = self._path.open("a+b")
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                _lock(file)
                break
            except OSError as error:
                if time.monotonic() < deadline:  # `status` and `check` hold it for a moment to see whether it is free
                    time.sleep(0.05)
                    continue
                file.close()
                raise ConfigError(
                    f"another crossdock-agent runs on {self._path.parent}",
                    hint="stop it first, or give this one a state directory of its own with --state",
                ) from error
        self._file = file
        os.set_inheritable(file.fileno(), False)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def is_running(directory: Path) -> bool:
    """True when an agent holds the lock of *directory* now."""
    if not (directory / "agent.lock").exists():
        return False
    try:
        with InstanceLock(directory):
            return False
    except ConfigError:
        return True
