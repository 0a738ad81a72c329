"""A disk that is really full: a small tmpfs of our own, mounted for one test and unmounted after it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1024 * 1024


class SmallDisk:
    """`fill` leaves so many bytes free, `empty` gives the space back; what else lies on it stays."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    def free(self) -> int:
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            left = self.free() - leave
            while left > 0:
                try:
                    left -= file.write(b"x" * min(left, 64 * 1024))
                except OSError:
                    break
        assert self.free() <= leave

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def grow(self, mib: int) -> None:
        """As a volume is made larger under a running system."""
        subprocess.run(["mount", "-o", f"remount,size={mib}m", str(self.root)], check=True)


@contextmanager
def small_disk(root: Path, mib: int) -> Iterator[SmallDisk]:
    """Fails (without CI: skips) where no file system can be mounted; a full disk cannot be had otherwise."""
    root.mkdir(parents=True, exist_ok=True)
    if sys.platform != "linux":
        pytest.skip("needs Linux: a tmpfs is mounted")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "crossdock-small", str(root)]
    done = subprocess.run(mount, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        said = f"needs root, to mount a small tmpfs: {done.stderr.strip()}"
        pytest.fail(said) if os.environ.get("CI") == "true" else pytest.skip(said)
    try:
        yield SmallDisk(root)
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)
