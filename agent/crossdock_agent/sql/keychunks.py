"""What is kept at the site of a table read by key: for every row its key, an 8-byte hash and the number of its version.

Rows are kept in chunks. A chunk is one ledger row, covers one range of keys and names the chunk that follows it, so
that nothing lists them all: the checkpoint holds the first one's slot and a few counts. A chunk is written in the same
batch as the records it accounts for (`Draft.remember`). Slots given up form a list of their own and are used again.

A version is 0 as long as a row is as it was first seen, and then a hash of the version and the content before it: the
same history gives the same numbers, however often it is read, and no content comes back under the number it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

import msgspec

from crossdock.errors import UNREADABLE
from crossdock_agent.sql.keyreading import HASH_BYTES

CHUNK_ROWS = 1024  # a chunk is split at twice as many rows, and joined with the next below a quarter
GONE = bytes(HASH_BYTES)  # in place of the hash of a row that was deleted
UNREAD = b"\xff" * HASH_BYTES  # the same of a row that is there, its content left to somebody else
NOWHERE = -1  # no slot
MAX_GONE = CHUNK_ROWS // 4  # deleted keys a chunk remembers one by one

T = TypeVar("T")
Absent = tuple[bytes, bytes, int]  # key, hash (GONE: its delete was sent), version


class Chunk(msgspec.Struct, array_like=True):
    """*keys*, *hashes* and *versions* are of the rows in the database's order; *hi* is the last key of the range (None:
    it has no end). *absent* are rows that were missing when last looked for, in no order. A row that was never here
    begins with version *seed*."""

    next: int = NOWHERE
    hi: bytes | None = None
    seed: int = 0
    keys: bytes = b"\x90"  # a msgpack array, unpacked only when something changed
    hashes: bytes = b""
    versions: bytes = b""  # 8 bytes each; empty: all 0
    absent: list[Absent] = []

    @property
    def rows(self) -> int:
        return len(self.hashes) // HASH_BYTES

    @property
    def missing(self) -> int:
        return sum(1 for _, content, _ in self.absent if content != GONE)


class Kept(msgspec.Struct, array_like=True):
    """What the checkpoint says about the chunks and about the scan under way."""

    head: int = NOWHERE
    slots: int = 0  # slots ever used
    free: int = NOWHERE  # first slot given up
    rows: int = 0  # of all chunks
    missing: int = 0
    phase: int = 0  # IDLE, SCAN or SWEEP
    before: int = NOWHERE  # the chunk before the one to be read next
    accept: int = 0  # the `accept_vanished` that was made use of
    scans: int = 0  # that came to their end
    seed: int = 0  # with which rows begin that were never in any chunk
    held: bool = False  # the last scan missed too many rows


IDLE, SCAN, SWEEP = range(3)


class KeptLostError(Exception):
    """The ledger has not what the checkpoint speaks of: it is of a disk that is no more."""


class Chunks:
    def __init__(self, kept: Kept, recall: Callable[[str], bytes | None], prefix: str = "keys") -> None:
        self.kept = kept
        self._recall, self._prefix = recall, prefix
        self._written: dict[str, bytes] = {}  # not handed over yet
        self._handed: dict[str, bytes] = {}  # in the draft that was handed over last, perhaps not yet committed

    def load(self, slot: int) -> Chunk:
        """Raises KeptLostError."""
        return _decoded(self._stored(slot), Chunk)

    def put(self, slot: int, chunk: Chunk, rows: int, missing: int) -> None:
        """Write *chunk*, which held so many *rows* and *missing* ones when it was written last."""
        kept = self.kept
        kept.rows += chunk.rows - rows
        kept.missing += chunk.missing - missing
        self._written[self._key(slot)] = msgspec.msgpack.encode(chunk)

    def allocate(self) -> int:
        kept = self.kept
        if kept.free != NOWHERE:
            slot = kept.free
            kept.free = _decoded(self._stored(slot), int)
            return slot
        kept.slots += 1
        return kept.slots - 1

    def give_up(self, slot: int) -> None:
        """*slot* is no longer part of the chain; its rows were put elsewhere."""
        self._written[self._key(slot)] = msgspec.msgpack.encode(self.kept.free)
        self.kept.free = slot

    @property
    def dirty(self) -> int:
        """How many ledger rows wait to be handed over."""
        return len(self._written)

    def take(self) -> tuple[tuple[str, bytes], ...]:
        """The ledger rows of the next draft."""
        self._handed, self._written = self._written, {}
        return tuple(self._handed.items())

    def _stored(self, slot: int) -> bytes:
        key = self._key(slot)
        found = self._written.get(key) or self._handed.get(key) or self._recall(key)
        if found is None:
            raise KeptLostError(key)
        return found

    def _key(self, slot: int) -> str:
        return f"{self._prefix}/{slot}"


def next_version(version: int, content: bytes) -> int:
    """The version that follows *version*, whose content had the hash *content*: 63 bits, never 0."""
    digest = hashlib.blake2b(version.to_bytes(8, "big") + content, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1 or 1


def joined_seed(one: int, other: int) -> int:
    """Of two chunks made one: no key may begin again with a version it had before either was forgotten."""
    if one == other or not other:
        return one
    return next_version(one, other.to_bytes(8, "big")) if one else other


def forget_gone(absent: dict[bytes, tuple[bytes, int]], seed: int) -> int:
    """Beyond so many deleted keys they are forgotten; the new seed keeps them from beginning again with old numbers."""
    gone = [key for key, (content, _) in absent.items() if content == GONE]
    if len(gone) <= MAX_GONE:
        return seed
    for key in gone:
        seed = next_version(seed, absent.pop(key)[1].to_bytes(8, "big"))
    return seed


def _decoded(stored: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(stored, type=kind)
    except UNREADABLE as error:
        raise KeptLostError(str(error)) from error
