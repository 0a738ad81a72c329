"""XML by element: the bytes of each element of a name, or at a path, are a record.

Comments, CDATA, processing instructions and quoted values are stepped over; nothing is parsed, no entity is looked at.
What stands before the root and its own start tag travel as prefix: the encoding and the namespaces.
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct

from crossdock_agent.framing.base import require_framable
from crossdock_agent.framing.xml_splitter import XmlSplitter

_NAME = re.compile(r"[^\s<>/!?=\"'&;]+")


class XmlDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="xml"):
    """XML by element."""

    element: Annotated[
        str, Meta(min_length=1, description="name of the elements that are records, or the path from the root: A/B/C")
    ]
    lists: Annotated[
        tuple[str, ...], Meta(description="paths in a record that may stand several times: Lines/Line")
    ] = ()  # fmt: skip
    encoding: Annotated[str, Meta(description="where the file does not say it itself")] = "utf-8"

    def __post_init__(self) -> None:
        require_framable(self.encoding)
        for path in (self.element, *self.lists):
            if not all(map(_NAME.fullmatch, path.split("/"))):
                raise ValueError(f"{path!r} is not names with slashes between them, such as Orders/Order")

    def scanner(self) -> XmlSplitter:
        return XmlSplitter(self.element)
