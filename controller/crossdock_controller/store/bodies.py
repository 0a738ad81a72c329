"""Bodies of documents, compressed together: those of one round repeat each other, so that a chunk takes about a tenth.

An event refers to its body by chunk, start and length. A chunk is written once, with a checksum, in the transaction of
its events, and never changed.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import zstandard

from crossdock.errors import Corrupt

CHUNK_BYTES = 128 * 1024  # raw: large enough to compress well, small enough to open for one body
CHUNK_BODIES = 512
_KEPT_CHUNKS = 16

Reference = tuple[int, int, int]  # chunk, start, length


@dataclass(slots=True)
class Packed:
    """Compressed chunks, and for each body (index of its chunk, start, length)."""

    chunks: list[bytes] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)


def pack(bodies: Sequence[bytes]) -> Packed:
    """Compress *bodies*, in order. To be done before the transaction: it takes no lock."""
    packed = Packed()
    if not bodies:
        return packed
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True, write_content_size=True)
    size = sum(map(len, bodies))
    step = max(1, min(CHUNK_BODIES, CHUNK_BYTES * len(bodies) // max(size, 1)))
    for index, first in enumerate(range(0, len(bodies), step)):
        part = bodies[first : first + step]
        lengths = list(map(len, part))
        starts = accumulate(lengths, initial=0)
        packed.references += [(index, start, length) for start, length in zip(starts, lengths, strict=False)]
        packed.chunks.append(compressor.compress(b"".join(part)))
    return packed


def add(db: sqlite3.Connection, packed: Packed) -> list[Reference]:
    """Store the chunks; where each body is. In a transaction."""
    first: int = db.execute("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'bodies'").fetchone()[0]
    db.executemany("INSERT INTO bodies(id, data) VALUES(?,?)", list(enumerate(packed.chunks, first)))
    return [(first + index, start, length) for index, start, length in packed.references]


def drop(db: sqlite3.Connection, references: Sequence[Reference]) -> None:
    """Take back what `add` stored in this transaction: every event was known already."""
    db.executemany("DELETE FROM bodies WHERE id = ?", [(chunk,) for chunk in {chunk for chunk, _, _ in references}])


class Bodies:
    """Reads bodies; neighbours share the work. Used from the thread of its connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._decompressor = zstandard.ZstdDecompressor()
        self._chunks: OrderedDict[int, bytes] = OrderedDict()

    def get(self, chunk: int, start: int, length: int) -> bytes:
        """Raises Corrupt when the chunk is damaged or missing."""
        data = self._chunks.get(chunk)
        if data is None:
            data = self._chunks[chunk] = self._read(chunk)
            if len(self._chunks) > _KEPT_CHUNKS:
                self._chunks.popitem(last=False)
        return data[start : start + length]

    def _read(self, chunk: int) -> bytes:
        row = self._db.execute("SELECT data FROM bodies WHERE id = ?", (chunk,)).fetchone()
        try:
            if row is not None:
                return self._decompressor.decompress(row[0])
        except zstandard.ZstdError as error:
            raise Corrupt(
                f"chunk {chunk} of document bodies is damaged: {error}",
                hint="check the disk; restore the state database",
            ) from error
        raise Corrupt(f"chunk {chunk} of document bodies is missing", hint="restore the state database from its backup")
