"""Delimited text: a newline ends a record unless it stands inside quotes, exactly as `csv.reader` sees it.

A quote opens only at the beginning of a field and `""` inside stands for itself; a quote anywhere else is a character.
Text without quotes is counted at memory speed; text with them by one regular expression that runs over as many
records as it can, so that Python is only asked about fields that hold newlines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct

from crossdock_agent.framing.base import ByteLines, Scan, Scanner, cut_spans, scan_lines
from crossdock_agent.framing.wide import require_lines, widened

_BLANK_LINES = re.compile(rb"(?:\r?\n)*+")


class Trailer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last line of a file, which is no record and says how many there are. Checked where records are decoded."""

    begins: Annotated[str, Meta(min_length=1, description="what its first field is")]
    count: Annotated[int, Meta(ge=2, description="which of its fields is the number of records, from 1")] | None = None
    extra: Annotated[int, Meta(ge=0, description="how many lines that are no records it counts: 1 for itself")] = 0


class Csv(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="csv"):
    """Delimited text."""

    delimiter: Annotated[str, Meta(min_length=1, max_length=1, description="one ASCII character between fields")] = ","
    quote: Annotated[str, Meta(min_length=1, max_length=1, description="one ASCII character around a field")] | None = (
        '"'
    )
    header: Annotated[bool, Meta(description="whether the first line names the columns")] = True
    columns: Annotated[tuple[str, ...], Meta(description="names in order, for files without a header")] = ()
    trailer: Annotated[Trailer, Meta(description="the last line, if it is none of the records")] | None = None
    encoding: Annotated[str, Meta(description="utf-8, cp1252, cp850 ...")] = "utf-8"

    def __post_init__(self) -> None:
        for name, value in (("delimiter", self.delimiter), ("quote", self.quote)):
            if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n"):
                raise ValueError(f"{name} must be one ASCII character, is {value!r}")
        if self.delimiter == self.quote:
            raise ValueError(f"delimiter and quote are both {self.quote!r}")
        if not self.header and not self.columns:
            raise ValueError("a file without a header needs 'columns', their names in order")
        require_lines(self.encoding)

    def scanner(self) -> Scanner:
        return widened(DelimitedScanner(self.delimiter, self.quote, header=self.header), self.encoding)


class DelimitedScanner(ByteLines):
    def __init__(self, delimiter: str, quote: str | None, *, header: bool) -> None:
        self._quote = quote.encode("ascii") if quote else None
        self._header = header
        if self._quote:
            d, q = re.escape(delimiter.encode("ascii")), re.escape(self._quote)
            # As far as every quoted field ends in its line: text without quotes; quoted fields, and more of them after
            # delimiters; quotes inside unquoted text. Possessive throughout: nothing is tried twice.
            self._clean = re.compile(
                rb'(?:[^"]++|(?<![^;\n])"[^"\n]*+"(?:;"[^"\n]*+")*+(?:"[^"\n]*+(?:""[^"\n]*+)*+")?+|(?<=[^;\n"])"++)*+'
                .replace(b'"', q).replace(b";", d)
            )  # fmt: skip
            self._quoted = re.compile(rb'"[^"]*+(?:""[^"]*+)*+"'.replace(b'"', q))

    def header(self, data: bytes, start: int, end: int, *, last: bool) -> int:
        """Blank lines before the header belong to it."""
        if not self._header:
            return start
        blank = _BLANK_LINES.match(data, start, end)
        at = blank.end() if blank else start
        if at == end:
            return end if last else -1
        scan = self.scan(data, at, end, last=last)
        if not scan.records:
            return -1
        return next(self.cuts(data, scan, 1), scan.end)

    def scan(self, data: bytes, start: int, end: int, *, last: bool) -> Scan:
        if self._quote is None or data.find(self._quote, start, end) < 0:
            return scan_lines(data, start, end, last=last)
        return self._scan_quoted(data, start, end, last=last)

    def cuts(self, data: bytes, scan: Scan, every: int) -> Iterator[int]:
        return cut_spans(data, scan.spans, every)

    def _scan_quoted(self, data: bytes, start: int, end: int, *, last: bool) -> Scan:
        spans: list[tuple[int, int]] = []
        at = done = start
        records = lines = quoted_lines = 0
        while True:
            clean = self._clean.match(data, at, end)
            stop = clean.end() if clean else at
            if ended := data.count(b"\n", at, stop):
                spans.append((at, stop))
                records += ended
                lines += ended + quoted_lines
                quoted_lines = 0
                done = data.rfind(b"\n", at, stop) + 1
            if stop == end:
                break
            field = self._quoted.match(data, stop, end)
            if not field:
                return Scan(done, records, lines, spans, opened=stop)
            at = field.end()
            quoted_lines += data.count(b"\n", stop, at)
        if last and done < end:
            return Scan(end, records + 1, lines + quoted_lines, spans, loose=done)
        return Scan(done, records, lines, spans)
