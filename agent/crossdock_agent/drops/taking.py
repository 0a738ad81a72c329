"""One file that is ready, from opening it to its last draft: judged, unpacked if it is packed, read or skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO, Literal

from loguru import logger
from msgspec import structs

from crossdock_agent.drops.gunzip import Content, Damaged, Gunzip
from crossdock_agent.drops.identity import Interrupted, signature
from crossdock_agent.drops.judge import Judge, Verdict, What
from crossdock_agent.drops.listing import Found, display
from crossdock_agent.drops.reading import REPLACED, How, Reading, abandoned, duplicate, nothing, refused
from crossdock_agent.drops.state import InProgress, Work
from crossdock_agent.drops.zipped import Member, Zip, prove
from crossdock_agent.framing import format_name
from crossdock_agent.sources.base import Counters, Draft

if TYPE_CHECKING:
    from loguru import Logger

Packing = Literal["none", "gzip", "zip"]


@dataclass(frozen=True, slots=True)
class Unpacking:
    """How files are packed. *max_bytes* is what one archive may unpack to."""

    unpack: Literal["none", "gzip", "zip", "suffix"]
    members: str
    by_time: bool
    max_bytes: int

    def of(self, name: str) -> Packing:
        if self.unpack != "suffix":
            return self.unpack
        folded = name.casefold()
        return "gzip" if folded.endswith(".gz") else "zip" if folded.endswith(".zip") else "none"


@dataclass(slots=True)
class Taking:
    """Takes *item* while *file* is open; `ending` is for when it is closed again (see `Reading`).

    *same* becomes true when it is the very file that was taken before, *changed* when somebody wrote to it.
    """

    item: Found
    state: InProgress
    how: How
    unpacking: Unpacking
    judge: Judge
    counters: Counters
    same: bool = False
    changed: bool = False
    _last: Iterator[Draft] = field(default_factory=lambda: iter(()))
    _spoiled: bool = False

    def drafts(self, file: BinaryIO) -> Iterator[Draft]:
        """Raises Interrupted, OSError."""
        stat = os.fstat(file.fileno())
        if signature(stat) != self.item.signature:
            self.changed = True
            return
        begun = self.state.get(self.item.name)
        packing = self.unpacking.of(self.item.name)
        verdict = self.judge.judge(self.item.name, file, stat, begun, "" if packing == "none" else packing)
        if begun and not (verdict.goes_on and verdict.work.unit == begun.unit):
            self._log().warning("file was replaced before it was read whole")
            yield abandoned(begun, self.state, format_name(self.how.format), REPLACED)
        if verdict.what is What.KNOWN and not self.how.release:
            self.same = True
        elif verdict.what is not What.READ:
            self._last = self._duplicate(verdict, stat)
        elif packing == "zip":
            yield from self._zip(file, stat, verdict)
        elif packing == "gzip":
            yield from self._gzip(file, stat, verdict)
        else:
            yield from self._read(Reading(file, stat, verdict.work, self.state, self.how))

    def ending(self) -> Iterator[Draft]:
        return self._last

    def _read(self, reading: Reading) -> Iterator[Draft]:
        yield from reading.drafts()
        self._last = reading.ending()

    def _duplicate(self, verdict: Verdict, stat: os.stat_result) -> Iterator[Draft]:
        self.counters.add("duplicates_skipped")
        first = display(self.judge.ledger.name_of(verdict.work.fingerprint))
        self._log().info("duplicate, skipped: its content was taken before, as {}", first or "this file")
        yield duplicate(verdict, stat, self.state, self.how)

    def _gzip(self, file: BinaryIO, stat: os.stat_result, verdict: Verdict) -> Iterator[Draft]:
        content = Gunzip(file)
        try:
            self._prove(content, verdict)
        except Damaged as damage:
            yield from self._refuse(verdict.work, damage, file, stat)
            return
        yield from self._read(Reading(file, stat, verdict.work, self.state, self.how, content))

    def _zip(self, file: BinaryIO, stat: os.stat_result, verdict: Verdict) -> Iterator[Draft]:
        """Each member is a unit; the last draft of one names the next one in the checkpoint."""
        try:
            archive = Zip(file)
            members = archive.members(
                self.unpacking.members, by_time=self.unpacking.by_time, max_bytes=self.unpacking.max_bytes
            )
        except Damaged as damage:
            yield from self._refuse(verdict.work, damage, file, stat)
            return
        works = [verdict.work.inside(archive.place(member), member.filename) for member in members]
        if verdict.goes_on and verdict.work.member >= 0:
            places = [work.member for work in works]
            first = places.index(verdict.work.member) if verdict.work.member in places else 0
            members, works = members[first:], works[first:]
            if works and works[0].member == verdict.work.member:
                works[0] = verdict.work
        if not works:
            self._last = iter((nothing(verdict.work.inside(-1, ""), stat, self.state, self.how),))
        self._spoiled = verdict.work.spoiled
        for i, member in enumerate(members):
            work = structs.replace(works[i], spoiled=self._spoiled)
            then = structs.replace(works[i + 1], spoiled=self._spoiled) if i + 1 < len(works) else None
            yield from self._last
            self._last = iter(())
            yield from self._member(archive, member, replace(verdict, work=work), then, file, stat)
            if self.changed:
                return

    def _member(
        self, archive: Zip, member: Member, verdict: Verdict, then: Work | None, file: BinaryIO, stat: os.stat_result
    ) -> Iterator[Draft]:
        try:
            content = archive.open(member)
            self._prove(content, verdict)
        except Damaged as damage:
            self._spoiled = True
            then = structs.replace(then, spoiled=True) if then else None
            yield from self._refuse(verdict.work, damage, file, stat, then)
            return
        reading = Reading(file, stat, verdict.work, self.state, self.how, content, then)
        yield from self._read(reading)
        self.changed = reading.changed

    def _prove(self, content: Content, verdict: Verdict) -> None:
        """Once; what goes on in the middle was found sound before."""
        if verdict.work.offset:
            return
        fine = format_name(self.how.format) == "binary"
        prove(content, self.unpacking.max_bytes, self._go_on, nested_is_fine=fine)

    def _refuse(
        self, work: Work, damage: Damaged, file: BinaryIO, stat: os.stat_result, then: Work | None = None
    ) -> Iterator[Draft]:
        """Unless somebody still writes to it: then it is looked at again when it has settled."""
        now = os.fstat(file.fileno())
        if (now.st_size, now.st_mtime_ns) != (stat.st_size, stat.st_mtime_ns):
            self.changed = True
            if begun := self.state.get(self.item.name):
                yield abandoned(begun, self.state, format_name(self.how.format), REPLACED)
            return
        self.counters.add("archives_refused")
        self._log().warning("not read: {}", damage.message)
        self._last = iter((refused(work, damage, stat, self.state, self.how, then=then),))

    def _go_on(self) -> None:
        if self.how.stop.is_set():
            raise Interrupted

    def _log(self) -> Logger:
        return logger.bind(file=display(self.item.name))
