"""X12 interchanges as rows. Delimiters come from ISA, which may have any length; see `interchanges`."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from crossdock_controller.formats.base import BLANK
from crossdock_controller.formats.interchanges import Envelope, InterchangeFormat, InterchangeSettings, register

_ISA_CHARACTERS = 106
_ISA_ELEMENTS = 16
_FOLLOWS = ("GS", "TA1", "IEA", "ISB", "ISE", "ST")


class X12Settings(InterchangeSettings):
    kind: Literal["x12"] = "x12"


class _Delimiters(NamedTuple):
    element: str
    segment: str
    isa_end: int  # behind the terminator of ISA


class X12Format(InterchangeFormat):
    code = "not_x12"

    def envelope(self, prefix: str, content: str) -> Envelope | str:
        text = prefix + content
        delimiters = _delimiters(text)
        if delimiters is None:
            return "the interchange does not begin with an ISA of 16 elements"
        found = Envelope()
        _read_isa(found, text, delimiters)
        _Counts(found, is_part=bool(prefix)).read(text[delimiters.isa_end :], delimiters)
        return found


class _Counts:
    """Compares what trailers say with what stands there."""

    def __init__(self, found: Envelope, *, is_part: bool) -> None:
        self._found, self._is_part = found, is_part
        self._segments = self._sets = self._groups = 0
        self._set = self._group = ""
        self._open = False

    def read(self, text: str, by: _Delimiters) -> None:
        for raw in text.split(by.segment):
            segment = raw.strip(BLANK)
            if not segment:
                continue
            self._segments += 1
            tag, _, rest = segment[:200].partition(by.element)
            if tag in _TRAILERS or tag in ("ST", "GS"):
                getattr(self, f"_{tag.lower()}")([part.strip() for part in rest.split(by.element)])
        if self._open:
            self._found.found(f"the set {self._set} has no SE")
        if not self._found.ends and not self._is_part:
            self._found.found("the interchange has no IEA")

    def _gs(self, elements: list[str]) -> None:
        self._end_of_group()
        self._found.group_types.append(_at(elements, 0))
        self._group = _at(elements, 5)
        self._found.group_controls.append(self._group)
        if version := _at(elements, 7):
            self._found.version = version
        self._sets = 0
        self._groups += 1

    def _st(self, elements: list[str]) -> None:
        if self._open:
            self._found.found(f"the set {self._set} has no SE")
        self._found.types.append(_at(elements, 0))
        self._found.messages += 1
        self._set, self._segments, self._open = _at(elements, 1), 1, True
        self._sets += 1

    def _se(self, elements: list[str]) -> None:
        _compare(self._found, f"SE01 of set {self._set}", _at(elements, 0), self._segments, "segments")
        if self._open and _at(elements, 1) != self._set:
            self._found.found(f"SE02 is {_at(elements, 1)}, ST02 {self._set}")
        self._open = False

    def _ge(self, elements: list[str]) -> None:
        if not self._is_part:
            _compare(self._found, f"GE01 of group {self._group}", _at(elements, 0), self._sets, "sets")
        if _at(elements, 1) != self._group:
            self._found.found(f"GE02 is {_at(elements, 1)}, GS06 {self._group}")
        self._group = ""

    def _end_of_group(self) -> None:
        if self._group:
            self._found.found(f"the group {self._group} has no GE")
        self._group = ""

    def _iea(self, elements: list[str]) -> None:
        self._end_of_group()
        self._found.ends = True
        if not self._is_part:
            _compare(self._found, "IEA01", _at(elements, 0), self._groups, "groups")
        if _at(elements, 1) != self._found.control_number:
            self._found.found(f"IEA02 is {_at(elements, 1)}, ISA13 {self._found.control_number}")


_TRAILERS = ("SE", "GE", "IEA")


def _compare(found: Envelope, name: str, said: str, counted: int, what: str) -> None:
    if not said.isascii() or not said.isdigit() or len(said) > 12 or int(said) != counted:
        found.found(f"{name} says {said or 'nothing'}, there are {counted} {what}")


def _at(elements: list[str], i: int) -> str:
    return elements[i] if i < len(elements) else ""


def _delimiters(text: str) -> _Delimiters | None:
    """As the agent finds them: 16 elements are counted, and what follows must be a segment."""
    head = text[:512]
    if not head.startswith("ISA") or len(head) < 5 or head[3].isalnum():
        return None
    element, at = head[3], 0
    for _ in range(_ISA_ELEMENTS):
        at = head.find(element, at) + 1
        if not at:
            break
    if at:
        for component in (1, 0):
            end = at + component
            if end >= len(head):
                break
            newline = head[end : end + 2] == "\r\n"
            rest = head[end + 1 :].lstrip(BLANK)
            if not rest or rest.startswith(_FOLLOWS):
                return _Delimiters(element, "\n" if newline else head[end], end + 1 + newline)
    if found := re.search(r"([^A-Za-z0-9 ])\s*GS" + re.escape(element), head):
        return _Delimiters(element, found.group(1), found.start() + 1)
    segment = head[_ISA_CHARACTERS - 1 : _ISA_CHARACTERS] or "~"
    return _Delimiters(element, segment, head.find(segment) + 1 or len(head))


def _read_isa(found: Envelope, text: str, by: _Delimiters) -> None:
    isa = text[: by.isa_end].rstrip("\r\n")
    length = len(isa) + (by.segment in "\r\n")
    if length != _ISA_CHARACTERS:
        found.found(f"ISA has {length} characters, not {_ISA_CHARACTERS}")
    elements = [part.strip() for part in isa.rstrip(by.segment).split(by.element)]
    found.sender_qualifier, found.sender = _at(elements, 5), _at(elements, 6)
    found.receiver_qualifier, found.receiver = _at(elements, 7), _at(elements, 8)
    found.date, found.time = _at(elements, 9), _at(elements, 10)
    found.version, found.control_number = _at(elements, 12), _at(elements, 13)
    found.test = _at(elements, 15) == "T"


register("x12", X12Settings, X12Format)
