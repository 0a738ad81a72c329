"""Reading a large PostgreSQL table into the outbox, against fetching the same rows and throwing them away.

    .venv/bin/python tests/bench/bench_table.py [--rows 1000000] [--rounds 3] [--out bench-results]

Both through psqlodbc and pyodbc in processes of their own, in turns. The first is one plain `SELECT *` read by
`fetchmany`, with `UseDeclareFetch`, so that it does not hold the whole table; the second is the agent's own reading:
pages by key, values exact, packed, sealed, committed to a synced SQLite outbox. Writes table.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measure import machine

from support import postgres

MODES: dict[str, dict[str, Any]] = {
    "incrementing": {"mode": "incrementing", "column": "id", "key": ["id"]},
    "timestamp": {"mode": "timestamp", "column": "changed_at", "key": ["id"]},
}
TABLE = """CREATE TABLE order_line AS
SELECT n AS id, 'SO-' || lpad((n / 4)::text, 9, '0') AS order_no, (n %% 4)::int AS line_no,
 'SKU-' || lpad((n %% 40000)::text, 6, '0') AS sku, 'Hex bolt M8 x ' || (n %% 120) || ' zinc plated' AS description,
 ((n %% 5000) / 4.0)::numeric(12,3) AS quantity, ((n %% 99999) / 100.0)::numeric(14,2) AS price,
 'EUR'::char(3) AS currency,
 DATE '2026-01-01' + (n %% 300)::int AS due_on, n %% 7 = 0 AS is_open, NULLIF(n %% 3, 0)::int AS dock,
 TIMESTAMPTZ '2026-01-01 00:00:00+00' + n * INTERVAL '1.7 seconds' AS changed_at
FROM generate_series(1, %d) AS n"""


def fetch(odbc: str, answer: Any) -> None:
    """The baseline: all rows of the table as Python objects, none kept."""
    import pyodbc

    connection = pyodbc.connect(odbc + ";UseDeclareFetch=1;Fetch=5000", autocommit=False)
    began = time.perf_counter()
    cursor = connection.execute("SELECT * FROM order_line")
    rows = 0
    while page := cursor.fetchmany(5000):
        rows += len(page)
    answer.put({"seconds": time.perf_counter() - began, "rows": rows, **_peak()})


def collect(odbc: str, mode: str, directory: str, answer: Any) -> None:
    """The agent's: a real pump of an `sql_table` source into a real outbox, until a pass found the end."""
    from crossdock.siteconfig import OutboxConfig, SourceConfig
    from crossdock_agent import memory
    from crossdock_agent.outbox import Outbox
    from crossdock_agent.pump import Pump
    from crossdock_agent.pumps import build_source

    memory.limit_arenas()
    settings = {"connection": {"odbc": odbc, "dialect": "postgresql"}, "table": "order_line", **MODES[mode]}
    config = SourceConfig(name="lines", kind="sql_table", lane="standard", settings=settings)
    limits = OutboxConfig(max_bytes=20 * 2**30, min_free_disk_bytes=0)
    with Outbox(Path(directory) / f"outbox-{mode}-{time.time_ns()}.db", limits) as outbox:
        pump = Pump(config, 1, outbox, lambda text: text, build_source, random.Random(1))
        began = time.perf_counter()
        pump.start()
        while not pump.settled.wait(0.05):
            pass
        seconds = time.perf_counter() - began
        pump.stop()
        stats = outbox.stats()
        error = pump.progress.error
    if error:
        raise RuntimeError(error)
    answer.put({"seconds": seconds, "rows": stats.records, "outbox_mb": stats.bytes / 2**20, **_peak()})


def _peak() -> dict[str, float]:
    status = Path("/proc/self/status")
    kib = next((int(x.split()[1]) for x in status.read_text().splitlines() if x.startswith("VmHWM:")), 0)
    used = psutil.Process().cpu_times()
    return {"peak_rss_mb": round(kib / 1024, 1), "cpu_seconds": round(used.user + used.system, 2)}


def in_process(work: Callable[..., None], *arguments: Any) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=work, args=(*arguments, answer))
    process.start()
    found: dict[str, Any] = answer.get(timeout=1200)
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modes", nargs="*", default=list(MODES))
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    with postgres.running() as server, tempfile.TemporaryDirectory(prefix="crossdock-bench-") as base:
        server.execute(
            TABLE % options.rows, "ALTER TABLE order_line ADD PRIMARY KEY (id)",
            "CREATE INDEX ON order_line (changed_at, id)", "VACUUM ANALYZE order_line",
        )  # fmt: skip
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(options.rounds):
            found.setdefault("fetch", []).append(in_process(fetch, server.odbc()))
            for mode in options.modes:
                found.setdefault(mode, []).append(in_process(collect, server.odbc(), mode, base))
        setting = {"rows": options.rows, "machine": machine(Path(base))}
    report = {**setting, "rounds": found, "ratios": {}}
    for name, rounds in found.items():
        for one in rounds:
            assert one["rows"] == options.rows, f"{name} read {one['rows']} of {options.rows} rows"
        best = sorted(r["seconds"] for r in rounds)[len(rounds) // 2]
        ratio = best / sorted(r["seconds"] for r in found["fetch"])[options.rounds // 2]
        report["ratios"][name] = round(ratio, 2)
        peak = max(r["peak_rss_mb"] for r in rounds)
        cpu = sorted(r["cpu_seconds"] for r in rounds)[len(rounds) // 2]
        rate = options.rows / best
        print(f"{name:13} {best:6.1f} s {rate:10,.0f} rows/s  {ratio:4.2f}x  {cpu:5.1f} CPU s  {peak:5.1f} MB")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
