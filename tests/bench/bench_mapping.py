"""How fast one core maps: a stock snapshot of 13 fields from CSV, fixed width and table rows, and orders by group.

    .venv/bin/python tests/bench/bench_mapping.py [--records 200000] [--profile]

Prints records/s of each path beside the floor: `csv.reader` and a bare msgspec conversion of every row into a struct of
texts, which checks nothing and delivers nothing.
"""

from __future__ import annotations

import argparse
import cProfile
import csv
import io
import json
import pstats
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from crossdock.codec import TARGET_RAW_BYTES, TARGET_RECORDS
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import kinds
from crossdock_controller.mappings.engine import Engine
from crossdock_controller.mappings.model import Mapping

COLUMNS = [
    "LOC",
    "SKU",
    "LOT",
    "STATUS",
    "ON_HAND",
    "AVAIL",
    "ALLOC",
    "ORDERED",
    "UNIT",
    "AS_OF",
    "OWNER",
    "GTIN",
    "TEXT",
]
UNIT = {"from": "UNIT", "codes": {"ST": "H87", "KG": "KGM"}}
STOCK = {
    "mapping": "stock",
    "document": "StockLevel",
    "fields": {
        "location": "LOC",
        "sku": "SKU",
        "lot": "LOT",
        "status": {"from": "STATUS", "codes": {"F": "available", "Q": "quality", "S": "blocked"}},
        "on_hand": {"from": "ON_HAND", "decimal": ",", "thousands": ".", "uom": UNIT},
        "available": {"from": "AVAIL", "decimal": ",", "thousands": ".", "uom": UNIT},
        "allocated": {"from": "ALLOC", "decimal": ",", "thousands": ".", "uom": UNIT},
        "on_order": {"from": "ORDERED", "decimal": ",", "thousands": ".", "uom": UNIT},
        "as_of": {"from": "AS_OF", "format": "%d.%m.%Y %H:%M", "zone": "site"},
        "extensions.acme.owner": "OWNER",
        "gtin": "GTIN",
        "description": "TEXT",
    },
}
# The same without an extension, which costs a dictionary a document.
PLAIN_STOCK = {**STOCK, "fields": {k: v for k, v in STOCK["fields"].items() if "." not in k}}  # type: ignore[attr-defined]
ORDERS = {
    "mapping": "orders",
    "document": "SalesOrder",
    "each": "SKU",
    "fields": {
        "number": "SKU",
        "customer.name": "TEXT",
        "ordered_at": {"from": "AS_OF", "format": "%d.%m.%Y %H:%M", "zone": "site"},
        "lines": {
            "sku": "GTIN",
            "quantity": {"from": "ON_HAND", "decimal": ",", "thousands": ".", "uom": UNIT},
        },
    },
}
Batch = tuple[BatchHeader, bytes, int]


class KnowsAll:
    def known(self, document: str, keys: set[str]) -> set[str]:
        return keys


class BareRow(msgspec.Struct):
    a: str
    b: str
    c: str
    d: str
    e: str
    f: str
    g: str
    h: str
    i: str
    j: str
    k: str
    l: str  # noqa: E741 - one letter a column
    m: str


def row(i: int) -> list[str]:
    """About 130 bytes: unique SKU and lot, a few thousand quantities, a time that changes each minute."""
    quantity = f"{i * 37 % 9000 // 1000}.{i * 37 % 1000:03},{i % 4 * 25:02}"
    return [
        f"ATL1-A{i % 40:02}", f"SKU-{i // 4:07}", f"L{i % 977:05}", "FQS"[i % 3], quantity, quantity, "0,00",
        f"{i % 500},50", "ST" if i % 5 else "KG", f"30.01.2026 {i // 60000 % 24:02}:{i // 1000 % 60:02}", "ACME",
        f"{4000000000000 + i // 4}", f"Rillenkugellager {6200 + i % 100} größer",
    ]  # fmt: skip


def distinct(i: int) -> list[str]:
    """The worst case for what remembers: no quantity comes twice."""
    values = row(i)
    values[4] = values[5] = f"{i},5"
    return values


def batches(kind: str, rows: Sequence[list[str]], encode: Callable[[Sequence[list[str]]], bytes]) -> list[Batch]:
    """As the agent cuts them: 5,000 records or 256 KiB."""
    size = min(TARGET_RECORDS, TARGET_RAW_BYTES * 100 // max(1, len(encode(rows[:100]))))
    made: list[Batch] = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        header = BatchHeader(format=kind, records=len(part), prefix=(";".join(COLUMNS) + "\r\n").encode())
        header.origin.kind, header.origin.name, header.origin.unit = "file", "stock.csv", b"u" * 16
        header.origin.first_record, header.origin.first_line = start, start + 2
        if kind == "rows":
            header.origin.kind = "table"
            header.key_columns.extend(["LOC", "SKU"])
            for name in COLUMNS:
                header.columns.add(name=name, type="text")
        header.closes = start + size >= len(rows)
        made.append((header, encode(part), 0))
    return made


def delimited(rows: Sequence[list[str]]) -> bytes:
    return "".join(";".join(r) + "\r\n" for r in rows).encode("cp1252")


def quoted(rows: Sequence[list[str]]) -> bytes:
    return "".join(";".join(r[:-1]) + f';"{r[-1]}"\r\n' for r in rows).encode("cp1252")


def fixed(rows: Sequence[list[str]]) -> bytes:
    return "".join("".join(v.ljust(24)[:24] for v in r) + "\n" for r in rows).encode("cp850")


def packed(rows: Sequence[list[str]]) -> bytes:
    return b"".join(map(msgspec.msgpack.encode, rows))


def json_lines(rows: Sequence[list[str]]) -> bytes:
    return b"".join(msgspec.json.encode(dict(zip(COLUMNS, r, strict=True))) + b"\n" for r in rows)


def engine(settings: dict[str, Any], mapping: dict[str, Any]) -> Engine:
    typed = kinds()[settings["kind"]].settings.model_validate(settings)
    return Engine("atl1", "stock", "America/New_York", typed, Mapping.model_validate(mapping), 1)


def floor(parts: Sequence[Batch]) -> int:
    """csv.reader and a bare struct of texts for each row."""
    names = BareRow.__struct_fields__
    count = 0
    for _, payload, _ in parts:
        rows = csv.reader(io.StringIO(payload.decode("cp1252"), newline="\n"), delimiter=";")
        count += len(msgspec.convert([dict(zip(names, r, strict=True)) for r in rows], list[BareRow]))
    return count


def mapped(made: Engine, parts: Sequence[Batch], at_once: int = 8) -> int:
    """Records accounted for, in rounds of *at_once* batches as the normalizer takes them; open groups end with one."""
    count = 0
    for start in range(0, len(parts), at_once):
        for out in made.run(parts[start : start + at_once], KnowsAll(), cap_reached=True):
            count += out.records()
    return count


def measure(name: str, records: int, run: Callable[[], int]) -> dict[str, Any]:
    """Best of seven, CPU time of this process."""
    best = min(_seconds(run, records) for _ in range(7))
    print(f"{name:34} {records / best:12,.0f} records/s {best / records * 1e6:8.2f} us/record", flush=True)
    return {"path": name, "records_per_second": round(records / best), "microseconds": round(best / records * 1e6, 2)}


def _seconds(run: Callable[[], int], records: int) -> float:
    started = time.process_time()
    if run() != records:
        raise SystemExit("the account does not agree with the number of records")
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--profile", action="store_true", help="profile the CSV path instead")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows = [row(i) for i in range(asked.records)]
    csv_settings = {"kind": "csv", "delimiter": ";", "encoding": "cp1252"}
    layout = [{"name": name, "start": 1 + 24 * i, "length": 24} for i, name in enumerate(COLUMNS)]
    parts = batches("csv", rows, delimited)
    if asked.profile:
        profile = cProfile.Profile()
        profile.runcall(mapped, engine(csv_settings, PLAIN_STOCK), parts)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    n = asked.records
    worst = batches("csv", [distinct(i) for i in range(n)], delimited)
    results = [
        measure("floor: csv.reader, bare structs", n, lambda: floor(parts)),
        measure("csv to StockLevel", n, lambda: mapped(engine(csv_settings, PLAIN_STOCK), parts)),
        measure("csv, every quantity distinct", n, lambda: mapped(engine(csv_settings, PLAIN_STOCK), worst)),
        measure("csv to StockLevel with extension", n, lambda: mapped(engine(csv_settings, STOCK), parts)),
    ]
    for name, settings, kind, encode, mapping in (
        ("csv with quotes to StockLevel", csv_settings, "csv", quoted, PLAIN_STOCK),
        ("csv to Order, 4 lines each", csv_settings, "csv", delimited, ORDERS),
        (
            "fixed width to StockLevel",
            {"kind": "fixed", "encoding": "cp850", "fields": layout},
            "fixed",
            fixed,
            PLAIN_STOCK,
        ),
        ("table rows to StockLevel", {"kind": "rows"}, "rows", packed, PLAIN_STOCK),
        ("json lines to StockLevel", {"kind": "jsonl"}, "jsonl", json_lines, PLAIN_STOCK),
    ):
        made = batches(kind, rows, encode)
        results.append(measure(name, n, lambda s=settings, m=mapping, b=made: mapped(engine(s, m), b)))  # type: ignore[misc]
    if asked.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
