"""What a mapping makes of the first records of a file: each field of a document, and the columns behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import FormatSettings, create
from crossdock_controller.mappings.engine import Engine
from crossdock_controller.mappings.fields import AROUND
from crossdock_controller.outcomes import Dead, Mapped
from crossdock_controller.samples import cutting
from crossdock_controller.samples.running import Everything

READ_BYTES = 8 * 1024 * 1024
WHOLE_BYTES = 64 * 1024 * 1024  # of a format that cannot be cut anywhere
CUT_ANYWHERE = ("csv", "jsonl", "lines", "fixed")

Batch = tuple[BatchHeader, bytes, int]


@dataclass(frozen=True, slots=True)
class TriedField:
    """*columns* are what *value* is made of, with what stands there; empty for a constant."""

    field: str
    value: Any
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TriedDocument:
    document: str
    key: str
    where: str
    records: int
    fields: tuple[TriedField, ...]
    warnings: tuple[str, ...]
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TriedDead:
    code: str
    reason: str
    field: str
    where: str
    records: int
    rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Tried:
    """*whole* is False when the file has more than the *records* that were read."""

    file: str
    source: str
    site: str
    format: str
    records: int
    whole: bool
    columns: tuple[str, ...]
    documents: tuple[TriedDocument, ...]
    dead: tuple[TriedDead, ...]
    ignored: dict[str, int]


def limit_bytes(settings: FormatSettings) -> int:
    """How much of a file is read at most."""
    return READ_BYTES if settings.kind in CUT_ANYWHERE else WHOLE_BYTES


def try_bytes(
    engine: Engine, settings: FormatSettings, data: bytes, *, name: str, source: str, site: str, limit: int, more: bool
) -> Tried:
    """The first *limit* records of *data*. Raises Refused for what cannot be cut into records."""
    batches, whole = cutting.batches(settings, data, name=name, limit=limit, more=more)
    outcomes = engine.run(batches, Everything(), cap_reached=True)
    rows = dict(_rows(settings, batches, engine.columns))
    ignored: dict[str, int] = {}
    for out in outcomes:
        for entry in out.ignored:
            ignored[entry.reason] = ignored.get(entry.reason, 0) + entry.records
    return Tried(
        file=name,
        source=source,
        site=site,
        format=settings.kind,
        records=sum(header.records + len(header.rejects) for header, _, _ in batches),
        whole=whole,
        columns=tuple(dict.fromkeys(str(column) for row in list(rows.values())[:100] for column in row)),
        documents=tuple(
            _document(engine, one, rows, m.records) for out in outcomes for m in out.mapped for one in m.all()
        ),
        dead=tuple(_dead(d) for out in outcomes for d in out.dead),
        ignored=ignored,
    )


def _rows(
    settings: FormatSettings, batches: Sequence[Batch], wanted: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """What was read of each record, by its ordinal."""
    form = create(settings)
    for header, payload, _ in batches:
        decoded = form.decode(header, payload, wanted)
        for i, position in enumerate(decoded.positions):
            yield header.origin.first_record + position, decoded.fields(i)


def _document(engine: Engine, m: Mapped, rows: Mapping[int, dict[str, Any]], records: int) -> TriedDocument:
    """*records*: of which it is made; one that stands beside another counts none itself."""
    body = msgspec.json.decode(m.body)
    first = m.locator.record
    own = [rows[i] for i in range(first, first + records) if i in rows]
    reads, list_column = (engine.reads, engine.list_column) if m.records else engine.reads_beside(m.document)
    fields = tuple(_fields(reads, list_column, body, own))
    return TriedDocument(m.document, m.key, m.locator.text(), m.records, fields, m.warnings, body)


def _fields(
    reads: Mapping[str, tuple[str, ...]], list_column: str, body: dict[str, Any], own: Sequence[dict[str, Any]]
) -> Iterator[TriedField]:
    """Fields in the order of the mapping, then lines with their number."""
    head = own[0] if own else {}
    lines = body.get("lines") or []
    elements = head.get(list_column) if list_column else None
    for name, columns in reads.items():
        if not name.startswith("lines."):
            yield TriedField(name, _reach(body, name), _seen(columns, head, head))
    for i, line in enumerate(lines):
        row: Any = elements[i] if isinstance(elements, list) and i < len(elements) else own[i] if i < len(own) else {}
        for name, columns in reads.items():
            if name.startswith("lines."):
                inner = name.removeprefix("lines.")
                seen = _seen(columns, row if isinstance(row, dict) else {}, head)
                yield TriedField(f"lines[{i}].{inner}", _reach(line, inner), seen)


def _seen(columns: Sequence[str], row: Mapping[str, Any], around: Mapping[str, Any]) -> dict[str, Any]:
    seen = {}
    for column in columns:
        outside = column.startswith(AROUND)
        seen[column] = _plain((around if outside else row).get(column.removeprefix(AROUND) if outside else column))
    return seen


def _reach(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _dead(found: Dead) -> TriedDead:
    rows = tuple(_plain(row) for row in found.rows)
    return TriedDead(found.code, found.reason, found.field, found.locator.text(), found.records, rows)


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value, enc_hook=str)
