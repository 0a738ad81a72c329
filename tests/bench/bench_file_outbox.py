"""A 2 GB delimited file through a real pump into a real outbox, beside the least that can be done with it; no network.

    .venv/bin/python tests/bench/bench_file_outbox.py [--mb 2000] [--repeat 1] [--directory DIR] [--out bench-results]

Baseline: the same file read in blocks of 256 KiB, each compressed (zstd level 1) and inserted into a table of BLOBs,
WAL, synchronous=FULL, as many blocks a transaction as the outbox may queue. Each is a process of its own, timed from
its first read to its last commit; they take turns. Prints both rates, their ratio and peak memory. Writes
file_outbox.json. Needs about twice the file's size of free disk.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import workload
import zstandard
from measure import _peak_bytes, machine

BLOCK_BYTES = 256 * 1024
GROUP_BYTES = 4 * 1024 * 1024  # compressed, as `outbox.groupcommit.QUEUE_BYTES`
CHUNK_ROWS = 200_000


def put(path: Path, mb: int) -> int:
    """The workload's rows, over and over, each copy under numbers of its own, until there are *mb* million bytes."""
    part = path.with_suffix(".part")
    workload.write(part, CHUNK_ROWS)
    header, _, body = part.read_bytes().partition(b"\n")
    part.unlink()
    with path.open("wb") as file:
        file.write(header + b"\n")
        copies = 0
        while file.tell() < mb * 1_000_000:
            file.write(body.replace(b"SKU-0", b"SKU-%d" % (copies % 10)).replace(b"ATL1", b"AT%02d" % (copies % 100)))
            copies += 1
    return path.stat().st_size


def through_pump(base: Path) -> float:
    from crossdock.siteconfig import OutboxConfig, SourceConfig
    from crossdock_agent.memory import limit_arenas
    from crossdock_agent.outbox import Outbox
    from crossdock_agent.pump import Pump
    from crossdock_agent.pumps import build_source

    limit_arenas()  # as the agent does
    settings = {
        "directory": str(base / "drop"), "settle_seconds": 0,
        "format": {"kind": "csv", "delimiter": ";", "encoding": "cp1252"},
    }  # fmt: skip
    config = SourceConfig(name="big", kind="file_drop", lane="standard", settings=settings)
    with Outbox(base / "outbox.db", OutboxConfig(max_bytes=2**40)) as outbox:
        pump = Pump(config, 1, outbox, str, build_source, random.Random(1))
        began = time.perf_counter()
        pump.start()
        pump.settled.wait()
        seconds = time.perf_counter() - began
        if pump.progress.error:
            raise SystemExit(pump.progress.error)
        pump.stop()
    return seconds


def plain(base: Path) -> float:
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
    db = sqlite3.connect(base / "plain.db", isolation_level=None)
    db.execute("PRAGMA page_size=8192")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA wal_autocheckpoint=2048")
    db.execute("CREATE TABLE blocks (id INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    held = 0
    began = time.perf_counter()
    with next((base / "drop").iterdir()).open("rb", buffering=0) as file:
        db.execute("BEGIN")
        while block := file.read(BLOCK_BYTES):
            data = compressor.compress(block)
            db.execute("INSERT INTO blocks (data) VALUES (?)", (data,))
            held += len(data)
            if held >= GROUP_BYTES:
                db.execute("COMMIT")
                db.execute("BEGIN")
                held = 0
        db.execute("COMMIT")
    seconds = time.perf_counter() - began
    db.close()
    return seconds


PARTS: dict[str, Callable[[Path], float]] = {"crossdock": through_pump, "baseline": plain}


def measured(part: str, base: Path) -> dict[str, Any]:
    """Runs in the child."""
    before = _peak_bytes(psutil.Process()) / 2**20
    cpu = time.process_time()
    seconds = PARTS[part](base)
    size = next((base / "drop").iterdir()).stat().st_size
    return {
        "seconds": round(seconds, 2), "mb_per_second": round(size / 1e6 / seconds, 1),
        "cpu_seconds": round(time.process_time() - cpu, 2), "before_mb": round(before, 1),
        "peak_rss_mb": round(_peak_bytes(psutil.Process()) / 2**20, 1),
    }  # fmt: skip


def run(part: str, base: Path) -> dict[str, Any]:
    """A child that starts on a cold database, and the file warm or cold as it is for the other one."""
    for name in ("outbox.db", "plain.db"):
        for old in base.glob(f"{name}*"):
            old.unlink()
    arguments = [sys.executable, __file__, "--part", part, "--base", str(base)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mb", type=int, default=2_000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where the temporary files lie")
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(measured(options.part, options.base)))
        return
    with tempfile.TemporaryDirectory(prefix="crossdock-bench-", dir=options.directory) as name:
        base = Path(name)
        (base / "drop").mkdir()
        size = put(base / "drop" / "stock.csv", options.mb)
        told: dict[str, Any] = {"machine": machine(base), "bytes": size, "rounds": []}
        for i in range(options.repeat):
            order = list(PARTS) if i % 2 else list(reversed(PARTS))  # the page cache favours whoever comes second
            told["rounds"].append({part: run(part, base) for part in order})
            ours, least = told["rounds"][-1]["crossdock"], told["rounds"][-1]["baseline"]
            print(
                f"{size / 1e6:.0f} MB: {ours['mb_per_second']} MB/s into the outbox, baseline {least['mb_per_second']}"
                f" MB/s, ratio {ours['mb_per_second'] / least['mb_per_second']:.2f}; peak {ours['peak_rss_mb']} MB RSS"
                f" (baseline {least['peak_rss_mb']})"
            )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "file_outbox.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
