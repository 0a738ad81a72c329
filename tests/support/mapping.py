"""Batches for the mapping engine, cut by the agent's own framing, and its outcomes in a form that can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_agent.framing import Format, Framer, format_name
from crossdock_controller.formats.base import kinds
from crossdock_controller.mappings.engine import Engine
from crossdock_controller.mappings.model import Mapping
from crossdock_controller.outcomes import Dead, Mapped, Outcomes

Batch = tuple[BatchHeader, bytes, int]
UNIT = b"unit-of-the-file"


class Known:
    """A Lookup that knows the keys it is given, and counts how often it was asked."""

    def __init__(self, *keys: str) -> None:
        self.keys = set(keys)
        self.asked: list[set[str]] = []

    def known(self, document: str, keys: set[str]) -> set[str]:
        del document
        self.asked.append(keys)
        return keys & self.keys


def engine(
    settings: dict[str, Any], mapping: dict[str, Any], *, site: str = "atl1", zone: str = "Europe/Berlin"
) -> Engine:
    typed = kinds()[settings["kind"]].settings.model_validate(settings)
    return Engine(site, "wms", zone, typed, Mapping.model_validate(mapping), 7)


def file_batches(settings: dict[str, Any], data: bytes, *, records: int = 5000, name: str = "in.csv") -> list[Batch]:
    """*data* as the agent sends it, at most *records* a batch."""
    kind: Any = msgspec.convert(settings, Format)
    framer = Framer(kind.scanner(), target_records=records)
    runs = [*framer.feed(data), *framer.finish()]
    batches: list[Batch] = []
    for run in runs:
        prefix = framer.prefix if run.prefix is None else run.prefix
        header = BatchHeader(
            format=format_name(kind),
            records=run.records,
            prefix=prefix,
            rejects=run.rejects,
            record_bytes=run.lengths,
        )
        origin = header.origin
        origin.kind, origin.name, origin.unit = "file", name, UNIT
        origin.offset, origin.first_record, origin.first_line = run.start
        batches.append((header, run.payload, 0))
    if batches:
        batches[-1][0].closes = True
    return batches


def table_batches(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    records: int = 5000,
    key: str = "",
    nested: dict[str, list[str]] | None = None,
) -> list[Batch]:
    """One complete poll of a table; *columns* are names, or "NAME:type" where the type is not text;
    *nested* are the columns of the rows inside a column."""
    batches: list[Batch] = []
    for start in range(0, len(rows), records):
        part = rows[start : start + records]
        header = BatchHeader(format="rows", records=len(part), key_columns=[key] if key else [])
        for column in columns:
            name, _, kind = column.partition(":")
            inner = (nested or {}).get(name)
            added = header.columns.add(name=name, type=kind or ("text" if inner is None else "rows"))
            for inside in inner or ():
                added.columns.add(name=inside, type="text")
        header.origin.kind, header.origin.name, header.origin.first_record = "table", "ORDERS", start
        batches.append((header, b"".join(map(msgspec.msgpack.encode, part)), 0))
    if batches:
        batches[-1][0].closes = True
    return batches


def run(
    made: Engine, batches: Sequence[Batch], lookup: Known | None = None, *, cap_reached: bool = False
) -> list[Outcomes]:
    """Runs, and proves the account: each record of each batch has exactly one outcome."""
    outcomes = made.run(batches, lookup or Known(), cap_reached=cap_reached)
    assert len(outcomes) == len(batches)
    for (header, _, skip), out in zip(batches, outcomes, strict=True):
        assert out.open_records >= 0
        if not made.grouped:
            assert out.records() == header.records + len(header.rejects) - skip
    expected = sum(header.records + len(header.rejects) - skip for header, _, skip in batches)
    assert sum(out.records() for out in outcomes) == expected
    return outcomes


def all_mapped(outcomes: Iterable[Outcomes]) -> list[Mapped]:
    return [m for out in outcomes for m in out.mapped]


def all_dead(outcomes: Iterable[Outcomes]) -> list[Dead]:
    return [d for out in outcomes for d in out.dead]


def summary(outcomes: Sequence[Outcomes]) -> dict[str, Any]:
    """What the outcomes say, whatever batches they came in."""
    ignored: dict[str, int] = {}
    for out in outcomes:
        for entry in out.ignored:
            ignored[entry.reason] = ignored.get(entry.reason, 0) + entry.records
    return {
        "mapped": [
            {
                "id": m.event_id.hex(),
                "document": m.document,
                "key": m.key,
                "records": m.records,
                "where": m.locator.text(),
                "warnings": list(m.warnings),
                "body": msgspec.json.decode(m.body),
            }
            for m in all_mapped(outcomes)
        ],
        "dead": [
            {
                "code": d.code,
                "reason": d.reason,
                "field": d.field,
                "records": d.records,
                "where": d.locator.text(),
                "sample": d.sample.decode("latin-1"),
                "rows": msgspec.to_builtins(list(d.rows)),
            }
            for d in all_dead(outcomes)
        ],
        "ignored": ignored,
        "open": sum(out.open_records for out in outcomes),
    }
