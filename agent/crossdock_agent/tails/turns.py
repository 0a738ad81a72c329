"""One turn of reading in one file: whole records from where it was left to where it ended when the turn began.

Bytes are framed only after a look that showed the file is still the one that was judged: a block read while the file
was emptied in place is dropped. A last line without newline stays, unless the turn is *final*: nothing more can come.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from crossdock.lifecycle import Stop
from crossdock_agent.framing import Framer, Position, Run
from crossdock_agent.framing.base import Scanner
from crossdock_agent.tails.opening import Opened
from crossdock_agent.tails.prints import MARK_BYTES, behind_header, hashed, read_at, seam_of


class Tailed(Protocol):
    """The settings of a format whose records end where they end, whatever follows."""

    def scanner(self) -> Scanner: ...


class Turn:
    """*end* is where the content ended at the look, None for a packed file: it is read to its end.

    `runs` may be followed by asking what became of it: `changed` (the file is another one now), `more` (the turn was
    over before the file was), `header_end` (where records begin), `at` (where the next record begins).
    """

    def __init__(self, source: Opened, start: Position, prefix_bytes: int, settings: Tailed, limit: int) -> None:
        self._source = source
        self._file = source.file
        self._settings = settings
        self._limit = limit
        self._first = read_at(self._file, 0, MARK_BYTES)
        self.prefix = read_at(self._file, 0, prefix_bytes) if prefix_bytes else b""
        self.at = start
        self.changed = self.more = False
        self.waits = 0  # bytes behind `at` and the header, of a record that is not complete

    def runs(self, end: int | None, stop: Stop, *, final: bool, turn_bytes: int) -> Iterator[Run]:
        """Raises OSError, and for a packed file what `opening.DAMAGED` names."""
        begin = read = self.at.offset
        framer = self._framer()
        self._file.seek(read)
        while end is None or read < end:
            if stop.is_set():
                self.more = True
                return
            block = self._file.read(framer.wanted if end is None else min(framer.wanted, end - read))
            if not block and end is None:
                break
            if not block or not self._is_same(read + len(block)):
                self.changed = True
                return
            read += len(block)
            for run in framer.feed(block):
                yield self._passed(run, framer)
            if self.at.offset - begin >= turn_bytes and (end is None or read < end):
                self.more = True
                return
        if final:
            for run in framer.finish():
                yield self._passed(run, framer)
            self.prefix = framer.prefix
            return
        del framer
        yield from self._whole_records(read)

    def print_at(self, offset: int) -> tuple[bytes, bytes]:
        """Mark and seam; a packed file cannot go back for its seam."""
        mark = hashed(self._first[: min(offset, MARK_BYTES)])
        if self._source.packed:
            return mark, b""
        at = self._file.tell()
        seam = seam_of(self._file, offset)
        self._file.seek(at)
        return mark, seam

    def _framer(self) -> Framer:
        if not self.at.offset:
            return Framer(self._settings.scanner(), self._limit)
        return Framer(self._settings.scanner(), self._limit, start=self.at, prefix=self.prefix)

    def _whole_records(self, end: int) -> Iterator[Run]:
        """Those among the last bytes, which the framer would keep until more come."""
        left = end - self.at.offset
        self.waits = left
        if not left or left > self._limit:
            return
        rest = read_at(self._file, self.at.offset, left)
        if len(rest) < left or not self._is_same(end):
            self.changed = True
            return
        scanner = self._settings.scanner()
        start = 0 if self.at.offset else behind_header(rest, scanner)
        if start < 0:
            return
        scan = scanner.scan(rest, start, left, last=False)
        self.waits = left - (scan.end if scan.records else start)
        if not scan.records:
            return
        framer = self._framer()
        for part in (framer.feed(rest[: scan.end]), framer.finish()):
            for run in part:
                yield self._passed(run, framer)

    def _passed(self, run: Run, framer: Framer) -> Run:
        self.at = run.end
        self.prefix = framer.prefix
        return run

    def _is_same(self, read: int) -> bool:
        """Whether nothing that was read can be of another generation, as far as its beginning and size tell."""
        if self._source.packed:
            return True
        if self._source.shrank_below(read):
            return False
        at = self._file.tell()
        same = read_at(self._file, 0, len(self._first)) == self._first
        self._file.seek(at)
        return same


def counted_to(source: Opened, offset: int, settings: Tailed, limit: int, stop: Stop) -> Turn:
    """A turn that stands at the last record that begins at or before *offset*, by reading all before it.

    For a file whose reading began at its end: ordinals and lines are those of the file. Check `more` for a stop.
    """
    turn = Turn(source, Position(), 0, settings, limit)
    for _ in turn.runs(offset, stop, final=False, turn_bytes=2**63):
        pass
    return turn
