"""Delimited text. The records are those the agent framed: a newline ends one unless it stands inside quotes.

The fast path reads the whole payload at once. When anything is amiss (an undecodable byte, broken quoting, another
count than the agent's), the slow path frames the bytes by the agent's rule and reads record by record, so that each
fault is charged to its own record and line. Quoting is read strictly: `"19" rack"` is a fault, not `19 rack"`.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import field_validator, model_validator

from crossdock.codec import MAX_RAW_BYTES
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import (
    BLANK,
    REPLACEMENT,
    Decoded,
    Fault,
    Flat,
    LineSettings,
    column_names,
    encoding_fault,
    mark_fault,
    register,
    strip_mark,
    wide_codec,
)
from crossdock_controller.formats.framed import as_utf8, lines_of, sampler, splitter
from crossdock_controller.formats.trailers import Trailer, check_trailer

csv.field_size_limit(MAX_RAW_BYTES)  # of the whole process: the limit is the agent's, not 128 KiB

_SEPARATOR = "\x1f"  # ASCII unit separator: between the fields of a row in the content that is hashed


class CsvSettings(LineSettings):
    kind: Literal["csv"] = "csv"
    delimiter: str = ","
    quote: str | None = '"'
    header: bool = True
    columns: tuple[str, ...] = ()
    trailer: Trailer | None = None

    @field_validator("delimiter", "quote")
    @classmethod
    def _one_ascii_character(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n"):
            raise ValueError(f"must be one ASCII character, is {value!r}")
        return value

    @model_validator(mode="after")
    def _columns_known(self) -> CsvSettings:
        if not self.header and not self.columns:
            raise ValueError("a file without a header needs 'columns', their names in order")
        return self

    def columns_declared(self) -> tuple[str, ...] | None:
        return None if self.header else self.columns


class CsvFormat:
    text_only = True

    def __init__(self, settings: CsvSettings) -> None:
        self._settings = settings
        self._utf8 = as_utf8(settings.encoding)
        self._encoding = "utf-8" if wide_codec(settings.encoding) else settings.encoding  # of what `_utf8` gives
        self._split = splitter(settings.delimiter, settings.quote)
        self._headers: dict[bytes, tuple[tuple[str, ...], str, tuple[str, str] | None]] = {}

    def decode(self, header: BatchHeader, payload: bytes, wanted: Sequence[str]) -> Decoded:  # noqa: ARG002
        columns, seen, fault = self._columns(self._utf8(header.prefix))
        payload = self._utf8(payload)
        if payload.startswith(codecs.BOM_UTF8) and not header.origin.first_record:
            payload = payload.removeprefix(codecs.BOM_UTF8)
            fault = fault or mark_fault(self._encoding)
        decoded = self._fast(header, payload, columns) or self._slow(header, payload, columns)
        decoded.header_seen, decoded.header_fault = seen, fault
        if self._settings.trailer is not None:
            check_trailer(decoded, header, self._settings.trailer, self._fields_at)
        return decoded

    def contents(self, decoded: Decoded) -> list[bytes]:
        rows = decoded.rows
        if isinstance(rows, Flat):
            return rows.joined(_SEPARATOR)
        join = _SEPARATOR.join
        return [join(row).encode("utf-8", "surrogatepass") for row in rows]

    def content(self, row: dict[str, object]) -> bytes:
        return _SEPARATOR.join(map(str, row.values())).encode("utf-8", "surrogatepass")

    def glimpse(self, header: BatchHeader, sample: bytes) -> dict[str, object]:
        """All but the last field read, which may be cut."""
        columns, _, _ = self._columns(self._utf8(header.prefix))
        text = self._utf8(sample).decode(self._encoding, "replace")
        return _undamaged(columns, self._lenient(text)[:-1])

    def _fields_at(self, decoded: Decoded, position: int) -> list[str]:
        return self._lenient(decoded.sample(position).decode(self._encoding, "replace"))

    def _lenient(self, text: str) -> list[str]:
        """The fields of a damaged record, as far as they can be told apart."""
        try:
            return next(self._reader(io.StringIO(text, newline="\n"), strict=False), [])
        except csv.Error:
            return []

    def _columns(self, prefix: bytes) -> tuple[tuple[str, ...], str, tuple[str, str] | None]:
        """Column names, the header as it stands in the file, and a fault (code, reason) if it cannot be read."""
        if not self._settings.header:
            return self._settings.columns, "", None
        if prefix not in self._headers:
            if len(self._headers) >= 64:
                self._headers.clear()
            self._headers[prefix] = self._read_header(prefix)
        return self._headers[prefix]

    def _read_header(self, prefix: bytes) -> tuple[tuple[str, ...], str, tuple[str, str] | None]:
        encoding = self._encoding
        seen = strip_mark(prefix.decode(encoding, "replace")).strip("\r\n")[:1000]
        try:
            text = strip_mark(prefix.decode(encoding))
            row: list[str] | None = next(
                (row for row in self._reader(io.StringIO(text, newline="\n"), strict=True) if row), None
            )
        except UnicodeDecodeError as error:
            return (
                (),
                seen,
                ("encoding", f"the header cannot be read: {encoding_fault(self._settings.encoding, error)}"),
            )
        except csv.Error as error:
            return (), seen, ("csv_syntax", f"the header cannot be read: {error}; header seen: {seen}")
        if row is None:
            return (), seen, ("header_changed", "the file has no header line, the source says it has one")
        return column_names(row), seen, mark_fault(self._encoding) if prefix.startswith(codecs.BOM_UTF8) else None

    def _reader(self, lines: Iterator[str] | io.StringIO, *, strict: bool) -> Any:
        quote = self._settings.quote
        delimiter = self._settings.delimiter
        if quote is None:
            return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=strict)
        return csv.reader(lines, delimiter=delimiter, quotechar=quote, strict=strict)

    def _fast(self, header: BatchHeader, payload: bytes, columns: tuple[str, ...]) -> Decoded | None:
        """None when any record needs a closer look than its number of fields."""
        if payload.endswith(b"\x1a"):
            return None
        try:
            text = payload.decode(self._encoding)
            rows = self._rows(text, len(columns))
        except (UnicodeDecodeError, csv.Error):
            return None
        if rows is None or len(rows) != header.records:
            return None
        first = header.origin.first_line
        decoded = Decoded(
            columns=columns,
            rows=rows,
            positions=range(len(rows)),
            lines=range(first, first + len(rows)),
            count=len(rows),
            sample=sampler(lambda: lines_of(payload)),
            terminated=payload.endswith(b"\n"),
        )
        return decoded if isinstance(rows, Flat) or set(map(len, rows)) <= {len(columns)} else self._sift(decoded)

    def _rows(self, text: str, width: int) -> list[list[str]] | Flat | None:
        """One row a line; None when a record spans lines. Raises csv.Error.

        Without a quote, and with *width* fields in every row, one split makes all of them.
        """
        quote = self._settings.quote
        if quote is None or quote not in text:
            flat = Flat.of(text, self._settings.delimiter, width)
            if flat is not None:
                return flat
        reader = self._reader(io.StringIO(text, newline="\n"), strict=True)
        rows: list[list[str]] = list(reader)
        return rows if reader.line_num == len(rows) else None

    def _sift(self, decoded: Decoded) -> Decoded:
        """Rows of another width than the header become faults; blank lines are told apart."""
        keep: list[int] = []
        rows: list[list[object]] = []
        for i, row in enumerate(decoded.rows):
            placed = self._place(decoded, decoded.positions[i], decoded.lines[i], row)
            if placed is not None:
                rows.append(placed)
                keep.append(i)
        sifted = decoded.select(keep)
        sifted.rows = rows
        return sifted

    def _place(self, decoded: Decoded, position: int, line: int, row: Sequence[object]) -> list[object] | None:
        """The row at the header's width, or None when it went to the blanks or faults of *decoded*.

        Blank fields beyond the header carry nothing (a trailing delimiter) and are cut off.
        """
        width = len(decoded.columns)
        if _is_blank(row):
            decoded.blanks.append(position)
            return None
        few = len(row) < width
        if not few and _is_blank(row[width:]):
            return list(row[:width])
        torn = few and position == decoded.count - 1 and not decoded.terminated
        decoded.faults.append(
            Fault(
                position=position,
                line=line,
                code="too_few_fields" if few else "too_many_fields",
                reason=_width_reason(decoded.columns, row),
                column=decoded.columns[len(row)] if few else "",
                sample=decoded.sample(position),
                row=_undamaged(decoded.columns, row[: len(row) - torn]) if few else {},
                cut=_undamaged(decoded.columns[len(row) - 1 :], row[-1:]) if torn else {},
            )
        )
        return None

    def _slow(self, header: BatchHeader, payload: bytes, columns: tuple[str, ...]) -> Decoded:
        records = list(self._split(payload))
        decoded = Decoded(
            columns=columns,
            rows=[],
            positions=[],
            lines=[],
            count=len(records),
            sample=sampler(lambda: records),
            terminated=payload.endswith(b"\n"),
        )
        rows: list[list[object]] = []
        positions: list[int] = []
        lines: list[int] = []
        line = header.origin.first_line
        for position, raw in enumerate(records):
            row = self._read_record(decoded, position, line, raw)
            if row is not None:
                rows.append(row)
                positions.append(position)
                lines.append(line)
            line += max(1, raw.count(b"\n"))
        decoded.rows, decoded.positions, decoded.lines = rows, positions, lines
        return decoded

    def _read_record(self, decoded: Decoded, position: int, line: int, raw: bytes) -> list[object] | None:
        encoding = self._encoding
        raw = raw.rstrip(b"\x1a")
        try:
            text = raw.decode(encoding)
            row: list[str] = next(self._reader(io.StringIO(text, newline="\n"), strict=True), [])
        except UnicodeDecodeError as error:
            lenient = self._lenient(raw.decode(encoding, "replace"))
            damaged = next((i for i, value in enumerate(lenient) if REPLACEMENT in value), len(decoded.columns))
            column = decoded.columns[damaged] if damaged < len(decoded.columns) else ""
            reason = encoding_fault(self._settings.encoding, error) + (f" (column {column})" if column else "")
            fault = Fault(
                position,
                line,
                "encoding",
                reason,
                column,
                decoded.sample(position),
                _undamaged(decoded.columns, lenient),
            )
        except csv.Error as error:
            fault = Fault(
                position, line, "csv_syntax", f"the record cannot be parsed: {error}", "", decoded.sample(position)
            )
        else:
            return self._place(decoded, position, line, row)
        decoded.faults.append(fault)
        return None


def _width_reason(columns: Sequence[str], row: Sequence[object]) -> str:
    count, width = len(row), len(columns)
    if count < width:
        return f"the record ends after {count} of {width} fields, in {columns[count - 1]}; {columns[count]} is missing"
    return f"the record has {count} fields, the header {width}: is a delimiter inside a text that is not quoted?"


def _is_blank(values: Sequence[object]) -> bool:
    return not any(str(value).strip(BLANK) for value in values)


def _undamaged(columns: Sequence[str], row: Sequence[object]) -> dict[str, object]:
    return {name: value for name, value in zip(columns, row, strict=False) if REPLACEMENT not in str(value)}


register("csv", CsvSettings, CsvFormat)
