"""What is remembered of growing files, written with the batch it accounts for, so that it is never ahead of the data.

Every generation has a row in the ledger. Which are unfinished is said by 256 rows of ids, so that a file that vanished
before a restart is missed after it. The checkpoint repeats those that moved last, as far as 3 KiB hold them: enough to
go on by after the ledger was lost. What neither holds is read again under the same identity.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import msgpack
from msgspec.structs import replace

from crossdock.errors import UNREADABLE, Corrupt
from crossdock_agent.sources.base import Memory
from crossdock_agent.tails.live import Live, Tail
from crossdock_agent.tails.prints import WEAK_BYTES, unit_of

_VERSION = 1
_INLINE_BYTES = 3000
_ALIKE = 64  # generations that look alike and are looked into
_HINT = "was the source's kind changed, or the agent downgraded? give the source a new name, or update the agent"


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    kind: str
    version: int
    number: int
    tails: list[Tail]


class _Heads(msgspec.Struct, frozen=True, array_like=True):
    """How many generations began alike, and the last of them."""

    count: int
    units: list[bytes]


class _Before(NamedTuple):
    """What the last batch changed, as it was."""

    checkpoint: bytes | None
    unit: bytes
    tail: Tail | None
    unsaved: set[bytes]


Rows = tuple[tuple[str, bytes], ...]


class Book:
    """The unfinished generations, and how all of them are kept."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.live = Live()
        self._number = 0
        self._checkpoint: bytes | None = None
        self._unsaved: set[bytes] = set()  # known from the checkpoint alone
        self._before: _Before | None = None

    def load(self, checkpoint: bytes | None) -> bool:
        """Make it what it was at *checkpoint*; False when what is known of files still holds. Raises Corrupt."""
        if checkpoint == self._checkpoint:
            return False
        self.live, self._number, self._unsaved = Live(), 0, set()
        if checkpoint is not None:
            stored = _decode(checkpoint)
            self._number = stored.number
            listed = {unit for page in range(256) for unit in self._page(page)}
            kept = {unit: tail for unit in listed if (tail := self.recall(unit))}
            inline = {tail.unit: tail for tail in reversed(stored.tails)}
            self._unsaved = inline.keys() - kept.keys()
            for tail in (*(kept[unit] for unit in kept.keys() - inline.keys()), *inline.values()):
                self.live.put(tail)
        self._checkpoint, self._before = checkpoint, None
        return True

    def take_back(self, checkpoint: bytes | None) -> bytes | None:
        """Undo the last `advance` if it was from *checkpoint*: a full outbox refused the batch. Gives the unit back."""
        before, self._before = self._before, None
        if before is None or before.checkpoint != checkpoint or checkpoint == self._checkpoint:
            return None
        self.live.pop(before.unit)
        if before.tail is not None:
            self.live.put(before.tail)
        self._unsaved, self._number, self._checkpoint = before.unsaved, self._number - 1, checkpoint
        return before.unit

    def see(self, tail: Tail, name: bytes, inode: int, size: int) -> Tail:
        """What a look told, kept in memory until the next batch."""
        if (tail.name, tail.inode, tail.size) != (name, inode, size):
            tail = replace(tail, name=name, inode=inode, size=size)
            self.live.put(tail)
        return tail

    def revive(self, unit: bytes) -> None:
        """A finished generation was written to again."""
        kept = self.recall(unit)
        if kept is not None and unit not in self.live:
            self.live.put(replace(kept, finished=False))
            self._unsaved.add(unit)

    def advance(self, tail: Tail) -> tuple[bytes, Rows]:
        """The checkpoint and rows for a batch after which *tail* stands so."""
        before = self.live.pop(tail.unit)
        self._before = _Before(self._checkpoint, tail.unit, before, self._unsaved)
        if not tail.finished:
            self.live.put(tail)
        saved = [self.live[unit] for unit in self._unsaved if unit in self.live and unit != tail.unit]
        rows = [(_tail_key(each.unit), msgpack.encode(each)) for each in (tail, *saved)]
        pages = {each.unit[0] for each in saved}
        if (before is not None) == tail.finished or tail.unit in self._unsaved:
            pages.add(tail.unit[0])
        if before is None or before.head != tail.head:
            rows += self._head_rows([tail])
        if tail.finished:
            rows += self._print_rows([tail])
        rows += [(_page_key(page), msgpack.encode(self.live.on_page(page))) for page in pages]
        self._unsaved = set()
        self._number += 1
        self._checkpoint = self._encode()
        return self._checkpoint, tuple(rows)

    def begin_at(self, tails: list[Tail]) -> tuple[bytes, Rows]:
        """As `advance`, for files found at the very first look that are to be read from where they end."""
        rows = [(_tail_key(tail.unit), msgpack.encode(tail)) for tail in tails]
        rows += self._head_rows(tails) + self._print_rows(tails)
        self._number += 1
        self._checkpoint = self._encode()
        return self._checkpoint, tuple(rows)

    def recall(self, unit: bytes) -> Tail | None:
        row = self._memory.recall(_tail_key(unit))
        return msgpack.decode(row, type=Tail) if row is not None else None

    def units_of(self, head: bytes) -> list[bytes]:
        """The last generations that began with *head*, the latest first."""
        return self._heads(head).units[::-1] if head else []

    def units_with(self, mark: bytes, size: int, inode: int) -> list[bytes]:
        """Finished generations of that mark and size, as `prints.print_of` takes it; a short one also by its inode."""
        row = self._memory.recall(_print_key(mark, size, inode))
        return msgpack.decode(row, type=list[bytes])[::-1] if row is not None else []

    def new_unit(self, family: str, head: bytes, skipped: int = 0) -> bytes:
        """*skipped* were given out with this head and are not handed over yet."""
        nth = self._heads(head).count + skipped
        while self.recall(unit := unit_of(family, head, nth)) is not None:
            nth += 1
        return unit

    def _heads(self, head: bytes) -> _Heads:
        row = self._memory.recall(_head_key(head))
        return msgpack.decode(row, type=_Heads) if row is not None else _Heads(0, [])

    def _head_rows(self, tails: list[Tail]) -> list[tuple[str, bytes]]:
        heads: dict[bytes, list[bytes]] = {}
        for tail in tails:
            heads.setdefault(tail.head, []).append(tail.unit)
        rows = []
        for head, units in heads.items():
            known = self._heads(head)
            kept = [unit for unit in known.units if unit not in units] + units
            rows.append((_head_key(head), msgpack.encode(_Heads(known.count + len(units), kept[-_ALIKE:]))))
        return rows

    def _print_rows(self, tails: list[Tail]) -> list[tuple[str, bytes]]:
        prints: dict[str, list[bytes]] = {}
        for tail in tails:
            key = _print_key(tail.mark, tail.end, tail.inode)
            if key not in prints:
                prints[key] = self.units_with(tail.mark, tail.end, tail.inode)[::-1]
            prints[key] = [unit for unit in prints[key] if unit != tail.unit] + [tail.unit]
        return [(key, msgpack.encode(units[-_ALIKE:])) for key, units in prints.items()]

    def _page(self, page: int) -> list[bytes]:
        row = self._memory.recall(_page_key(page))
        return msgpack.decode(row, type=list[bytes]) if row is not None else []

    def _encode(self) -> bytes:
        inline: list[Tail] = []
        left = _INLINE_BYTES
        for tail in self.live.latest_first():
            left -= len(msgpack.encode(tail))
            if left < 0:
                break
            inline.append(tail)
        return msgpack.encode(_Stored("tail", _VERSION, self._number, inline))


def _decode(checkpoint: bytes) -> _Stored:
    try:
        stored = msgpack.decode(checkpoint, type=_Stored)
    except UNREADABLE as error:
        raise Corrupt(f"the checkpoint is not one of a file_tail source: {error}", hint=_HINT) from error
    if (stored.kind, stored.version) != ("tail", _VERSION):
        raise Corrupt(f"the checkpoint is {stored.kind} {stored.version}, this is tail {_VERSION}", hint=_HINT)
    return stored


def _tail_key(unit: bytes) -> str:
    return "tail:" + unit.hex()


def _head_key(head: bytes) -> str:
    return "head:" + head.hex()


def _print_key(mark: bytes, size: int, inode: int) -> str:
    short = f":{inode:x}" if size < WEAK_BYTES else ""
    return f"print:{mark.hex()}:{size % 2**32:x}{short}"


def _page_key(page: int) -> str:
    return f"open:{page:02x}"
