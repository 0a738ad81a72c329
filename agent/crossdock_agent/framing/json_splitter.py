"""Finds the elements of a JSON array of any size, in one pass and without reading a value.

Strings, escapes and brackets are followed by regular expressions; numbers and names are not looked at. An element with
a syntax error that hides its end (a quote too few, a bracket too few) is a reject up to the line that begins as its own
first line did, which is where every writer of several lines begins the next element.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Generator, Iterator

from crossdock_agent.framing.base import Spans
from crossdock_agent.framing.splitter import NOWHERE, Piece, Splitter

_STRING = rb'"(?:[^"\\\n]++|\\[^\n])*+"'
_PLAIN = rb'[^"{}\[\]]'


def _nested(depth: int) -> bytes:
    """A pattern of a whole object or array at most *depth* levels deep."""
    inside = rb"(?:" + _PLAIN + rb"++|" + _STRING + (rb"|" + _nested(depth - 1) if depth else b"") + rb")*+"
    return rb"(?:\{" + inside + rb"\}|\[" + inside + rb"\])"


_BLANK = re.compile(rb"[\s,\x00\x1a]*+")  # between elements; a comma too many is no reason to stop
_OPENING = re.compile(rb"[{\[]++")
_STRAYS = re.compile(rb"[}:\s]*+")  # closing brackets that close nothing; in an array, its end is not one of these
_STRETCH = re.compile(rb"(?:" + _PLAIN + rb"++|" + _STRING + rb")*+")
_TEXT = re.compile(rb'(?:[^"\\\n]++|\\[^\n])*+')
_SCALAR = re.compile(rb'[^\s,\[\]{}"]++')
_OPEN_TEXT = "a text is not closed in its line"
_STRAY = "it closes a bracket that is not open"
_TRUNCATED = "the file ends inside it"
_LEVELS = 4  # of a value that one match steps over; the pattern doubles with each
_CLOSING = {ord("{"): ord("}"), ord("["): ord("]")}
_DEEPEST = 65536  # brackets whose kind is remembered; no reader goes as deep
_FEW = 8  # brackets left open by one slip; with more, what follows is not looked at again
_LONGEST_BLANK = 64 * 1024  # before an array; behind more, it is not one of records
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
_MARK = b"\xef\xbb\xbf"


@functools.cache
def _patterns() -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """A whole object or array, and a whole object behind what may stand between elements. Made when first needed: it
    takes some 50 ms, which an agent that reads no JSON does not spend."""
    value = _nested(_LEVELS - 1)
    return re.compile(value), re.compile(rb"[\s,\x00\x1a]*+(?=\{)(" + value + rb")")


Walk = Generator[Piece | None, None, str]  # what is wrong with the value that was walked over, or ""
Found = Generator[Piece | None, None, bool]


class JsonSplitter(Splitter):
    def __init__(self, path: str = "") -> None:
        super().__init__()
        self._value, self._next = _patterns()
        self._path = [name.encode() for name in path.split(".")] if path else []
        self._inside = False  # in the array of records
        self._arrays = False  # the file is such an array, or several
        self._resumed = False
        self._indent = b""  # what stands before the record in its line
        self._cut_off = False  # the file ended inside a record
        self._open = bytearray()  # brackets that are open in the container that is walked over

    def resume(self, prefix: bytes, spans: Spans) -> None:
        super().resume(prefix, spans)
        self._resumed = True
        self._arrays = prefix.endswith(b"[")
        self._inside = self._arrays or bool(self._path)

    def pieces(self) -> Iterator[Piece | None]:
        entered = self._resumed or (yield from self._enter())
        while entered:
            while quick := self._next.match(self.data, self.pos):  # nearly all records, at one call each
                self.pos = quick.end()
                self._inside = self._inside or self._arrays
                yield Piece(quick.start(1), quick.end(1))
            if not (yield from self._gap()):
                break
            at = self.data[self.pos]
            if at == ord("]") and (self._inside or self._arrays):
                self.pos += 1
                self._inside = False
                if self._path:
                    break
            elif self._arrays and not self._inside and at == ord("["):
                self.pos += 1
                self._inside = True
            else:
                yield from self._record()
                self._inside = self._inside or self._arrays  # as whoever reads on from here must believe
        if self._inside and not self._cut_off:
            end = len(self.data)
            said = "the file ends inside the array of records; is it complete?"
            yield Piece(end, end, "truncated", said, torn=True)
        while not self.last:
            self.pos = len(self.data)
            yield None

    # --- up to the first record

    def _enter(self) -> Found:
        while len(self.data) < 3 and not self.last:
            yield None
        if self.data.startswith(_WIDE_MARKS):
            yield from self._refuse("encoding", "the file is UTF-16; have it written as utf-8")
            return False
        self.prefix = _MARK if self.data.startswith(_MARK) else b""
        self.pos = len(self.prefix)
        self.begun = 0  # what stands before the first value is kept
        found = yield from self._gap()
        kept, self.begun = self.begun, NOWHERE
        if not found:
            return False
        if self._path:
            return (yield from self._descend())
        if self.data[self.pos] == ord("[") and kept == 0 and self.pos < min(_LONGEST_BLANK, self.limit):
            self._arrays = True
            self.prefix = self.data[: self.pos + 1]  # a file that is read on from its middle must know
        return True

    def _descend(self) -> Found:
        """To the array at the path. A value there that is none is the one record of the file."""
        self.begun = self.pos
        for name in self._path:
            found = self.data[self.pos] == ord("{") and (yield from self._find(name))
            if not found:
                said = f"there is nothing at path {b'.'.join(self._path).decode()!r} of the document; correct 'path'"
                yield from self._refuse("path_not_found", said)
                return False
        self.begun = NOWHERE
        if self.data[self.pos] == ord("["):
            self.pos += 1
            self._inside = True
        else:
            yield from self._record()
            self.pos = len(self.data)
        return self._inside

    def _refuse(self, code: str, reason: str) -> Iterator[Piece | None]:
        """The whole file is one reject."""
        self.begun = 0 if self.begun == NOWHERE else self.begun
        while not self.last:
            self.pos = len(self.data)
            yield None
        yield Piece(self.begun, len(self.data), code, reason, torn=True)
        self.begun, self.pos = NOWHERE, len(self.data)

    def _find(self, name: bytes) -> Found:
        """To the value under *name* of the object that begins here."""
        self.pos += 1
        while (yield from self._gap()) and self.data[self.pos] == ord('"'):
            key = yield from self._name()
            if not (yield from self._gap()) or self.data[self.pos] != ord(":"):
                return False
            self.pos += 1
            if not (yield from self._gap()):
                return False
            if key == name:
                return True
            if (yield from self._walk()):
                return False
        return False

    def _name(self) -> Generator[Piece | None, None, bytes]:
        """The name of a member, escapes resolved; of one that is longer than a name can be, its beginning."""
        raw = bytearray()
        self.pos += 1
        while True:
            found = _TEXT.match(self.data, self.pos)
            stop = found.end() if found else self.pos
            raw += self.data[self.pos : min(stop, self.pos + 4096)]
            self.pos = stop
            if stop < len(self.data) and self.data[stop] == ord('"'):
                self.pos += 1
                break
            if (stop < len(self.data) and self.data[stop : stop + 1] != b"\\") or self.last:
                break
            yield None
        try:
            return str(json.loads(b'"%b"' % bytes(raw))).encode() if b"\\" in raw else bytes(raw)
        except (ValueError, UnicodeError):
            return bytes(raw)

    # --- records

    def _record(self) -> Iterator[Piece | None]:
        if quick := self._value.match(self.data, self.pos):
            self.pos = quick.end()
            yield Piece(quick.start(), quick.end())
            return
        self.begun = self.pos
        wrong = yield from self._walk()
        if not wrong:
            closed = self.data[self.begun : self.begun + 1] in (b"{", b"[", b'"')
            yield Piece(self.begun, self.pos, torn=self.last and not closed and self.pos == len(self.data))
        else:
            yield from self._reject(wrong)
        self.begun = NOWHERE

    def _walk(self) -> Walk:
        """Over the value that begins here."""
        at = self.data[self.pos]
        if at == ord('"'):
            return (yield from self._text())
        if at in b"{[":
            return (yield from self._container())
        if at in b"]}:":
            return (yield from self._strays())
        while True:
            found = _SCALAR.match(self.data, self.pos)
            self.pos = found.end() if found else self.pos
            if self.pos < len(self.data) or self.last:
                return ""
            yield None

    def _strays(self) -> Walk:
        """Over closing brackets that close nothing."""
        while True:
            found = _STRAYS.match(self.data, self.pos)
            self.pos = found.end() if found else self.pos
            if self.data[self.pos : self.pos + 1] == b"]" and not self._inside:
                self.pos += 1
            elif self.pos < len(self.data) or self.last:
                return _STRAY
            else:
                yield None

    def _container(self) -> Walk:
        """Over the object or array that begins here. What is left open stays in `_open`."""
        stack = self._open = bytearray()
        deeper = 0
        while True:
            found = _STRETCH.match(self.data, self.pos)
            self.pos = found.end() if found else self.pos
            if self.pos == len(self.data):
                if self.last:
                    return _TRUNCATED
                yield None
                continue
            at = self.data[self.pos]
            if at == ord('"'):
                if wrong := (yield from self._text()):
                    return wrong
                continue
            if stack and (inner := self._value.match(self.data, self.pos)):
                self.pos = inner.end()
                continue
            if opening := _OPENING.match(self.data, self.pos):
                self.pos = opening.end()
                stack += opening.group()
                deeper += max(0, len(stack) - _DEEPEST)
                del stack[_DEEPEST:]
                continue
            if deeper:
                deeper -= 1
            elif _CLOSING[stack[-1]] != at:
                return f"{chr(stack[-1])!r} is closed by {chr(at)!r}"
            else:
                stack.pop()
            self.pos += 1
            if not stack:
                return ""

    def _text(self) -> Walk:
        self.pos += 1
        while True:
            found = _TEXT.match(self.data, self.pos)
            self.pos = found.end() if found else self.pos
            rest = self.data[self.pos : self.pos + 2]
            if rest[:1] == b'"':
                self.pos += 1
                return ""
            if rest[:1] == b"\n" or rest == b"\\\n":
                self.pos += rest[:1] == b"\\"
                return _OPEN_TEXT
            if self.last:
                return _TRUNCATED
            yield None

    # --- what is broken

    def _reject(self, wrong: str) -> Iterator[Piece | None]:
        """From here to where the next element begins, as far as that can be told."""
        again = re.compile(rb"\n" + re.escape(self._indent) + rb"(?=[{\[])")
        code = "truncated" if wrong is _TRUNCATED else "json_syntax"
        inside = self.data[self.begun : self.begun + 1] in (b"{", b"[") and wrong is not _OPEN_TEXT
        found = None
        if inside and len(self._open) <= _FEW and self.pos - self.begun <= self.limit:
            found = again.search(self.data, self.begun, self.pos)
        if found:
            self.pos, code = found.end(), "json_syntax"
        elif wrong not in (_TRUNCATED, _STRAY):
            while not (found := again.search(self.data, self.pos)) and not self.last:
                self.pos = max(self.pos, len(self.data) - len(self._indent) - 1)
                yield None
            self.pos = found.end() if found else len(self.data)
        self._cut_off = self.last and self.pos == len(self.data)
        said = f"the element cannot be read to its end: {wrong}"
        yield Piece(self.begun, self.pos, code, said, torn=self._cut_off or wrong is _TRUNCATED)

    def _gap(self) -> Found:
        """To the next value or closing bracket; False at the end of the file."""
        self._indent = b""
        while True:
            found = _BLANK.match(self.data, self.pos)
            stop = found.end() if found else self.pos
            _, line, rest = self.data[self.pos : stop].rpartition(b"\n")
            self._indent = (rest if line else self._indent + rest)[:256]
            self.pos = stop
            if stop < len(self.data):
                return True
            if self.last:
                return False
            yield None
