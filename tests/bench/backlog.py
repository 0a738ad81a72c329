"""An outbox full of what an outage left behind, made quickly: sealed batches of the benchmark's rows.

The same few batches come again and again under new sequences: agent, wire and intake treat them as any others, because
none of them looks inside. The agent must not run meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import workload

from crossdock.codec import Sealed, Sealer
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_agent.outbox import Append, Store, schema

RAW_BYTES = 256 * 1024  # as the agent closes batches
DISTINCT = 64
GROUP_BYTES = 32 * 1024 * 1024  # a transaction


@dataclass(frozen=True, slots=True)
class Backlog:
    batches: int
    records: int
    sealed_bytes: int
    raw_bytes: int


def fill(path: Path, sealed_bytes: int, source: str = "stock", lane: str = "bulk") -> Backlog:
    """Append to the outbox at *path* until it holds *sealed_bytes* more of *source*."""
    made = [_batch(number) for number in range(DISTINCT)]
    schema.open_checked(path)
    store = Store(path)
    batches = records = total = raw = 0
    try:
        while total < sealed_bytes:
            group = 0
            with store.transaction():
                while group < GROUP_BYTES and total < sealed_bytes:
                    rows, size, sealed = made[batches % DISTINCT]
                    store.append(
                        Append(source, lane, sealed.data, sealed.crc32, rows, size, 1_700_000_000_000_000, b"filled")
                    )
                    batches, records, raw = batches + 1, records + rows, raw + size
                    group += len(sealed.data)
                    total += len(sealed.data)
    finally:
        store.close()
    return Backlog(batches, records, total, raw)


def _batch(number: int) -> tuple[int, int, Sealed]:
    """(records, raw bytes, sealed) of rows that no other batch of the set has."""
    lines: list[str] = []
    size, row = 0, number * 10_000
    while size < RAW_BYTES:
        lines.append(";".join(workload.row(row)) + "\n")
        size += len(lines[-1])  # cp1252: a byte a character
        row += 1
    payload = "".join(lines).encode(workload.ENCODING)
    header = BatchHeader(
        format="csv", records=len(lines), prefix=(";".join(workload.COLUMNS) + "\n").encode(), checkpoint=b"filled",
        origin=Origin(kind="file", name="stock.csv", unit=bytes(16), first_record=row), raw_bytes=len(payload),
    )  # fmt: skip
    return len(lines), len(payload), Sealer().seal(header, payload)
