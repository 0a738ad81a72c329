"""UTF-16 under scanners that look for bytes: they are shown one byte for each two, and their offsets are doubled.

A character outside Latin-1 is shown as `?`, which means nothing to any scanner. `utf-16` is read as little endian, as
Windows writes it; a file with the mark of the other order is one reject that says so.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from crossdock_agent.framing.base import Scan, Scanner, require_framable

_WIDE = {"utf-16": "utf-16-le", "utf-16-le": "utf-16-le", "utf-16-be": "utf-16-be"}
_MARKS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


def require_lines(encoding: str) -> None:
    """Raises ValueError unless lines can be found in *encoding*."""
    if not _codec(encoding):
        require_framable(encoding)


def is_wide(encoding: str) -> bool:
    return bool(_codec(encoding))


def widened(scanner: Scanner, encoding: str) -> Scanner:
    """*scanner* for text in *encoding*."""
    codec = _codec(encoding)
    return WideScanner(scanner, codec) if codec else scanner


def _codec(encoding: str) -> str:
    """`utf-16-le` or `utf-16-be`; empty for what is not UTF-16."""
    try:
        return _WIDE.get(codecs.lookup(encoding).name, "")
    except LookupError:
        return ""


def _placeholders(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101 - registered for encoding alone
    text = error.object[error.start : error.end]
    return "?" * (len(text) + sum(c > "\uffff" for c in text)), error.end


codecs.register_error("crossdock-units", _placeholders)


class WideScanner:
    noun = "record"
    unit = 2
    resumes = True

    def __init__(self, inner: Scanner, codec: str) -> None:
        self._inner, self._codec = inner, codec
        self.mark = _MARKS[codec]
        self.foreign = next(mark for name, mark in _MARKS.items() if name != codec)
        self._seen: tuple[Scan, bytes, Scan, int] | None = None

    def header(self, data: bytes, start: int, end: int, *, last: bool) -> int:
        text = self._narrow(data, start, end)
        found = self._inner.header(text, 0, len(text), last=last)
        return found if found < 0 else min(start + 2 * found, end)

    def scan(self, data: bytes, start: int, end: int, *, last: bool) -> Scan:
        text = self._narrow(data, start, end, last=last)
        found = self._inner.scan(text, 0, len(text), last=last)
        opened = start + 2 * found.opened if found.opened >= 0 else -1
        loose = start + 2 * found.loose if found.loose >= 0 else -1
        scan = Scan(min(start + 2 * found.end, end), found.records, found.lines, ((start, end),), opened, loose)
        self._seen = (scan, text, found, start)
        return scan

    def cuts(self, data: bytes, scan: Scan, every: int) -> Iterator[int]:
        if self._seen is None or self._seen[0] is not scan:
            raise AssertionError("cuts of another scan")
        _, text, found, start = self._seen
        for cut in self._inner.cuts(text, found, every):
            yield min(start + 2 * cut, len(data))

    def newlines(self, data: bytes, start: int, end: int) -> int:
        return self._narrow(data, start, end).count(b"\n")

    def after_line(self, data: bytes, start: int, end: int) -> int:
        found = self._narrow(data, start, end).find(b"\n")
        return start + 2 * found + 2 if found >= 0 else -1

    def trouble(self, data: bytes, start: int, end: int) -> tuple[str, str] | None:  # noqa: ARG002
        return None

    def _narrow(self, data: bytes, start: int, end: int, *, last: bool = False) -> bytes:
        """A byte for each unit; with *last* one also for half a unit at the end."""
        half = (end - start) % 2
        text = data[start : end - half].decode(self._codec, "surrogatepass").encode("latin-1", "crossdock-units")
        return text + b"?" if half and last else text
