"""One opened file to drafts. Only bytes of a file that nobody wrote to since it was judged are ever sent.

Size and time are looked at after each block, before anything of it is framed. When they changed:

- The file still begins as it did, so it grew: what is framed is sent, and the rest is read when the file has settled
  again, under the same unit and with the next ordinals.
- It does not, so it was replaced in place: what was sent of the unit ends with a reject that says what was never seen,
  and the new content is read as a unit of its own. If nothing was sent yet, nothing is.

A file renamed over or deleted while it is read stays whole behind our handle; it is read to its end as what it was.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import BinaryIO

from crossdock.lifecycle import Stop
from crossdock.v1.batch_pb2 import BatchHeader, Origin, Reject
from crossdock_agent.drops.identity import Interrupted, fingerprint, hash_into, is_exact, signature
from crossdock_agent.drops.judge import Verdict
from crossdock_agent.drops.listing import display
from crossdock_agent.drops.state import InProgress, Ledger, Taken, Token, Work
from crossdock_agent.framing import Format, Framer, Run, format_name
from crossdock_agent.sources.base import Draft

REPLACED = "replaced"  # codes of rejects
GONE = "gone"


class Reading:
    """Reads *file*, judged to be *work*, to its end or until it changes.

    `drafts` yields all but the last while the file is open; `ending` is for when it is closed again, so that the last
    draft finds nothing of ours in the way of a rename.
    """

    def __init__(
        self, file: BinaryIO, stat: os.stat_result, work: Work, state: InProgress, settings: Format, limit: int
    ) -> None:
        self._file = file
        self._stat = stat
        self._work = work
        self._state = state
        self._name = os.fsdecode(work.name)
        self._format = format_name(settings)
        self._framer = _framer(file, work, settings, limit)
        self._held: Run | None = None
        self._changed = self._grew = False
        self._content = b""

    def drafts(self, stop: Stop) -> Iterator[Draft]:
        """Raises Interrupted, OSError."""
        for run in self._runs(stop, hashed=not is_exact(self._stat.st_size)):
            if self._held is not None:
                yield self._draft(self._held)
            self._held = run
        if self._changed:
            size = os.fstat(self._file.fileno()).st_size
            self._grew = size >= self._work.size and self._still_begins()

    def ending(self, *, release: bool, duplicates_matter: bool) -> Iterator[Draft]:
        """The last draft of the file, or those that leave it for now."""
        if not self._changed:
            yield self._last(release=release, duplicates_matter=duplicates_matter)
            return
        sent = self._work.record > 0 or self._name in self._state
        if self._held is not None and (sent or self._grew):
            yield self._draft(self._held)
        if not self._grew and (begun := self._state.get(self._name)):
            yield abandoned(begun, self._state, self._format, REPLACED)

    def _runs(self, stop: Stop, *, hashed: bool) -> Iterator[Run]:
        digest = hashlib.sha256()
        if hashed:
            hash_into(digest, self._file, self._work.offset, stop)
        self._file.seek(self._work.offset)
        while True:
            if stop.is_set():
                raise Interrupted
            block = self._file.read(self._framer.wanted)
            now = os.fstat(self._file.fileno())
            if (now.st_size, now.st_mtime_ns) != (self._stat.st_size, self._stat.st_mtime_ns):
                self._changed = True
                return
            if not block:
                break
            if hashed:
                digest.update(block)
            yield from self._framer.feed(block)
        self._content = digest.digest() if hashed else b""
        yield from self._framer.finish()

    def _still_begins(self) -> bool:
        return fingerprint(self._file, self._work.size) == self._work.fingerprint

    def _draft(self, run: Run) -> Draft:
        self._state[self._name] = self._work.at(run.end, len(self._framer.prefix), run.spans)
        return Draft(_header(self._work, run, self._format, self._framer.prefix, self._state), run.payload)

    def _last(self, *, release: bool, duplicates_matter: bool) -> Draft:
        work, stat = self._work, self._stat
        run = self._held or Run(work.position, work.position)
        self._state.pop(self._name, None)
        header = _header(work, run, self._format, self._framer.prefix, self._state, closes=True)
        taken = Taken(work.at(run.loose or run.end, len(self._framer.prefix)), signature(stat), self._content)
        rows = Ledger.rows(self._name, taken, remember_content=duplicates_matter and run.end.record > 0)
        token = token_of(work, stat, self._content) if release else None
        return Draft(header, run.payload, rows, token)


def duplicate(verdict: Verdict, stat: os.stat_result, state: InProgress, settings: Format, *, release: bool) -> Draft:
    """No records: the file is on the account, and what was promised for after is done in its turn."""
    work, content = verdict.work, verdict.content
    name = os.fsdecode(work.name)
    header = _header(work, Run(work.position, work.position), format_name(settings), b"", state, closes=True)
    rows = Ledger.rows(name, Taken(work, signature(stat), content), remember_content=False)
    return Draft(header, b"", rows, token_of(work, stat, content) if release else None)


def abandoned(begun: Work, state: InProgress, format_: str, code: str) -> Draft:
    """The end of a unit whose rest can never be read: one reject stands for it on the account."""
    what = {REPLACED: "was replaced by other content", GONE: "was deleted or moved"}[code]
    then = "; its new content is read as a file of its own" if code == REPLACED else ""
    start = begun.position
    reason = f"the file {what} before it was read to its end; from record {start.record} on it was never seen{then}"
    reject = Reject(
        record=start.record,
        line=start.line,
        offset=start.offset,
        bytes=max(0, begun.size - start.offset),
        code=code,
        reason=reason,
    )
    state.pop(os.fsdecode(begun.name), None)
    return Draft(_header(begun, Run(start, start, rejects=(reject,)), format_, b"", state, closes=True), b"")


def token_of(work: Work, stat: os.stat_result, content: bytes) -> bytes:
    return Token(work.name, stat.st_size, stat.st_mtime_ns, work.fingerprint, content).encode()


def _framer(file: BinaryIO, work: Work, settings: Format, limit: int) -> Framer:
    if not work.offset:
        return Framer(settings.scanner(), limit)
    prefix = b"".join(_bytes_at(file, start, length) for start, length in work.spans or ((0, work.prefix_bytes),))
    return Framer(settings.scanner(), limit, start=work.position, prefix=prefix, spans=work.spans)


def _bytes_at(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


def _header(
    work: Work, run: Run, format_: str, prefix: bytes, state: InProgress, *, closes: bool = False
) -> BatchHeader:
    return BatchHeader(
        format=format_,
        records=run.records,
        prefix=prefix if run.prefix is None else run.prefix,
        record_bytes=run.lengths,
        checkpoint=state.encode(),
        origin=Origin(
            kind="file",
            name=display(os.fsdecode(work.name)),
            unit=work.unit,
            offset=run.start.offset,
            first_record=run.start.record,
            first_line=run.start.line,
        ),
        rejects=run.rejects,
        closes=closes,
    )
