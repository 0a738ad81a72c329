"""One process for one directory: a lock that the operating system gives back when its owner dies, however it dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from crossdock.errors import Refused


class SingleInstance:
    """Holds *path* locked until closed. Raises Refused when another process holds it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("a+b")
        if not _try_lock(self._file):
            self._file.close()
            raise Refused(
                f"{path.parent} is in use by another process", hint="stop it first, or choose another directory"
            )

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> SingleInstance:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _try_lock(file: IO[bytes]) -> bool:
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    os.set_inheritable(file.fileno(), False)
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
