"""The records of a draft for a person's eyes, whatever the kind: rows as they are typed, text as the settings say it is
encoded. What has no columns, or a format not known here, is shown as it is; nothing is ever refused for its content.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, islice, pairwise
from typing import Any

import msgspec
from msgspec import Struct

from crossdock.codec import MAX_RAW_BYTES
from crossdock_agent.sources.base import Draft

_BY_LINE = {"csv", "fixed", "jsonl", "lines"}
csv.field_size_limit(MAX_RAW_BYTES)  # a field is as long as a record may be


class Shape(Struct, frozen=True):
    """Names of the columns of *rows*, and their types where the source knows them."""

    names: list[str]
    types: list[str]
    rows: list[list[Any]]


def records(drafts: Sequence[Draft], format_: Mapping[str, Any], limit: int) -> Shape:
    """At most *limit* records of *drafts*, which are of one source."""
    full = [draft for draft in drafts if draft.header.records]
    if not full:
        header = drafts[0].header if drafts else None
        columns = list(header.columns) if header is not None else []
        return Shape([c.name for c in columns], [c.type for c in columns], [])
    if full[0].header.format == "rows":
        return _rows(full, limit)
    encoding = str(format_.get("encoding") or "utf-8")
    decode = {"csv": _csv, "fixed": _fixed, "jsonl": _json, "json": _json}.get(full[0].header.format, _plain)
    return decode(full, format_, encoding, limit)


def raw(drafts: Sequence[Draft]) -> bytes:
    """The bytes of the first unit as it lay there, so far as it was read."""
    if not drafts or drafts[0].header.format == "rows":
        return b""
    unit = drafts[0].header.origin.unit
    parts = [drafts[0].header.prefix]
    for draft in drafts:
        if draft.header.origin.unit != unit:
            break
        parts += [draft.payload, *(reject.sample for reject in draft.header.rejects if not draft.payload)]
    return b"".join(parts)


def _rows(drafts: Sequence[Draft], limit: int) -> Shape:
    columns = drafts[0].header.columns
    rows: list[list[Any]] = []
    for draft in drafts:
        count = draft.header.records
        rows += msgspec.msgpack.decode(b"\xdd" + count.to_bytes(4, "big") + draft.payload)
    return Shape([c.name for c in columns], [c.type for c in columns], rows[:limit])


def _csv(drafts: Sequence[Draft], format_: Mapping[str, Any], encoding: str, limit: int) -> Shape:
    quote = format_.get("quote", '"')
    options: dict[str, Any] = {"delimiter": str(format_.get("delimiter") or ",")}
    options |= {"quotechar": str(quote)} if quote else {"quoting": csv.QUOTE_NONE}
    names = [str(name) for name in format_.get("columns") or ()]
    prefix = _text(drafts[0].header.prefix, encoding)
    if format_.get("header", True) and prefix.strip():
        names = next((row for row in csv.reader(io.StringIO(prefix, newline=""), **options) if row), names)
    rows = []
    for draft in drafts:
        rows += [row for row in csv.reader(io.StringIO(_text(draft.payload, encoding), newline=""), **options) if row]
        if len(rows) >= limit:
            break
    widest = max(map(len, rows[:limit]), default=0)
    names = [*names, *(f"({i + 1})" for i in range(len(names), widest))]
    return Shape(names, [], rows[:limit])


def _fixed(drafts: Sequence[Draft], format_: Mapping[str, Any], encoding: str, limit: int) -> Shape:
    fields = [f for f in format_.get("fields") or () if isinstance(f, Mapping)]
    length = format_.get("record_bytes")
    rows = []
    for line in _lines(drafts, int(length) if length and not format_.get("newline", True) else 0):
        spans = [(int(f["start"]) - 1, int(f["start"]) - 1 + int(f["length"])) for f in fields]
        rows.append([line[begin:end].decode(encoding, "replace") for begin, end in spans])
        if len(rows) == limit:
            break
    return Shape([str(f["name"]) for f in fields], [], rows)


def _json(drafts: Sequence[Draft], _format: Mapping[str, Any], encoding: str, limit: int) -> Shape:
    found: list[Any] = []
    for text in islice(_texts(drafts, encoding), limit):
        try:
            found.append(json.loads(text))
        except (ValueError, RecursionError):
            found.append({"(not JSON)": text})
    if not all(isinstance(record, dict) for record in found):
        return Shape(["record"], [], [[record] for record in found])
    names = list(dict.fromkeys(name for record in found for name in record))
    return Shape(names, [], [[record.get(name, "") for name in names] for record in found])


def _plain(drafts: Sequence[Draft], _format: Mapping[str, Any], encoding: str, limit: int) -> Shape:
    """A record a row where it can be told where one ends; else what a draft holds, which may be several records."""
    if drafts[0].header.format in _BY_LINE or _lengths(drafts[0]):
        return Shape(["record"], [], [[text] for text in islice(_texts(drafts, encoding), limit)])
    whole = [
        [draft.header.origin.name, draft.header.records, len(draft.payload), _text(draft.payload[:400], encoding)]
        for draft in drafts[:limit]
    ]
    return Shape(["from", "records", "bytes", "begins"], [], whole)


def _texts(drafts: Sequence[Draft], encoding: str) -> Iterator[str]:
    """The records of drafts: by their lengths where the header has them, by line otherwise."""
    for draft in drafts:
        if lengths := _lengths(draft):
            ends = list(accumulate(lengths, initial=0))
            yield from (_text(draft.payload[begin:end], encoding) for begin, end in pairwise(ends))
        else:
            lines = _text(draft.payload, encoding).removesuffix("\n").split("\n")
            yield from (line.removesuffix("\r") for line in lines)


def _lengths(draft: Draft) -> list[int]:
    """Of each record, when the framing of its format had to say so."""
    lengths = list(getattr(draft.header, "record_bytes", ()))  # formats of structures have it, others do not
    return lengths if sum(lengths) == len(draft.payload) else []


def _lines(drafts: Sequence[Draft], length: int) -> Iterator[bytes]:
    """Records of fixed width, of *length* bytes or by line."""
    for draft in drafts:
        data = draft.payload
        if length:
            yield from (data[i : i + length] for i in range(0, len(data), length))
        else:
            yield from (line.removesuffix(b"\r") for line in data.removesuffix(b"\n").split(b"\n"))


def _text(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding, "replace").removeprefix("\ufeff")
    except LookupError:
        return data.decode("latin-1")
