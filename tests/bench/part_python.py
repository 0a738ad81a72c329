"""Baseline (i): one Python process, `csv.reader` to `executemany` in batches of 1,000, a synced commit each batch.

Run as a process of its own: `python part_python.py FILE DATABASE` prints {"records", "seconds"} as JSON. It checks
nothing, maps nothing, survives nothing: the least that "a script that loads the file" can do.
"""

from __future__ import annotations

import csv
import itertools
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

BATCH = 1_000


def load(source: Path, database: Path) -> int:
    db = sqlite3.connect(database, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    total = 0
    with source.open(encoding="cp1252", newline="") as file:
        reader = csv.reader(file, delimiter=";")
        names = [name.lower() for name in next(reader)]
        db.execute(f"CREATE TABLE stock ({', '.join(f'{name} TEXT' for name in names)})")
        insert = f"INSERT INTO stock VALUES ({', '.join('?' * len(names))})"
        while batch := list(itertools.islice(reader, BATCH)):
            db.execute("BEGIN")
            db.executemany(insert, batch)
            db.execute("COMMIT")
            total += len(batch)
    db.close()
    return total


def run(source: Path, directory: Path) -> tuple[float, int, list[dict[str, object]]]:
    """(seconds, records, usage of each process)."""
    done = subprocess.run(
        [sys.executable, __file__, str(source), str(directory / "baseline.db")], capture_output=True, check=True
    )
    told = json.loads(done.stdout)
    usage = {"name": "python", "cpu_seconds": told["cpu_seconds"], "peak_rss_mb": told["peak_rss_mb"]}
    return told["seconds"], told["records"], [usage]


def main() -> None:
    import psutil
    from measure import _peak_bytes

    began = time.perf_counter()
    records = load(Path(sys.argv[1]), Path(sys.argv[2]))
    seconds = time.perf_counter() - began
    peak = round(_peak_bytes(psutil.Process()) / 2**20, 1)
    told = {"seconds": seconds, "records": records, "cpu_seconds": round(time.process_time(), 3), "peak_rss_mb": peak}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
