"""Which rows of the look-back window were taken already: a row is known only if the batch that took it was committed.

Rows commit later than rows with a higher id or timestamp, so the source reads the last stretch again and again; this is
what keeps it from sending them again. A row is known by an 8-byte hash of its content. Hashes are kept in segments,
each one ledger row that is written in the same transaction as the batch (`Draft.remember`); the checkpoint lists those
in use. A ledger row is used again once its segment has fallen out of the window, so the ledger does not grow.

Losing a segment (an agent that lost its disk) loses nothing else: its rows are sent once more, and the controller drops
them by their event id.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from crossdock_agent.sql.hashes import HashSet

SegmentState = tuple[int, int, int | str | None]  # slot, generation, top (text where it is over 64 bits)

OPEN_HASHES = 512  # a segment is rewritten with each batch until it holds so many ...
OPEN_SECONDS = 6.0  # ... or is this old
MAX_HASHES = 1_000_000  # some 16 MB; beyond it the oldest segments are forgotten


def row_hash(packed: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "big")


@dataclass(slots=True)
class _Segment:
    slot: int
    generation: int  # a stored segment of another generation is not this one
    top: int | None  # the highest position in it; None when one of its positions has no order of ours
    born: float
    hashes: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def state(self) -> SegmentState:
        return self.slot, self.generation, self.top

    def row(self) -> tuple[str, bytes]:
        hashes = self.hashes
        if sys.byteorder == "little":
            hashes = array("Q", hashes)
            hashes.byteswap()
        return _key(self.slot), msgspec.msgpack.encode((self.generation, hashes.tobytes()))


class Window:
    def __init__(self) -> None:
        self._segments: deque[_Segment] = deque()
        self._known = HashSet()  # those of all segments, and some of segments that were forgotten meanwhile
        self._generation = 0

    @classmethod
    def load(cls, states: Iterable[SegmentState], recall: Callable[[str], bytes | None], now: float) -> Window:
        """The window as it was committed; a segment that is missing or not the one meant is left out."""
        window = cls()
        for slot, generation, top in states:
            window._generation = max(window._generation, generation)
            hashes = _decode(recall(_key(slot)), generation)
            if hashes is not None:
                highest = int(top) if top is not None else None
                window._segments.append(_Segment(slot, generation, highest, now - OPEN_SECONDS, hashes))
                window._known.add(hashes)
        return window

    def __len__(self) -> int:
        return sum(len(segment.hashes) for segment in self._segments)

    def knows(self, hashes: Iterable[int]) -> bool:
        """True when every one of *hashes* was taken."""
        known = self._known
        return all(value in known for value in hashes)

    def add(self, hashes: list[int], top: int | None, now: float) -> None:
        """Take *hashes*, of rows no higher than *top*; they go into the segment that `rows` then names."""
        last = self._segments[-1] if self._segments else None
        if last is None or len(last.hashes) + len(hashes) > OPEN_HASHES or now - last.born > OPEN_SECONDS:
            self._generation += 1
            last = _Segment(self._free_slot(), self._generation, top, now)
            self._segments.append(last)
        elif last.top is not None:
            last.top = None if top is None else max(last.top, top)
        last.hashes.extend(hashes)
        self._known.add(hashes)

    def states(self) -> list[SegmentState]:
        return [segment.state for segment in self._segments]

    def newest_row(self) -> tuple[tuple[str, bytes], ...]:
        """The ledger row that `add` changed last, for `Draft.remember`."""
        return (self._segments[-1].row(),) if self._segments else ()

    def rows(self) -> tuple[tuple[str, bytes], ...]:
        """Every ledger row there is."""
        return tuple(segment.row() for segment in self._segments)

    def prune(self, floor: int | None) -> bool:
        """Forget segments that lie wholly below *floor*; True when the window was over its limit and lost more."""
        if floor is not None:
            self._segments = deque(s for s in self._segments if s.top is None or s.top >= floor)
        overflow = False
        while len(self) > MAX_HASHES and len(self._segments) > 1:
            self._segments.popleft()
            overflow = True
        if overflow or len(self._known) > 2 * len(self) + OPEN_HASHES:
            self._known = HashSet()
            for segment in self._segments:
                self._known.add(segment.hashes)
        return overflow

    def _free_slot(self) -> int:
        used = {segment.slot for segment in self._segments}
        return next(slot for slot in range(len(used) + 1) if slot not in used)


def _key(slot: int) -> str:
    return f"window/{slot}"


def _decode(stored: bytes | None, generation: int) -> array[int] | None:
    if stored is None:
        return None
    found, data = msgspec.msgpack.decode(stored, type=tuple[int, bytes])
    if found != generation:
        return None
    hashes = array("Q")
    hashes.frombytes(data)
    if sys.byteorder == "little":
        hashes.byteswap()
    return hashes
