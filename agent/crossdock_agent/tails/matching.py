"""Which generation each file is, by content; a name and an inode only choose among files that all fit.

- A file that holds, before the offset, what was read of a generation is that generation, under whatever name.
- Several that do are one and its copies (rotation by copying makes one): the one with the inode, then the name, then
  the plain one, then the longest. A copy is not read, but takes over when the other is emptied or gone.
- One that was never read and is the beginning of another is a copy too, or one in the making. Any other is new.
- Below WEAK_BYTES equal content is likely by chance (a header and a first line `OPEN`): there the inode must be the
  same, or the name one that rotation gives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from loguru import logger

from crossdock.errors import SourceUnavailable
from crossdock_agent.drops.identity import Signature
from crossdock_agent.drops.listing import Found, display, unavailable
from crossdock_agent.framing.base import Scanner
from crossdock_agent.tails.live import Tail
from crossdock_agent.tails.names import Rotation, is_packed, rotation
from crossdock_agent.tails.opening import DAMAGED, INODE, Opened, opened
from crossdock_agent.tails.prints import MARK_BYTES, WEAK_BYTES, hashed, head_of, read_at, still_begins
from crossdock_agent.tails.state import Book

_COMPARED_BYTES = 64 * 1024
_PROBES = 3
NEAR = 200  # files asked for between two whole looks: those that changed last


@dataclass(slots=True)
class Seen:
    """A file at the last look. *unit* is the generation it is, or is a copy of; None: none that was ever read."""

    found: Found
    rotation: Rotation
    size: int = 0
    head: bytes = b""
    unit: bytes | None = None
    readable: bool = True
    again: bool = False  # a copy in the making, or not read as judged: the next look judges anew
    guessed: bool = False  # as which generation it is only if that was copied and emptied
    grown: bool = False  # it is a finished generation, and longer than what was handed over
    waits: int = -1  # bytes behind its last record or header that make none yet; -1: not read since it changed
    since: float = 0.0  # of a file not begun: when something in it was first seen
    changed_at: float = 0.0  # when it was first seen like this
    damaged: bool = False  # packed, and not to be read to its end

    @property
    def name(self) -> str:
        return self.found.name

    @property
    def signature(self) -> Signature:
        return self.found.signature

    @property
    def packed(self) -> bool:
        return is_packed(self.name)

    @property
    def inode(self) -> int:
        return self.found.signature.inode & INODE


class Match:
    """The files of the last look, by name, and where each unfinished generation is."""

    def __init__(self, book: Book, scanner: Scanner, name: str, quiet_seconds: float) -> None:
        self._book = book
        self._quiet_seconds = quiet_seconds
        self._scanner = scanner
        self._log = logger.bind(source=name)
        self._complained: set[str] = set()
        self._fault: SourceUnavailable | None = None
        self.files: dict[str, Seen] = {}
        self.places: dict[bytes, Seen] = {}
        self.newest: dict[str, Seen] = {}  # of each family
        self.scope: list[Seen] = []
        self._near: list[str] = []

    def forget(self) -> None:
        """The book was opened at another page: what was concluded from it is void."""
        self.files, self.places, self.newest = {}, {}, {}
        self.scope, self._near = [], []

    def doubt(self, unit: bytes) -> None:
        """What was concluded from the last batch of *unit* is void."""
        for seen in self.files.values():
            if seen.unit == unit:
                seen.again = True

    def look(self, found: dict[str, Found], changed: Collection[str] | None, now: float) -> None:
        """*changed* are the names that differ from the last look, None: any may. Then all are in *scope*, else the
        followed ones. Raises SourceUnavailable when files there can be listed and not reached."""
        before, fresh = self.files, set()
        self._fault = None
        if changed is None or not before:
            self.files = {}
            for name, item in found.items():
                seen = before.get(name)
                if seen is None or seen.signature != item.signature or seen.again:
                    fresh.add(name)
                    seen = self._identify(item, seen, now)
                self.files[name] = seen
            self._place(self.files.values(), fresh)
            self._survey()
        else:
            fresh = {name for name in self._near if name in changed or before[name].again}
            for name in fresh:
                seen = before[name]
                if seen.unit is not None and self.places.get(seen.unit) is seen:
                    del self.places[seen.unit]
                self.files[name] = self._identify(found[name], seen, now)
            self.scope = [self.files[name] for name in self._near]
            self._place(self.scope, fresh)
        self._set_copies_aside(now)
        others = islice((seen for seen in self.files.values() if seen.readable), _PROBES)
        if self._fault is not None and not any(map(_can_be_read, others)):
            raise self._fault

    def followed(self) -> list[str]:
        """Names to ask for between two whole looks."""
        return self._near

    def is_open(self, seen: Seen) -> bool:
        return seen.unit is None or seen.unit in self._book.live

    def _survey(self) -> None:
        """What holds until the directory is listed again."""
        self.newest = {}
        for seen in self.files.values():
            family, rank = seen.rotation
            if family not in self.newest or rank > self.newest[family].rotation.rank:
                self.newest[family] = seen
        self.scope = [seen for seen in self.files.values() if self.is_open(seen)]
        self._complained &= self.files.keys()
        self._near = [seen.name for seen in sorted(self.scope, key=lambda seen: -seen.changed_at)[:NEAR]]

    def _identify(self, found: Found, before: Seen | None, now: float) -> Seen:
        seen = Seen(found, before.rotation if before else rotation(found.name), since=now, changed_at=now)
        if before is not None:
            if before.unit is None and before.size:
                seen.since = before.since
            if before.signature == found.signature:
                seen.changed_at = before.changed_at
        try:
            with opened(found) as source:
                seen.size = source.size
                if source.size or source.packed:
                    seen.head = head_of(source.file, self._scanner)
                    self._judge(seen, source)
        except (OSError, *DAMAGED) as error:
            seen.readable = False
            seen.again = not isinstance(error, DAMAGED)
            if isinstance(error, OSError) and _is_of_the_share(error):
                self._fault = unavailable(found.path, error)
            if found.name not in self._complained:
                self._complained.add(found.name)
                self._log.bind(file=display(found.name)).info("file cannot be read yet: {}", error)
        else:
            self._complained.discard(found.name)
        return seen

    def _judge(self, seen: Seen, source: Opened) -> None:
        """Takes the first generation that fits for sure, else one that is guessed."""
        for tail in self._candidates(seen, source):
            sure = _is_near(seen, source, tail)
            if (sure or seen.unit is None) and self.fits(tail, seen, source):
                seen.unit, seen.guessed = tail.unit, not sure
                seen.grown = tail.finished and _is_longer(source, tail)
                if sure:
                    return

    def _candidates(self, seen: Seen, source: Opened) -> Iterator[Tail]:
        """Those most likely first; the ledger is asked only when no unfinished one fits."""
        live, tried = self._book.live, set()
        same_inode = () if source.packed else live.with_inode(source.inode)
        for tail in (*same_inode, *live.with_name(os.fsencode(seen.name)), *live.with_head(seen.head)):
            if tail.unit not in tried:
                tried.add(tail.unit)
                yield tail
        mark = hashed(read_at(source.file, 0, MARK_BYTES))
        for find in (partial(self._book.units_with, mark, source.size, source.inode), self._units_of(seen)):
            for unit in find():
                if unit not in tried and (kept := self._book.recall(unit)):
                    tried.add(unit)
                    yield kept

    def _units_of(self, seen: Seen) -> Callable[[], list[bytes]]:
        return partial(self._book.units_of, seen.head)

    def fits(self, tail: Tail, seen: Seen, source: Opened) -> bool:
        """Whether the file begins with all that was read of *tail*. Raises OSError."""
        if source.packed:
            return still_begins(source.file, min(tail.end, MARK_BYTES), tail.mark, b"")
        if source.size < tail.end:
            return False
        if not _is_near(seen, source, tail) and (tail.finished or not _is_older(seen.rotation, tail)):
            return False
        return still_begins(source.file, tail.end, tail.mark, tail.seam)

    def _set_copies_aside(self, now: float) -> None:
        """A file not begun that is the beginning of the newest of its log, or of one that began like it, is a copy, or
        a copy in the making. A short one is no longer believed to be once it is quiet: days may begin alike."""
        for seen in self.scope:
            if seen.unit is not None or not seen.head or seen.packed:
                continue
            if seen.size < WEAK_BYTES and now - seen.changed_at >= self._quiet_seconds:
                continue
            begun = (self.places.get(tail.unit) for tail in self._book.live.with_head(seen.head))
            originals = (self.files[self.newest[seen.rotation.family].name], *begun)
            seen.again = seen.again or any(each and self._is_copy(seen, each) for each in originals)

    def _is_copy(self, seen: Seen, original: Seen) -> bool:
        alike = original.head == seen.head or seen.size < MARK_BYTES
        if original is seen or original.inode == seen.inode or original.packed or not original.readable:
            return False
        return alike and seen.size <= original.size and self._agree(seen.found, original.found, 0)

    def _place(self, scope: Collection[Seen], fresh: set[str]) -> None:
        """Chooses among the files that fit one generation."""
        for seen in scope:
            if seen.grown and seen.unit is not None and seen.unit not in self._book.live:
                self._book.revive(seen.unit)
        claims: dict[bytes, list[Seen]] = {}
        for seen in scope:
            if seen.unit is not None and seen.unit in self._book.live:
                claims.setdefault(seen.unit, []).append(seen)
        if scope is not self.scope:
            self.places = {}
        for unit, claimants in claims.items():
            tail = self._book.live[unit]
            sure = self._sure(claimants, tail)
            if not sure:
                continue
            best, *others = sorted(sure, key=lambda seen: _likeness(seen, tail))
            self.places[unit] = best
            for other in others:
                if other.name in fresh and not self._agree(other.found, best.found, tail.end):
                    other.unit = None

    def _sure(self, claimants: list[Seen], tail: Tail) -> list[Seen]:
        """Without those that only look like *tail*, unless its own file lies there emptied: then it was copied."""
        sure = [seen for seen in claimants if not seen.guessed]
        own = self.files.get(os.fsdecode(tail.name))
        if not sure and own is not None and own.inode == tail.inode:
            return claimants
        for seen in claimants:
            if seen.guessed:
                seen.unit = None
        return sure

    def _agree(self, one: Found, other: Found, start: int) -> bool:
        """Whether two files are equal at the end of what both have. Packed ones are believed."""
        if is_packed(one.name) or is_packed(other.name):
            return True
        try:
            with opened(one) as a, opened(other) as b:
                end = min(a.size, b.size)
                start = max(start, end - _COMPARED_BYTES)
                return end <= start or read_at(a.file, start, end - start) == read_at(b.file, start, end - start)
        except OSError:
            return True  # the next look sees


def _can_be_read(seen: Seen) -> bool:
    """Asked to tell one bad file from a share that is away."""
    try:
        with opened(seen.found):
            return True
    except OSError as error:
        return not _is_of_the_share(error)


def _is_of_the_share(error: OSError) -> bool:
    """Whether it says nothing of this file alone: not that it is gone, locked, forbidden or badly packed."""
    return not isinstance(error, (FileNotFoundError, PermissionError, *DAMAGED))


def _is_near(seen: Seen, source: Opened, tail: Tail) -> bool:
    """Whether equal content proves enough."""
    return tail.end >= WEAK_BYTES or source.inode == tail.inode or seen.packed


def _is_older(name: Rotation, tail: Tail) -> bool:
    """Whether *name* is one that the file of *tail* would be given when it is rotated."""
    now = rotation(os.fsdecode(tail.name))
    return name.family == now.family and name.rank < now.rank


def _is_longer(source: Opened, tail: Tail) -> bool:
    return source.size != tail.end % 2**32 if source.packed else source.size > tail.end


def _likeness(seen: Seen, tail: Tail) -> tuple[bool, bool, bool, int]:
    same_inode = not seen.packed and seen.inode == tail.inode
    return not same_inode, os.fsencode(seen.name) != tail.name, seen.packed, -seen.size
