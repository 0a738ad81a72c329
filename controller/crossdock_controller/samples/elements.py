"""Records that stand inside something: elements of JSON and XML documents, interchanges among line ends."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import Any

import msgspec
from lxml import etree

_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_DOCTYPE = re.compile(r"<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>", re.DOTALL)
_ENCODING = re.compile(rb"^<\?xml[^>]*?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")


@dataclass(frozen=True, slots=True)
class Found:
    """*torn*: code, reason and first bytes of what could not be read."""

    prefix: bytes = b""
    records: list[bytes] = field(default_factory=list)
    torn: tuple[str, str, bytes] | None = None


def of_json(settings: Any, data: bytes) -> Found:
    """Elements of the array at `path`, or the document. Structure is ASCII in every encoding that is allowed, so bytes
    are read as Latin-1: what is cut is what stood there."""
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    raw = data.removeprefix(mark).strip(b"\x1a \t\r\n\x00").decode("latin-1").encode()
    try:
        for name in filter(None, settings.path.split(".")):
            inside = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            if name not in inside:
                return Found(mark, [], ("no_records", f"there is nothing at {settings.path}", data))
            raw = bytes(inside[name])
        entries = msgspec.json.decode(raw, type=list[msgspec.Raw]) if raw.lstrip().startswith(b"[") else [raw]
    except (msgspec.DecodeError, RecursionError) as error:
        return Found(mark, [], ("json_syntax", f"the document cannot be read: {error}", data))
    return Found(mark, [bytes(entry).decode().encode("latin-1") for entry in entries])


def of_xml(settings: Any, data: bytes) -> Found:
    """Elements of a name, or at a path from the root."""
    text = data.removeprefix(codecs.BOM_UTF8)
    declared = _ENCODING.match(text)
    name = declared[1].decode() if declared else "utf-8" if text != data else settings.encoding
    prefix = f'<?xml version="1.0" encoding="{name}"?>'.encode()
    try:
        codecs.lookup(name)
        decoded = _DECLARATION.sub("", text.decode(name))
        doctype = _DOCTYPE.search(decoded)
        if doctype is not None:
            prefix += doctype[0].encode(name, "replace")
            decoded = decoded.replace(doctype[0], "", 1)
    except (LookupError, UnicodeDecodeError) as error:
        return Found(prefix, [], ("encoding", f"the document is not {name}: {error}", data))
    found, broken = _elements(decoded.strip(), settings.element.split("/"))
    torn = ("xml_syntax", f"the document cannot be read on: {broken}", data) if broken else None
    return Found(prefix, [text.encode(name, "xmlcharrefreplace") for text in found], torn)


def _elements(text: str, steps: list[str]) -> tuple[list[str], str]:
    """The elements at *steps* that end before the first mistake, and what that is."""
    parser = etree.XMLPullParser(
        events=("end",), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    broken = ""
    try:
        parser.feed(text)
        parser.close()
    except (etree.XMLSyntaxError, ValueError) as error:
        broken = str(error)
    found: list[str] = []
    events: Any = parser.read_events()
    try:
        for _, element in events:
            if _stands_at(element, steps):
                found.append(str(etree.tostring(element, encoding="unicode", with_tail=False)))
    except etree.XMLSyntaxError as error:  # what was wrong is told when everything before it was read
        broken = broken or str(error)
    return found, broken


def _stands_at(element: Any, steps: list[str]) -> bool:
    """A single name stands anywhere; a path begins at the root."""
    if _local(element.tag) != steps[-1].rpartition(":")[2]:
        return False
    if len(steps) == 1:
        return all(_local(above.tag) != steps[0] for above in element.iterancestors())
    path = [_local(above.tag) for above in element.iterancestors()][::-1]
    return path == [step.rpartition(":")[2] for step in steps[:-1]]


def _local(tag: object) -> str:
    return str(tag).rpartition("}")[2]


def of_x12(_settings: Any, data: bytes) -> Found:
    """ISA to IEA."""
    return _interchanges(data, rb"ISA[^A-Za-z0-9\s]", _x12_end, "not_x12")


def of_edifact(_settings: Any, data: bytes) -> Found:
    """UNA or UNB to UNZ."""
    return _interchanges(data, rb"UNA.{6}\s*UNB|UNB[^A-Za-z0-9\s]", _edifact_end, "not_edifact")


def _interchanges(data: bytes, begins: bytes, end_of: Any, code: str) -> Found:
    records: list[bytes] = []
    at = 0
    start = re.compile(begins, re.DOTALL)
    while (found := start.search(data, at)) is not None:
        following = start.search(data, found.end())
        end = end_of(data, found.start()) or (following.start() if following else len(data))
        records.append(data[found.start() : end])
        at = max(end, found.end())
    if not records and data.strip():
        return Found(b"", [], (code, "no interchange begins in it", data))
    return Found(b"", records)


def _x12_end(data: bytes, start: int) -> int:
    """Behind the IEA of the interchange at *start*; 0 when it has none. Elements of the ISA are counted: 16."""
    element = data[start + 3 : start + 4]
    at = start
    for _ in range(16):
        at = data.find(element, at) + 1
        if not at:
            return 0
    head = re.compile(rb"[^\r\n]?(\r\n|.)\s*(?:GS|TA1|IEA|ISB)", re.DOTALL).match(data, at)
    terminator = (b"\n" if head[1] == b"\r\n" else head[1]) if head else data[start + 105 : start + 106]
    if not terminator:
        return 0
    return _behind(data, start, rb"%b\s*IEA%b[^%b]*%b" % _escaped(terminator, element, terminator, terminator))


def _edifact_end(data: bytes, start: int) -> int:
    element, terminator, release = b"+", b"'", b"?"
    if data.startswith(b"UNA", start):
        element, terminator, release = (data[start + i : start + i + 1] for i in (4, 8, 6))
    pattern = rb"(?<!%b)%b\s*UNZ%b[^%b]*%b" % _escaped(release, terminator, element, terminator, terminator)
    return _behind(data, start, pattern)


def _escaped(*parts: bytes) -> tuple[bytes, ...]:
    return tuple(re.escape(part) for part in parts)


def _behind(data: bytes, start: int, pattern: bytes) -> int:
    found = re.compile(pattern).search(data, start)
    return found.end() if found else 0
