"""What X12 and EDIFACT interchanges have in common as records: one row each, its envelope by column, its text whole.

A long interchange comes in parts, each with its envelope as prefix; `part` says `whole`, `part` or `last`. A wrong
count, a missing trailer or a control number that differs is a finding, told in `findings`, and not an error: partners
send such interchanges every day, and what is inside is for the reader of messages to judge. Counts that span parts are
not checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import (
    BLANK,
    SAMPLE_BYTES,
    Decoded,
    Fault,
    TextSettings,
    encoding_fault,
    register,
    single_bytes,
)
from crossdock_controller.formats.framed import sliced

COLUMNS = (
    "sender_qualifier",
    "sender",
    "receiver_qualifier",
    "receiver",
    "date",
    "time",
    "control_number",
    "version",
    "test",
    "group_types",
    "group_controls",
    "types",
    "messages",
    "part",
    "findings",
    "content",
)
_MOST_FINDINGS = 20
_SEPARATOR = "\x1f"

__all__ = ["COLUMNS", "Envelope", "InterchangeFormat", "InterchangeSettings", "register"]


class InterchangeSettings(TextSettings):
    part_bytes: int = 1024 * 1024  # for the agent

    @classmethod
    def checked_encoding(cls, name: str) -> str:
        return single_bytes(name)

    def columns_declared(self) -> tuple[str, ...] | None:
        return COLUMNS


@dataclass(slots=True)
class Envelope:
    """What was read of an interchange, or of a part."""

    sender_qualifier: str = ""
    sender: str = ""
    receiver_qualifier: str = ""
    receiver: str = ""
    date: str = ""
    time: str = ""
    control_number: str = ""
    version: str = ""
    test: bool = False
    group_types: list[str] = field(default_factory=list)
    group_controls: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    messages: int = 0
    ends: bool = False  # its trailer is here
    findings: list[str] = field(default_factory=list)

    def found(self, text: str) -> None:
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(text)

    def row(self, content: str, *, is_part: bool) -> list[str]:
        part = "whole" if not is_part else "last" if self.ends else "part"
        return [
            self.sender_qualifier, self.sender, self.receiver_qualifier, self.receiver, self.date, self.time,
            self.control_number, self.version, "1" if self.test else "0", ",".join(self.group_types),
            ",".join(self.group_controls), ",".join(dict.fromkeys(self.types)), str(self.messages), part,
            "; ".join(self.findings), content,
        ]  # fmt: skip


class InterchangeFormat:
    """Base of both. A subclass reads segments."""

    text_only = True
    code = ""  # of what is no interchange

    def __init__(self, settings: InterchangeSettings) -> None:
        self._encoding = settings.encoding

    def envelope(self, prefix: str, content: str) -> Envelope | str:
        """What *content* is, which stands in the envelope *prefix* if it is a part; or why it is none."""
        raise NotImplementedError

    def decode(self, header: BatchHeader, payload: bytes, wanted: Sequence[str]) -> Decoded:  # noqa: ARG002
        records = sliced(header, payload)
        rows: list[list[str]] = []
        positions: list[int] = []
        decoded = Decoded(
            columns=COLUMNS,
            rows=rows,
            positions=positions,
            lines=[],
            count=len(records),
            sample=lambda position: records[position][:SAMPLE_BYTES],
        )
        for position, raw in enumerate(records):
            found = self._read(header.prefix, raw, position)
            if isinstance(found, Fault):
                decoded.faults.append(found)
            else:
                rows.append(found)
                positions.append(position)
        decoded.lines = [0] * len(rows)
        return decoded

    def contents(self, decoded: Decoded) -> list[bytes]:
        return [_SEPARATOR.join(row).encode("utf-8", "surrogatepass") for row in decoded.rows]

    def content(self, row: dict[str, object]) -> bytes:
        return _SEPARATOR.join(str(row.get(name, "")) for name in COLUMNS).encode("utf-8", "surrogatepass")

    def glimpse(self, header: BatchHeader, sample: bytes) -> dict[str, object]:
        """Who sent what is too damaged or too long, without its content."""
        text = (header.prefix + sample).decode(self._encoding, "replace")
        found = self.envelope("", text)
        if isinstance(found, str):
            return {}
        names = COLUMNS[: COLUMNS.index("test")]
        return {name: getattr(found, name) for name in names if getattr(found, name)}

    def _read(self, prefix: bytes, raw: bytes, position: int) -> list[str] | Fault:
        sample = raw[:SAMPLE_BYTES]
        try:
            before, content = prefix.decode(self._encoding), raw.decode(self._encoding)
        except UnicodeDecodeError as error:
            return Fault(position, 0, "encoding", encoding_fault(self._encoding, error), "content", sample)
        envelope = self.envelope(before.strip(BLANK), content)
        if isinstance(envelope, str):
            return Fault(position, 0, self.code, envelope, "content", sample)
        return envelope.row(content, is_part=bool(before.strip(BLANK)))
