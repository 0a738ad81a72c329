"""Records of a reading by key, gathered for one batch: rows as they are now, and keys of rows that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crossdock.codec import TARGET_RAW_BYTES, TARGET_RECORDS
from crossdock.v1.batch_pb2 import BatchHeader, Reject
from crossdock_agent.sources.base import Draft
from crossdock_agent.sql.rows import MAX_ROW_BYTES, SAMPLE_BYTES


@dataclass(slots=True)
class KeyBatch:
    rows: list[bytes] = field(default_factory=list)
    size: int = 0
    rejects: list[Reject] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.rows and not self.rejects

    def fits(self, size: int, why_long: str | None = None) -> bool:
        """False when a record of *size* bytes belongs into the next batch. *why_long*: it may not travel."""
        if self.is_empty:
            return True
        if why_long is not None or size > MAX_ROW_BYTES:
            return len(self.rejects) < TARGET_RECORDS
        full = self.size + size > TARGET_RAW_BYTES or len(self.rows) >= TARGET_RECORDS
        return not full and not self.rejects  # rejects are numbered behind the rows

    def add(self, row: bytes, key: str, why_long: str | None = None) -> None:
        if why_long is None and len(row) <= MAX_ROW_BYTES:
            self.rows.append(row)
            self.size += len(row)
            return
        self.rejects.append(
            Reject(
                record=len(self.rows) + len(self.rejects), bytes=len(row), code="too_long",
                reason=f"row {key}: {why_long or f'it has {len(row)} bytes, the limit is {MAX_ROW_BYTES}'}",
                sample=row[:SAMPLE_BYTES],
            )
        )  # fmt: skip

    def draft(
        self, header: BatchHeader, checkpoint: bytes, remember: Sequence[tuple[str, bytes]], *, closes: bool
    ) -> Draft:
        header.records = len(self.rows)
        header.rejects.extend(self.rejects)
        header.checkpoint, header.closes = checkpoint, closes
        return Draft(header, b"".join(self.rows), tuple(remember))
