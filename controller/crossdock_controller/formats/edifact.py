"""EDIFACT interchanges as rows. Delimiters come from UNA, where there is one; see `interchanges`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from crossdock_controller.formats.base import BLANK
from crossdock_controller.formats.interchanges import Envelope, InterchangeFormat, InterchangeSettings, register

_UNA_CHARACTERS = 9


class EdifactSettings(InterchangeSettings):
    kind: Literal["edifact"] = "edifact"


class _Delimiters(NamedTuple):
    component: str
    element: str
    release: str
    segment: str


class EdifactFormat(InterchangeFormat):
    code = "not_edifact"

    def envelope(self, prefix: str, content: str) -> Envelope | str:
        text = prefix + content
        by = _Delimiters(":", "+", "?", "'")
        if text.startswith("UNA") and len(text) >= _UNA_CHARACTERS:
            by = _Delimiters(text[3], text[4], text[6], text[8])
            text = text[_UNA_CHARACTERS:]
        if not text.lstrip(BLANK).startswith("UNB"):
            return "the interchange does not begin with UNA or UNB"
        found = Envelope()
        _Counts(found, is_part=bool(prefix)).read(_segments(text, by), by)
        return found


class _Counts:
    def __init__(self, found: Envelope, *, is_part: bool) -> None:
        self._found, self._is_part = found, is_part
        self._segments = self._messages = self._groups = 0
        self._message = self._group = ""
        self._open = False

    def read(self, segments: Iterator[str], by: _Delimiters) -> None:
        for segment in segments:
            self._segments += 1
            tag = segment[:3]
            if tag in _KNOWN:
                getattr(self, f"_{tag.lower()}")(_elements(segment[:600], by))
        if self._open:
            self._found.found(f"the message {self._message} has no UNT")
        if not self._found.ends and not self._is_part:
            self._found.found("the interchange has no UNZ")

    def _unb(self, elements: list[list[str]]) -> None:
        found = self._found
        found.version = ":".join(_at(elements, 1))
        found.sender, found.sender_qualifier = _part(elements, 2, 0), _part(elements, 2, 1)
        found.receiver, found.receiver_qualifier = _part(elements, 3, 0), _part(elements, 3, 1)
        found.date, found.time = _part(elements, 4, 0), _part(elements, 4, 1)
        found.control_number = _part(elements, 5, 0)
        found.test = _part(elements, 11, 0) == "1"

    def _ung(self, elements: list[list[str]]) -> None:
        self._found.group_types.append(_part(elements, 1, 0))
        self._group = _part(elements, 5, 0)
        self._found.group_controls.append(self._group)
        self._groups += 1

    def _unh(self, elements: list[list[str]]) -> None:
        if self._open:
            self._found.found(f"the message {self._message} has no UNT")
        self._message, self._segments, self._open = _part(elements, 1, 0), 1, True
        self._found.types.append(_part(elements, 2, 0))
        self._found.messages += 1
        self._messages += 1

    def _unt(self, elements: list[list[str]]) -> None:
        name = f"UNT of message {self._message}"
        _compare(self._found, name, _part(elements, 1, 0), self._segments, "segments")
        if self._open and _part(elements, 2, 0) != self._message:
            self._found.found(f"UNT names message {_part(elements, 2, 0)}, UNH {self._message}")
        self._open = False

    def _unz(self, elements: list[list[str]]) -> None:
        self._found.ends = True
        if not self._is_part:
            counted = self._groups or self._messages
            _compare(self._found, "UNZ", _part(elements, 1, 0), counted, "groups" if self._groups else "messages")
        if _part(elements, 2, 0) != self._found.control_number:
            self._found.found(f"UNZ names interchange {_part(elements, 2, 0)}, UNB {self._found.control_number}")


_KNOWN = ("UNB", "UNG", "UNH", "UNT", "UNZ")


def _compare(found: Envelope, name: str, said: str, counted: int, what: str) -> None:
    if not said.isascii() or not said.isdigit() or len(said) > 12 or int(said) != counted:
        found.found(f"{name} says {said or 'nothing'}, there are {counted} {what}")


def _segments(text: str, by: _Delimiters) -> Iterator[str]:
    end, release = re.escape(by.segment), re.escape(by.release)
    if not by.release.strip():
        parts = iter(text.split(by.segment))
    else:
        pattern = re.compile(rf"(?:[^{end}{release}]++|{release}.)*+", re.DOTALL)
        parts = (match.group() for match in pattern.finditer(text))
    return (segment for part in parts if (segment := part.strip(BLANK)))


def _elements(segment: str, by: _Delimiters) -> list[list[str]]:
    return [
        [_plain(part, by).strip() for part in _split(element, by.component, by.release)]
        for element in _split(segment, by.element, by.release)
    ]


def _split(text: str, delimiter: str, release: str) -> list[str]:
    if not release.strip() or release not in text:
        return text.split(delimiter)
    d, r = re.escape(delimiter), re.escape(release)
    return re.split(rf"(?<!{r}){d}", text) if release * 2 not in text else _split_slowly(text, delimiter, release)


def _split_slowly(text: str, delimiter: str, release: str) -> list[str]:
    """Where a release character may itself be released."""
    parts, part, at = [], "", 0
    while at < len(text):
        if text[at] == release:
            part += text[at : at + 2]
            at += 2
            continue
        if text[at] == delimiter:
            parts.append(part)
            part = ""
        else:
            part += text[at]
        at += 1
    return [*parts, part]


def _plain(text: str, by: _Delimiters) -> str:
    if not by.release.strip() or by.release not in text:
        return text
    return re.sub(rf"{re.escape(by.release)}(.)", r"\1", text, flags=re.DOTALL)


def _at(elements: list[list[str]], i: int) -> list[str]:
    return elements[i] if i < len(elements) else []


def _part(elements: list[list[str]], i: int, j: int) -> str:
    parts = _at(elements, i)
    return parts[j] if j < len(parts) else ""


register("edifact", EdifactSettings, EdifactFormat)
