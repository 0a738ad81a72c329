"""UN/EDIFACT: UNA or UNB to UNZ. Delimiters stand in UNA, where there is one (ISO 9735, service string advice)."""

from __future__ import annotations

from msgspec import Struct

from crossdock_agent.framing.base import require_single_bytes
from crossdock_agent.framing.interchanges import PART_BYTES, Delimiters, InterchangeSplitter, PartBytes, Tags

_UNA_BYTES = 9


class Edifact(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="edifact"):
    """EDIFACT interchanges."""

    part_bytes: PartBytes = PART_BYTES
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        require_single_bytes(self.encoding)

    def scanner(self) -> InterchangeSplitter:
        return InterchangeSplitter(EdifactSyntax(), self.part_bytes)


class EdifactSyntax:
    tags = Tags((b"UNA", b"UNB"), b"UNG", b"UNT", b"UNZ")
    code = "not_edifact"

    def delimiters(self, head: bytes) -> Delimiters:
        if head.startswith(b"UNA") and len(head) >= _UNA_BYTES:
            return Delimiters(head[4:5], head[8:9], head[6:7])
        return Delimiters(b"+", b"'", b"?")

    def heads(self, data: bytes, delimiters: Delimiters) -> int:
        """UNA and UNB. A terminator that is released belongs to a name, not to the end of UNB."""
        at = _UNA_BYTES if data.startswith(b"UNA") else 0
        while (at := data.find(delimiters.segment, at) + 1) and self._released(data, at - 1, delimiters.release):
            pass
        return at or len(data)

    def _released(self, data: bytes, at: int, release: bytes) -> bool:
        before = at
        while release.strip() and before and data[before - 1 : before] == release:
            before -= 1
        return (at - before) % 2 == 1
