"""From intake to done, for every kind of sink, beside what plain Python does with the same rows.

    .venv/bin/python tests/bench/bench_delivery.py [--records 200000] [--out bench-results]

1. Normalization of a record of 13 fields against `csv.reader` and a bare msgspec conversion (bench_mapping.py).
2. A full intake through a normalizer and a dispatcher into `sql` (SQLite, PostgreSQL), `file`, `nats` and `http`.
3. A dispatcher alone into PostgreSQL against psycopg batches of the same documents, by the same statement.
4. Three healthy sinks alone, then beside one that refuses connections and one that never answers.

Real servers, on this machine, with fsync. Writes delivery.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import http_yes
from bench_mapping import STOCK, delimited, engine, floor, mapped, row
from bench_mapping import batches as cut
from delivery_site import batches, done, fill, made, normalized, working
from measure import machine

from crossdock_controller.paths import DataDirectory
from crossdock_controller.sinks.sql_databases import PostgresDatabase
from crossdock_controller.sinks.sql_rows import Table
from crossdock_controller.sinks.sql_statements import TableMapping
from crossdock_controller.store import connection, deliveries, sinks
from crossdock_controller.store.bodies import Bodies
from support import nats_server, postgres
from support.postgres import free_port

RUN_SIZE = 2_000
COLUMNS = {
    "location": "location", "sku": "sku", "lot": "lot", "status": "status", "on_hand": "on_hand.value",
    "available": "available.value", "allocated": "allocated.value", "on_order": "on_order.value",
    "uom": "on_hand.uom", "as_of": "as_of", "owner": "extensions.acme.owner", "gtin": "gtin",
    "description": "description", "sequence": "$sequence",
}  # fmt: skip
KEY = ["location", "sku", "lot", "status"]


def sql(url: str) -> str:
    tables = {"StockLevel": {"table": "stock", "key": KEY, "columns": COLUMNS}}
    return f"kind: sql\nurl: {json.dumps(url)}\ncreate_tables: true\ntables: {json.dumps(tables)}\n"


def nats(url: str, stream: str) -> str:
    return f"kind: nats\nservers: [{json.dumps(url)}]\nstream: {stream}\nsubject: {stream}.{{document}}\ncreate: true\n"


def http(url: str) -> str:
    return f"kind: http\nurl: {json.dumps(url + '/{document}')}\nconcurrency: 4\ntimeout_seconds: 5\n"


def normalization(records: int) -> dict[str, Any]:
    """Records/s of one core, best of three each, in turns."""
    rows = [row(i) for i in range(records)]
    parts = cut("csv", rows, delimited)
    ready = engine({"kind": "csv", "delimiter": ";", "encoding": "cp1252"}, STOCK)
    best = {"plain": float("inf"), "crossdock": float("inf")}
    for _ in range(3):
        for name, run in (("plain", lambda: floor(parts)), ("crossdock", lambda: mapped(ready, parts))):
            began = time.process_time()
            if run() != records:
                raise SystemExit("the account does not agree with the number of records")
            best[name] = min(best[name], time.process_time() - began)
    return {name: round(records / seconds) for name, seconds in best.items()}


def through(base: Path, name: str, settings: str, records: int) -> int:
    """Records/s from a full intake to done, both workers at once."""
    data, sealed = made(base / name, {name: settings}), batches(records)
    with working(data, "normalize", "dispatch"):
        began = fill(data, sealed)
        seconds = done(data, [name], records, began)[name]
    return round(records / seconds)


def dispatching(base: Path, server: postgres.Postgres, records: int) -> dict[str, Any]:
    """Records/s of a dispatcher alone, and of psycopg with the documents it read out of the same store."""
    data = made(base / "dispatch", {"warehouse": sql(server.url())})
    with working(data, "normalize"):
        fill(data, batches(records))
        normalized(data, records)
    documents = _documents(data, records)
    plain = [_plain(server, documents)]
    with working(data, "dispatch"):
        done(data, ["warehouse"], records, time.perf_counter())
    began_us, ended_us = _span(data)
    server.execute("DROP TABLE stock")
    plain.append(_plain(server, documents))
    return {"plain": round(records / min(plain)), "crossdock": round(records / ((ended_us - began_us) / 1e6))}


def _span(data: DataDirectory) -> tuple[int, int]:
    """From the first call of the sink to the end of the last one."""
    with closing(sqlite3.connect(data.state)) as db:
        first, last = db.execute("SELECT min(started_us), max(ended_us) FROM runs").fetchone()
    return first, last


def _documents(data: DataDirectory, records: int) -> list[deliveries.Picked]:
    with closing(connection.connect(data.state)) as db:
        number = sinks.sink_id(db, "warehouse")
        found = deliveries.pick_fresh(db, Bodies(db), number, 0, records)
    if len(found) != records:
        raise SystemExit(f"{len(found)} of {records} documents are due")
    return found


def _plain(server: postgres.Postgres, documents: list[deliveries.Picked]) -> float:
    """The least that does it: decode, pick out the columns, `executemany` of the same upsert, a commit a batch."""
    import msgspec
    import psycopg

    mapping = TableMapping.model_validate({"table": "stock", "key": KEY, "columns": COLUMNS})
    statement = Table(mapping, PostgresDatabase.style).upsert.encode()
    names = sorted(COLUMNS)
    created = ", ".join(f'"{name}" {"bigint" if name == "sequence" else "text"}' for name in COLUMNS)
    with psycopg.connect(server.url()) as db:
        db.execute(f"CREATE TABLE stock ({created}, PRIMARY KEY ({', '.join(KEY)}))".encode())
        db.commit()
        order = _order(statement.decode(), names)
        began = time.perf_counter()
        for start in range(0, len(documents), RUN_SIZE):
            rows = []
            for picked in documents[start : start + RUN_SIZE]:
                body = msgspec.json.decode(picked.body)
                rows.append([_at(body, COLUMNS[name], picked.event_seq) for name in order])
            with db.cursor() as cursor:
                cursor.executemany(statement, rows)
            db.commit()
        seconds = time.perf_counter() - began
        (count,) = db.execute("SELECT count(*) FROM stock").fetchone() or (0,)
    server.execute("DROP TABLE stock")
    if count != len(documents):
        raise SystemExit(f"the baseline wrote {count} of {len(documents)} rows")
    return seconds


def _order(statement: str, names: list[str]) -> list[str]:
    """The columns as the statement names them."""
    listed = statement.partition("(")[2].partition(")")[0]
    found = [part.strip().strip('"') for part in listed.split(",")]
    assert sorted(found) == names, statement
    return found


def _at(body: Any, path: str, sequence: int) -> Any:
    if path == "$sequence":
        return sequence
    for part in path.split("."):
        body = body.get(part) if body is not None else None
    return body


def beside_the_dead(base: Path, healthy: Mapping[str, str], dead: Mapping[str, str], records: int) -> dict[str, Any]:
    """Seconds until each healthy sink has everything, alone and beside *dead* ones."""
    found: dict[str, Any] = {}
    for label, others in (("alone", {}), ("beside", dict(dead))):
        data, sealed = made(base / label, {**_fresh(healthy, base / f"{label}-out"), **others}), batches(records)
        with working(data, "normalize", "dispatch"):
            began = fill(data, sealed)
            found[label] = {name: round(s, 2) for name, s in done(data, list(healthy), records, began).items()}
    found["ratio"] = round(max(found["beside"].values()) / max(found["alone"].values()), 2)
    return found


def _fresh(healthy: Mapping[str, str], out: Path) -> dict[str, str]:
    out.mkdir()
    return {name: text.replace("OUT", out.as_posix()).replace("STREAM", out.name) for name, text in healthy.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    records, few = options.records, max(1_000, options.records // 10)
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crossdock-bench-")))
        server = stack.enter_context(postgres.running(fsync="on"))
        bus = stack.enter_context(nats_server.running())
        yes, silent = stack.enter_context(http_yes.serving()), stack.enter_context(http_yes.serving(silent=True))
        report: dict[str, Any] = {"records": records, "machine": machine(base)}
        report["normalization"] = told("normalization", normalization(records))
        report["intake_to_done"] = {}
        for name, settings, count in (
            ("sqlite", sql(f"sqlite:///{base.as_posix()}/finance.db"), records),
            ("postgresql", sql(server.url()), records),
            ("file", f"kind: file\ndirectory: {json.dumps(base.as_posix() + '/out')}\n", records),
            ("nats", nats(bus.url, "BENCH"), records),
            ("http", http(yes), few),
        ):
            report["intake_to_done"][name] = told(f"intake to done, {name}", through(base, name, settings, count))
        server.execute("DROP TABLE stock")
        report["dispatch"] = told("dispatch to PostgreSQL", dispatching(base, server, records))
        healthy = {"sqlite": sql("sqlite:///OUT/f.db"), "file": 'kind: file\ndirectory: "OUT/files"\n',
                   "nats": nats(bus.url, "STREAM")}  # fmt: skip
        dead = {"refuses": http(f"http://127.0.0.1:{free_port()}"), "hangs": http(silent)}
        report["one_dead"] = told("beside dead sinks, seconds", beside_the_dead(base, healthy, dead, records // 2))
    ratios = {
        part: round(report[part]["crossdock"] / report[part]["plain"], 2) for part in ("normalization", "dispatch")
    }
    report["ratios"] = told("ratios", ratios)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "delivery.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def told(what: str, found: Any) -> Any:
    print(f"{what:28} {json.dumps(found)}", flush=True)
    return found


if __name__ == "__main__":
    main()
