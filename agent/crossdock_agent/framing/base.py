"""The contract of a framing: settings, and a scanner that finds where records end. It never looks into a record.

Whoever adds one adds a file in this folder with both, and names it in the union in `__init__.py`. What all have in
common (windows, limits, positions, rejects) is `framer.Framer`.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from crossdock.v1.batch_pb2 import Reject

_FRAMABLE = '\n\r",;|\t0A'


class Position(NamedTuple):
    """Where the next record begins: byte offset, ordinal from 0 (rejects counted), line number from 1."""

    offset: int = 0
    record: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """Whole records that follow one another, or one reject.

    *loose* is where the last record begins when the file ended before its newline came: whoever finds the file longer
    later reads on from there.
    """

    start: Position
    end: Position
    payload: bytes = b""
    records: int = 0
    rejects: tuple[Reject, ...] = ()
    loose: Position | None = None


class Scan(NamedTuple):
    """What a scanner found in a window: *records* whole ones before *end*, with *lines* newlines.

    *spans* are the parts in which every newline ends a record; no newline outside does. *opened* is where the quote
    stands that keeps the next record from ending, *loose* where a last record without a newline begins; or -1.
    """

    end: int
    records: int
    lines: int
    spans: Sequence[tuple[int, int]] = ()
    opened: int = -1
    loose: int = -1


class Scanner(Protocol):
    """Finds record ends in `data[start:end]`, which begins at a record. *last*: the file ends at *end*."""

    def header(self, data: bytes, start: int, end: int, *, last: bool) -> int:
        """Where records begin, after the header; *start* when there is none, -1 when it does not end in the window."""

    def scan(self, data: bytes, start: int, end: int, *, last: bool) -> Scan: ...

    def cuts(self, data: bytes, scan: Scan, every: int) -> Iterator[int]:
        """Offsets in *data* behind each *every* records of *scan*."""


def scan_lines(data: bytes, start: int, end: int, *, last: bool) -> Scan:
    """Every newline ends a record, and so does the end of the file."""
    stop = data.rfind(b"\n", start, end) + 1 or start
    lines = data.count(b"\n", start, stop)
    if last and stop < end:
        return Scan(end, lines + 1, lines, ((start, stop),), loose=stop)
    return Scan(stop, lines, lines, ((start, stop),))


def cut_spans(data: bytes, spans: Sequence[tuple[int, int]], every: int) -> Iterator[int]:
    """Offsets behind each *every* newlines of *spans*."""
    missing = every
    for start, end in spans:
        at = start
        left = data.count(b"\n", at, end)
        while left >= missing:
            at = after_newline(data, missing, at, end)
            left -= missing
            missing = every
            yield at
        missing -= left


def after_newline(data: bytes, n: int, start: int, end: int) -> int:
    """Offset behind the *n*-th newline of `data[start:end]`, which holds that many.

    Bisects, because `count` runs at memory speed and a loop over newlines does not.
    """
    while end - start > 512:
        middle = (start + end) // 2
        before = data.count(b"\n", start, middle)
        if before >= n:
            end = middle
        else:
            start, n = middle, n - before
    for _ in range(n):
        start = data.find(b"\n", start) + 1
    return start


def require_framable(encoding: str) -> None:
    """Raises ValueError unless newlines, quotes and delimiters are the same bytes in *encoding* as in ASCII."""
    try:
        framable = codecs.lookup(encoding) and _FRAMABLE.encode(encoding) == _FRAMABLE.encode("ascii")
    except (LookupError, UnicodeError) as error:
        raise ValueError(f"unknown encoding {encoding!r}; for example utf-8, cp1252, cp850, latin-1") from error
    if not framable:
        raise ValueError(f"encoding {encoding!r} cannot be framed by bytes; have the file written as utf-8 or cp1252")
