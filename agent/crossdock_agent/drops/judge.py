"""What an opened file is to us: new, the rest of one we have begun, one we have taken, or a copy of one.

Decided by content alone, except that growth after the end needs the same inode: then it is the same file, and a writer
that had paused longer than `settle_seconds` went on. Its first records are not read again, so nothing is doubled.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO

from msgspec.structs import replace

from crossdock.lifecycle import Stop
from crossdock_agent.drops.identity import content_hash, fingerprint, is_exact, signature, unit_of
from crossdock_agent.drops.state import Ledger, Taken, Work


class What(Enum):
    READ = "read"  # from `work.position`
    DUPLICATE = "duplicate"  # content that was taken before, under this name or another
    KNOWN = "known"  # as far as can be told the very file that was taken, touched; or put there again by the same bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    what: What
    work: Work
    goes_on: bool = False  # with READ: at a record this unit has come to
    content: bytes = b""  # hash of all, where it had to be known


@dataclass(frozen=True, slots=True)
class Judge:
    """With *take*, content seen before is read again as a unit of its own, told apart by the file's time."""

    ledger: Ledger
    stop: Stop
    take: bool

    def judge(self, name: str, file: BinaryIO, stat: os.stat_result, begun: Work | None, packing: str = "") -> Verdict:
        """A file may go on after what was its end; an archive, unpacked by *packing*, is another one then.

        Raises Interrupted, OSError.
        """
        size = stat.st_size
        print_ = fingerprint(file, size)
        if (
            begun
            and _may_go_on(begun, size, packing)
            and _same_print(file, size, print_, begun)
            and _untouched(stat, begun)
        ):
            return Verdict(What.READ, _resized(begun, stat, print_), goes_on=True)
        taken = self.ledger.taken(name)
        if taken and taken.signature[-1] == signature(stat).inode and self._begins_with(file, size, print_, taken):
            if size > taken.work.size and taken.work.record and _may_go_on(taken.work, size, packing):
                return Verdict(What.READ, _resized(taken.work, stat, print_), goes_on=True)
            if size == taken.work.size and not self.take:
                return Verdict(What.KNOWN, taken.work, content=taken.content)
        return self._new(name, file, stat, print_, packing)

    def _new(self, name: str, file: BinaryIO, stat: os.stat_result, print_: bytes, packing: str) -> Verdict:
        size = stat.st_size
        extra = (packing.encode(),) if packing else ()
        begin = Work(os.fsencode(name), b"", size, print_, stat.st_mtime_ns, packing=packing)
        if self.take:
            extra = (*extra, stat.st_mtime_ns.to_bytes(16, "big", signed=True))
        elif self.ledger.has_print(print_):
            content = b"" if is_exact(size) else content_hash(file, size, self.stop)
            if not content or self.ledger.has_content(content):
                return Verdict(
                    What.DUPLICATE, replace(begin, unit=unit_of(name, size, print_, *extra)), content=content
                )
            extra = (*extra, content)  # another file of the same samples had this unit
        return Verdict(What.READ, replace(begin, unit=unit_of(name, size, print_, *extra)))

    def _begins_with(self, file: BinaryIO, size: int, print_: bytes, taken: Taken) -> bool:
        if not _same_print(file, size, print_, taken.work):
            return False
        exact = is_exact(taken.work.size)
        return exact or content_hash(file, taken.work.size, self.stop) == taken.content


def _may_go_on(before: Work, size: int, packing: str) -> bool:
    return before.packing == packing and (not packing or size == before.size)


def _same_print(file: BinaryIO, size: int, print_: bytes, before: Work) -> bool:
    """Whether the file, of *size* and *print_*, still begins with what it was *before*, as far as the samples tell."""
    if size <= before.size:
        return size == before.size and print_ == before.fingerprint
    return fingerprint(file, before.size) == before.fingerprint


def _untouched(stat: os.stat_result, begun: Work) -> bool:
    """Whether equal samples are proof enough for going on in the middle. Not for a large file of the same size that was
    written since; growing files are taken to have been appended to."""
    return is_exact(begun.size) or stat.st_size > begun.size or stat.st_mtime_ns == begun.mtime_ns


def _resized(work: Work, stat: os.stat_result, print_: bytes) -> Work:
    return replace(work, size=stat.st_size, fingerprint=print_, mtime_ns=stat.st_mtime_ns)
