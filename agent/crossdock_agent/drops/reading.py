"""One opened file to drafts. Only bytes of a file that nobody wrote to since it was judged are ever sent.

Size and time are looked at after each block, before anything of it is framed. When they changed:

- The file still begins as it did, so it grew: what is framed is sent, and the rest is read when the file has settled
  again, under the same unit and with the next ordinals. An archive never only grows.
- It does not, so it was replaced in place: what was sent of the unit ends with a reject that says what was never seen,
  and the new content is read as a unit of its own. If nothing was sent yet, nothing is.

A file renamed over or deleted while it is read stays whole behind our handle; it is read to its end as what it was.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from msgspec.structs import replace

from crossdock.lifecycle import Stop
from crossdock.v1.batch_pb2 import BatchHeader, Origin, Reject
from crossdock_agent.drops.gunzip import Content, Damaged
from crossdock_agent.drops.identity import Interrupted, content_hash, fingerprint, hash_into, is_exact, signature
from crossdock_agent.drops.judge import Verdict
from crossdock_agent.drops.listing import display
from crossdock_agent.drops.state import InProgress, Ledger, Taken, Token, Work
from crossdock_agent.framing import Format, Framer, Run, format_name
from crossdock_agent.sources.base import Draft

REPLACED = "replaced"  # codes of rejects
GONE = "gone"


@dataclass(frozen=True, slots=True)
class How:
    """What is the same for every file of a source. *release*: something is to be done once the controller has it;
    *deletes*: it is then gone for good, so an archive of which something could not be read is left."""

    format: Format
    max_record_bytes: int
    release: bool
    deletes: bool
    duplicates_matter: bool
    stop: Stop
    wall_us: Callable[[], int]


class Reading:
    """Reads *file*, judged to be *work*, to its end or until it changes.

    `drafts` yields all but the last while the file is open; `ending` is for when it is closed again, so that the last
    draft finds nothing of ours in the way of a rename. With *content* the records are in that, not in the file's own
    bytes; with *then* the archive goes on there when this member is read.
    """

    def __init__(
        self,
        file: BinaryIO,
        stat: os.stat_result,
        work: Work,
        state: InProgress,
        how: How,
        content: Content | None = None,
        then: Work | None = None,
    ) -> None:
        self._file = file
        self._content: Content = content or file
        self._packed = content is not None
        self._stat = stat
        self._work = work
        self._state = state
        self._name = os.fsdecode(work.name)
        self._how = how
        self._then = then
        self._framer = _framer(self._content, work, how)
        self._held: Run | None = None
        self.changed = self._grew = False
        self._hash = b""

    def drafts(self) -> Iterator[Draft]:
        """Raises Interrupted, OSError."""
        for run in self._runs(hashed=not self._packed and not is_exact(self._stat.st_size)):
            if self._held is not None:
                yield self._draft(self._held)
            self._held = run
        if self._packed and not self.changed and not self._then and not is_exact(self._stat.st_size):
            self._hash = content_hash(self._file, self._stat.st_size, self._how.stop)
            self.changed = self._is_changed()
        if self.changed and not self._packed:
            size = os.fstat(self._file.fileno()).st_size
            self._grew = size >= self._work.size and self._still_begins()

    def ending(self) -> Iterator[Draft]:
        """The last draft of the file, or those that leave it for now."""
        if not self.changed:
            yield self._last()
            return
        sent = self._work.record > 0 or self._name in self._state
        if self._held is not None and (sent or self._grew):
            yield self._draft(self._held)
        if not self._grew and (begun := self._state.get(self._name)):
            yield abandoned(begun, self._state, format_name(self._how.format), REPLACED)

    def _runs(self, *, hashed: bool) -> Iterator[Run]:
        digest = hashlib.sha256()
        if hashed:
            hash_into(digest, self._file, self._work.offset, self._how.stop)
        self._content.seek(self._work.offset)
        while True:
            if self._how.stop.is_set():
                raise Interrupted
            block = self._block()
            if self._is_changed() or block is None:
                self.changed = True
                return
            if not block:
                break
            if hashed:
                digest.update(block)
            yield from self._framer.feed(block)
        self._hash = digest.digest() if hashed else b""
        yield from self._framer.finish()

    def _block(self) -> bytes | None:
        """None where an archive that was found sound is so no longer: somebody writes to it."""
        try:
            return self._content.read(self._framer.wanted)
        except Damaged:
            return None

    def _is_changed(self) -> bool:
        now = os.fstat(self._file.fileno())
        return (now.st_size, now.st_mtime_ns) != (self._stat.st_size, self._stat.st_mtime_ns)

    def _still_begins(self) -> bool:
        return fingerprint(self._file, self._work.size) == self._work.fingerprint

    def _draft(self, run: Run) -> Draft:
        self._state[self._name] = self._work.at(run.end, len(self._framer.prefix), run.spans)
        return Draft(_header(self._work, run, self._how, self._framer.prefix, self._state), run.payload)

    def _last(self) -> Draft:
        work = self._work
        run = self._held or Run(work.position, work.position)
        end = work.at(run.loose or run.end, len(self._framer.prefix), run.spans)
        return _closing(
            work, run, self._stat, self._state, self._how, prefix=self._framer.prefix, content=self._hash, end=end,
            remember=self._packed or run.end.record > 0, then=self._then,
        )  # fmt: skip


def duplicate(verdict: Verdict, stat: os.stat_result, state: InProgress, how: How) -> Draft:
    """No records: the file is on the account, and what was promised for after is done in its turn."""
    work = verdict.work
    run = Run(work.position, work.position)
    return _closing(work, run, stat, state, how, content=verdict.content)


def nothing(work: Work, stat: os.stat_result, state: InProgress, how: How) -> Draft:
    """An archive with nothing to read in it is on the account as well."""
    return _closing(work, Run(work.position, work.position), stat, state, how)


def refused(
    work: Work, damage: Damaged, stat: os.stat_result, state: InProgress, how: How, *, then: Work | None
) -> Draft:
    """One reject stands for an archive, or for a member, that cannot be read. It is not deleted unread."""
    start = work.position
    name, _ = work.origin
    reason = f"{display(name)}: {damage.message}; nothing of it was taken. Have it sent again, or unpack it by hand"
    reject = Reject(line=start.line, bytes=stat.st_size, code=damage.code, reason=reason)
    work = replace(work, spoiled=True)
    return _closing(work, Run(start, start, rejects=(reject,)), stat, state, how, then=then)


def abandoned(begun: Work, state: InProgress, format_: str, code: str) -> Draft:
    """The end of a unit whose rest can never be read: one reject stands for it on the account."""
    what = {REPLACED: "was replaced by other content", GONE: "was deleted or moved"}[code]
    then = "; its new content is read as a file of its own" if code == REPLACED else ""
    start = begun.position
    rest = f", nor were the members after {display(os.fsdecode(begun.member_name))}" if begun.member >= 0 else ""
    reason = (
        f"the file {what} before it was read to its end; from record {start.record} on it was never seen{rest}{then}"
    )
    reject = Reject(
        record=start.record,
        line=start.line,
        offset=start.offset,
        bytes=max(0, begun.size - start.offset),
        code=code,
        reason=reason,
    )
    state.pop(os.fsdecode(begun.name), None)
    return Draft(_header_of(begun, Run(start, start, rejects=(reject,)), format_, b"", state, closes=True), b"")


def _closing(
    work: Work,
    run: Run,
    stat: os.stat_result,
    state: InProgress,
    how: How,
    *,
    prefix: bytes = b"",
    content: bytes = b"",
    end: Work | None = None,
    remember: bool = False,
    then: Work | None = None,
) -> Draft:
    """The last draft of a unit. Of a member it leads to the next one; of a file it says that the file is taken."""
    name = os.fsdecode(work.name)
    if then is not None:
        state[name] = then
        return Draft(_header(work, run, how, prefix, state, closes=True), run.payload)
    state.pop(name, None)
    now_us = how.wall_us()
    whole = end or work
    if work.member >= 0:
        whole = work.inside(-1, "")
    rows = Ledger.rows(
        name, Taken(whole, signature(stat), content, now_us), remember_content=how.duplicates_matter and remember
    )
    header = _header(work, run, how, prefix, state, closes=True)
    token = None
    if how.release and not (how.deletes and work.spoiled):
        token = Token(work.name, stat.st_size, stat.st_mtime_ns, work.fingerprint, content, now_us).encode()
    return Draft(header, run.payload, rows, token)


def _framer(content: Content, work: Work, how: How) -> Framer:
    if not work.offset:
        return Framer(how.format.scanner(), how.max_record_bytes)
    spans = work.spans or ((0, work.prefix_bytes),)
    prefix = b"".join(_bytes_at(content, start, length) for start, length in spans)
    return Framer(how.format.scanner(), how.max_record_bytes, start=work.position, prefix=prefix, spans=work.spans)


def _bytes_at(content: Content, start: int, length: int) -> bytes:
    content.seek(start)
    parts = []
    while length > 0 and (block := content.read(length)):
        parts.append(block)
        length -= len(block)
    return b"".join(parts)


def _header(work: Work, run: Run, how: How, prefix: bytes, state: InProgress, *, closes: bool = False) -> BatchHeader:
    return _header_of(work, run, format_name(how.format), prefix, state, closes=closes)


def _header_of(
    work: Work, run: Run, format_: str, prefix: bytes, state: InProgress, *, closes: bool = False
) -> BatchHeader:
    name, unit = work.origin
    return BatchHeader(
        format=format_,
        records=run.records,
        prefix=prefix if run.prefix is None else run.prefix,
        record_bytes=run.lengths,
        checkpoint=state.encode(),
        origin=Origin(
            kind="file",
            name=display(name),
            unit=unit,
            offset=run.start.offset,
            first_record=run.start.record,
            first_line=run.start.line,
        ),
        rejects=run.rejects,
        closes=closes,
    )
