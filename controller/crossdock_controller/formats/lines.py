"""Lines of text: each is a record of one column, `line`. A carriage return or a mainframe's NEL before the newline
and an end-of-file mark (Ctrl-Z of DOS) are not part of it."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import (
    BLANK,
    SAMPLE_BYTES,
    Decoded,
    Fault,
    LineSettings,
    encoding_fault,
    mark_fault,
    register,
    wide_codec,
)
from crossdock_controller.formats.framed import as_utf8

_COLUMNS = ("line",)


class LinesSettings(LineSettings):
    kind: Literal["lines"] = "lines"
    header_lines: int = Field(default=0, ge=0)

    def columns_declared(self) -> tuple[str, ...] | None:
        return _COLUMNS


class LinesFormat:
    text_only = True

    def __init__(self, settings: LinesSettings) -> None:
        self._declared = settings.encoding
        self._utf8 = as_utf8(settings.encoding)
        self._encoding = "utf-8" if wide_codec(settings.encoding) else settings.encoding

    def decode(self, header: BatchHeader, payload: bytes, wanted: Sequence[str]) -> Decoded:  # noqa: ARG002
        begins = self._utf8(header.prefix) or (b"" if header.origin.first_record else self._utf8(payload))
        records = self._utf8(payload).split(b"\n")
        terminated = not records[-1]
        if terminated:
            records.pop()
        rows: list[list[str]] = []
        positions: list[int] = []
        lines: list[int] = []
        decoded = Decoded(
            columns=_COLUMNS,
            rows=rows,
            positions=positions,
            lines=lines,
            count=len(records),
            sample=lambda position: records[position][:SAMPLE_BYTES],
            terminated=terminated,
            header_fault=mark_fault(self._encoding) if begins.startswith(codecs.BOM_UTF8) else None,
        )
        for position, raw in enumerate(records):
            line = header.origin.first_line + position
            try:
                text = raw.decode(self._encoding).rstrip("\r\x1a\x85")
            except UnicodeDecodeError as error:
                reason = encoding_fault(self._declared, error)
                decoded.faults.append(Fault(position, line, "encoding", reason, "line", raw[:SAMPLE_BYTES]))
                continue
            if not position and not header.origin.first_record:
                text = text.removeprefix("\ufeff")
            if not text.strip(BLANK):
                decoded.blanks.append(position)
                continue
            rows.append([text])
            positions.append(position)
            lines.append(line)
        return decoded

    def contents(self, decoded: Decoded) -> list[bytes]:
        return [row[0].encode("utf-8", "surrogatepass") for row in decoded.rows]

    def content(self, row: dict[str, object]) -> bytes:
        return str(row.get("line", "")).encode("utf-8", "surrogatepass")

    def glimpse(self, header: BatchHeader, sample: bytes) -> dict[str, object]:  # noqa: ARG002
        return {}


register("lines", LinesSettings, LinesFormat)
