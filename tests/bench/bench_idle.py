"""What an agent with nothing to do costs: memory and CPU over a minute.

    .venv/bin/python tests/bench/bench_idle.py [--seconds 60] [--out bench-results]

The agent is enrolled, connected, heartbeating, watching a folder and polling a table once a second. Writes idle.json.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measure import machine
from part_crossdock import agent_runs

from support.processes import Centre

SETTLE_SECONDS = 10.0
TREE = {
    "sites/bench.yaml": "site: bench\nlabels: {}\n",
    "sources/files.yaml": (
        "source: files\non: {}\nkind: file_drop\ndirectory: ${drop}\n"
        'format: {kind: csv, delimiter: ";", encoding: cp1252}\n'
    ),
    "sources/rows.yaml": (
        "source: rows\non: {}\nkind: sql_table\nconnection: {sqlite: ${erp}}\ntable: products\n"
        "mode: incrementing\ncolumn: id\nkey: [id]\npoll_seconds: 1\n"
    ),
}


def measure(base: Path, seconds: float) -> dict[str, Any]:
    drop, erp = base / "drop", base / "erp.db"
    drop.mkdir()
    with closing(sqlite3.connect(erp)) as db:
        db.execute("CREATE TABLE products(id INTEGER PRIMARY KEY, sku TEXT, name TEXT)")
    with Centre(base) as centre:
        process = agent_runs(centre, TREE, drop=drop.as_posix(), erp=erp.as_posix())
        agent = psutil.Process(process.pid)
        time.sleep(SETTLE_SECONDS)  # not a synchronisation: the measured state is "nothing has happened for a while"
        before = agent.cpu_times()
        time.sleep(seconds)
        after, memory = agent.cpu_times(), agent.memory_full_info()
        used = sum(after[:4]) - sum(before[:4])  # user and system, ended children too
        return {
            "seconds": seconds,
            "cpu_percent_of_a_core": round(used / seconds * 100, 3),
            "rss_mb": round(memory.rss / 2**20, 1),
            "unshared_mb": round(memory.uss / 2**20, 1),
            "threads": agent.num_threads(),
            "children": len(agent.children(recursive=True)),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crossdock-bench-") as base:
        found = {"machine": machine(Path(base)), "idle_agent": measure(Path(base), options.seconds)}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "idle.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    idle = found["idle_agent"]
    print(
        f"idle agent over {idle['seconds']:g} s: {idle['rss_mb']} MB RSS ({idle['unshared_mb']} MB unshared),"
        f" {idle['cpu_percent_of_a_core']} % of a core, {idle['threads']} threads"
    )


if __name__ == "__main__":
    main()
