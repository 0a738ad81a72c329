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

DEFAULT_MAX_RECORD_BYTES = 8 * 1024 * 1024
SAMPLE_BYTES = 4096  # of a reject, for the eyes of a person

_FRAMABLE = '\n\r",;|\t0A'


Spans = tuple[tuple[int, int], ...]


class Position(NamedTuple):
    """Where the next record begins: byte offset, ordinal from 0 (rejects counted), line number from 1."""

    offset: int = 0
    record: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """Whole records that follow one another, or one reject.

    *loose* is where to read on, once the file is found longer, when it ended inside a record or a structure. *lengths*
    are those of the records in *payload*, where no newline or count tells them. *prefix* stands in place of the
    framer's where a record is a part of something longer; *spans* (start, length in the file) are what the prefix of
    the following run is made of, to read on after this one, or from *loose*.
    """

    start: Position
    end: Position
    payload: bytes = b""
    records: int = 0
    rejects: tuple[Reject, ...] = ()
    loose: Position | None = None
    lengths: Sequence[int] = ()
    prefix: bytes | None = None
    spans: Spans = ()


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

    noun: str  # what a record is called
    unit: int  # bytes of a character
    mark: bytes  # byte order mark that may stand before everything
    foreign: bytes  # another one, under which nothing can be framed
    resumes: bool  # whether records begin again behind the next newline when one was too long

    def header(self, data: bytes, start: int, end: int, *, last: bool) -> int:
        """Where records begin, after the header; *start* when there is none, -1 when it does not end in the window."""

    def scan(self, data: bytes, start: int, end: int, *, last: bool) -> Scan: ...

    def cuts(self, data: bytes, scan: Scan, every: int) -> Iterator[int]:
        """Offsets in *data* behind each *every* records of *scan*."""

    def newlines(self, data: bytes, start: int, end: int) -> int: ...

    def after_line(self, data: bytes, start: int, end: int) -> int:
        """Offset behind the first newline, -1 when there is none. *start* is where a character begins."""

    def trouble(self, data: bytes, start: int, end: int) -> tuple[str, str] | None:
        """Code and reason why no record can be found at *start*, when it is not the record's length."""


class ByteLines:
    """What scanners of one-byte newlines have in common."""

    noun = "record"
    unit = 1
    mark = codecs.BOM_UTF8
    foreign = b""
    resumes = True

    def header(self, data: bytes, start: int, end: int, *, last: bool) -> int:  # noqa: ARG002 - the contract's signature
        return start

    def newlines(self, data: bytes, start: int, end: int) -> int:
        return data.count(b"\n", start, end)

    def after_line(self, data: bytes, start: int, end: int) -> int:
        return data.find(b"\n", start, end) + 1 or -1

    def trouble(self, data: bytes, start: int, end: int) -> tuple[str, str] | None:  # noqa: ARG002
        return None


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


def require_known(encoding: str) -> None:
    """Raises ValueError unless *encoding* exists: for formats whose records do not end by a character."""
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise ValueError(f"unknown encoding {encoding!r}; for example utf-8, utf-16-le, cp037, cp500, cp273") from error


def require_single_bytes(encoding: str) -> None:
    """Raises ValueError unless every ASCII byte of a text in *encoding* is that character: in Shift-JIS or GBK, a
    bracket or backslash may be the second half of another."""
    require_framable(encoding)
    if (
        codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig")
        and len(bytes(range(256)).decode(encoding, "replace")) != 256
    ):
        raise ValueError(f"encoding {encoding!r} cannot be framed by bytes; have the file written as utf-8")
