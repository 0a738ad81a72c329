"""How fast the agent finds records, by format: `python tests/bench/bench_framing.py [MB]`. Prints a table.

Read from memory in blocks of the size the framer asks for, framed to runs and thrown away; the best of three, in
processor time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from crossdock_agent.framing import Format, Framer

FIELDS = [{"name": "a", "start": 1, "length": 2}]


def documents(megabytes: int) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """Name, format and content, each of some 200 bytes a record."""

    def times(record: bytes, before: bytes = b"", behind: bytes = b"") -> bytes:
        return before + record * (megabytes * 1_000_000 // len(record)) + behind

    row = b"4711;2026-01-31;SKU000123;" + b"x" * 170 + b";12,50\n"
    yield "csv", {"kind": "csv", "delimiter": ";"}, times(row)
    yield "csv, quoted", {"kind": "csv", "delimiter": ";"}, times(row.replace(b";x", b';"x').replace(b"x;", b'x";'))
    yield "lines", {"kind": "lines"}, times(row)
    yield "lines, utf-16", {"kind": "lines", "encoding": "utf-16-le"}, times(row.decode().encode("utf-16-le"))
    flat = b'{"no": "4711", "sku": "SKU000123", "qty": 12.50, "text": "' + b"x" * 110 + b'", "uom": "EA"},\n'
    yield "json, flat", {"kind": "json"}, times(flat, b"[", flat[:-2] + b"]")
    line = b'{"sku": "SKU000123", "qty": {"value": 12.50, "uom": "EA"}}'
    order = b'{"no": "4711", "lines": [' + line + b", " + line + b"]},\n"
    yield "json, 4 levels", {"kind": "json", "path": "a.b"}, times(order, b'{"a": {"b": [', order[:-2] + b"]}}")
    deep = order.replace(b'"EA"', b'["EA", [{"per": [1]}]]')
    yield "json, 8 levels", {"kind": "json", "path": "a.b"}, times(deep, b'{"a": {"b": [', deep[:-2] + b"]}}")
    order = b"<Order no='1'><Header><Number>4711</Number></Header><Lines><Line><Sku>A</Sku><Qty>12.50</Qty></Line><Line><Sku>B</Sku></Line></Lines></Order>\n"  # noqa: E501
    yield "xml, by name", {"kind": "xml", "element": "Order"}, times(order, b"<Orders>", b"</Orders>")
    commented = order.replace(b"<Lines>", b"<!-- lines --><Lines>")
    yield "xml, comments", {"kind": "xml", "element": "Orders/Order"}, times(commented, b"<Orders>", b"</Orders>")
    isa = b"ISA*00*          *00*          *ZZ*ACME           *ZZ*WMS            *260130*1200*U*00401*000000905*0*P*>~"
    orders = b"ST*850*0001~BEG*00*SA*4711**20260130~" + b"PO1*1*10*EA*9.5**BP*000123~" * 4 + b"SE*7*0001~"
    small = isa + b"GS*PO*A*W*20260130*1200*7*X*004010~" + orders * 10 + b"GE*10*7~IEA*1*000000905~\n"
    yield "x12, small ones", {"kind": "x12"}, times(small)
    yield "x12, in parts", {"kind": "x12"}, times(orders, isa + b"GS*PO*A~", b"GE*1*7~IEA*1*000000905~")
    message = b"UNH+1+ORDERS:D:96A:UN'BGM+220+4711+9'" + b"LIN+1++000123:SA'QTY+21:10'" * 8 + b"UNT+18+1'"
    yield "edifact, in parts", {"kind": "edifact"}, times(message, b"UNB+UNOC:3+A+B+1:2+9'", b"UNZ+1+9'")
    by_length = {"kind": "fixed", "newline": False, "record_bytes": 200, "fields": FIELDS}
    yield "fixed, by length", by_length, times(row[:200])
    yield "fixed, descriptors", {"kind": "fixed", "rdw": True, "fields": FIELDS}, times(b"\0\xc8\0\0" + row[:196])


def frame(settings: dict[str, Any], data: bytes) -> int:
    kind: Any = msgspec.convert(settings, Format)
    framer = Framer(kind.scanner())
    at = records = 0
    while at < len(data):
        wanted = framer.wanted
        records += sum(run.records for run in framer.feed(data[at : at + wanted]))
        at += wanted
    return records + sum(run.records for run in framer.finish())


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print(f"{'framing':<20}{'MB/s':>8}{'records':>10}{'thousand records/s':>20}")
    for name, settings, data in documents(megabytes):
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            records = frame(settings, data)
            best = min(best, time.process_time() - started)
        print(f"{name:<20}{len(data) / best / 1e6:>8.0f}{records:>10,}{records / best / 1e3:>20,.0f}")


if __name__ == "__main__":
    main()
