"""Keys and hashes of the rows that the reading by watermark took since the last reconciliation began.

They stand in numbered segments, each a ledger row written with the batch whose rows it names; the checkpoint holds
three numbers. A reconciliation turns the page when it begins: what was taken before is forgotten when it ends, what was
taken meanwhile serves the next one. Numbers go on for ever, ledger rows are used again.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence

import msgspec

from crossdock_agent.sql.hashes import HashSet
from crossdock_agent.sql.keyreading import HASH_BYTES

SEGMENT_HASHES = 2048  # a segment is rewritten with each batch until it holds so many
MAX_SEGMENTS = 512
MAX_HASHES = 1_000_000  # some 16 MB; beyond it, or so many segments, the oldest are forgotten


class OverlayState(msgspec.Struct, frozen=True, array_like=True):
    """Segments from *first* up to *last* are in use; the reconciliation under way began before *turn*."""

    first: int = 0
    turn: int = 0
    last: int = -1
    overflowed: bool = False


class Overlay:
    def __init__(self, state: OverlayState, recall: Callable[[str], bytes | None]) -> None:
        self._state, self._recall = state, recall
        self._sizes: dict[int, int] = {}  # hashes in each segment
        self._open = b""  # hashes of the last segment ...
        self._open_keys: list[bytes] = []  # ... and its keys
        self._known = HashSet()
        for number in range(state.first, state.last + 1):
            stored = self._stored(number)
            if stored is not None:
                self._sizes[number] = len(stored[0]) // HASH_BYTES
                self._open, self._open_keys = stored if number == state.last else (b"", [])
                self._known.add(_numbers(stored[0]))

    @property
    def state(self) -> OverlayState:
        return self._state

    def __len__(self) -> int:
        return sum(self._sizes.values())

    def __contains__(self, content: bytes) -> bool:
        return int.from_bytes(content, "big") in self._known

    def add(self, hashes: Sequence[bytes], keys: Sequence[bytes] = ()) -> tuple[tuple[str, bytes], ...]:
        """Take the rows of *hashes* and *keys* (none, where they cannot be told); the ledger row to be written with
        them."""
        if not hashes:
            return ()
        state, data = self._state, b"".join(hashes)
        last = state.last
        if last < state.turn or len(self._open) // HASH_BYTES + len(hashes) > SEGMENT_HASHES:
            last, self._open, self._open_keys = last + 1, b"", []
        self._open += data
        self._open_keys = [*self._open_keys, *keys]
        self._sizes[last] = len(self._open) // HASH_BYTES
        self._known.add(_numbers(data))
        self._limit(last)
        return ((_key(last), msgspec.msgpack.encode((last, self._open, self._open_keys))),)

    def before(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """Key and hash of what was taken before the reconciliation under way began, segment by segment."""
        for number in range(self._state.first, self._state.turn):
            stored = self._stored(number) if number in self._sizes else None
            if stored is not None and stored[1]:
                data, keys = stored
                yield [(key, data[i * HASH_BYTES : (i + 1) * HASH_BYTES]) for i, key in enumerate(keys)]

    def turn(self) -> None:
        """A reconciliation begins."""
        state = self._state
        self._state = OverlayState(state.first, state.last + 1, state.last, state.overflowed)

    def forget(self) -> None:
        """It has ended: what was taken before it is not needed any more."""
        state = self._state
        for number in range(state.first, state.turn):
            self._sizes.pop(number, None)
        self._state = OverlayState(state.turn, state.turn, state.last)
        self._learn()

    def _limit(self, last: int) -> None:
        state = self._state
        first = state.first
        while first < last and (last - first >= MAX_SEGMENTS or len(self) > MAX_HASHES):
            self._sizes.pop(first, None)
            first += 1
        self._state = OverlayState(first, max(first, state.turn), last, state.overflowed or first > state.first)
        if len(self._known) > 2 * len(self) + SEGMENT_HASHES:
            self._learn()

    def _learn(self) -> None:
        """Know what stands in the segments in use, and no more."""
        self._known = HashSet()
        for number in self._sizes:
            stored = (self._open, []) if number == self._state.last else self._stored(number)
            self._known.add(_numbers(stored[0] if stored is not None else b""))

    def _stored(self, number: int) -> tuple[bytes, list[bytes]] | None:
        """None when the ledger has another segment in its place, or none: an agent that lost its disk."""
        stored = self._recall(_key(number))
        if stored is None:
            return None
        found, hashes, keys = msgspec.msgpack.decode(stored, type=tuple[int, bytes, list[bytes]])
        return (hashes, keys) if found == number else None


def _numbers(hashes: bytes) -> array[int]:
    numbers = array("Q", hashes)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _key(number: int) -> str:
    return f"taken/{number % (MAX_SEGMENTS + 1)}"
