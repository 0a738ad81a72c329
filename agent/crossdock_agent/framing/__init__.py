"""Framing: where records begin and end in a file, and nothing else. Decoding is the controller's."""

from __future__ import annotations

from crossdock_agent.framing.base import Position, Run
from crossdock_agent.framing.delimited import Csv
from crossdock_agent.framing.fixed_width import FixedWidth
from crossdock_agent.framing.framer import DEFAULT_MAX_RECORD_BYTES, SAMPLE_BYTES, Framer
from crossdock_agent.framing.json_lines import JsonLines

Format = Csv | JsonLines | FixedWidth

__all__ = [
    "DEFAULT_MAX_RECORD_BYTES",
    "SAMPLE_BYTES",
    "Csv",
    "FixedWidth",
    "Format",
    "Framer",
    "JsonLines",
    "Position",
    "Run",
    "format_name",
]


def format_name(settings: Format) -> str:
    """`csv`, `jsonl` or `fixed`, as it stands in a batch's header."""
    return str(settings.__struct_config__.tag)
