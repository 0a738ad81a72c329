"""Aggregates gathered for one batch; one that is too large to travel is set aside with its key."""

from __future__ import annotations

from dataclasses import dataclass, field

from crossdock.codec import TARGET_RAW_BYTES, TARGET_RECORDS
from crossdock.v1.batch_pb2 import BatchHeader, Column, Origin, Reject
from crossdock_agent.sql.families import MAX_CHILD_ROWS, Families, Family
from crossdock_agent.sql.rows import MAX_ROW_BYTES, SAMPLE_BYTES
from crossdock_agent.sql.settings import SqlTableSettings


@dataclass(slots=True)
class AggregateBatch:
    records: list[bytes] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    size: int = 0

    @property
    def is_empty(self) -> bool:
        return not self.records and not self.rejects

    def fits(self, family: Family) -> bool:
        """True when *family* may go into this batch; one that is larger than a batch goes into one of its own."""
        if self.is_empty:
            return True
        return not self.rejects and (
            len(self.records) < TARGET_RECORDS and self.size + family.bytes <= TARGET_RAW_BYTES
        )

    def add(self, family: Family, families: Families) -> None:
        parent = families.members[0]
        data = b"" if family.overflow else family.encode(parent.shape.payload)
        column = family.oversize(families.members)
        if family.overflow or column is not None or len(data) > MAX_ROW_BYTES:
            self._reject(family, families, len(data), column)
            return
        self.records.append(data)
        self.size += len(data)

    def pour(self, header: BatchHeader) -> bytes:
        """The payload, and its part of *header*; the batch is empty afterwards."""
        header.records = len(self.records)
        header.rejects.extend(self.rejects)
        payload = b"".join(self.records)
        self.records, self.rejects, self.size = [], [], 0
        return payload

    def _reject(self, family: Family, families: Families, size: int, column: str | None) -> None:
        key = ", ".join(map(str, family.key))
        if family.overflow:
            large = max(range(1, len(family.parts)), key=lambda i: len(family.parts[i].packed))
            reason = f"{key} has more than {MAX_CHILD_ROWS} rows in {families.members[large].name}"
        elif column is not None:
            reason = f"{key}: column {column} has more than {families.members[0].shape.cap} bytes"
        else:
            counts = ", ".join(
                f"{len(part.packed)} {member.name}"
                for part, member in zip(family.parts[1:], families.members[1:], strict=True)
            )
            reason = f"{key} has {size} bytes with its {counts}, the limit is {MAX_ROW_BYTES}"
        self.rejects.append(
            Reject(
                record=len(self.records) + len(self.rejects),
                bytes=size or family.bytes,
                code="too_long",
                reason=reason,
                sample=family.parts[0].packed[0][:SAMPLE_BYTES],
            )
        )


def header_of(families: Families, settings: SqlTableSettings) -> BatchHeader:
    parent = families.members[0]
    columns = parent.header()
    for member in families.members[1:]:
        columns.append(Column(name=member.name, type="rows", columns=member.header()))
    shown = {column.quoted: column.name for column in parent.columns}
    return BatchHeader(
        format="rows", origin=Origin(kind="table", name=settings.table), columns=columns,
        key_columns=[shown[c.quoted] for c in families.key],
    )  # fmt: skip
