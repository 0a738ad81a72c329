"""Files that can no longer be read. What was known to be unread is a reject on the account; nothing ends in silence.

A listing is not made in one moment: a file renamed meanwhile may be missed by it. So a file counts as gone only when a
second look, and `rotated_seconds`, found it nowhere either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from msgspec.structs import replace

from crossdock_agent.sources.base import Counters, Draft
from crossdock_agent.tails import drafting
from crossdock_agent.tails.live import Tail
from crossdock_agent.tails.matching import Match, Seen
from crossdock_agent.tails.names import rotation
from crossdock_agent.tails.state import Book


class Losses:
    def __init__(
        self, book: Book, match: Match, format_: str, seconds: float, packing_seconds: float, counters: Counters
    ) -> None:
        self._book = book
        self._match = match
        self._format = format_
        self._seconds = seconds
        self._packing_seconds = packing_seconds
        self._counters = counters
        self._missing: dict[object, float] = {}  # since when, by unit or by file
        self._unborn: dict[tuple[str, int], Seen] = {}  # files not begun that had something in them

    def found(self, now: float, *, whole: bool) -> Iterator[tuple[Draft, str]]:
        """The ends of what is gone, and what to say of each. Only a *whole* look can tell."""
        if not whole:
            return
        missing = self._missing
        self._missing = {}
        closed = [seen for seen in self._match.scope if not seen.readable]
        for tail in list(self._book.live.values()):
            if tail.unit in self._match.places or _is_locked(tail, closed):
                continue
            packed = _being_packed(tail, closed)
            if packed is not None and now - packed.changed_at < self._packing_seconds:
                self._missing[tail.unit] = now
            elif self._is_due(missing, tail.unit, now):
                yield from self._ended(tail, damaged=packed is not None)
        yield from self._never_begun(missing, now)

    def damaged(self, tail: Tail | None, seen: Seen) -> Draft:
        """A packed file that stayed unreadable."""
        tail = replace(tail or self._as_tail(seen), finished=True, open=False)
        seen.unit = tail.unit
        return drafting.abandoned(self._book, tail, drafting.DAMAGED, self._format)

    def _is_due(self, missing: dict[object, float], key: object, now: float) -> bool:
        since = missing.get(key)
        if since is not None and now - since >= self._seconds:
            return True
        self._missing[key] = now if since is None else since
        return False

    def _ended(self, tail: Tail, *, damaged: bool) -> Iterator[tuple[Draft, str]]:
        emptied = os.fsdecode(tail.name) in self._match.files
        what = "file was emptied or replaced in place" if emptied else "file is gone"
        unread = max(0, tail.size - tail.end)
        after = replace(tail, open=False, finished=True)
        if damaged:
            draft = drafting.abandoned(self._book, after, drafting.DAMAGED, self._format)
            yield draft, "file was packed, and the packed one cannot be read"
        elif unread:
            code = drafting.TRUNCATED if emptied else drafting.GONE
            yield drafting.abandoned(self._book, after, code, self._format), f"{what} before it was read whole"
        else:
            what += "; all that was seen of it was read, what was written after the last look cannot be known"
            yield drafting.closing(self._book, after, b"", self._format), what
        self._counters.add("truncations" if emptied else "files_gone")
        if unread:
            self._counters.add("bytes_lost", unread)

    def _never_begun(self, missing: dict[object, float], now: float) -> Iterator[tuple[Draft, str]]:
        files = self._match.files.values() if self._unborn else ()
        inodes = {seen.inode: seen.size for seen in files}
        heads = {seen.head for seen in files}
        for key, seen in list(self._unborn.items()):
            if seen.head in heads or inodes.get(key[1], -1) >= seen.size:
                continue
            if self._is_due(missing, key, now):
                tail = replace(self._as_tail(seen), finished=True)
                draft = drafting.abandoned(self._book, tail, drafting.GONE, self._format)
                yield draft, "file is gone before anything of it was read"
                self._counters.add("files_gone")
                self._counters.add("bytes_lost", seen.size)
        self._unborn = {key: seen for key, seen in self._unborn.items() if key in self._missing}
        for seen in self._match.scope:
            if seen.unit is None and seen.head and seen.waits and not seen.again:
                self._unborn[seen.name, seen.inode] = seen

    def _as_tail(self, seen: Seen) -> Tail:
        """Of a file never begun. Without a head it is not found again: another day it may be read after all."""
        name, inode = os.fsencode(seen.name), seen.inode
        unit = self._book.new_unit(seen.rotation.family, seen.head + inode.to_bytes(8, "big"))
        return Tail(unit, name, name, b"", b"", b"", inode, seen.size)


def _is_locked(tail: Tail, closed: list[Seen]) -> bool:
    """Whether its file may be among those that are there, and nobody is let in."""
    name = os.fsdecode(tail.name)
    return any(not seen.packed and (seen.name == name or seen.inode == tail.inode) for seen in closed)


def _being_packed(tail: Tail, closed: list[Seen]) -> Seen | None:
    """The packed file that may become that of *tail* once it can be read to its end."""
    family = rotation(os.fsdecode(tail.name)).family
    return next((seen for seen in closed if seen.packed and seen.rotation.family == family), None)
