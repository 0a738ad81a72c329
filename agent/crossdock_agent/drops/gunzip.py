"""A gzip file as its content, from front to back, in constant memory. Everything in it is checked or it is damaged."""

from __future__ import annotations

import zlib
from typing import BinaryIO, Protocol

from crossdock.errors import Corrupt

_GZIP = 31  # zlib's window bits for a gzip header and its trailer, which it checks (zlib.h, inflateInit2)
_READ_BYTES = 256 * 1024


class Damaged(Corrupt):
    """An archive, or a member of one, that will never be readable as it is. *code* is a word for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Content(Protocol):
    """What the records of a file are in: the file itself, or a stream out of it that can only begin anew."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, /) -> object: ...


class Gunzip:
    """Reads *file*, one gzip member after another (RFC 1952 §2.2), with zeros behind them at most."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflater = zlib.decompressobj(_GZIP)
        self._held = b""  # read, not yet unpacked
        self._ended = False  # the file
        self._between = True  # two members, or before the first
        self._members = self._at = 0
        self._restart()

    def read(self, size: int) -> bytes:
        """At most *size* bytes, and b"" at the end. Raises Damaged, OSError."""
        while True:
            if not self._held and not self._ended:
                self._held = self._file.read(_READ_BYTES)
                self._ended = not self._held
            if self._between and not self._next_member():
                if self._ended:
                    return b""
                continue
            block = self._inflate(size)
            if block:
                self._at += len(block)
                return block

    def seek(self, offset: int) -> None:
        """To *offset* of the content: backward, everything before it is unpacked again."""
        if offset < self._at:
            self._restart()
        while self._at < offset and self.read(min(_READ_BYTES, offset - self._at)):
            continue

    def _restart(self) -> None:
        self._file.seek(0)
        self._held, self._ended, self._between = b"", False, True
        self._members = self._at = 0

    def _next_member(self) -> bool:
        """Whether another one begins; what is held stands at it then."""
        if self._members:
            self._held = self._held.lstrip(b"\0")
        if not self._held:
            if self._ended and not self._members:
                raise Damaged("truncated", "the gzip file is empty")
            return False
        if self._held[:1] != b"\x1f":
            code, what = ("no_gzip", "it does not begin as one") if not self._members else ("damaged", _TRAILING)
            raise Damaged(code, f"this is no whole gzip file: {what}")
        self._inflater = zlib.decompressobj(_GZIP)
        self._members += 1
        self._between = False
        return True

    def _inflate(self, size: int) -> bytes:
        if not self._held and self._ended:
            raise Damaged("truncated", f"the gzip file ends in the middle, after {self._at} bytes of content")
        try:
            block = self._inflater.decompress(self._held, size)
        except zlib.error as error:
            raise Damaged("damaged", f"the gzip file is damaged after {self._at} bytes of content: {error}") from error
        self._held = self._inflater.unconsumed_tail
        if self._inflater.eof:
            self._held = self._inflater.unused_data
            self._between = True
        return block


_TRAILING = "other bytes follow its end"
