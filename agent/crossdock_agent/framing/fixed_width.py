"""Fixed width: a record is a line, or a fixed number of bytes without any newline. Fields are not looked at here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct

from crossdock_agent.framing.base import Scan, Scanner, require_framable
from crossdock_agent.framing.json_lines import LineScanner


class FixedField(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    start: Annotated[int, Meta(ge=1, description="byte, from 1, as record layouts count")]
    length: Annotated[int, Meta(ge=1, description="in bytes")]


class FixedWidth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="fixed"):
    """Fields at byte positions."""

    fields: Annotated[tuple[FixedField, ...], Meta(min_length=1)]
    newline: Annotated[bool, Meta(description="whether a newline ends each record")] = True
    record_bytes: Annotated[int, Meta(ge=1, description="length of a record, for files without newlines")] | None = None
    header_lines: Annotated[int, Meta(ge=0, description="lines before the first record")] = 0
    encoding: Annotated[str, Meta(description="utf-8, cp1252, cp850 ...")] = "utf-8"

    def __post_init__(self) -> None:
        if not self.newline and self.record_bytes is None:
            raise ValueError("records without newlines need 'record_bytes', the length of one")
        if not self.newline and self.header_lines:
            raise ValueError("'header_lines' needs lines, and 'newline: false' says there are none")
        require_framable(self.encoding)

    def scanner(self) -> Scanner:
        if self.newline or self.record_bytes is None:
            return LineScanner(self.header_lines)
        return LengthScanner(self.record_bytes)


class LengthScanner:
    """Every *record_bytes* bytes are a record. Fewer at the end of the file are one as well: it is torn, and decoding
    says so."""

    def __init__(self, record_bytes: int) -> None:
        self._length = record_bytes

    def header(self, data: bytes, start: int, end: int, *, last: bool) -> int:  # noqa: ARG002 - the contract's signature
        return start

    def scan(self, data: bytes, start: int, end: int, *, last: bool) -> Scan:  # noqa: ARG002 - no byte is looked at
        records, rest = divmod(end - start, self._length)
        if last and rest:
            return Scan(end, records + 1, 0, ((start, end),), loose=end - rest)
        return Scan(end - rest, records, 0, ((start, end - rest),))

    def cuts(self, data: bytes, scan: Scan, every: int) -> Iterator[int]:  # noqa: ARG002
        step = every * self._length
        for start, end in scan.spans:
            yield from range(start + step, end + 1, step)
