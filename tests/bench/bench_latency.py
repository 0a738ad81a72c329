"""How old a row is when it arrives: from commit in a polled table to commit in a SQLite sink, p50 and p99.

    .venv/bin/python tests/bench/bench_latency.py [--samples 300] [--poll 0.5] [--out bench-results]

Rows are committed at random moments, so that every phase of the poll is met. The sink's commits are seen through
`PRAGMA data_version`, looked at every millisecond. Writes latency.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measure import machine
from part_crossdock import agent_runs, last_row

from support.gateway import wait_until
from support.processes import Centre

WARM_UP = 5
MEAN_GAP_SECONDS = 0.15
PATIENCE_SECONDS = 60.0
TREE = {
    "sites/bench.yaml": "site: bench\nlabels: {}\n",
    "sources/rows.yaml": (
        "source: rows\non: {}\nkind: sql_table\nlane: critical\nconnection: {sqlite: ${erp}}\ntable: products\n"
        "mode: incrementing\ncolumn: id\nkey: [id]\npoll_seconds: ${poll}\n"
    ),
    "mappings/rows.yaml": "mapping: rows\ndocument: Product\nfields: {sku: sku, description: name}\n",
    "routes/rows.yaml": 'when: document == "Product"\nto: [shop]\n',
    "sinks/shop.yaml": (
        "sink: shop\nkind: sql\nurl: sqlite:///${shop}\ncreate_tables: true\n"
        "tables:\n  Product: {table: product, key: [sku], columns: {sku: sku, name: description}}\n"
    ),
}


def measure(base: Path, samples: int, poll: float) -> list[float]:
    """Seconds of each sample, in order of commit."""
    erp, shop = base / "erp.db", base / "shop.db"
    with closing(sqlite3.connect(erp)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE products(id INTEGER PRIMARY KEY, sku TEXT, name TEXT)")
    with Centre(base) as centre:
        agent_runs(centre, TREE, erp=erp.as_posix(), shop=shop.as_posix(), poll=f"{poll:g}")
        _commit(erp, 0)
        wait_until(lambda: last_row(shop, "product") > 0, "the first row is in the sink", 60)
        committed: dict[int, float] = {}
        writer = threading.Thread(target=_write, args=(erp, samples + WARM_UP, committed))
        writer.start()
        seen = _watch(shop, samples + WARM_UP)
        writer.join()
    return [seen[number] - committed[number] for number in sorted(committed)][WARM_UP:]


def _write(erp: Path, count: int, committed: dict[int, float]) -> None:
    rng = random.Random(4711)
    for number in range(1, count + 1):
        time.sleep(rng.expovariate(1 / MEAN_GAP_SECONDS))  # the random moment is the experiment
        committed[number] = _commit(erp, number)


def _commit(erp: Path, number: int) -> float:
    """The moment at which the commit returned."""
    with closing(sqlite3.connect(erp, timeout=10)) as db:
        db.execute("INSERT INTO products(sku, name) VALUES(?, ?)", (f"SKU-{number}", f"Product {number}"))
        db.commit()
        return time.perf_counter()


def _watch(shop: Path, count: int) -> dict[int, float]:
    """The moment at which each row was first seen committed."""
    seen: dict[int, float] = {}
    quiet_since = time.perf_counter()
    with closing(sqlite3.connect(shop, timeout=10)) as db:
        version, rowid = -1, 0
        while len(seen) < count:
            now = time.perf_counter()
            (current,) = db.execute("PRAGMA data_version").fetchone()
            if current == version:
                if now - quiet_since > PATIENCE_SECONDS:
                    raise TimeoutError(f"only {len(seen)} of {count} rows arrived")
                time.sleep(0.001)
                continue
            version, quiet_since = current, now
            arrived = db.execute("SELECT rowid, sku FROM product WHERE rowid > ? ORDER BY rowid", (rowid,)).fetchall()
            rowid = max((row[0] for row in arrived), default=rowid)
            seen |= {number: now for _, sku in arrived if (number := int(sku.removeprefix("SKU-")))}
    return seen


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--poll", type=float, default=0.5, help="the source's poll_seconds")
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crossdock-bench-") as base:
        host = machine(Path(base))
        ordered = sorted(measure(Path(base), options.samples, options.poll))
    result: dict[str, Any] = {
        "samples": len(ordered),
        "poll_ms": options.poll * 1000,
        "min_ms": round(ordered[0] * 1000, 1),
        "p50_ms": round(_percentile(ordered, 0.5) * 1000, 1),
        "p99_ms": round(_percentile(ordered, 0.99) * 1000, 1),
        "max_ms": round(ordered[-1] * 1000, 1),
    }
    result["p99_over_poll_ms"] = round(result["p99_ms"] - result["poll_ms"], 1)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "latency.json").write_text(
        json.dumps({"machine": host, "latency": result}, indent=2) + "\n", "utf-8"
    )
    print(
        f"commit in table to commit in sink, polled every {result['poll_ms']:g} ms, {result['samples']} samples:"
        f" min {result['min_ms']} ms, p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms"
        f" ({result['p99_over_poll_ms']:+} ms over the poll), max {result['max_ms']} ms"
    )


if __name__ == "__main__":
    main()
