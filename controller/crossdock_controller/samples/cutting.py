"""A sample of a file as batches of the kind an agent sends: enough to try a mapping, no more.

The agent's own framing also resumes, limits and repairs; here the first records of sound input are cut by the same
rules, and what cannot be cut (a torn document) is a reject with its reason. No input raises anything but Unframable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec

from crossdock.errors import Refused
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import SAMPLE_BYTES, FormatSettings, wide_codec
from crossdock_controller.formats.framed import as_utf8, lines_of, splitter
from crossdock_controller.samples import elements

BATCH_RECORDS = 5_000
UNIT = b"sample"


@dataclass(frozen=True, slots=True)
class Cut:
    """*records* are the raw bytes of each, *prefix* what stands before them; *whole* is False when more followed than
    was asked for. *torn* is what could not be cut: a reason, and the first bytes."""

    prefix: bytes
    records: list[bytes]
    lines: int  # of the prefix
    whole: bool
    sliced: bool = False  # records have their lengths in the header
    torn: tuple[str, str, bytes] | None = None
    line_of: list[int] = field(default_factory=list)


def batches(
    settings: FormatSettings, data: bytes, *, name: str, limit: int, more: bool = False
) -> tuple[list[tuple[BatchHeader, bytes, int]], bool]:
    """The first *limit* records of *data* in batches, and whether that is all of it. *more*: the file goes on after
    *data*, so that its last record may be cut and is left out. Raises Refused for what cannot be cut at all."""
    cut = _CUTTERS[settings.kind](settings, data, limit, more)
    made = [_batch(settings, cut, name, first) for first in range(0, len(cut.records), BATCH_RECORDS)]
    if cut.torn is not None or not made:
        made.append(_rest(settings, cut, name))
    made[-1][0].closes = True
    return made, cut.whole and not more


def rows(
    columns: Sequence[tuple[str, str]], values: list[list[Any]], name: str
) -> list[tuple[BatchHeader, bytes, int]]:
    """A complete poll of a table; *columns* are names and types."""
    header = BatchHeader(format="rows", records=len(values), closes=True)
    for column, kind in columns:
        header.columns.add(name=column, type=kind)
    header.origin.kind, header.origin.name = "table", name
    return [(header, b"".join(map(msgspec.msgpack.encode, values)), 0)]


def _batch(settings: FormatSettings, cut: Cut, name: str, first: int) -> tuple[BatchHeader, bytes, int]:
    part = cut.records[first : first + BATCH_RECORDS]
    header = BatchHeader(format=settings.kind, records=len(part), prefix=cut.prefix)
    if cut.sliced:
        header.record_bytes.extend(map(len, part))
    origin = header.origin
    origin.kind, origin.name, origin.unit = "file", name, UNIT
    origin.first_record = first
    origin.first_line = 1 + cut.lines + (sum(part.count(b"\n") for part in cut.records[:first]) if first else 0)
    return header, b"".join(part), 0


def _rest(settings: FormatSettings, cut: Cut, name: str) -> tuple[BatchHeader, bytes, int]:
    header = BatchHeader(format=settings.kind, prefix=cut.prefix)
    origin = header.origin
    origin.kind, origin.name, origin.unit, origin.first_line = "file", name, UNIT, 1
    origin.first_record = len(cut.records)
    if cut.torn is not None:
        code, reason, sample = cut.torn
        header.rejects.add(record=origin.first_record, code=code, reason=reason, sample=sample[:SAMPLE_BYTES])
    return header, b"", 0


def _lines(
    settings: Any,
    data: bytes,
    limit: int,
    more: bool,
    *,
    header_lines: int,
    split: Callable[[bytes], Iterator[bytes]],
) -> Cut:
    """Records that end with a newline, in any encoding that shows one."""
    text = as_utf8(settings.encoding)(data)
    found = list(islice(split(text), header_lines + limit + 2))
    if more and found and len(found) < header_lines + limit + 2:
        found.pop()  # it may go on
    head, records = found[:header_lines], found[header_lines : header_lines + limit]
    codec = wide_codec(settings.encoding)
    if codec:
        head, records = _widened(head, codec), _widened(records, codec)
    lines = sum(part.count(b"\n") for part in head)
    return Cut(b"".join(head), records, lines, len(found) <= header_lines + limit)


def _widened(parts: list[bytes], codec: str) -> list[bytes]:
    return [part.decode("utf-8", "surrogateescape").encode(codec, "replace") for part in parts]


def _csv(settings: Any, data: bytes, limit: int, more: bool) -> Cut:
    split = splitter(settings.delimiter, settings.quote)
    header_lines = 0
    if settings.header:  # blank lines before the header belong to it
        text = as_utf8(settings.encoding)(data[: 64 * 1024])
        header_lines = 1 + next((i for i, part in enumerate(split(text)) if part.strip(b" \t\r\n\xef\xbb\xbf")), 0)
    return _lines(settings, data, limit, more, header_lines=header_lines, split=split)


def _plain_lines(settings: Any, data: bytes, limit: int, more: bool) -> Cut:
    header_lines = getattr(settings, "header_lines", 0)
    return _lines(settings, data, limit, more, header_lines=header_lines, split=lambda d: iter(lines_of(d)))


def _fixed(settings: Any, data: bytes, limit: int, more: bool) -> Cut:
    if settings.has_lines:
        return _plain_lines(settings, data, limit, more)
    records: list[bytes] = []
    at = 0
    while at < len(data) and len(records) < limit:
        size = settings.record_bytes or max(4, int.from_bytes(data[at : at + 2], "big"))
        if more and at + size > len(data):
            break
        records.append(data[at : at + size])
        at += size
    return Cut(b"", records, 0, at >= len(data))


def _binary(_settings: Any, data: bytes, _limit: int, more: bool) -> Cut:
    if more:
        raise Refused("the file is too large to be tried: it is one record", hint="try a smaller one")
    return Cut(b"", [data], 0, whole=True)


def _structured(split: Callable[[Any, bytes], elements.Found]) -> Callable[[Any, bytes, int, bool], Cut]:
    def cut(settings: Any, data: bytes, limit: int, more: bool) -> Cut:
        if more:
            raise Refused(
                f"the file is too large to be tried whole, and {settings.kind} cannot be cut anywhere",
                hint="try a smaller file, with the same structure",
            )
        found = split(settings, data)
        records = found.records[:limit]
        whole = len(records) == len(found.records)
        return Cut(found.prefix, records, 0, whole, sliced=True, torn=found.torn if whole else None)

    return cut


_CUTTERS: dict[str, Callable[[Any, bytes, int, bool], Cut]] = {
    "csv": _csv,
    "jsonl": _plain_lines,
    "lines": _plain_lines,
    "fixed": _fixed,
    "binary": _binary,
    "json": _structured(elements.of_json),
    "xml": _structured(elements.of_xml),
    "x12": _structured(elements.of_x12),
    "edifact": _structured(elements.of_edifact),
}
