"""What goes into the outbox and comes out of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Append:
    """One sealed batch of a source with everything that is committed together with it."""

    source: str
    lane: str
    sealed: bytes
    crc32: int
    records: int  # rejects counted
    raw_bytes: int
    read_at_us: int
    checkpoint: bytes
    remember: tuple[tuple[str, bytes | None], ...] = ()  # None: the row goes
    on_ack: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of it all, as a queue counts them."""
        return len(self.sealed) + sum(len(key) + len(value or b"") for key, value in self.remember)


def source_crc(name: bytes, lane: bytes, checkpoint: bytes | None) -> int:
    """Over what decides where a source reads on, and under which name and lane its batches are sent."""
    return zlib.crc32(b"\0".join((name, lane, b"" if checkpoint is None else b"+" + checkpoint)))


@dataclass(frozen=True, slots=True)
class StoredBatch:
    sequence: int
    records: int
    crc32: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Position:
    """Where a source stands; batches, records and bytes count what is not yet acknowledged, *kept* what is and stays
    for a while."""

    lane: str
    last_sequence: int = 0
    acked_sequence: int = 0
    batches: int = 0
    records: int = 0
    bytes: int = 0
    kept_batches: int = 0
    kept_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    batches: int
    records: int
    bytes: int
    oldest_us: int  # when the oldest batch was read; 0 when there is none


@dataclass(frozen=True, slots=True)
class Missing:
    """Batches *first* to *last* of *source*, in the numbers of the epoch that ended: the controller has not got them
    and they are not kept any more. *kept_from_us* is when the oldest batch that is still here was read; 0 if none."""

    source: str
    first: int
    last: int
    kept_from_us: int


@dataclass(frozen=True, slots=True)
class Loss:
    """What a restored controller lacked and this outbox could not give back, and when that was found."""

    at_us: int
    missing: tuple[Missing, ...]
