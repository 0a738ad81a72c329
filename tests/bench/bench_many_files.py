"""A folder of 100,000 small files through a real pump into a real outbox, in a process of its own; no network.

    .venv/bin/python tests/bench/bench_many_files.py [--files 100000] [--afterwards archive] [--out bench-results]

Prints files a second and the process's peak memory. Every file is complete before the pump starts; it is stopped when
the last one is in the outbox. With `--afterwards archive` the batches are then acknowledged, and the time until every
file is archived is printed as well. Writes many_files.json.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from measure import _peak_bytes, machine

ROWS = 20
ACKNOWLEDGED = 250  # batches at a time
HEADER = b"NO;ITEM;QTY;TEXT\n"


def put(directory: Path, files: int) -> None:
    directory.mkdir(parents=True)
    for i in range(files):
        body = b"".join(b"%08d;SKU-%05d;%d,00;Rillenkugellager\n" % (i, (i * 7 + n) % 100_000, n) for n in range(ROWS))
        (directory / f"SHP{i:06d}.csv").write_bytes(HEADER + body)


def take(base: Path, files: int, afterwards: str) -> dict[str, Any]:
    """Runs in the child: everything in `base/drop` into `base/outbox.db`."""
    from crossdock.codec import open_header
    from crossdock.siteconfig import OutboxConfig, SourceConfig
    from crossdock_agent.memory import limit_arenas
    from crossdock_agent.outbox import Outbox
    from crossdock_agent.pump import Pump
    from crossdock_agent.pumps import build_source

    limit_arenas()  # as the agent does
    settings = {
        "directory": str(base / "drop"), "pattern": "*.csv", "settle_seconds": 0, "afterwards": afterwards,
        "format": {"kind": "csv", "delimiter": ";"},
    }  # fmt: skip
    config = SourceConfig(name="many", kind="file_drop", lane="standard", settings=settings)
    with Outbox(base / "outbox.db", OutboxConfig()) as outbox:
        pump = Pump(config, 1, outbox, str, build_source, random.Random(1))
        idle_mb = _peak_bytes(psutil.Process()) / 2**20
        began, cpu = time.perf_counter(), time.process_time()
        pump.start()
        while "many" not in outbox.positions() or outbox.positions()["many"].last_sequence < files:
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        found = {
            "files": files, "seconds": round(seconds, 2), "files_per_second": round(files / seconds),
            "cpu_seconds": round(time.process_time() - cpu, 2), "records": outbox.positions()["many"].records,
            "idle_mb": round(idle_mb, 1), "peak_rss_mb": round(_peak_bytes(psutil.Process()) / 2**20, 1),
        }  # fmt: skip
        names: list[str] = []
        after = 0
        while page := outbox.page("many", after, 4 * 1024 * 1024):
            names += [open_header(batch.sealed).origin.name for batch in page]
            after = page[-1].sequence
        found["in_order"] = names == sorted(names) and len(set(names)) == files
        if afterwards != "leave":
            began = time.perf_counter()
            for sequence in range(ACKNOWLEDGED, files + ACKNOWLEDGED, ACKNOWLEDGED):  # as an uplink's window does
                outbox.acknowledge("many", outbox.epoch, min(sequence, files))
                while outbox.positions()["many"].acked_sequence < min(sequence, files):
                    time.sleep(0.001)
            while any((base / "drop").glob("*.csv")):
                time.sleep(0.2)
            found["afterwards_seconds"] = round(time.perf_counter() - began, 2)
            found["peak_rss_after_mb"] = round(_peak_bytes(psutil.Process()) / 2**20, 1)
        pump.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--afterwards", choices=["leave", "archive", "delete"], default="leave")
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(take(options.child, options.files, options.afterwards)))
        return
    with tempfile.TemporaryDirectory(prefix="crossdock-bench-") as name:
        base = Path(name)
        put(base / "drop", options.files)
        told = {"machine": machine(base)}
        arguments = ["--child", name, "--files", str(options.files), "--afterwards", options.afterwards]
        done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
        told["many_files"] = found = json.loads(done.stdout.splitlines()[-1])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "many_files.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    order = "in order" if found["in_order"] else "OUT OF ORDER"
    print(
        f"{found['files']} files in {found['seconds']} s: {found['files_per_second']} files/s, {order},"
        f" {found['cpu_seconds']} s CPU, peak {found['peak_rss_mb']} MB RSS ({found['idle_mb']} MB before)"
    )
    if "afterwards_seconds" in found:
        print(f"{options.afterwards}: {found['afterwards_seconds']} s, peak {found['peak_rss_after_mb']} MB RSS")


if __name__ == "__main__":
    main()
