"""Framing: where records begin and end in a file, and nothing else. Decoding is the controller's."""

from __future__ import annotations

from crossdock_agent.framing.base import DEFAULT_MAX_RECORD_BYTES, SAMPLE_BYTES, Position, Run, Spans
from crossdock_agent.framing.binary import Binary
from crossdock_agent.framing.delimited import Csv
from crossdock_agent.framing.edifact import Edifact
from crossdock_agent.framing.fixed_width import FixedWidth
from crossdock_agent.framing.framer import Framer
from crossdock_agent.framing.json_document import JsonDocument
from crossdock_agent.framing.json_lines import JsonLines
from crossdock_agent.framing.lines import Lines
from crossdock_agent.framing.wide import is_wide
from crossdock_agent.framing.x12 import X12
from crossdock_agent.framing.xml_document import XmlDocument

Format = Csv | JsonLines | FixedWidth | Lines | JsonDocument | XmlDocument | X12 | Edifact | Binary

__all__ = [
    "DEFAULT_MAX_RECORD_BYTES",
    "SAMPLE_BYTES",
    "X12",
    "Binary",
    "Csv",
    "Edifact",
    "FixedWidth",
    "Format",
    "Framer",
    "JsonDocument",
    "JsonLines",
    "Lines",
    "Position",
    "Run",
    "Spans",
    "XmlDocument",
    "format_name",
    "is_wide",
]


def format_name(settings: Format) -> str:
    """`csv`, `jsonl`, `fixed` ..., as it stands in a batch's header."""
    return str(settings.__struct_config__.tag)
