"""Fixed width: fields at byte positions. A record is a line, or a fixed number of bytes without any newline.

A line that ends inside its last field is read as trimmed by whoever wrote it; one that ends earlier, or that no newline
ends (a torn file), is a fault. Bytes after the last declared field are not read.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import (
    BLANK,
    REPLACEMENT,
    SAMPLE_BYTES,
    Decoded,
    Fault,
    TextSettings,
    encoding_fault,
    register,
)

_SEPARATOR = "\x1f"
_BLANK_BYTES = BLANK[:-1].encode()


class FixedField(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    start: int = Field(ge=1)  # byte, from 1, as record layouts count
    length: int = Field(ge=1)


class FixedWidthSettings(TextSettings):
    kind: Literal["fixed"] = "fixed"
    newline: bool = True
    record_bytes: int | None = Field(default=None, ge=1)
    header_lines: int = Field(default=0, ge=0)
    fields: tuple[FixedField, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _layout_fits(self) -> FixedWidthSettings:
        names = [field.name for field in self.fields]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"a field name stands twice: {', '.join(doubled)}")
        if not self.newline and self.record_bytes is None:
            raise ValueError("records without newlines need 'record_bytes', the length of one")
        for field in self.fields:
            if self.record_bytes and field.start + field.length - 1 > self.record_bytes:
                raise ValueError(f"field {field.name} ends after byte {self.record_bytes}, the end of the record")
        return self

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

    def decode(self, header: BatchHeader, payload: bytes, wanted: Sequence[str]) -> Decoded:  # noqa: ARG002
        begins = not header.origin.first_record
        records, terminated = self._records(payload.removeprefix(codecs.BOM_UTF8) if begins else payload)
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
            line = header.origin.first_line + position if self._settings.newline else 0
            whole = len(raw) >= self._end
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
        try:
            if self._one_byte:
                text = raw.decode(encoding)
                return [text[piece] for piece in self._slices]
            return [raw[piece].decode(encoding) for piece in self._slices]
        except UnicodeDecodeError:
            return self._undecodable(raw, position, line)

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
        for name, piece in zip(self._columns, self._slices, strict=True):
            text = raw[piece].decode(self._settings.encoding, "replace")
            if piece.stop <= len(raw) and REPLACEMENT not in text:
                row[name] = text
        return row


def _is_single_byte(encoding: str) -> bool:
    """A multi-byte code page joins some of these pairs into one character; UTF would replace each byte."""
    return (
        not codecs.lookup(encoding).name.startswith("utf") and len(bytes(range(256)).decode(encoding, "replace")) == 256
    )


register("fixed", FixedWidthSettings, FixedWidthFormat)
