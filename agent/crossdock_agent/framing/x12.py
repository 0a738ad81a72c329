"""X12 (ANSI ASC X12): ISA to IEA. Delimiters stand in the ISA segment, wherever it ends."""

from __future__ import annotations

import re

from msgspec import Struct

from crossdock_agent.framing.base import require_single_bytes
from crossdock_agent.framing.interchanges import PART_BYTES, Delimiters, InterchangeSplitter, PartBytes, Tags

_FOLLOWS = (b"GS", b"TA1", b"IEA", b"ISB", b"ISE", b"ST")


class X12(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="x12"):
    """X12 interchanges."""

    part_bytes: PartBytes = PART_BYTES
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        require_single_bytes(self.encoding)

    def scanner(self) -> InterchangeSplitter:
        return InterchangeSplitter(X12Syntax(), self.part_bytes)


class X12Syntax:
    tags = Tags((b"ISA",), b"GS", b"SE", b"IEA")
    code = "not_x12"

    def delimiters(self, head: bytes) -> Delimiters:
        """An ISA has 16 elements, of 106 bytes together with its terminator; often enough they are not padded to that,
        or a newline is the terminator. So elements are counted, and what follows must be a segment."""
        element = head[3:4]
        at = 0
        for _ in range(16):
            at = head.find(element, at) + 1
            if not at:
                break
        if at:
            for component in (1, 0):  # ISA16, the component separator, may have been left out
                end = at + component
                terminator = head[end : end + 1]
                if head[end : end + 2] == b"\r\n":
                    terminator = b"\n"
                rest = head[end + 1 :].lstrip()
                if terminator and (not rest or rest.startswith(_FOLLOWS)):
                    return Delimiters(element, terminator)
        if found := re.search(rb"([^A-Za-z0-9 ])\s*GS" + re.escape(element), head):
            return Delimiters(element, found.group(1))
        return Delimiters(element, head[105:106] or b"~")

    def heads(self, data: bytes, delimiters: Delimiters) -> int:
        end = data.find(delimiters.segment) + 1
        return end or len(data[:_ISA_BYTES])


_ISA_BYTES = 106
