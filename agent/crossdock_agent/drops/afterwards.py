"""Moving never overwrites and never loses: a file is under one name or the other, whole, at any moment."""

from __future__ import annotations

import datetime as dt
import errno
import os
import shutil
from pathlib import Path

from loguru import logger


def move(path: Path, seen: os.stat_result, target: Path, now_us: int) -> Path:
    """Move *path*, just seen as *seen*, to *target* or a free name beside it; where it went. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target = free_name(target, now_us)
    try:
        path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:  # Windows reports ERROR_NOT_SAME_DEVICE as the same
            raise
        _move_across(path, seen, target)
        return target
    moved = target.stat()
    same = moved.st_ino == seen.st_ino or moved.st_mtime_ns == seen.st_mtime_ns  # FAT gives a moved file a new number
    if not same or moved.st_size != seen.st_size:
        # Somebody put another file there between the look and the move: it was not read yet, so it goes back.
        back = free_name(path, now_us)
        target.replace(back)
        logger.bind(file=str(back)).warning("file was replaced while it was moved; put back to be read")
    return target


def delete(path: Path) -> None:
    path.unlink(missing_ok=True)


def free_name(path: Path, now_us: int) -> Path:
    """*path*, or with the time (UTC) before its last suffix when it is taken."""
    if not _exists(path):
        return path
    stamp = dt.datetime.fromtimestamp(now_us / 1e6, dt.UTC).strftime("%Y%m%dT%H%M%S")
    candidate, n = path.with_name(f"{path.stem}.{stamp}{path.suffix}"), 1
    while _exists(candidate):
        candidate, n = path.with_name(f"{path.stem}.{stamp}-{n}{path.suffix}"), n + 1
    return candidate


def _move_across(path: Path, seen: os.stat_result, target: Path) -> None:
    """To another disk: copied, synced, named, and only then deleted here, if it is still the file that was copied."""
    part = target.with_name(f".{target.name}.part")
    with path.open("rb") as source, part.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1024 * 1024)
        copy.flush()
        os.fsync(copy.fileno())
    shutil.copystat(path, part)
    now = path.stat()
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (seen.st_ino, seen.st_size, seen.st_mtime_ns):
        part.unlink()
        return
    part.replace(target)
    path.unlink()


def _exists(path: Path) -> bool:
    return os.path.lexists(path)
