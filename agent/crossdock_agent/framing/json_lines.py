"""JSON lines: every newline ends a record; JSON itself never holds a bare one (RFC 8259 §7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct

from crossdock_agent.framing.base import ByteLines, Scan, Scanner, cut_spans, scan_lines
from crossdock_agent.framing.wide import require_lines, widened


class JsonLines(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="jsonl"):
    """One JSON object a line."""

    encoding: Annotated[str, Meta(description="utf-8, cp1252, cp850 ...")] = "utf-8"

    def __post_init__(self) -> None:
        require_lines(self.encoding)

    def scanner(self) -> Scanner:
        return widened(LineScanner(), self.encoding)


class LineScanner(ByteLines):
    """Every newline ends a record; the first *header_lines* lines are the header."""

    def __init__(self, header_lines: int = 0) -> None:
        self._header_lines = header_lines

    def header(self, data: bytes, start: int, end: int, *, last: bool) -> int:
        if not self._header_lines:
            return start
        scan = scan_lines(data, start, end, last=last)
        return next(self.cuts(data, scan, self._header_lines), end if last else -1)

    def scan(self, data: bytes, start: int, end: int, *, last: bool) -> Scan:
        return scan_lines(data, start, end, last=last)

    def cuts(self, data: bytes, scan: Scan, every: int) -> Iterator[int]:
        return cut_spans(data, scan.spans, every)
