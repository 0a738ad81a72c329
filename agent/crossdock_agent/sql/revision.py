"""One chunk while the table's rows of its range go by: what was met, what is still to come, what was passed over.

Rows of the table and rows of the chunk come in the same order, the database's. So a kept row that was passed is
missing; which of two keys stands first is never asked here.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Protocol

import msgspec

from crossdock_agent.sql.keychunks import CHUNK_ROWS, Chunk, joined_seed
from crossdock_agent.sql.keyreading import HASH_BYTES

Entry = tuple[bytes, int]  # hash (GONE: deleted), version

_pack = msgspec.msgpack.Encoder().encode
_unpack_keys = msgspec.msgpack.Decoder(list[bytes]).decode


class Places(Protocol):
    """What only the database can say of keys."""

    def is_upto(self, key: bytes, last: bytes) -> bool:
        """True when *key*, which may have no row, does not stand behind *last*, which has one."""

    def exists(self, key: bytes) -> bool:
        """True when there is a row of this very key."""


class Revision:
    """*low* is the key behind which the range begins; a key is `met` in the order in which the table gives them."""

    def __init__(self, slot: int, chunk: Chunk, low: bytes | None) -> None:
        self.slot, self.low = slot, low
        self.high, self.next, self.seed = chunk.hi, chunk.next, chunk.seed
        self.counted = (chunk.rows, chunk.missing)  # as they were when this was last written
        self.dirty = False
        self.absent: dict[bytes, Entry] = {key: (content, version) for key, content, version in chunk.absent}
        self._chunk: Chunk | None = chunk  # as long as every row so far was as it is there
        self._at = 0  # kept rows before this one were met or passed
        self._keys: list[bytes] = []  # of rows met, in order
        self._entries: list[Entry] = []
        self._old_keys: list[bytes] = []
        self._old: list[Entry] = []
        self._places: dict[bytes, int] = {}
        self._last_known = -1  # index among the rows met of the last one that was kept before

    @property
    def total(self) -> int:
        rows = self._chunk.rows if self._chunk is not None else len(self._keys) + len(self._old) - self._at
        return rows + len(self.absent)

    @property
    def is_large(self) -> bool:
        return len(self._keys) >= 2 * CHUNK_ROWS

    def passes(self, hashes: list[bytes]) -> bool:
        """True when the next rows, by their hashes, are just the next ones kept: they are then met."""
        if self._chunk is None:
            return False
        end = self._at + len(hashes)
        if self._chunk.hashes[self._at * HASH_BYTES : end * HASH_BYTES] != b"".join(hashes):
            return False
        self._at = end
        return True

    def open(self) -> None:
        """From here on row by row."""
        if self._chunk is None:
            return
        self._old_keys, self._old = _rows(self._chunk)
        self._keys, self._entries = self._old_keys[: self._at], self._old[: self._at]
        self._places = {key: i for i, key in enumerate(self._old_keys)}
        self._last_known = self._at - 1
        self._chunk = None

    def find(self, key: bytes) -> Entry | None:
        """What is kept of *key*, which the table shows now; None: nothing."""
        place = self._places.get(key, -1)
        return self._old[place] if place >= self._at else self.absent.get(key)

    def is_last(self, key: bytes) -> bool:
        return bool(self._keys) and self._keys[-1] == key

    def meet(self, key: bytes, entry: Entry) -> None:
        """The table has *key*; *entry* is kept of it from now on."""
        place = self._places.get(key, -1)
        if place >= self._at:
            self._pass(place)
            self._at = place + 1
            self._last_known = len(self._keys)
            self.dirty = self.dirty or self._old[place] != entry
        else:
            self.absent.pop(key, None)
            self.dirty = True
        self._keys.append(key)
        self._entries.append(entry)

    def end(self) -> None:
        """The table has no more rows in the range."""
        if self._chunk is not None and self._at < self._chunk.rows:
            self.open()
        if self._chunk is None:
            self._pass(len(self._old))

    def absorb(self, chunk: Chunk) -> None:
        """Go on with the range of the *chunk* behind this one as part of it."""
        self.open()
        self.dirty = True
        self.counted = (self.counted[0] + chunk.rows, self.counted[1] + chunk.missing)
        self.low, self.high, self.next = self.high, chunk.hi, chunk.next
        self.seed = joined_seed(self.seed, chunk.seed)
        self.absent.update((key, (content, version)) for key, content, version in chunk.absent)
        self._old_keys, self._old = _rows(chunk)
        self._places = {key: i for i, key in enumerate(self._old_keys)}
        self._at, self._last_known = 0, len(self._keys) - 1

    def chunk(self) -> Chunk:
        """How this stands now; a row not yet met is kept as it was."""
        absent = [(key, content, version) for key, (content, version) in self.absent.items()]
        if self._chunk is not None:
            old = self._chunk
            return Chunk(self.next, self.high, self.seed, old.keys, old.hashes, old.versions, absent)
        keys, entries = self._keys + self._old_keys[self._at :], self._entries + self._old[self._at :]
        return _chunk(self.next, self.high, self.seed, keys, entries, absent)

    def split(self, slot: int, places: Places) -> Chunk | None:
        """Cut off the first rows, as the chunk that takes this one's place; the rest goes on under the new *slot*.

        On which side of the cut a missing row belongs only the database knows, and only by a row that is there: None
        when every row to cut behind was deleted meanwhile. Nothing has changed then.
        """
        for size in range(CHUNK_ROWS, len(self._keys) + 1):
            last = self._keys[size - 1]
            passed = self._passed(size, last, places)
            left = [key for key in self.absent if places.is_upto(key, last)] + self._old_keys[self._at : passed]
            if (not self.absent and self._at == len(self._old)) or places.exists(last):
                break
        else:
            return None
        self._pass(passed)
        return self._cut(slot, size, left)

    def _cut(self, slot: int, size: int, absent: list[bytes]) -> Chunk:
        keys, entries = self._keys[:size], self._entries[:size]
        self._keys, self._entries = self._keys[size:], self._entries[size:]
        self._last_known = max(-1, self._last_known - size)
        gone = [(key, *self.absent.pop(key)) for key in absent]
        left = _chunk(slot, keys[-1], self.seed, keys, entries, gone)
        self.slot, self.low, self.counted, self.dirty = slot, keys[-1], (0, 0), True
        return left

    def _passed(self, size: int, last: bytes, places: Places) -> int:
        """Index of the first kept row, not yet met, that belongs behind *last*."""
        if self._last_known >= size - 1:
            return self._at
        ahead = range(self._at, len(self._old))
        return self._at + bisect_left(ahead, True, key=lambda i: not places.is_upto(self._old_keys[i], last))

    def _pass(self, end: int) -> None:
        """Kept rows before *end* that were not met are missing."""
        for i in range(self._at, end):
            self.absent[self._old_keys[i]] = self._old[i]
            self.dirty = True
        self._at = max(self._at, end)


def _chunk(
    next_: int, high: bytes | None, seed: int, keys: list[bytes], entries: list[Entry], absent: list[Any]
) -> Chunk:
    versions = b"".join(version.to_bytes(8, "big") for _, version in entries)
    return Chunk(
        next_, high, seed, _pack(keys), b"".join(content for content, _ in entries),
        versions if any(versions) else b"", absent,
    )  # fmt: skip


def _rows(chunk: Chunk) -> tuple[list[bytes], list[Entry]]:
    keys, hashes, versions = _unpack_keys(chunk.keys), chunk.hashes, chunk.versions or bytes(8 * chunk.rows)
    return keys, [
        (hashes[at : at + 8], int.from_bytes(versions[at : at + 8], "big")) for at in range(0, 8 * len(keys), 8)
    ]
