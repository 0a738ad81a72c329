"""As much YAML as source files are written in, for looking at one at the site before it is in the tree.

Mappings and lists in block and flow form, quoted and plain texts, block scalars. Scalars are read by the controller's
rule: only what JSON calls a number, true, false and null are not text. What is beyond that (anchors, tags, quoted texts
over several lines) is refused with its line, never guessed; the controller's reader is the judge of a tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from crossdock.errors import ConfigError

_KEY = re.compile(r"""(?P<key>"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s"'\[\]{},&*!|>%@`#][^:#]*?)\s*:(?=\s|$)""")
_COMMENT = re.compile(r"""((?:[^"'#]|(?<=[^\s\[{,:])["']|"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|(?<=\S)#)*+)(?:#.*)?""")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?([eE][-+]?[0-9]{1,2})?")
_CONSTANTS: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}
_BEYOND = "&*!%@`"


def parse(name: str, text: str) -> dict[str, Any]:
    """The mapping that *text* holds. Raises ConfigError "name:line: what is not understood"."""
    reader = _Reader(name, text.removeprefix("\ufeff").splitlines())
    value = reader.document()
    if not isinstance(value, dict):
        raise ConfigError(f"{name} holds no 'key: value' lines", hint="begin with 'source: NAME'")
    return value


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    indent: int
    text: str  # without indentation and comment


class _Reader:
    def __init__(self, name: str, raw: list[str]) -> None:
        self._name = name
        self._raw = raw
        self._at = 0  # index of the next raw line

    def document(self) -> Any:
        if (line := self._peek()) is not None and line.text == "---":
            self._at = line.number
        first = self._peek()
        value = self._block(first.indent) if first is not None else None
        if (rest := self._peek()) is not None:
            raise self._fault(rest.number, f"{rest.text[:40]!r} does not fit the indentation above it")
        return value

    def _peek(self) -> _Line | None:
        """The next line with something on it."""
        while self._at < len(self._raw):
            raw = self._raw[self._at]
            match = _COMMENT.fullmatch(raw)  # not with a quote that stays open: that is refused where it is read
            text = (match[1] if match else raw).rstrip()
            if text.strip():
                indent = len(text) - len(text.lstrip(" "))
                if text[indent] == "\t":
                    raise self._fault(self._at + 1, "a tab is no indentation; use spaces")
                return _Line(self._at + 1, indent, text[indent:])
            self._at += 1
        return None

    def _block(self, indent: int) -> Any:
        line = self._peek()
        if line is not None and (line.text == "-" or line.text.startswith("- ")):
            return self._sequence(indent)
        return self._mapping(indent)

    def _sequence(self, indent: int) -> list[Any]:
        items = []
        while (line := self._peek()) is not None and line.indent == indent and f"{line.text} ".startswith("- "):
            rest = line.text[1:].lstrip()
            inner = line.indent + len(line.text) - len(rest)
            if rest and _KEY.match(rest) and rest[0] not in "{[":  # a mapping that begins beside its dash
                self._raw[self._at] = " " * inner + rest
                items.append(self._mapping(inner))
                continue
            self._at += 1
            items.append(self._value(rest, line, indent))
        return items

    def _mapping(self, indent: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while (line := self._peek()) is not None and line.indent == indent:
            match = _KEY.match(line.text)
            if match is None:
                raise self._fault(line.number, f"{line.text[:40]!r} is no 'key: value'")
            key = str(self._quoted(match["key"], line)) if match["key"][0] in "\"'" else match["key"]
            if key in found:
                raise self._fault(line.number, f"{key!r} is set twice")
            self._at += 1
            found[key] = self._value(line.text[match.end() :].strip(), line, indent)
        return found

    def _value(self, text: str, line: _Line, indent: int) -> Any:
        if not text:
            following = self._peek()
            if following is None or following.indent < indent:
                return None
            is_list = following.text == "-" or following.text.startswith("- ")
            nested = following.indent > indent or (is_list and not line.text.startswith("-"))
            return self._block(following.indent) if nested else None
        if text[0] in "|>":
            return self._block_scalar(text, line, indent)
        if text[0] in "{[":
            return self._flow(text, line)
        if text[0] in "\"'":
            return self._quoted(text, line)
        if text[0] in _BEYOND:
            raise self._fault(line.number, f"{text[:20]!r} is more YAML than is understood here; write the value out")
        while (following := self._peek()) is not None and following.indent > indent:
            if _KEY.match(following.text):
                raise self._fault(following.number, f"{following.text[:40]!r} is indented under a value")
            text += " " + following.text
            self._at += 1
        return _scalar(text)

    def _quoted(self, text: str, line: _Line) -> str:
        if text[0] == "'" and re.fullmatch(r"'(?:[^']|'')*'", text):
            return text[1:-1].replace("''", "'")
        if text[0] == '"' and re.fullmatch(r'"(?:[^"\\]|\\.)*"', text):
            try:
                return msgspec.json.decode(text, type=str)
            except msgspec.DecodeError:
                pass
        raise self._fault(line.number, f"the quoted text {text[:30]!r} is not closed in its line, or escapes wrongly")

    def _block_scalar(self, text: str, line: _Line, indent: int) -> str:
        if text not in {"|", ">", "|-", ">-"}:
            raise self._fault(line.number, f"{text[:20]!r} is more YAML than is understood here; write '|' or '>'")
        lines: list[str] = []
        while self._at < len(self._raw):
            raw = self._raw[self._at].rstrip()
            if raw and len(raw) - len(raw.lstrip(" ")) <= indent:
                break
            lines.append(raw)
            self._at += 1
        depth = min((len(raw) - len(raw.lstrip(" ")) for raw in lines if raw), default=0)
        body = "\n".join(raw[depth:] for raw in lines).rstrip("\n")
        if text[0] == ">":
            body = re.sub(r"\n(\n*)", lambda match: match[1] or " ", body)
        return body if text.endswith("-") or not body else body + "\n"

    def _flow(self, text: str, line: _Line) -> Any:
        flow = _Flow(text)
        while True:
            flow.at = 0
            try:
                value = flow.value()
            except IndexError:  # it goes on in the next line
                following = self._peek()
                if following is None:
                    raise self._fault(line.number, "a bracket is opened and not closed") from None
                flow.text += " " + following.text
                self._at += 1
                continue
            except ValueError as error:
                raise self._fault(line.number, str(error)) from None
            if rest := flow.text[flow.at :].strip():
                raise self._fault(line.number, f"{rest[:20]!r} stands behind a closed bracket")
            return value

    def _fault(self, number: int, message: str) -> ConfigError:
        return ConfigError(f"{self._name}:{number}: {message}", hint="or give the file as JSON")


class _Flow:
    """`{a: 1, b: [x, "y"]}`. Runs out of text (IndexError) when it is not yet whole."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def value(self) -> Any:
        self._blank()
        first = self.text[self.at]
        if first == "{":
            return self._mapping()
        if first == "[":
            return self._list()
        return self._atom(",]}")

    def _mapping(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.at += 1
        while self._next() != "}":
            key = str(self._atom(":,}"))
            if self._next() == ":":
                self.at += 1
                found[key] = None if self._next() in ",}" else self.value()
            else:
                found[key] = None
            self._comma("}")
        self.at += 1
        return found

    def _list(self) -> list[Any]:
        found = []
        self.at += 1
        while self._next() != "]":
            found.append(self.value())
            self._comma("]")
        self.at += 1
        return found

    def _comma(self, end: str) -> None:
        if self._next() == ",":
            self.at += 1
        elif self.text[self.at] != end:
            raise ValueError(f"{self.text[self.at :][:20]!r} stands where ',' or {end!r} should")

    def _atom(self, ends: str) -> Any:
        self._blank()
        quote = self.text[self.at]
        if quote in "\"'":
            pattern = r'"(?:[^"\\]|\\.)*"' if quote == '"' else r"'(?:[^']|'')*'"
            match = re.compile(pattern).match(self.text, self.at)
            if match is None:
                raise IndexError
            self.at = match.end()
            return msgspec.json.decode(match[0]) if quote == '"' else match[0][1:-1].replace("''", "'")
        if quote in _BEYOND:
            raise ValueError(f"{self.text[self.at :][:20]!r} is more YAML than is understood here; write the value out")
        begin = self.at
        while not self._ends(ends):
            self.at += 1
        text = self.text[begin : self.at].strip()
        return text if ":" in ends else _scalar(text)

    def _ends(self, ends: str) -> bool:
        c = self.text[self.at]
        if c == ":":
            return ":" in ends and (self.at + 1 == len(self.text) or self.text[self.at + 1] in " ,}]")
        return c in ends

    def _next(self) -> str:
        self._blank()
        return self.text[self.at]

    def _blank(self) -> None:
        while self.text[self.at] == " ":
            self.at += 1


def _scalar(text: str) -> str | int | float | bool | None:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text
