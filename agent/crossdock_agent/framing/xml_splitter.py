"""Finds elements of one name in XML of any size, in one pass and without a tree.

Inside a record only tags of its own name are counted, so that a slip in its other markup stays its own. A record whose
end never comes is given up when the file ends or the limit is reached: the reject ends where the next element of its
name was found inside it, and those that were found whole are records.
"""

from __future__ import annotations

import re
from array import array
from collections import deque
from collections.abc import Generator, Iterator

from crossdock_agent.framing.base import Spans
from crossdock_agent.framing.splitter import NOWHERE, Piece, Splitter

_STEP = re.compile(rb"<(?:!--|!\[CDATA\[|!DOCTYPE|\?|/?[^\s<>/!?=\"']+)")
_TAG = re.compile(rb"""(?:[^"'<>]++|"[^"<]*+"|'[^'<]*+')*+>""")
_PLAIN = re.compile(rb"""[^"'<>]*+""")
_QUOTED = {ord('"'): re.compile(rb'[^"<]*+'), ord("'"): re.compile(rb"[^'<]*+")}
_ENDS = {b"<!--": b"-->", b"<![CDATA[": b"]]>", b"<?": b"?>"}
_DOCTYPE = re.compile(rb"<!DOCTYPE[^\[>]*+(?:>|\[.*?\]\s*+>)", re.DOTALL)
_HALF = 9  # bytes of the longest beginning that tells markup apart: <![CDATA[
_LONGEST_NAME = 4096
_DEEPEST = 255  # elements of one name inside each other; no reader goes as deep
_MARKS = (b"\xff\xfe", b"\xfe\xff", b"<\x00", b"\x00<")
_PROLOG_BYTES = 1024 * 1024

Wait = Generator[Piece | None, None, None]
Answer = Generator[Piece | None, None, bool]


class _Open:
    """An element of the record's name that is not closed yet: where it begins, and where, from there, those of its name
    begin and end that it holds."""

    __slots__ = ("inner", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.inner = array("Q")

    def add(self, start: int, end: int) -> None:
        self.inner.extend((start - self.start, end - self.start))


class XmlSplitter(Splitter):
    def __init__(self, element: str) -> None:
        super().__init__()
        self._path = element.encode().split(b"/")
        name = re.escape(self._path[-1])
        if b":" not in name:
            name = rb"(?:[^\s<>/!?=\"':]{1,1000}+:)?+" + name
        # What may matter inside a record: tags of its own name, and what may hold something that looks like one.
        self._inside = re.compile(rb"<(?:!--|!\[CDATA\[|\?|/?%b(?=[\s/>]))" % name)
        self._whole = re.compile(
            rb"""\s*+(<%b(?=[\s/>])(?:[^"'<>/]++|"[^"<]*+"|'[^'<]*+'|/(?!>))*+(?:/>|>(?:[^<]++|"""
            rb"""<(?!!--|!\[CDATA\[|\?|/?%b[\s/>]))*+</%b\s*+>))""" % (name, name, name)
        )
        self._above = len(self._path) - 1  # elements around a record, where its path is given
        self._depth = 0  # elements open here
        self._on_path = 0  # how many of these, from the root, are those of the path
        self._stack: deque[_Open] = deque()
        self._tagged: _Open | None = None  # a tag of the record's name that is being read
        self._dropped = 0  # depth inside a record that is over the limit; 0: there is none
        self._given_up = 0  # where the last of those found inside a given up record ends
        self._root = b""
        self._closed = False  # the root's end tag was seen
        self._cut = False  # the file ended inside a record
        self._resumed = False

    def resume(self, prefix: bytes, spans: Spans) -> None:
        super().resume(prefix, spans)
        self._resumed = True
        self._depth = self._on_path = self._above
        self._root = _root_of(prefix)

    def shift(self, by: int) -> None:
        super().shift(by)
        for opened in (*self._stack, *((self._tagged,) if self._tagged else ())):
            opened.start -= by

    def pieces(self) -> Iterator[Piece | None]:
        while len(self.data) < 4 and not self.last:
            yield None
        if not self._resumed and not (yield from self._enter()):
            return
        while (yield from self._to_record()):
            yield from self._record()
            while quick := self._whole.match(self.data, self.pos):  # nearly all records, at one call each
                self.pos = quick.end()
                yield Piece(quick.start(1), quick.end(1))
            self._depth = self._on_path = self._above
            self._closed = False
        if self._root and not self._closed and not self._cut:
            end = len(self.data)
            said = f"the file ends before {_shown(b'</' + self._root + b'>')}; is it whole?"
            yield Piece(end, end, "truncated", said, torn=True)

    # --- up to the first record

    def _enter(self) -> Answer:
        """Over the prolog and the root's start tag, which become the prefix."""
        self.begun = 0
        if self.data.startswith(_MARKS):
            return (yield from self._refuse("encoding", "the file is UTF-16; have it written as utf-8"))
        while True:
            found = yield from self._step()
            if found is None:
                break
            if found.start() - self.begun > self._most():
                return (yield from self._refuse("header_too_long", f"no element begins within {self._most()} bytes"))
            kind = found.group()
            if kind in _ENDS:
                self.pos = found.end()
                yield from self._until(_ENDS[kind])
            elif kind == b"<!DOCTYPE":
                while not (whole := _DOCTYPE.match(self.data, self.pos)) and not self.last:
                    if len(self.data) - self.begun > self._most():
                        break
                    yield None
                if not whole or whole.end() - self.begun > self._most():
                    return (yield from self._refuse("header_too_long", "the DOCTYPE does not end"))
                self.pos = whole.end()
            elif kind[1:2] == b"/":
                self.pos = found.end()
            else:
                yield from self._first(found.start(), kind[1:])
                return True
        return (yield from self._refuse("not_xml", "there is no element in it")) if self.data.strip(_BLANK) else True

    def _first(self, start: int, name: bytes) -> Wait:
        """The root's start tag. A root that is a record is not part of the prefix."""
        if not self._above and _is(name, self._path[0]):
            self.prefix, self.begun, self.pos = self.data[self.begun : start], NOWHERE, start
            return
        self.pos += 1 + len(name)
        alone = yield from self._tag()
        if self.pos - self.begun <= self._most():
            self.prefix = self.data[self.begun : self.pos]
        self.begun = NOWHERE
        self._root = _root_of(self.prefix)
        if not alone:
            self._enter_element(name)

    def _most(self) -> int:
        """Bytes of the longest prefix."""
        return min(_PROLOG_BYTES, self.limit)

    def _refuse(self, code: str, reason: str) -> Answer:
        """The whole file is one reject."""
        while not self.last:
            self.pos = len(self.data)
            yield None
        yield Piece(self.begun, len(self.data), code, reason, torn=True)
        self.begun, self.pos = NOWHERE, len(self.data)
        return False

    # --- between records

    def _to_record(self) -> Answer:
        """To the start tag of the next record; False at the end of the file."""
        while (found := (yield from self._step())) is not None:
            kind = found.group()
            name = kind.lstrip(b"</")
            if kind in _ENDS:
                self.pos = found.end()
                yield from self._until(_ENDS[kind])
            elif kind[1:2] == b"/":
                self.pos = found.end()
                if self._depth == self._on_path == self._above and _is(name, self._path[-1]):
                    continue  # of a record that was given up
                self._depth = max(0, self._depth - 1)
                self._on_path = min(self._on_path, self._depth)
                self._closed = self._closed or name == self._root
            elif kind != b"<!DOCTYPE" and self._is_record(name):
                return True
            else:
                self.pos = found.end()
                if self._above and not (yield from self._tag()):
                    self._enter_element(name)
        return False

    def _is_record(self, name: bytes) -> bool:
        here = not self._above or self._depth == self._on_path == self._above
        return here and _is(name, self._path[-1])

    def _enter_element(self, name: bytes) -> None:
        if self._depth == self._on_path < self._above and _is(name, self._path[self._depth]):
            self._on_path += 1
        self._depth += 1

    def _step(self) -> Generator[Piece | None, None, re.Match[bytes] | None]:
        """The next markup, whole as far as its kind and name; None at the end of the file."""
        while True:
            found = _STEP.search(self.data, self.pos)
            if found and found.end() - found.start() > _LONGEST_NAME:
                self.pos = found.end()
                continue
            if found and (found.end() < len(self.data) or self.last):
                self.pos = found.start()
                return found
            if self.last:
                self.pos = len(self.data)
                return None
            half = self.data.rfind(b"<", max(self.pos, len(self.data) - _HALF))
            self.pos = found.start() if found else half if half >= 0 else len(self.data)
            yield None

    # --- one record

    def _record(self) -> Wait:
        """From its start tag to its end, or to where it is given up."""
        found = _STEP.match(self.data, self.pos)
        name = found.group()[1:] if found else b""
        inside = self._inside
        self.begun = self.pos
        self._stack = deque((_Open(self.pos),))
        self._dropped = 0
        self.pos += 1 + len(name)
        if (yield from self._tag()) and self._stack:
            yield Piece(self.begun, self.pos)
            self._stack.clear()
        while self._stack:
            found = inside.search(self.data, self.pos)
            if found is None:
                half = self.data.rfind(b"<", max(self.pos, len(self.data) - _LONGEST_NAME))
                self.pos = half if half >= 0 else len(self.data)
                if self.last:
                    yield from self._cut_off()
                else:
                    yield from self._more()
            elif (kind := found.group()) in _ENDS:
                self.pos = found.end()
                yield from self._until(_ENDS[kind])
            else:
                self.pos = found.end()
                yield from self._own_tag(found.start(), closing=kind[1:2] == b"/")
        self.begun = NOWHERE

    def _own_tag(self, start: int, *, closing: bool) -> Wait:
        """A tag of the record's name, whose name was read."""
        mark = self._tagged = _Open(start)
        alone = yield from self._tag()
        self._tagged = None
        while self._stack and not self._dropped and self.pos - self.begun > self.limit:
            yield from self._over_limit()
        if not self._stack:
            self.pos = max(0, mark.start)  # it begins a record, or ends one that was given up
            return
        if self._dropped:
            self._dropped += 0 if alone else -1 if closing else 1
            if not self._dropped:
                yield Piece(self.begun, self.pos)
                self._stack.clear()
        elif alone and not closing:
            self._stack[-1].add(mark.start, self.pos)
        elif not closing:
            self._stack.append(mark)
            if len(self._stack) > _DEEPEST:
                yield from self._give_up(f"{_DEEPEST} more of its name begin inside it")
        else:
            ended = self._stack.pop()
            if self._stack:
                self._stack[-1].add(ended.start, self.pos)
            else:
                yield Piece(ended.start, self.pos)

    def _over_limit(self) -> Iterator[Piece]:
        """It is given up if others of its name are in it, else followed to its end without being kept."""
        if self._stack[0].inner or len(self._stack) > 1:
            yield from self._give_up(f"it does not end within max_record_bytes, {self.limit}")
        else:
            self._dropped = 1

    def _give_up(self, why: str, *, torn: bool = False) -> Iterator[Piece]:
        first = self._stack.popleft()
        while not first.inner and len(self._stack) > 1 and not self._stack[0].inner:
            self._stack.popleft()  # one reject for as many as begin inside each other
        inner = [first.start + at for at in first.inner]
        follows = inner[0] if inner else self._stack[0].start
        reason = f"the element is not closed: {why}; reading went on with the next of its name"
        yield Piece(first.start, follows, "unclosed_element", reason, torn=torn)
        for start, end in zip(inner[::2], inner[1::2], strict=True):
            self._given_up = end
            yield Piece(start, end)
        self.begun = self._stack[0].start if self._stack else NOWHERE

    def _cut_off(self) -> Iterator[Piece]:
        """The file ends inside the record."""
        self.pos = len(self.data)
        while len(self._stack) > 1 or (self._stack and self._stack[0].inner and not self._dropped):
            yield from self._give_up("the file ends before", torn=True)
        self.pos = self.pos if self._stack else self._given_up  # what follows the last of its name was not looked at
        if self._stack:
            self._cut = True
            yield Piece(self.begun, len(self.data), "truncated", "the file ends inside the element", torn=True)
            self._stack.clear()

    # --- steps

    def _more(self) -> Wait:
        """Waits for data; what is over the limit by now is not kept for it."""
        while self._stack and not self._dropped and len(self.data) - self.begun > self.limit:
            yield from self._over_limit()
        if self._tagged and not self._stack:
            self.begun = self._tagged.start
        yield None

    def _until(self, end: bytes) -> Wait:
        """Behind *end*."""
        while (at := self.data.find(end, self.pos)) < 0 and not self.last:
            self.pos = max(self.pos, len(self.data) - len(end) + 1)
            yield from self._more()
        self.pos = at + len(end) if at >= 0 else len(self.data)

    def _tag(self) -> Answer:
        """Behind the end of a tag whose name was read; whether it stands alone (`<a/>`). One that is not closed before
        the next one begins ends there."""
        if whole := _TAG.match(self.data, self.pos):
            alone = self.data[whole.end() - 2] == ord("/") and whole.end() - 2 >= self.pos
            self.pos = whole.end()
            return alone
        slash, quote = False, 0
        while True:
            found = (_QUOTED[quote] if quote else _PLAIN).match(self.data, self.pos)
            stop = found.end() if found else self.pos
            if stop > self.pos:
                slash = not quote and self.data[stop - 1] == ord("/")
            self.pos = stop
            if stop == len(self.data):
                if self.last:
                    return False
                yield from self._more()
                continue
            at = self.data[stop]
            if at == ord("<"):
                return False
            self.pos += 1
            if at == ord(">"):
                return slash
            quote, slash = (0 if quote else at), False


_BLANK = b" \t\r\n\x00\x1a\xef\xbb\xbf"


def _is(name: bytes, wanted: bytes) -> bool:
    """With any namespace's prefix, unless one is wanted."""
    return name == wanted or (b":" not in wanted and name.rpartition(b":")[2] == wanted)


def _root_of(prefix: bytes) -> bytes:
    """Name of the element whose start tag *prefix* ends with; empty when it does not."""
    at = prefix.rfind(b"<")
    found = _STEP.match(prefix, at) if at >= 0 else None
    if found is None or found.group()[1:2] in b"/!?" or not _TAG.fullmatch(prefix, found.end()):
        return b""
    return b"" if prefix.endswith(b"/>") else found.group()[1:]


def _shown(name: bytes) -> str:
    return name[:60].decode("utf-8", "replace")
