"""YAML to plain values, with the line of every path; one rule for every hazard of the format, at both ends.

Values are read by a smaller rule than YAML's, so that nothing a person writes as text turns into something else:
numbers as in JSON, `true` and `false`, `null` (or nothing); everything else is text. `NO`, `on`, `12:30:00`, `007`,
`1_000`, `0x1F` and `2024-01-31` stay text. Doubled keys, tags, merge keys, second documents and recursive aliases are
refused with their line. Size, depth and the number of values are limited before anything is built from them.

The agent imports this only for `try --from-file`: a running agent needs no YAML.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

MAX_CHARACTERS = 1024 * 1024  # ruamel reads about 200 kB a second
MAX_DEPTH = 32
MAX_VALUES = 50_000  # after aliases are expanded

Path = tuple[str | int, ...]

MAX_PROBLEMS = 100  # of one file; then the rest is not looked at

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?([eE][-+]?[0-9]{1,2})?")  # longer ones stay text
_CONSTANTS: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing a person must look at. *line* and *column* count from 1; 0 where there is none (a whole file)."""

    file: str
    line: int
    path: str  # "format.delimiter", "" for the file itself
    message: str
    hint: str = ""
    column: int = 0
    severity: Severity = "error"

    @property
    def where(self) -> str:
        """ "sources/x.yaml: format.delimiter" """
        return f"{self.file}: {self.path}" if self.path else self.file

    def text(self) -> str:
        """ "sources/x.yaml:12: format.delimiter: message (hint)", the form editors turn into a link."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        subject = f"{self.path}: " if self.path else ""
        return f"{place}: {subject}{self.message}" + (f" ({self.hint})" if self.hint else "")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Mark(NamedTuple):
    line: int  # from 1
    column: int  # from 1


@dataclass(frozen=True, slots=True)
class YamlFile:
    """*value* is None when the file could not be read (then *problems* says why). *lines* has a mark for every path:
    of the key, for an entry of a mapping; of the item, for an entry of a list. *origins* names the file in which a path
    is written, where that is another one (see `crossdock_controller.config.layers`)."""

    name: str
    value: Any
    lines: dict[Path, Mark]
    problems: list[Problem] = field(default_factory=list)
    origins: dict[Path, str] = field(default_factory=dict)

    def nearest(self, path: Path) -> Path:
        """*path*, or the nearest thing above it that is written."""
        return next((path[:n] for n in range(len(path), 0, -1) if path[:n] in self.lines), ())

    def mark(self, path: Path) -> Mark:
        """The mark of *path*, or of the nearest thing above it that is written."""
        return self.lines.get(self.nearest(path), Mark(1, 1))

    def problem(self, path: Path, message: str, hint: str = "", *, warning: bool = False) -> Problem:
        at = self.nearest(path)
        mark = self.lines.get(at, Mark(1, 1))
        severity: Severity = "warning" if warning else "error"
        return Problem(self.origins.get(at, self.name), mark.line, dotted(path), message, hint, mark.column, severity)


def dotted(path: Path) -> str:
    """("fields", "lines", 0, "sku") as "fields.lines[0].sku"."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parse(name: str, text: str) -> YamlFile:
    """Never raises for what *text* contains: everything wrong is a Problem with its line."""
    if len(text) > MAX_CHARACTERS:
        message = f"has {len(text)} characters, the limit of a YAML file is {MAX_CHARACTERS}"
        return YamlFile(name, None, {}, [Problem(name, 0, "", message, "split it")])
    reader = _Reader(name)
    try:
        value = reader.document(YAML(typ="safe", pure=True).parse(io.StringIO(text)))
    except _Stop:
        value = None
    except MarkedYAMLError as error:
        reader.problems.append(_syntax_problem(name, error))
        value = None
    except YAMLError as error:
        reader.problems.append(
            Problem(name, _control_line(text), "", str(error).splitlines()[0], "save it as plain text")
        )
        value = None
    return YamlFile(name, value, reader.lines, reader.problems)


class _Stop(Exception):  # noqa: N818 - nothing after this point of the file can be trusted; its problem is recorded
    pass


class _Reader:
    """Builds values from parser events, so that every limit holds before the value exists."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Path, Mark] = {}
        self.problems: list[Problem] = []
        self._anchors: dict[str, Any] = {}
        self._open_anchors: set[str] = set()
        self._values = 0

    def document(self, events: Iterator[Event]) -> Any:
        value: Any = None
        documents = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._stop(
                        event, (), "a second document begins here", "one file holds one document: remove the '---'"
                    )
            elif isinstance(event, MappingStartEvent | SequenceStartEvent | ScalarEvent | AliasEvent):
                self.lines[()] = _mark(event)
                value = self._value(event, events, ())
        return value

    def _value(self, event: Any, events: Iterator[Event], path: Path) -> Any:
        self._count(event, path)
        if isinstance(event, AliasEvent):
            return self._alias(event, path)
        if event.tag is not None:
            self._report(event, path, f"the tag {event.tag} is not allowed", "write the value without '!'")
        anchor = event.anchor
        if anchor is not None:
            self._open_anchors.add(anchor)
        if isinstance(event, MappingStartEvent):
            value: Any = self._mapping(events, path)
        elif isinstance(event, SequenceStartEvent):
            value = self._sequence(events, path)
        else:
            value = _scalar(event)
        if anchor is not None:
            self._open_anchors.discard(anchor)
            self._anchors[anchor] = value
        return value

    def _mapping(self, events: Iterator[Event], path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for event in events:
            if isinstance(event, MappingEndEvent):
                break
            if not isinstance(event, ScalarEvent):
                raise self._stop(event, path, "a key must be plain text", "is a colon missing in the line above?")
            key = event.value
            if key == "<<" and event.style is None:
                self._report(
                    event, path, "merge keys ('<<') are not supported", "repeat the keys, or use a site variable"
                )
            if key in result:
                first = self.lines[(*path, key)].line
                self._report(event, (*path, key), f"is set twice; first in line {first}", "remove one of them")
                self._value(next(events), events, (*path, f"{key} (again)"))
                continue
            self.lines[(*path, key)] = _mark(event)
            result[key] = self._value(next(events), events, (*path, key))
        return result

    def _sequence(self, events: Iterator[Event], path: Path) -> list[Any]:
        result: list[Any] = []
        for event in events:
            if isinstance(event, SequenceEndEvent):
                break
            item = (*path, len(result))
            self.lines[item] = _mark(event)
            result.append(self._value(event, events, item))
        return result

    def _alias(self, event: AliasEvent, path: Path) -> Any:
        anchor = event.anchor
        if anchor in self._open_anchors:
            raise self._stop(event, path, f"the alias *{anchor} contains itself")
        if anchor not in self._anchors:
            self._report(event, path, f"the alias *{anchor} has no anchor before it", "add &" + str(anchor))
            return None
        return self._copy(self._anchors[anchor], event, path)

    def _copy(self, value: Any, event: Event, path: Path) -> Any:
        """*value* again, counted again, its paths at the alias: an alias bomb ends at the limit, not in memory."""
        self._count(event, path)
        self.lines.setdefault(path, _mark(event))
        if isinstance(value, dict):
            return {key: self._copy(item, event, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._copy(item, event, (*path, i)) for i, item in enumerate(value)]
        return value

    def _count(self, event: Event, path: Path) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            message = f"has more than {MAX_VALUES} values, aliases counted"
            raise self._stop(event, (), message, "split it; use fewer aliases")
        if len(path) > MAX_DEPTH:
            raise self._stop(event, path[:3], f"is nested more than {MAX_DEPTH} levels deep")

    def _report(self, event: Event, path: Path, message: str, hint: str = "") -> None:
        mark = _mark(event)
        self.problems.append(Problem(self.name, mark.line, dotted(path), message, hint, mark.column))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Stop

    def _stop(self, event: Event, path: Path, message: str, hint: str = "") -> _Stop:
        self._report(event, path, message, hint)
        return _Stop()


def _mark(event: Event) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


def _scalar(event: ScalarEvent) -> str | int | float | bool | None:
    text: str = event.value
    if event.style is not None:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return text


def _syntax_problem(name: str, error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
    parts = [part for part in (error.problem, error.context) if part]
    message = ", ".join(parts) or "is not YAML"
    return Problem(name, line, "", f"cannot be read as YAML: {message}", _syntax_hint(message), column)


def _syntax_hint(message: str) -> str:
    if "'\\t'" in message or "tab" in message:
        return "indent with spaces; tabs are not allowed"
    if "mapping values are not allowed" in message:
        return "quote a text that contains ': ', or check the indentation"
    if "quoted scalar" in message:
        return "a quote is opened and not closed"
    if "cannot start any token" in message:
        return "quote a text that begins with one of @ ` % & * ! | >"
    return "check brackets, quotes and indentation at this line and above it"


def _control_line(text: str) -> int:
    """The line of the first character YAML does not allow; 0 when it is not one of the usual ones."""
    match = re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text)
    return text.count("\n", 0, match.start()) + 1 if match else 0
