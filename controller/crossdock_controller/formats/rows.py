"""Rows of a table: concatenated msgpack arrays under the names and types of the header's columns.

A column of type "rows" holds the rows of a child table: an array of arrays under columns of its own.

Payloads are written by our own agent, so a broken one is damage, not bad input: what stands before the damage is read,
the rest is reported as missing records.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import SAMPLE_BYTES, Decoded, Fault, FormatSettings, register

# A row as it was first seen is the same event with and without these marks: a source may come to send them later.
_MARKS = ("$op", "$version")
_FIRST = ["upsert", 0]
_ARRAY_32 = struct.Struct(">BI")  # the msgpack head of an array with a 32-bit count


class RowsSettings(FormatSettings):
    kind: Literal["rows"] = "rows"


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)  # text that is not UTF-8 raises the latter, unwrapped


class RowsFormat:
    text_only = False

    def __init__(self, settings: RowsSettings) -> None:
        del settings  # names and types travel in each batch
        self._decode = msgspec.msgpack.Decoder(list[list[Any]]).decode
        self._encode = msgspec.msgpack.Encoder().encode

    def decode(self, header: BatchHeader, payload: bytes, wanted: Sequence[str]) -> Decoded:  # noqa: ARG002
        columns = tuple(column.name for column in header.columns)
        rows = self._rows(header.records, payload)
        decoded = Decoded(
            columns=columns,
            rows=rows,
            positions=range(len(rows)),
            lines=[0] * len(rows),
            count=len(rows),
            sample=lambda position: self._json(columns, rows[position]),
            header_seen=", ".join(columns),
            nested={c.name: tuple(inner.name for inner in c.columns) for c in header.columns if c.type == "rows"},
        )
        if set(map(len, rows)) <= {len(columns)}:
            return decoded
        keep = [i for i, row in enumerate(rows) if len(row) == len(columns)]
        decoded.faults = [self._misshapen(columns, i, row) for i, row in enumerate(rows) if len(row) != len(columns)]
        return decoded.select(keep)

    def contents(self, decoded: Decoded) -> list[bytes]:
        if decoded.columns[-2:] != _MARKS:
            return [self._encode(row) for row in decoded.rows]
        return [self._encode(row[:-2] if row[-2:] == _FIRST else row) for row in decoded.rows]

    def content(self, row: dict[str, object]) -> bytes:
        cells = [_as_array(value) for value in row.values()]
        marked = tuple(row)[-2:] == _MARKS
        return self._encode(cells[:-2] if marked and cells[-2:] == _FIRST else cells)

    def glimpse(self, header: BatchHeader, sample: bytes) -> dict[str, object]:  # noqa: ARG002
        return {}

    def _rows(self, expected: int, payload: bytes) -> list[list[Any]]:
        """All rows in one call, by making the payload one array; row by row only when that fails."""
        try:
            return self._decode(_ARRAY_32.pack(0xDD, expected) + payload)
        except _UNREADABLE:
            count, end = _whole_arrays(payload)
            return self._decode(_ARRAY_32.pack(0xDD, count) + payload[:end])

    def _misshapen(self, columns: tuple[str, ...], position: int, row: list[Any]) -> Fault:
        reason = f"the row has {len(row)} values under {len(columns)} columns"
        return Fault(position, 0, "row_width", reason, sample=self._json(columns, row))

    def _json(self, columns: Sequence[str], row: Sequence[object]) -> bytes:
        return msgspec.json.encode(dict(zip(columns, row, strict=False)))[:SAMPLE_BYTES]


def _as_array(value: object) -> object:
    """Rows inside a row are shown by column name, and hashed as they were sent."""
    if isinstance(value, list):
        return [list(element.values()) if isinstance(element, dict) else element for element in value]
    return value


def _whole_arrays(payload: bytes) -> tuple[int, int]:
    """How many whole, well-formed arrays *payload* begins with, and where they end."""
    one = msgspec.msgpack.Decoder(list[Any])
    count = end = 0
    while end < len(payload):
        following = _skip(payload, end)
        if following is None:
            break
        try:
            one.decode(payload[end:following])
        except _UNREADABLE:
            break
        count, end = count + 1, following
    return count, end


# Bytes that follow the first one of a scalar, by that byte (msgpack specification, "Formats").
_SCALARS = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
}  # fmt: skip
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}  # binary and text: bytes of their length


def _skip(data: bytes, at: int) -> int | None:
    """Where the value at *at* ends; None when it is cut short or not one a row may hold."""
    pending = 1
    while pending:
        pending -= 1
        if at >= len(data):
            return None
        head = data[at]
        at += 1
        if head <= 0x7F or head >= 0xE0:
            continue
        if head in _SCALARS:
            at += _SCALARS[head]
        elif 0xA0 <= head <= 0xBF:
            at += head & 0x1F
        elif head in _LENGTHS:
            size = _LENGTHS[head]
            at += size + int.from_bytes(data[at : at + size], "big")
        elif 0x90 <= head <= 0x9F:
            pending += head & 0x0F
        elif head in (0xDC, 0xDD):
            size = 2 if head == 0xDC else 4
            pending += int.from_bytes(data[at : at + size], "big")
            at += size
        else:
            return None
    return at if at <= len(data) else None


register("rows", RowsSettings, RowsFormat)
