"""How long a preview on history takes: retained records of a stock snapshot and of orders by group, mapped twice.

    .venv/bin/python tests/bench/bench_preview.py [--records 100000] [--out bench-results]

Each case is measured with nothing changed, with a field changed in every document, and with every document told one by
one; by the command itself, processes and all. The bar is 30 s for 100,000 records on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from crossdock.codec import Sealer
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_controller.commands import configuration
from crossdock_controller.commands import preview as commands
from crossdock_controller.paths import DataDirectory
from crossdock_controller.preview.model import MOST_CHANGES
from crossdock_controller.store import migrate
from crossdock_controller.store.intake import Incoming, IntakeWriter

BAR_SECONDS = 30.0
BATCH = 1_000
FILE = 10_000  # records of one
STOCK = """mapping: stock
document: StockLevel
fields:
  location: LOC
  sku: SKU
  lot: LOT
  status: {from: STATUS, codes: {F: available, Q: quality}}
  on_hand: {from: ON_HAND, decimal: ",", thousands: ".", uom: {from: UNIT, codes: {ST: H87, KG: KGM}}}
  available: {from: AVAIL, decimal: ",", thousands: "."}
  as_of: {from: AS_OF, format: "%d.%m.%Y %H:%M", zone: site}
  extensions.acme.owner: OWNER
  description: TEXT
"""
ORDERS = """mapping: orders
document: SalesOrder
each: NO
fields:
  number: NO
  ordered_at: {from: AS_OF, format: "%d.%m.%Y %H:%M", zone: site}
  customer.id: OWNER
  lines:
    sku: SKU
    quantity: {from: QTY, decimal: ","}
    description: TEXT
"""
TREE = {
    "sites/atl1.yaml": "site: atl1\nzone: Europe/Berlin\n",
    "sources/stock.yaml": "source: stock\non: {}\nkind: file_drop\ndirectory: s\npattern: '*'\n"
    "format: {kind: csv, delimiter: ';'}\n",
    "sources/orders.yaml": "source: orders\non: {}\nkind: file_drop\ndirectory: o\npattern: '*'\n"
    "format: {kind: csv, delimiter: ';'}\n",
    "mappings/stock.yaml": STOCK,
    "mappings/orders.yaml": ORDERS,
    "routes/all.yaml": "to: [files]\n",
    "sinks/files.yaml": "sink: files\nkind: file\ndirectory: out\n",
}
PROPOSED = {
    **TREE,
    "mappings/stock.yaml": STOCK.replace("description: TEXT", "description: {from: TEXT, default: none}").replace(
        "Q: quality", "Q: blocked"
    ).replace('thousands: "."}\n', 'thousands: ".", uom: {value: KGM}}\n'),
    "mappings/orders.yaml": ORDERS.replace('decimal: ","', 'decimal: ",", uom: {value: KGM}'),
}  # fmt: skip


def stock(n: int) -> str:
    return (
        f"L{n % 40};SKU-{n % 9000};LOT{n % 300};{'FQ'[n % 2]};1.{n % 1000:03},5;{n % 900},25;{'ST' if n % 3 else 'KG'};"
        f"{1 + n % 28:02}.01.2026 {n % 24:02}:{n % 60:02};OWNER{n % 50};Some text of article {n % 9000}\n"
    )


def orders(n: int) -> str:
    return f"SO{n // 4};{1 + n % 28:02}.01.2026 10:00;C{n // 4 % 500};SKU-{n % 9000};{n % 90},5;Article {n % 9000}\n"


HEADS = {
    "stock": b"LOC;SKU;LOT;STATUS;ON_HAND;AVAIL;UNIT;AS_OF;OWNER;TEXT\n",
    "orders": b"NO;AS_OF;OWNER;SKU;QTY;TEXT\n",
}


def fill(data: DataDirectory, source: str, records: int) -> None:
    sealer, make = Sealer(), {"stock": stock, "orders": orders}[source]
    with closing(IntakeWriter(data.intake)) as writer:
        for sequence, first in enumerate(range(0, records, BATCH), start=1):
            begin = first % FILE
            lines = "".join(make(n) for n in range(first, min(first + BATCH, records))).encode()
            origin = Origin(
                kind="file", name=f"{first // FILE}.csv", unit=b"%016d" % (first // FILE), first_record=begin,
                first_line=begin + 2,
            )  # fmt: skip
            header = BatchHeader(
                format="csv", records=lines.count(b"\n"), prefix=HEADS[source], origin=origin,
                closes=begin + BATCH >= FILE or first + BATCH >= records,
            )  # fmt: skip
            sealed = sealer.seal(header, lines)
            batch = Incoming(
                "a", "atl1", source, b"e" * 16, sequence, "standard", header.records, b"", sealed.data, sealed.crc32
            )
            writer.commit([batch], time.time_ns() // 1000)


def measure(data: DataDirectory, source: str, tree: dict[str, str], changes: int) -> dict[str, object]:
    began = time.monotonic()
    found = commands.preview_tree(
        data, tree, 0, by="local:bench", now_us=time.time_ns() // 1000, source=source, changes=changes, seconds=600.0
    )
    seconds = time.monotonic() - began
    (entry,) = found.sources
    assert not found.left
    assert not found.problems, found.problems
    return {
        "seconds": round(seconds, 2), "records": entry.records, "records_per_second": int(entry.records / seconds),
        "documents": entry.before, "changed": entry.changed, "told": len(found.changes),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as directory:
        data = DataDirectory(Path(directory) / "data")
        data.prepare()
        migrate(data.state)
        configuration.apply_tree(data, TREE, "local:bench", "", 1)
        for source in HEADS:
            fill(data, source, options.records)
            for name, tree, changes in (
                ("nothing changed", TREE, 20), ("every document changed", PROPOSED, 20),
                ("every document changed, told one by one", PROPOSED, MOST_CHANGES),
            ):  # fmt: skip
                results.append({"source": source, "case": name, **measure(data, source, tree, changes)})
                print(json.dumps(results[-1]))
    if options.out is not None:
        write(options.out, results)
    late = [r for r in results if float(str(r["seconds"])) > BAR_SECONDS]
    if late and options.records <= 100_000:
        sys.exit(f"over the bar of {BAR_SECONDS:.0f} s: {late}")


def write(out: Path, results: list[dict[str, object]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "preview.json").write_text(json.dumps({"cores": os.cpu_count(), "results": results}, indent=2), "utf-8")
    lines = ["| source | case | records | documents | changed | seconds | records/s |", "| --- " * 7 + "|"]
    lines += [
        f"| {r['source']} | {r['case']} | {r['records']:,} | {r['documents']:,} | {r['changed']:,} | {r['seconds']} |"
        f" {r['records_per_second']:,} |"
        for r in results
    ]
    (out / "preview.md").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
