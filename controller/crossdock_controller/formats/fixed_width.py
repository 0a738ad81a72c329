"""Fixed width: fields at byte positions. A record is a line, a fixed number of bytes without any newline, or as long as
the record descriptor word in front of it says.

A line that ends inside its last field is read as trimmed by whoever wrote it; one that ends earlier, or that no newline
ends (a torn file), is a fault. Bytes after the last declared field are not read. A record with a descriptor may end
before a field, which is blank then. Numbers in packed, zoned or binary form become texts; bytes that are none make a
fault of their record alone.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import (
    BLANK,
    SAMPLE_BYTES,
    Decoded,
    Fault,
    TextSettings,
    encoding_fault,
    framable,
    register,
)
from crossdock_controller.formats.cobol import Reader, is_ebcdic, reader

_SEPARATOR = "\x1f"
_BLANK_BYTES = BLANK[:-1].encode()


class FixedField(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    start: int = Field(ge=1)  # byte, from 1, as record layouts count
    length: int = Field(ge=1)
    type: Literal["text", "packed", "zoned", "binary"] = "text"
    decimals: int = Field(default=0, ge=0, le=18)  # implied ones
    signed: bool = True  # of a binary field


class FixedWidthSettings(TextSettings):
    kind: Literal["fixed"] = "fixed"
    newline: bool = True
    record_bytes: int | None = Field(default=None, ge=1)
    rdw: bool = False
    header_lines: int = Field(default=0, ge=0)
    fields: tuple[FixedField, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _layout_fits(self) -> FixedWidthSettings:
        names = [field.name for field in self.fields]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"a field name stands twice: {', '.join(doubled)}")
        if not self.newline and self.record_bytes is None and not self.rdw:
            raise ValueError("records without newlines need 'record_bytes', the length of one, or 'rdw'")
        if self.rdw and self.record_bytes is not None:
            raise ValueError("'rdw' says that records tell their length, 'record_bytes' that all have one; give either")
        if self.has_lines:
            framable(self.encoding)
        for field in self.fields:
            if field.type in ("packed", "binary") and self.has_lines:
                raise ValueError(f"field {field.name} is not text and may hold a newline; set 'newline: false'")
            if field.type == "text" and (field.decimals or not field.signed):
                raise ValueError(f"field {field.name} is text; 'decimals' and 'signed' are for numbers")
        for field in self.fields:
            if self.record_bytes and field.start + field.length - 1 > self.record_bytes:
                raise ValueError(f"field {field.name} ends after byte {self.record_bytes}, the end of the record")
        return self

    @classmethod
    def checked_encoding(cls, name: str) -> str:
        """Any that exists: whether it must show newlines depends on the other settings."""
        try:
            codecs.lookup(name)
        except LookupError as error:
            raise ValueError(f"unknown encoding {name!r}; for example utf-8, cp1252, cp037, cp500, cp273") from error
        return name

    @property
    def has_lines(self) -> bool:
        return self.newline and not self.rdw

    def columns_declared(self) -> tuple[str, ...] | None:
        return tuple(field.name for field in self.fields)


class FixedWidthFormat:
    text_only = True

    def __init__(self, settings: FixedWidthSettings) -> None:
        self._settings = settings
        self._columns = tuple(field.name for field in settings.fields)
        self._slices = [slice(field.start - 1, field.start - 1 + field.length) for field in settings.fields]
        self._end = max(piece.stop for piece in self._slices)  # a whole record reaches at least here
        self._trimmed_from = max(piece.start for piece in self._slices)  # where the last field begins
        self._one_byte = _is_single_byte(settings.encoding)  # then text is cut where bytes would be
        self._readers: list[Reader | None] = [
            None if field.type == "text" else reader(field.type, settings.encoding, field.decimals, signed=field.signed)
            for field in settings.fields
        ]
        self._has_numbers = any(self._readers)
        if settings.fields[max(range(len(self._slices)), key=lambda i: self._slices[i].start)].type != "text":
            self._trimmed_from = self._end  # nobody trims a number

    def decode(self, header: BatchHeader, payload: bytes, wanted: Sequence[str]) -> Decoded:  # noqa: ARG002
        begins = not header.origin.first_record
        marked = begins and not self._settings.rdw and not is_ebcdic(self._settings.encoding)
        records, terminated = self._records(payload.removeprefix(codecs.BOM_UTF8) if marked else payload)
        rows: list[list[str]] = []
        positions: list[int] = []
        lines: list[int] = []
        decoded = Decoded(
            columns=self._columns,
            rows=rows,
            positions=positions,
            lines=lines,
            count=len(records),
            sample=lambda position: records[position][:SAMPLE_BYTES],
        )
        for position, raw in enumerate(records):
            line = header.origin.first_line + position if self._settings.has_lines else 0
            whole = len(raw) >= self._end or (self._settings.rdw and (position < len(records) - 1 or terminated))
            if not whole and not raw.strip(_BLANK_BYTES):
                decoded.blanks.append(position)
                continue
            trimmed = len(raw) > self._trimmed_from and (position < len(records) - 1 or terminated)
            found = self._read(raw, position, line) if whole or trimmed else self._short(raw, position, line)
            if isinstance(found, Fault):
                decoded.faults.append(found)
                continue
            rows.append(found)
            positions.append(position)
            lines.append(line)
        return decoded

    def contents(self, decoded: Decoded) -> list[bytes]:
        return [_SEPARATOR.join(row).encode("utf-8", "surrogatepass") for row in decoded.rows]

    def content(self, row: dict[str, object]) -> bytes:
        return _SEPARATOR.join(map(str, row.values())).encode("utf-8", "surrogatepass")

    def glimpse(self, header: BatchHeader, sample: bytes) -> dict[str, object]:  # noqa: ARG002
        return self._whole_fields(sample)

    def _records(self, payload: bytes) -> tuple[list[bytes], bool]:
        """Raw records, and whether the last one is whole as far as its ending can tell."""
        size = self._settings.record_bytes
        if self._settings.rdw:
            return _described(payload)
        if not self._settings.newline and size:
            records = [payload[i : i + size] for i in range(0, len(payload), size)]
            return records, not records or len(records[-1]) == size
        records = payload.split(b"\n")
        terminated = not records[-1]
        if terminated:
            records.pop()
        return [record.removesuffix(b"\r") for record in records], terminated

    def _read(self, raw: bytes, position: int, line: int) -> list[str] | Fault:
        encoding = self._settings.encoding
        if self._has_numbers or len(raw) < self._trimmed_from:
            return self._read_each(raw, position, line)
        try:
            if self._one_byte:
                text = raw.decode(encoding)
                return [text[piece] for piece in self._slices]
            return [raw[piece].decode(encoding) for piece in self._slices]
        except UnicodeDecodeError:
            return self._undecodable(raw, position, line)

    def _read_each(self, raw: bytes, position: int, line: int) -> list[str] | Fault:
        """Field by field, where some are numbers or the record may end before them."""
        row: list[str] = []
        for field, piece, number in zip(self._settings.fields, self._slices, self._readers, strict=True):
            part = raw[piece]
            try:
                if number is None:
                    row.append(part.decode(self._settings.encoding))
                elif not part and self._settings.rdw:
                    row.append("")
                elif len(part) < field.length:
                    return self._short(raw, position, line)
                else:
                    row.append(number(part))
            except UnicodeDecodeError:
                return self._undecodable(raw, position, line)
            except ValueError as error:
                reason = f"{error} (field {field.name}, byte {field.start})"
                whole = self._whole_fields(raw)
                return Fault(position, line, f"bad_{field.type}", reason, field.name, raw[:SAMPLE_BYTES], whole)
        return row

    def _undecodable(self, raw: bytes, position: int, line: int) -> Fault:
        column, reason = "", "bytes outside every field are not in the declared encoding"
        for field, piece in zip(self._settings.fields, self._slices, strict=True):
            try:
                raw[piece].decode(self._settings.encoding)
            except UnicodeDecodeError as error:
                shifted = UnicodeDecodeError(
                    error.encoding, raw, piece.start + error.start, piece.start + error.end, error.reason
                )
                column = field.name
                reason = f"{encoding_fault(self._settings.encoding, shifted)} (field {column})"
                break
        return Fault(position, line, "encoding", reason, column, raw[:SAMPLE_BYTES], self._whole_fields(raw))

    def _short(self, raw: bytes, position: int, line: int) -> Fault:
        missing = next(field.name for field in self._settings.fields if field.start - 1 + field.length > len(raw))
        reason = f"the record has {len(raw)} bytes, its layout {self._end}; it ends before or in {missing}"
        return Fault(position, line, "too_few_fields", reason, missing, raw[:SAMPLE_BYTES], self._whole_fields(raw))

    def _whole_fields(self, raw: bytes) -> dict[str, object]:
        row: dict[str, object] = {}
        for name, piece, number in zip(self._columns, self._slices, self._readers, strict=True):
            if piece.stop > len(raw):
                continue
            try:
                row[name] = number(raw[piece]) if number else raw[piece].decode(self._settings.encoding)
            except ValueError:  # also of bytes that are no text
                continue
        return row


def _described(payload: bytes) -> tuple[list[bytes], bool]:
    """Records behind their descriptor words, and whether the last one is whole."""
    records: list[bytes] = []
    at = 0
    while at < len(payload):
        length = int.from_bytes(payload[at : at + 2], "big")
        if length < 4 or at + length > len(payload) or at + 4 > len(payload):
            records.append(payload[at + 4 :])
            return records, False
        records.append(payload[at + 4 : at + length])
        at += length
    return records, True


def _is_single_byte(encoding: str) -> bool:
    """A multi-byte code page joins some of these pairs into one character; UTF would replace each byte."""
    return (
        not codecs.lookup(encoding).name.startswith("utf") and len(bytes(range(256)).decode(encoding, "replace")) == 256
    )


register("fixed", FixedWidthSettings, FixedWidthFormat)
