"""What a file sink has published: an append-only file of entries, each whole and checksummed or not there at all.

An entry is a header (magic, CRC-32 of the rest, number of the file, count of ids) and the 16-byte event ids. A torn
entry at the end is what a crash leaves; it is cut off. Only the newest *remembered* ids are kept: past twice as many,
the file is rewritten beside itself and replaced.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from loguru import logger

from crossdock.disk import sync_directory

_HEADER = struct.Struct(">4sIQI")  # magic, crc32 of number, count and ids, number of the file, count of ids
_COVERED = struct.Struct(">QI")
_MAGIC = b"CDL1"
_ID_BYTES = 16


class Ledger:
    """Open for appending until `close`. `last` is the number of the newest published file, 0 before the first."""

    def __init__(self, path: Path, remembered: int) -> None:
        """Raises OSError."""
        self._path, self._remembered = path, remembered
        self._ids: dict[bytes, None] = {}  # in order of publication
        self.last = 0
        data = path.read_bytes() if path.exists() else b""
        whole = self._load(data)
        self._stored = len(self._ids)
        self._file: io.FileIO = path.open("ab", buffering=0)
        try:
            if whole < len(data):
                logger.bind(path=str(path), bytes=len(data) - whole).warning("torn end of ledger cut off")
                self._file.truncate(whole)
                os.fsync(self._file.fileno())
            sync_directory(path.parent)
        except OSError:
            self._file.close()
            raise

    def __contains__(self, event_id: bytes) -> bool:
        return event_id in self._ids

    def append(self, number: int, ids: Sequence[bytes]) -> None:
        """Durable when it returns. Raises OSError; the ledger must then be opened anew."""
        self._file.write(_entry(number, ids))
        os.fsync(self._file.fileno())
        self._add(number, ids)
        self._stored += len(ids)
        if self._stored > 2 * self._remembered:
            self._compact()

    def close(self) -> None:
        self._file.close()

    def _load(self, data: bytes) -> int:
        """Takes in every whole entry; the offset at which they end."""
        end = 0
        for end, number, ids in _entries(data):  # noqa: B007 - the last offset is the result
            self._add(number, ids)
        return end

    def _add(self, number: int, ids: Sequence[bytes]) -> None:
        self.last = max(self.last, number)
        self._ids.update(dict.fromkeys(ids))
        for old in list(islice(self._ids, max(0, len(self._ids) - self._remembered))):
            del self._ids[old]

    def _compact(self) -> None:
        temporary = self._path.with_suffix(".ledger.new")
        with temporary.open("wb") as file:
            file.write(_entry(self.last, list(self._ids)))
            file.flush()
            os.fsync(file.fileno())
        self._file.close()  # Windows does not replace an open file
        temporary.replace(self._path)
        sync_directory(self._path.parent)
        self._file = self._path.open("ab", buffering=0)
        self._stored = len(self._ids)


def _entry(number: int, ids: Sequence[bytes]) -> bytes:
    covered = _COVERED.pack(number, len(ids)) + b"".join(ids)
    return _MAGIC + struct.pack(">I", zlib.crc32(covered)) + covered


def _entries(data: bytes) -> Iterator[tuple[int, int, list[bytes]]]:
    """(offset after it, number, ids) of each whole entry, up to the first that is not."""
    start = 0
    while start + _HEADER.size <= len(data):
        magic, crc, number, count = _HEADER.unpack_from(data, start)
        first, end = start + _HEADER.size, start + _HEADER.size + count * _ID_BYTES
        if magic != _MAGIC or end > len(data) or zlib.crc32(data[start + 8 : end]) != crc:
            return
        yield end, number, [data[i : i + _ID_BYTES] for i in range(first, end, _ID_BYTES)]
        start = end
