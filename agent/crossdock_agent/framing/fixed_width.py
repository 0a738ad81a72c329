"""Fixed width: a record is a line, a fixed number of bytes without any newline, or as long as a descriptor in front of
it says. Fields are not looked at here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

from crossdock_agent.framing.base import ByteLines, Scan, Scanner, require_framable, require_known
from crossdock_agent.framing.json_lines import LineScanner

_DESCRIPTOR_BYTES = 4


class FixedField(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    start: Annotated[int, Meta(ge=1, description="byte, from 1, as record layouts count")]
    length: Annotated[int, Meta(ge=1, description="in bytes")]
    type: Annotated[
        Literal["text", "packed", "zoned", "binary"],
        Meta(description="packed: COMP-3; zoned: digits with a sign in the last; binary: signed, big endian"),
    ] = "text"
    decimals: Annotated[int, Meta(ge=0, le=18, description="implied ones: 12345 is 123.45 with 2")] = 0
    signed: Annotated[bool, Meta(description="of a binary field: whether the first bit is its sign")] = True


class FixedWidth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="fixed"):
    """Fields at byte positions."""

    fields: Annotated[tuple[FixedField, ...], Meta(min_length=1)]
    newline: Annotated[bool, Meta(description="whether a newline ends each record")] = True
    record_bytes: Annotated[int, Meta(ge=1, description="length of a record, for files without newlines")] | None = None
    rdw: Annotated[
        bool, Meta(description="a record descriptor word of 4 bytes before each record tells its length")
    ] = False
    header_lines: Annotated[int, Meta(ge=0, description="lines before the first record")] = 0
    encoding: Annotated[str, Meta(description="utf-8, cp1252, cp850; without newlines also cp037, cp500 ...")] = "utf-8"

    def __post_init__(self) -> None:
        if self.rdw and self.record_bytes is not None:
            raise ValueError("'rdw' says that records tell their length, 'record_bytes' that all have one; give either")
        if not self.newline and self.record_bytes is None and not self.rdw:
            raise ValueError("records without newlines need 'record_bytes', the length of one, or 'rdw'")
        if (self.rdw or not self.newline) and self.header_lines:
            raise ValueError("'header_lines' needs lines, and there are none without newlines")
        if self.rdw or not self.newline:
            require_known(self.encoding)
            return
        odd = next((field.name for field in self.fields if field.type in ("packed", "binary")), None)
        if odd is not None:
            raise ValueError(f"field {odd} is not text and may hold a newline; set 'newline: false' and 'record_bytes'")
        try:
            require_framable(self.encoding)
        except ValueError as error:
            raise ValueError(f"{error}, or set 'newline: false' and 'record_bytes'") from error

    def scanner(self) -> Scanner:
        if self.rdw:
            return DescriptorScanner()
        if self.newline or self.record_bytes is None:
            return LineScanner(self.header_lines)
        return LengthScanner(self.record_bytes, marked=_is_ascii(self.encoding))


class _NoLines(ByteLines):
    """Records that are not lines: a byte 0x0A in one is as likely a part of a number."""

    resumes = False

    def newlines(self, data: bytes, start: int, end: int) -> int:  # noqa: ARG002 - the contract's signature
        return 0


class LengthScanner(_NoLines):
    """Every *record_bytes* bytes are a record. Fewer at the end of the file are one as well: it is torn, and decoding
    says so. A byte order mark is one only in an ASCII-like encoding (*marked*)."""

    def __init__(self, record_bytes: int, *, marked: bool = True) -> None:
        self._length = record_bytes
        if not marked:
            self.mark = b""

    def scan(self, data: bytes, start: int, end: int, *, last: bool) -> Scan:  # noqa: ARG002 - no byte is looked at
        records, rest = divmod(end - start, self._length)
        if last and rest:
            return Scan(end, records + 1, 0, ((start, end),), loose=end - rest)
        return Scan(end - rest, records, 0, ((start, end - rest),))

    def cuts(self, data: bytes, scan: Scan, every: int) -> Iterator[int]:  # noqa: ARG002
        step = every * self._length
        for start, end in scan.spans:
            yield from range(start + step, end + 1, step)


class DescriptorScanner(_NoLines):
    """A record descriptor word is a length of two bytes, itself included, and two zeros (z/OS, variable length)."""

    mark = b""

    def scan(self, data: bytes, start: int, end: int, *, last: bool) -> Scan:
        at, records = start, 0
        for following in self._ends(data, start, end):
            at = following
            records += 1
        if last and at < end and (end - at < _DESCRIPTOR_BYTES or _length(data, at) >= _DESCRIPTOR_BYTES):
            return Scan(end, records + 1, 0, ((start, end),), loose=at)
        return Scan(at, records, 0, ((start, at),))

    def cuts(self, data: bytes, scan: Scan, every: int) -> Iterator[int]:
        for start, end in scan.spans:
            for n, at in enumerate(self._ends(data, start, end), start=1):
                if n % every == 0:
                    yield at

    def trouble(self, data: bytes, start: int, end: int) -> tuple[str, str] | None:
        if end - start < 2 or _length(data, start) >= _DESCRIPTOR_BYTES:
            return None
        said = (
            f"a record descriptor says {_length(data, start)} bytes, and counts itself, 4; was the file moved as text?"
        )
        return "bad_descriptor", said

    def _ends(self, data: bytes, start: int, end: int) -> Iterator[int]:
        at = start
        while at + _DESCRIPTOR_BYTES <= end:
            length = data[at] << 8 | data[at + 1]
            at += length
            if length < _DESCRIPTOR_BYTES or at > end:
                return
            yield at


def _length(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _is_ascii(encoding: str) -> bool:
    try:
        require_framable(encoding)
    except ValueError:
        return False
    return True
