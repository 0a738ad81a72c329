"""Hashes of the rows that the reading by watermark took since the last reconciliation began.

They stand in numbered segments, each a ledger row written with the batch whose rows it names; the checkpoint holds
three numbers. A reconciliation turns the page when it begins: what was taken before is forgotten when it ends, what was
taken meanwhile serves the next one. Numbers go on for ever, ledger rows are used again.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import msgspec

from crossdock_agent.sql.hashes import HashSet
from crossdock_agent.sql.keyreading import HASH_BYTES

SEGMENT_HASHES = 2048  # a segment is rewritten with each batch until it holds so many
MAX_SEGMENTS = 512
MAX_HASHES = 1_000_000  # some 16 MB; beyond it, or so many segments, the oldest are forgotten


class TakenState(msgspec.Struct, frozen=True, array_like=True):
    """Segments from *first* up to *last* are in use; the reconciliation under way began before *turn*."""

    first: int = 0
    turn: int = 0
    last: int = -1
    overflowed: bool = False


class Taken:
    def __init__(self, state: TakenState, recall: Callable[[str], bytes | None]) -> None:
        self._state = state
        self._segments: dict[int, bytes] = {}
        for number in range(state.first, state.last + 1):
            stored = recall(_key(number))
            if stored is None:
                continue
            found, hashes = msgspec.msgpack.decode(stored, type=tuple[int, bytes])
            if found == number:
                self._segments[number] = hashes
        self._known = HashSet()
        self._learn()

    @property
    def state(self) -> TakenState:
        return self._state

    def __len__(self) -> int:
        return sum(map(len, self._segments.values())) // HASH_BYTES

    def __contains__(self, content: bytes) -> bool:
        return int.from_bytes(content, "big") in self._known

    def add(self, hashes: Sequence[bytes]) -> tuple[tuple[str, bytes], ...]:
        """Take *hashes*; the ledger row to be written with their rows."""
        if not hashes:
            return ()
        state = self._state
        last, data = state.last, self._segments.get(state.last, b"")
        if last < state.turn or len(data) // HASH_BYTES + len(hashes) > SEGMENT_HASHES:
            last, data = last + 1, b""
        data += b"".join(hashes)
        self._segments[last] = data
        self._known.add(array("Q", (int.from_bytes(content, "big") for content in hashes)))
        first = state.first
        while first < last and (last - first >= MAX_SEGMENTS or len(self) > MAX_HASHES):
            self._segments.pop(first, None)
            first += 1
        self._state = TakenState(first, max(first, state.turn), last, state.overflowed or first > state.first)
        if len(self._known) > 2 * len(self) + SEGMENT_HASHES:
            self._learn()
        return ((_key(last), msgspec.msgpack.encode((last, data))),)

    def turn(self) -> None:
        """A reconciliation begins."""
        state = self._state
        self._state = TakenState(state.first, state.last + 1, state.last, state.overflowed)

    def forget(self) -> None:
        """It has ended: what was taken before it is not needed any more."""
        state = self._state
        for number in range(state.first, state.turn):
            self._segments.pop(number, None)
        self._state = TakenState(state.turn, state.turn, state.last)
        self._learn()

    def _learn(self) -> None:
        self._known = HashSet()
        for hashes in self._segments.values():
            at = range(0, len(hashes), HASH_BYTES)
            self._known.add(array("Q", (int.from_bytes(hashes[i : i + HASH_BYTES], "big") for i in at)))


def _key(number: int) -> str:
    return f"taken/{number % (MAX_SEGMENTS + 1)}"
