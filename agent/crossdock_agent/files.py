"""Small files that are whole or absent: written beside, synced, moved into place. Private ones are the owner's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

from loguru import logger

from crossdock.disk import sync_directory

_TRIES = 50  # on Windows a reader or a virus scanner may hold the old file for a moment


def write_atomic(path: Path, data: bytes, *, private: bool = False, durable: bool = True) -> None:
    """Replace *path* by *data*; a crash leaves the old file or the new one. *private*: readable by the owner only."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(beside, flags, 0o600 if private else 0o644), "wb") as file:
        if private:
            protect(beside)
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    for attempt in range(_TRIES):
        try:
            beside.replace(path)
            break
        except PermissionError:
            if attempt == _TRIES - 1:
                raise
            time.sleep(0.05)
    if durable:
        sync_directory(path.parent)


def private_directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if sys.platform != "win32":
        path.chmod(0o700)


def give_to_owner(directory: Path) -> None:
    """What root wrote below *directory* becomes its owner's: a person enrols by sudo, the service has its own account.
    Not what has another name elsewhere: that account may have put it there."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    owner = directory.stat()
    for path in directory.rglob("*"):
        found = path.lstat()
        is_here_alone = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
        if is_here_alone and found.st_uid == 0 and owner.st_uid != 0:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def protect(path: Path) -> None:
    """Owner only: mode 600, or on Windows an ACL of the current account, Administrators and SYSTEM (best effort)."""
    if sys.platform != "win32":
        path.chmod(0o600)
        return
    account = os.environ.get("USERNAME", "")
    grants = ["*S-1-5-18:F", "*S-1-5-32-544:F", *([f"{account}:F"] if account else [])]
    done = subprocess.run(  # noqa: S603 - a fixed Windows tool
        [_icacls(), str(path), "/inheritance:r", "/grant:r", *grants],
        check=False, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW,
    )  # fmt: skip
    if done.returncode:
        logger.bind(file=str(path)).warning("access to the file could not be limited to its owner (icacls)")


def exposed(path: Path) -> bool:
    """True when others than the owner may read *path*. On Windows the ACL is set at writing and not read back."""
    return sys.platform != "win32" and bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def _icacls() -> str:
    return str(Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32" / "icacls.exe")
