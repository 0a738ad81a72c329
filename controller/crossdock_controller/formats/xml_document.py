"""XML elements, each a record, as objects: `Header/Number`, `Header/@type`; what stands several times is a list.

An element comes without the document around it, so no entity of a DOCTYPE can be in force; a document that has one is
refused all the same, because texts may be missing without them. Namespaces are left out of names: a prefix is bound to
something only so that it can be read.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from lxml import etree
from pydantic import Field, field_validator

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import (
    SAMPLE_BYTES,
    Decoded,
    Fault,
    TextSettings,
    encoding_fault,
    register,
)
from crossdock_controller.formats.framed import sliced

_PREFIXES = re.compile(r"[<\s/]([^\s<>/=\"':&;]+):[^\s<>/=\"':]")
_DECLARED = re.compile(rb"^<\?xml[^>]*?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
_PREFIX = re.compile(r"(?!xml)[^\W\d][\w.-]*", re.IGNORECASE)
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_DOCTYPE = "the document has a DOCTYPE, which may define entities and name other files; have it written without one"


class XmlSettings(TextSettings):
    kind: Literal["xml"] = "xml"
    element: str = Field(min_length=1)  # for the agent
    lists: tuple[str, ...] = ()

    def lists_declared(self) -> tuple[str, ...] | None:
        return self.lists  # without being named here, an element that stands once would be no list

    @field_validator("element", "lists")
    @classmethod
    def _is_names(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for path in (value,) if isinstance(value, str) else value:
            if not all(re.fullmatch(r"[^\s<>/!?=\"'&;]+", name) for name in path.split("/")):
                raise ValueError(f"{path!r} is not names with slashes between them, such as Orders/Order")
        return value


class XmlFormat:
    text_only = False

    def __init__(self, settings: XmlSettings) -> None:
        self._settings = settings
        self._lists = frozenset(settings.lists)
        self._canonical = msgspec.json.Encoder(order="deterministic").encode
        self._parser = etree.XMLParser(
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )

    def decode(self, header: BatchHeader, payload: bytes, wanted: Sequence[str]) -> Decoded:
        records = sliced(header, payload)
        objects: list[dict[str, object]] = []
        positions: list[int] = []
        decoded = Decoded(
            columns=tuple(wanted),
            rows=objects,
            positions=positions,
            lines=[],
            count=len(records),
            sample=lambda position: records[position][:SAMPLE_BYTES],
            objects=objects,
        )
        encoding, decoded.header_fault = self._prolog(header.prefix)
        if decoded.header_fault is not None:
            encoding = self._settings.encoding
        for position, raw in enumerate(records):
            found = self._read(raw, position, encoding)
            if isinstance(found, Fault):
                decoded.faults.append(found)
            else:
                objects.append(found)
                positions.append(position)
        decoded.lines = [0] * len(objects)
        return decoded

    def contents(self, decoded: Decoded) -> list[bytes]:
        return [self._canonical(entry) for entry in decoded.objects or ()]

    def content(self, row: dict[str, object]) -> bytes:
        return self._canonical(row)

    def glimpse(self, header: BatchHeader, sample: bytes) -> dict[str, object]:  # noqa: ARG002
        return {}

    def _prolog(self, prefix: bytes) -> tuple[str, tuple[str, str] | None]:
        """The encoding that is in force, and why nothing can be read, if so."""
        text = prefix.removeprefix(codecs.BOM_UTF8)
        if b"<!DOCTYPE" in re.sub(rb"<!--.*?-->", b"", text, flags=re.DOTALL):
            return "", ("doctype", _DOCTYPE)
        declared = _DECLARED.match(text)
        name = declared.group(1).decode() if declared else "utf-8" if text != prefix else self._settings.encoding
        try:
            codecs.lookup(name)
        except LookupError:
            return "", ("encoding", f"the file says its encoding is {name!r}, which is not known")
        return name, None

    def _read(self, raw: bytes, position: int, encoding: str) -> dict[str, object] | Fault:
        try:
            text = raw.decode(encoding)
            return self._object(_parsed(text, self._parser), self._lists)
        except UnicodeDecodeError as error:
            code, reason = "encoding", encoding_fault(encoding, error)
        except (etree.XMLSyntaxError, ValueError) as error:
            code, reason = "xml_syntax", f"the element cannot be read: {error}"
        return Fault(position, 0, code, reason, sample=raw[:SAMPLE_BYTES])

    def _object(self, element: Any, lists: frozenset[str]) -> dict[str, object]:
        found: dict[str, object] = {f"@{_local(name)}": value for name, value in element.attrib.items()}
        if not len(element):
            found["."] = _text(element)
            return found
        self._fill(found, element, "", lists)
        return found

    def _fill(self, found: dict[str, object], element: Any, path: str, lists: frozenset[str]) -> None:
        """The fields of the children of *element*, which stands at *path*."""
        names = [_local(child.tag) for child in element]
        several: set[str] = set()
        if len(set(names)) < len(names):
            several = {name for name, count in Counter(names).items() if count > 1}
        for name, child in zip(names, element, strict=True):
            at = f"{path}{name}"
            if at in lists or name in several:
                entries = found.setdefault(at, [])
                if isinstance(entries, list):
                    entries.append(self._entry(child, at, lists))
                continue
            for attribute, value in child.attrib.items() if child.attrib else ():
                if attribute != _NIL:
                    found[f"{at}/@{_local(attribute)}"] = value
            if len(child):
                self._fill(found, child, f"{at}/", lists)
            else:
                found[at] = _text(child)

    def _entry(self, child: Any, at: str, lists: frozenset[str]) -> object:
        """One of several: a text where it is no more than that."""
        if not len(child) and not child.attrib:
            return _text(child)
        return self._object(child, frozenset(path[len(at) + 1 :] for path in lists if path.startswith(f"{at}/")))


def _parsed(text: str, parser: etree.XMLParser) -> Any:
    """The one element that *text* is. Raises XMLSyntaxError, ValueError."""
    prefixes = sorted(filter(_PREFIX.fullmatch, set(_PREFIXES.findall(text))))
    bound = "".join(f' xmlns:{name}="urn:{name}"' for name in prefixes if name != "xsi")
    xsi = f' xmlns:xsi="{_NIL[1:].partition("}")[0]}"' if "xsi" in prefixes else ""
    root = etree.fromstring(f"<r{bound}{xsi}>{text}</r>".encode(), parser)
    if len(root) != 1 or (root.text or "").strip() or (root[0].tail or "").strip():
        raise ValueError(f"it is {len(root)} elements with text around, not one")
    return root[0]


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _text(element: Any) -> str | None:
    if element.attrib and element.get(_NIL) in ("true", "1"):
        return None
    return "".join(element.itertext()) if len(element) else element.text or ""


register("xml", XmlSettings, XmlFormat)
