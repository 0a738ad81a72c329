"""The log that an agent keeps for those who cannot visit it: a few small files, rotated, read back by time and level.

Writing never fails for the writer: a full disk loses lines, which are counted and said once it works again.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BufferedWriter
from pathlib import Path

FILES = 5
ORDER = {"TRACE": 5, "DEBUG": 10, "INFO": 20, "SUCCESS": 25, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


class KeptLog:
    """A sink for loguru (`write` gets one line with its end): *path*, then `.1` to `.4`, each at most *limit* bytes."""

    def __init__(self, path: Path, limit: int, files: int = FILES) -> None:
        self._path = path
        self._limit = limit
        self._files = files
        self._lock = threading.Lock()
        self._file: BufferedWriter | None = None
        self._size = 0
        self._lost = 0

    def write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        with self._lock:
            try:
                self._append(data)
            except (OSError, ValueError):  # said with the next line that can be written
                self._lost += 1
                self._close()

    def close(self) -> None:
        with self._lock:
            self._close()

    def stop(self) -> None:
        """loguru calls it when the sink is taken away."""
        self.close()

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab")
            self._size = self._file.tell()
        if self._size and self._size + len(data) > self._limit:
            self._rotate()
        if self._lost:
            lost, self._lost = f"({self._lost} lines could not be written here)\n".encode(), 0
            data = lost + data
        self._file.write(data)
        self._file.flush()
        self._size += len(data)

    def _rotate(self) -> None:
        """One that cannot be renamed (Windows, while somebody reads it) grows on until it can."""
        self._close()
        with suppress(OSError):
            for number in range(self._files - 1, 0, -1):
                older = _numbered(self._path, number - 1)
                if older.exists():
                    older.replace(_numbered(self._path, number))
        self._file = self._path.open("ab")
        self._size = self._file.tell()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                self._lost += 1


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def read(path: Path, files: int = FILES) -> Iterator[str]:
    """The lines of *path* and of those rotated away from it, oldest first. What cannot be read is left out."""
    for number in range(files - 1, -1, -1):
        try:
            with _numbered(path, number).open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    yield line.rstrip("\n")
        except OSError:
            continue


def chosen(lines: Iterable[str], since: dt.datetime, level: str, grep: str, limit_bytes: int) -> tuple[list[str], int]:
    """Lines from *since* on, of *level* and above, with *grep* in them in any case; and how many older ones were left
    out because of *limit_bytes*. A line without a time of its own (a traceback) goes with the one before it."""
    least, wanted = ORDER.get(level, 0), grep.casefold()
    kept: deque[str] = deque()
    size = left_out = 0
    for entry in _entries(lines):
        at, order = _head(entry[0])
        if at is None or at < since or order < least:
            continue
        text = "\n".join(entry)
        if wanted and wanted not in text.casefold():
            continue
        kept.append(text)
        size += len(text.encode("utf-8", "replace")) + 1
        while size > limit_bytes and kept:
            size -= len(kept.popleft().encode("utf-8", "replace")) + 1
            left_out += 1
    return list(kept), left_out


def _entries(lines: Iterable[str]) -> Iterator[list[str]]:
    entry: list[str] = []
    for line in lines:
        if entry and _head(line)[0] is not None:
            yield entry
            entry = []
        entry.append(line)
    if entry:
        yield entry


def _head(line: str) -> tuple[dt.datetime | None, int]:
    """When, and how severe: "2026-11-26T20:07:23.123+0000 INFO    agent ..."."""
    parts = line.split(maxsplit=2)
    if len(parts) < 2 or parts[1] not in ORDER:
        return None, 0
    try:
        at = dt.datetime.fromisoformat(parts[0])
    except ValueError:
        return None, 0
    return (at, ORDER[parts[1]]) if at.tzinfo is not None else (None, 0)
