"""What documents look like in files: JSON lines, delimited, fixed width, XML. For the sinks that write files.

In a table, a column names a path in the document ("customer.id"), or with `each` a path in an element of that list and
"^customer.id" for the document around it. A path that leads nowhere is a blank. A value that does not fit is the
document's fault: it is rejected, never cut.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol
from xml.sax.saxutils import escape

import msgspec
from pydantic import Field, field_validator

from crossdock.errors import Rejected
from crossdock_controller.sinks.base import Outgoing, SinkSettings, Verdict

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # what XML 1.0 cannot hold
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class JsonLines(SinkSettings):
    kind: Literal["jsonl"] = "jsonl"
    envelope: bool = True  # each line {"event_id", "document", "key", "sequence", "body"}; False: the document alone


class _Table(SinkSettings):
    each: str | None = None  # one row for each element of this list, instead of one for the document
    encoding: str = "utf-8"
    newline: Literal["lf", "crlf"] = "lf"

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            known = "a\n".encode(value) == b"a\n"
        except LookupError as error:
            raise ValueError(f"{value!r} is no encoding") from error
        if not known:
            raise ValueError(f"{value} does not leave ASCII as it is")
        return value

    @property
    def end(self) -> str:
        return "\r\n" if self.newline == "crlf" else "\n"


class Delimited(_Table):
    kind: Literal["csv"] = "csv"
    columns: dict[str, str] = Field(min_length=1)  # name in the header: path
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    header: bool = True


class FixedColumn(SinkSettings):
    path: str = Field(alias="from")
    width: int = Field(ge=1, le=10_000)
    align: Literal["left", "right"] = "left"
    pad: str = Field(default=" ", min_length=1, max_length=1)


class FixedWidth(_Table):
    kind: Literal["fixed"] = "fixed"
    columns: list[FixedColumn] = Field(min_length=1)


class Xml(SinkSettings):
    kind: Literal["xml"] = "xml"
    root: str = "Documents"
    element: str | None = None  # of a document; its entity unless given
    item: str = "Item"  # of an element of a list

    @field_validator("root", "element", "item")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError(f"{value!r} is no name of an element")
        return value


FileFormat = Annotated[JsonLines | Delimited | FixedWidth | Xml, Field(discriminator="kind")]


class Writer(Protocol):
    head: bytes
    tail: bytes

    def one(self, delivery: Outgoing) -> bytes:
        """Raises Rejected."""


def writer(settings: JsonLines | Delimited | FixedWidth | Xml) -> Writer:
    match settings:
        case JsonLines():
            return _JsonWriter(settings)
        case Delimited():
            return _DelimitedWriter(settings)
        case FixedWidth():
            return _FixedWriter(settings)
    return _XmlWriter(settings)


def rendered(form: Writer, run: Sequence[Outgoing]) -> tuple[list[tuple[Outgoing, bytes]], dict[bytes, Verdict]]:
    """What each of *run* is in a file, and verdicts by event id of those that are in none."""
    parts: list[tuple[Outgoing, bytes]] = []
    verdicts: dict[bytes, Verdict] = {}
    blocked: set[tuple[str, str]] = set()
    for delivery in run:
        key = (delivery.document, delivery.key)
        if key in blocked:
            verdicts[delivery.event_id] = Verdict("retry", "held", "an earlier version of this document is not done")
            continue
        try:
            parts.append((delivery, form.one(delivery)))
        except Rejected as error:
            blocked.add(key)
            verdicts[delivery.event_id] = Verdict("rejected", error.code, str(error))
    return parts, verdicts


class _JsonWriter:
    head = tail = b""

    def __init__(self, settings: JsonLines) -> None:
        self._envelope = settings.envelope

    def one(self, delivery: Outgoing) -> bytes:
        # A newline can only stand between the tokens of JSON, where a space means the same.
        body = delivery.body.replace(b"\n", b" ").replace(b"\r", b" ")
        if not self._envelope:
            return body + b"\n"
        envelope = {
            "event_id": delivery.event_id.hex(),
            "document": delivery.document,
            "key": delivery.key,
            "sequence": delivery.sequence,
            "body": msgspec.Raw(body),
        }
        if delivery.replay:  # a consumer that knows the event id must not leave it out
            envelope["replay"] = delivery.replay
        return msgspec.json.encode(envelope) + b"\n"


class _DelimitedWriter:
    tail = b""

    def __init__(self, settings: Delimited) -> None:
        self._settings = settings
        self._columns = list(settings.columns.items())
        self.head = self._line([name for name, _ in self._columns]) if settings.header else b""

    def one(self, delivery: Outgoing) -> bytes:
        rows = []
        for values in _rows(_decode(delivery.body), self._settings.each, [path for _, path in self._columns]):
            texts = [_text(path, value) for (_, path), value in zip(self._columns, values, strict=True)]
            rows.append(self._line(texts))
        return b"".join(rows)

    def _line(self, texts: Sequence[str]) -> bytes:
        out = io.StringIO(newline="")
        settings = self._settings
        csv.writer(out, delimiter=settings.delimiter).writerow(
            texts
        )  # it quotes what is in its own line end: CR and LF
        return _encoded(out.getvalue().removesuffix("\r\n") + settings.end, settings.encoding)


class _FixedWriter:
    head = tail = b""

    def __init__(self, settings: FixedWidth) -> None:
        self._settings = settings

    def one(self, delivery: Outgoing) -> bytes:
        settings, columns = self._settings, self._settings.columns
        rows = []
        for values in _rows(_decode(delivery.body), settings.each, [column.path for column in columns]):
            cells = [_cell(column, _text(column.path, value)) for column, value in zip(columns, values, strict=True)]
            rows.append(_encoded("".join(cells) + settings.end, settings.encoding, width=1))
        return b"".join(rows)


def _cell(column: FixedColumn, text: str) -> str:
    if len(text) > column.width:
        reason = f"{column.path}: {text[:80]!r} has {len(text)} characters, the column {column.width}"
        raise Rejected("too_wide", reason, field=column.path)
    if any(not c.isprintable() for c in text):
        raise Rejected("bad_value", f"{column.path}: {text[:80]!r} has a control character", field=column.path)
    return text.rjust(column.width, column.pad) if column.align == "right" else text.ljust(column.width, column.pad)


class _XmlWriter:
    def __init__(self, settings: Xml) -> None:
        self._settings = settings
        self.head = f'<?xml version="1.0" encoding="UTF-8"?>\n<{settings.root}>\n'.encode()
        self.tail = f"</{settings.root}>\n".encode()

    def one(self, delivery: Outgoing) -> bytes:
        name = self._settings.element or delivery.document
        return ("".join(self._element(name, _decode(delivery.body))) + "\n").encode()

    def _element(self, name: str, value: Any) -> Iterator[str]:
        if not _NAME.fullmatch(name):
            raise Rejected("bad_name", f"{name[:80]!r} can be no name of an XML element", field=name)
        yield f"<{name}>"
        if isinstance(value, dict):
            for inner, part in value.items():
                yield from self._element(inner, part)
        elif isinstance(value, list):
            for part in value:
                yield from self._element(self._settings.item, part)
        elif value is not None:
            text = _plain(value)
            if _CONTROL.search(text):
                raise Rejected("bad_value", f"{name}: {text[:80]!r} has a character that XML cannot hold", field=name)
            yield escape(text).replace("\r", "&#13;")
        yield f"</{name}>"


def _rows(document: Mapping[str, Any], each: str | None, paths: Sequence[str]) -> Iterator[list[Any]]:
    if each is None:
        yield [_reach(document, path.removeprefix("^")) for path in paths]
        return
    elements = _reach(document, each)
    for element in elements if isinstance(elements, list) else ():
        yield [_reach(document, path[1:]) if path.startswith("^") else _reach(element, path) for path in paths]


def _reach(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _text(path: str, value: Any) -> str:
    if isinstance(value, dict | list):
        raise Rejected("bad_value", f"{path} is no single value but a {type(value).__name__}", field=path)
    return "" if value is None else _plain(value)


def _plain(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _encoded(text: str, encoding: str, width: int = 0) -> bytes:
    try:
        found = text.encode(encoding)
    except UnicodeEncodeError as error:
        bad = text[error.start : error.start + 1]
        raise Rejected("not_encodable", f"{bad!r} cannot be written in {encoding}") from error
    if width and len(found) != len(text) * width:
        raise Rejected("not_encodable", f"{encoding} takes several bytes for a character of {text[:60]!r}")
    return found
