"""One process for one directory: a lock that the operating system gives back when its owner dies, however it dies."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

from crossdock.errors import Refused

if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


class SingleInstance:
    """Holds *path* locked until closed. Raises Refused when another process still holds it after *wait_seconds*."""

    def __init__(self, path: Path, wait_seconds: float = 0.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("a+b")
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                _lock(self._file)
                break
            except OSError as error:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                self._file.close()
                raise Refused(
                    f"{path.parent} is in use by another process",
                    hint="stop it first, or give this one a directory of its own",
                ) from error
        os.set_inheritable(self._file.fileno(), False)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> SingleInstance:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_held(path: Path) -> bool:
    """True when a process holds the lock at *path* now."""
    if not path.exists():
        return False
    try:
        SingleInstance(path).close()
    except Refused:
        return True
    return False
