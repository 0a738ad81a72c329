"""Binary: the whole file, as it is, is one record. A longer one than the limit is set aside, with its first bytes."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from crossdock_agent.framing.base import ByteLines, Scan


class Binary(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="binary"):
    """A whole file as it is."""

    def scanner(self) -> WholeScanner:
        return WholeScanner()


class WholeScanner(ByteLines):
    noun = "file"
    mark = b""
    resumes = False

    def scan(self, data: bytes, start: int, end: int, *, last: bool) -> Scan:  # noqa: ARG002 - no byte is looked at
        return Scan(end, 1, 0) if last else Scan(start, 0, 0)

    def cuts(self, data: bytes, scan: Scan, every: int) -> Iterator[int]:  # noqa: ARG002
        return iter(())
