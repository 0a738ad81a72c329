"""JSON documents: the elements of an array are the records, wherever it stands; a document without one is a record."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from crossdock_agent.framing.base import require_single_bytes
from crossdock_agent.framing.json_splitter import JsonSplitter


class JsonDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="json"):
    """A JSON document: an array of records, or one record."""

    path: Annotated[str, Meta(description="where the array of records stands: orders, or data.orders")] = ""
    encoding: Annotated[str, Meta(description="utf-8, cp1252, cp850 ...")] = "utf-8"

    def __post_init__(self) -> None:
        require_single_bytes(self.encoding)
        if self.path and not all(self.path.split(".")):
            raise ValueError(f"path {self.path!r} is not names with dots between them, such as data.orders")

    def scanner(self) -> JsonSplitter:
        return JsonSplitter(self.path)
