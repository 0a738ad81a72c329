"""X12 and EDIFACT: an interchange is a record; a long one travels in parts, each cut behind a message.

A part is a record with the envelope it stands in (ISA and GS, or UNA, UNB and UNG) as prefix, so that it can be read
alone. Delimiters are found for each interchange anew. An interchange whose trailer is missing ends where the next one
begins; whether its counts are right is for the reader of its content to find. Binary segments (BIN, BDS, UNO) that hold
delimiters are not known.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Annotated, NamedTuple, Protocol

from msgspec import Meta

from crossdock_agent.framing.base import Spans
from crossdock_agent.framing.splitter import NOWHERE, Piece, Splitter

PART_BYTES = 1024 * 1024
PartBytes = Annotated[int, Meta(ge=16 * 1024, description="an interchange longer than this travels in parts")]

_BLANK = b" \t\r\n\x00\x1a\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_LONGEST_HEAD = 512  # bytes in which the first segments show the delimiters
_LONGEST_TRAILER = 128

Wait = Generator[Piece | None, None, None]
Offset = Generator[Piece | None, None, int]


class Delimiters(NamedTuple):
    element: bytes
    segment: bytes
    release: bytes = b""


class Tags(NamedTuple):
    """Names of segments: they begin an interchange, open and close a group, close a message and the interchange."""

    starts: tuple[bytes, ...]
    group: bytes
    message_end: bytes
    end: bytes


class Syntax(Protocol):
    tags: Tags
    code: str  # of a reject for what is no interchange

    def delimiters(self, head: bytes) -> Delimiters:
        """From the first bytes of an interchange."""

    def heads(self, data: bytes, delimiters: Delimiters) -> int:
        """Bytes of the segments that open the interchange at the beginning of *data*: all but the groups."""


class _Envelope(NamedTuple):
    """What parts of one interchange stand in: bytes, and where they are in the file."""

    head: bytes
    head_at: int
    group: bytes = b""
    group_at: int = 0

    def prefix(self) -> bytes:
        return self.head + self.group

    def spans(self) -> Spans:
        spans = ((self.head_at, len(self.head)), (self.group_at, len(self.group)))
        return spans if self.group else spans[:1]


class InterchangeSplitter(Splitter):
    noun = "interchange"

    def __init__(self, syntax: Syntax, part_bytes: int) -> None:
        super().__init__()
        self._syntax, self._part_bytes = syntax, part_bytes
        self._by = Delimiters(b"", b"")
        self._start = re.compile(rb"(?:%b)[^A-Za-z0-9 \r\n]" % b"|".join(syntax.tags.starts))
        self._envelope: _Envelope | None = None
        self._closed = False  # the interchange was ended by a trailer with its terminator

    def resume(self, prefix: bytes, spans: Spans) -> None:
        """In the middle of an interchange, *prefix* is its envelope."""
        if not spans:
            return
        (head_at, head), group_at, group = spans[0], *(spans[1] if len(spans) > 1 else (0, 0))
        self._envelope = _Envelope(prefix[:head], head_at, prefix[head : head + group], group_at)
        self._by = self._syntax.delimiters(prefix[:head])

    def pieces(self) -> Iterator[Piece | None]:
        if self._envelope is not None:
            yield from self._parts()
        while (yield from self._gap()):
            if self._starts(self.pos):
                yield from self._interchange()
            else:
                yield from self._junk()

    # --- between interchanges

    def _gap(self) -> Generator[Piece | None, None, bool]:
        """To what is not blank, with enough of it to tell what it is."""
        while True:
            while self.pos < len(self.data) and self.data[self.pos] in _BLANK:
                self.pos += 1
            if self.last or len(self.data) - self.pos >= 4:
                return self.pos < len(self.data)
            yield None

    def _starts(self, at: int) -> bool:
        return self._start.match(self.data, at) is not None

    def _junk(self) -> Wait:
        self.begun = self.pos
        while True:
            found = self._start.search(self.data, self.pos)
            if found or self.last:
                break
            self.pos = max(self.pos, len(self.data) - 3)
            yield None
        self.pos = found.start() if found else len(self.data)
        names = " or ".join(tag.decode() for tag in self._syntax.tags.starts)
        said = f"an interchange begins with {names}, this does not"
        yield Piece(self.begun, self.pos, self._syntax.code, said, torn=found is None)
        self.begun = NOWHERE

    # --- one interchange

    def _interchange(self) -> Wait:
        self.begun = self.pos
        yield from self._have(self.begun + _LONGEST_HEAD)
        self._by = self._syntax.delimiters(self.data[self.begun : self.begun + _LONGEST_HEAD])
        yield from self._have(self.begun + self._part())
        end = yield from self._end(self.begun + self._part())
        if end >= 0:
            yield Piece(self.begun, end, torn=self._is_torn(end))
            self.pos, self.begun = end, NOWHERE
            return
        head = self.data[self.begun : self.begun + self._part()]
        self._envelope = _Envelope(head[: self._syntax.heads(head, self._by)], self.base + self.begun)
        self._by = self._syntax.delimiters(self._envelope.head)  # as whoever reads on will see them
        self.pos, self.begun = self.begun + len(self._envelope.head), NOWHERE
        yield from self._parts()

    def _parts(self) -> Wait:
        """The parts of the interchange whose envelope is known, from here on."""
        while self._envelope is not None:
            before = self._envelope.prefix()
            self.begun = self.pos
            limit = self.begun + self._part()
            yield from self._have(limit)
            limit = self.begun + self._part()
            end = yield from self._end(limit)
            if end < 0:
                end = self._last_message(self.begun + self._part())
            else:
                self._envelope = None
            if end < 0:
                end = yield from self._next_message()
            if self._envelope is not None:
                self._envelope = self._envelope_at(self.begun, end)
            spans = self._envelope.spans() if self._envelope is not None else ()
            if end > self.begun:
                torn = self._envelope is None and self._is_torn(end)
                yield Piece(self.begun, end, prefix=before, spans=spans, torn=torn)
            self.pos, self.begun = end, NOWHERE

    def _is_torn(self, end: int) -> bool:
        """Whether the interchange ends at *end* only because the file does."""
        return self.last and end == len(self.data) and not self._closed

    def _part(self) -> int:
        return min(self._part_bytes, max(self.limit - 2 * _LONGEST_HEAD, self.limit // 2))

    def _have(self, until: int) -> Wait:
        """Waits for the bytes before *until*, an offset in `data` as it is now."""
        missing = until - self.begun
        while len(self.data) - self.begun < missing and not self.last:
            yield None

    def _end(self, limit: int) -> Offset:
        """Where the interchange ends, if that is before *limit*: behind its trailer, before the next interchange, or
        at the end of the file. Else -1."""
        self._closed = False
        reach = limit - self.begun
        trailer = self._segment(self._syntax.tags.end, self.pos, limit)
        stop = trailer if trailer >= 0 else min(limit, len(self.data))
        others = [self._next_start(tag, stop) for tag in self._syntax.tags.starts]
        other = min((at for at in others if at >= 0), default=-1)
        if other >= 0:
            return other
        if trailer >= 0:
            behind = trailer - self.begun
            yield from self._have(trailer + _LONGEST_TRAILER)
            end = self._trailer_end(self.begun + behind)
            return end if end - self.begun <= reach else -1
        return len(self.data) if self.last and len(self.data) - self.begun <= reach else -1

    def _trailer_end(self, at: int) -> int:
        stop = min(len(self.data), at + _LONGEST_TRAILER)
        found = self._terminator(at, stop)
        if found >= 0:
            self._closed = True
            return found
        newline = self.data.find(b"\n", at, stop)
        return newline + 1 if newline >= 0 else stop

    def _next_start(self, tag: bytes, stop: int) -> int:
        """The next interchange before *stop*; this one's own UNB stands behind its UNA."""
        at = self.begun
        if self._envelope is None:
            at += max(3, self._syntax.heads(self.data[at : at + _LONGEST_HEAD], self._by))
        while (at := self.data.find(tag, at, stop)) >= 0:
            if self._starts(at) and self._begins_segment(at, or_line=True):
                return at
            at += 3
        return -1

    def _segment(self, tag: bytes, start: int, stop: int) -> int:
        """The first segment *tag* that begins between; -1 when there is none."""
        wanted = tag + self._by.element
        at = self.data.find(wanted, start, stop)
        while at >= 0 and not self._begins_segment(at):
            at = self.data.find(wanted, at + 1, stop)
        return at

    def _last_segment(self, tag: bytes, start: int, stop: int) -> int:
        wanted = tag + self._by.element
        at = self.data.rfind(wanted, start, stop)
        while at >= 0 and not self._begins_segment(at):
            at = self.data.rfind(wanted, start, at)
        return at

    def _begins_segment(self, at: int, *, or_line: bool = False) -> bool:
        before = at - 1
        while before >= self.begun and self.data[before] in _SPACE:
            before -= 1
        if before < self.begun:
            return True
        gap = self.data[before + 1 : at]
        ends = self.data[before : before + 1] == self._by.segment and not self._released(before)
        return ends or self._by.segment in gap or (or_line and b"\n" in gap)

    def _released(self, at: int) -> bool:
        """Whether the character at *at* is an ordinary one: an odd number of release characters stands before it."""
        if not self._by.release.strip():
            return False
        before = at
        while before > self.begun and self.data[before - 1 : before] == self._by.release:
            before -= 1
        return (at - before) % 2 == 1

    def _terminator(self, at: int, stop: int) -> int:
        """Behind the end of the segment at *at*; -1 when it does not end before *stop*."""
        end = self.data.find(self._by.segment, at, stop)
        while end >= 0 and self._released(end):
            end = self.data.find(self._by.segment, end + 1, stop)
        return end + 1 if end >= 0 else -1

    def _last_message(self, limit: int) -> int:
        """Behind the last message that ends before *limit*, -1 when none does."""
        stop = min(limit, len(self.data))
        while (at := self._last_segment(self._syntax.tags.message_end, self.begun, stop)) >= 0:
            end = self._terminator(at, limit)
            if 0 <= end <= limit:
                return end
            stop = at
        return -1

    def _next_message(self) -> Offset:
        """Behind the end of the message that is longer than a part; or where the interchange ends before that."""
        self.pos = max(self.begun, min(self.begun + self._part(), len(self.data)) - _LONGEST_TRAILER)
        while True:
            stop = len(self.data)
            at = self._segment(self._syntax.tags.message_end, self.pos, stop)
            end = self._terminator(at, stop) if at >= 0 else -1
            over = self._segment(self._syntax.tags.end, self.pos, stop if end < 0 else at)
            if over >= 0:
                if self.last or len(self.data) - over >= _LONGEST_TRAILER:
                    self._envelope = None
                    return self._trailer_end(over)
            elif end >= 0:
                return end
            elif self.last:
                self._envelope = None
                return stop
            self.pos = max(self.pos, min(len(self.data) - _LONGEST_TRAILER, at if at >= 0 else len(self.data)))
            yield None

    def _envelope_at(self, start: int, end: int) -> _Envelope | None:
        """What stands around the next part, when this one is `data[start:end]`."""
        envelope = self._envelope
        at = self._last_segment(self._syntax.tags.group, max(start, 0), end) if envelope is not None else -1
        if envelope is None or at < 0:
            return envelope
        stop = self._terminator(at, end)
        if stop < 0:
            return envelope
        return envelope._replace(group=self.data[at:stop], group_at=self.base + at)
