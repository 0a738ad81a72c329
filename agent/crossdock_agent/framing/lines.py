"""Lines: every newline ends a record, which is its text."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from crossdock_agent.framing.base import Scanner
from crossdock_agent.framing.json_lines import LineScanner
from crossdock_agent.framing.wide import require_lines, widened


class Lines(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="lines"):
    """Lines of text."""

    header_lines: Annotated[int, Meta(ge=0, description="lines before the first record")] = 0
    encoding: Annotated[str, Meta(description="utf-8, cp1252, cp850, utf-16-le ...")] = "utf-8"

    def __post_init__(self) -> None:
        require_lines(self.encoding)

    def scanner(self) -> Scanner:
        return widened(LineScanner(self.header_lines), self.encoding)
