"""The generations that are not finished, each found by whatever a file may show of it."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, ValuesView

import msgspec

from crossdock_agent.framing import Position
from crossdock_agent.tails.names import rotation


class Tail(msgspec.Struct, frozen=True, array_like=True):
    """A generation and how far it was read: everything before *offset* was handed over."""

    unit: bytes
    born: bytes  # the name it was first read under; the one it has on the wire
    name: bytes  # the name it has now
    head: bytes
    mark: bytes  # of what stands before `end`
    seam: bytes
    inode: int
    size: int  # at the last look
    prefix_bytes: int = 0
    offset: int = 0
    record: int = 0
    line: int = 1
    taken: int = 0  # where a last line ended that was taken without its newline; it is read again when it grows
    open: bool = False  # records were sent since the last batch that closes
    finished: bool = False
    counted: bool = True  # False: reading begins at *offset*, its record and line are not known yet

    @property
    def position(self) -> Position:
        return Position(self.offset, self.record, self.line)

    @property
    def end(self) -> int:
        """Where what was never handed over begins."""
        return max(self.offset, self.taken)


class Live:
    """By unit, those that moved last at the end; and by head, name, inode and family, without a look at the others."""

    def __init__(self) -> None:
        self._tails: dict[bytes, Tail] = {}
        self._by: dict[Hashable, dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._tails)

    def __contains__(self, unit: bytes | None) -> bool:
        return unit in self._tails

    def __getitem__(self, unit: bytes) -> Tail:
        return self._tails[unit]

    def get(self, unit: bytes | None) -> Tail | None:
        return self._tails.get(unit) if unit is not None else None

    def values(self) -> ValuesView[Tail]:
        return self._tails.values()

    def latest_first(self) -> Iterator[Tail]:
        return reversed(self._tails.values())

    def put(self, tail: Tail) -> None:
        """In the place of what it was before; a new one at the end."""
        if before := self._tails.get(tail.unit):
            self._forget(before)
        self._tails[tail.unit] = tail
        for key in _keys(tail):
            self._by.setdefault(key, {})[tail.unit] = None

    def pop(self, unit: bytes) -> Tail | None:
        if tail := self._tails.pop(unit, None):
            self._forget(tail)
        return tail

    def with_head(self, head: bytes) -> Iterator[Tail]:
        return self._found(("head", head))

    def with_name(self, name: bytes) -> Iterator[Tail]:
        return self._found(("name", name))

    def with_inode(self, inode: int) -> Iterator[Tail]:
        return self._found(("inode", inode))

    def of_family(self, family: str) -> Iterator[Tail]:
        return self._found(("family", family))

    def on_page(self, page: int) -> list[bytes]:
        return list(self._by.get(("page", page), ()))

    def _found(self, key: Hashable) -> Iterator[Tail]:
        return iter([self._tails[unit] for unit in self._by.get(key, ())])

    def _forget(self, tail: Tail) -> None:
        for key in _keys(tail):
            units = self._by[key]
            del units[tail.unit]
            if not units:
                del self._by[key]


def _keys(tail: Tail) -> tuple[Hashable, ...]:
    family = rotation(os.fsdecode(tail.name)).family
    return ("head", tail.head), ("name", tail.name), ("inode", tail.inode), ("family", family), ("page", tail.unit[0])
