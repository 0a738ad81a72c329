"""A backlog drains while critical records go on arriving, and the outbox file gives its space back.

    .venv/bin/python tests/bench/bench_drain.py [--bytes 10_000_000_000] [--rows 1000000] [--out DIR] [--work DIR]

First the fresh rate (part a of bench_transfer: a file of ROWS rows, to acknowledged and durable), then an outbox that
holds BYTES of sealed batches of the same rows is drained by a real agent over mutual TLS into a real controller's
intake. Each second meanwhile a file of one row appears in the folder of a `critical` source; its time runs until the
agent has moved it to the archive, which it does when the controller acknowledged it. Needs two and a half times BYTES
of free disk.
Writes drain.json and drain.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
import threading
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import backlog
import part_crossdock
import workload
from measure import Meter, Usage, machine

from support.gateway import wait_until
from support.processes import Centre, Process

# The file may keep this much, or half of it: spare pages, its log, acknowledged batches for a restored controller.
SPARE_BYTES = 96 * 1024 * 1024
PATIENCE_SECONDS = 7200.0
DRAIN_SHARE, CRITICAL_SECONDS = 0.8, 2.0  # the bars

_SITE = "site: bench\nlabels: {}\nzone: America/New_York\noutbox: {max_bytes: ${limit}, min_free_disk_bytes: 0}\n"
_PULSE = """source: pulse
on: {}
kind: file_drop
lane: critical
directory: ${pulse}
pattern: "*.csv"
settle_seconds: 0
afterwards: archive
format: {kind: csv, delimiter: ";", encoding: cp1252}
"""


@dataclass
class Pulse:
    """A row a second into the folder of the critical source; how long each took."""

    directory: Path
    took: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Pulse:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            began, name = perf_counter(), f"pulse-{number}.csv"
            text = ";".join(workload.COLUMNS) + "\n" + ";".join(workload.row(number)) + "\n"
            (self.directory / f"{name}.tmp").write_text(text, workload.ENCODING)
            (self.directory / f"{name}.tmp").replace(self.directory / name)
            archived = self.directory / "archive" / name
            while not archived.exists() and perf_counter() - began < 60:
                sleep(0.002)
            self.took.append(perf_counter() - began)
            number += 1
            self._stop.wait(max(0.0, 1.0 - (perf_counter() - began)))

    def percentile(self, share: float) -> float:
        ordered = sorted(self.took)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass(frozen=True)
class Drain:
    backlog: backlog.Backlog
    fill_seconds: float
    file_before: int
    file_at_last: int  # when the last record had arrived
    file_after: int
    first_seconds: float  # from the agent's start to its first batch in the intake
    seconds: float  # from then to the last
    shrink_seconds: float  # from then until the file was small
    pulses: int
    p50: float
    p99: float
    worst: float
    usages: list[Usage]


def main() -> None:
    options = _options()
    base = Path(tempfile.mkdtemp(prefix="crossdock-drain-", dir=options.work))
    try:
        fresh = _fresh(base / "fresh", options.rows)
        print(f"fresh: {fresh:,.0f} records/s", flush=True)
        drain = _drain(base / "drain", options.bytes)
        _write(options.out, machine(base), fresh, drain, options)
    finally:
        if options.keep:
            print(f"kept: {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)


def _fresh(directory: Path, rows: int) -> float:
    directory.mkdir()
    source = directory / "stock.csv"
    workload.write(source, rows)
    seconds, records, _ = part_crossdock.to_intake(source, directory / "run", rows)
    shutil.rmtree(directory, ignore_errors=True)
    return records / seconds


def _drain(directory: Path, size: int) -> Drain:
    pulse = directory / "pulse"
    pulse.mkdir(parents=True)
    tree = {"sites/bench.yaml": _SITE, "sources/pulse.yaml": _PULSE}
    with Centre(directory) as centre:
        agent = part_crossdock.agent_runs(centre, tree, pulse=pulse.as_posix(), limit=str(size * 5 // 4))
        agent.stop()
        outbox = directory / "agent-bench" / "outbox.db"
        began = perf_counter()
        filled = backlog.fill(outbox, size)
        fill_seconds = perf_counter() - began
        before = _size(outbox)
        print(f"filled: {filled.records:,} records, {before / 1e9:.2f} GB in {fill_seconds:.0f} s", flush=True)
        return _measure(centre, agent, outbox, filled, fill_seconds, before, pulse)


def _measure(
    centre: Centre, agent: Process, outbox: Path, filled: backlog.Backlog, fill_seconds: float, before: int, pulse: Path
) -> Drain:
    meter = Meter({"agent": agent.start().pid, "controller": centre.process.pid})
    meter.start()
    started = perf_counter()
    with closing(sqlite3.connect(centre.data / "intake.db")) as db:
        _wait(lambda: _arrived(db) > 0, agent)
        first = perf_counter()
        with Pulse(pulse) as pulses:
            _wait(lambda: _arrived(db) >= filled.records, agent)
            last = perf_counter()
        assert _arrived(db) == filled.records, "the intake holds more records than there were"
    usages = meter.stop()
    at_last = _size(outbox)
    wait_until(lambda: _size(outbox) < max(SPARE_BYTES, before // 2), "the outbox file shrinks", 900)
    shrunk = perf_counter()
    return Drain(
        filled, fill_seconds, before, at_last, _size(outbox), first - started, last - first, shrunk - last,
        len(pulses.took), pulses.percentile(0.5), pulses.percentile(0.99), max(pulses.took), usages,
    )  # fmt: skip


def _arrived(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(sum(records), 0) FROM streams WHERE source = 'stock'").fetchone()[0])


def _size(outbox: Path) -> int:
    """Bytes of the file with what its log still holds."""
    parts = (outbox, outbox.with_name(outbox.name + "-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())


def _wait(done: Any, agent: Process) -> None:
    began = perf_counter()
    while not done():
        if perf_counter() - began > PATIENCE_SECONDS or not agent.alive():
            raise TimeoutError(f"not done after {perf_counter() - began:.0f} s:\n{agent.tail()}")
        sleep(0.05)


def _write(out: Path, about: dict[str, object], fresh: float, drain: Drain, options: argparse.Namespace) -> None:
    rate = drain.backlog.records / drain.seconds
    aims = [
        (f"drains at no less than {DRAIN_SHARE} of the fresh rate", rate / fresh, rate >= DRAIN_SHARE * fresh),
        ("the outbox file shrinks (share of it that stays)", drain.file_after / drain.file_before,
         drain.file_after < drain.file_before // 2),
        (f"a critical record's p99 is under {CRITICAL_SECONDS:.0f} s", drain.p99, drain.p99 < CRITICAL_SECONDS),
    ]  # fmt: skip
    lines = [f"# A backlog of {drain.backlog.sealed_bytes / 1e9:.1f} GB drains", ""]
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in about.items() if value is not None]
    lines += [
        "",
        "| | |",
        "|---|--:|",
        f"| fresh rate (a file of {options.rows:,} rows) | {fresh:,.0f} records/s |",
        f"| backlog | {drain.backlog.records:,} records, {drain.backlog.batches:,} batches |",
        f"| drain | {rate:,.0f} records/s, {drain.backlog.sealed_bytes / drain.seconds / 1e6:.1f} MB/s sealed, "
        f"{drain.backlog.raw_bytes / drain.seconds / 1e6:.0f} MB/s raw, {drain.seconds:.0f} s |",
        f"| agent's start to the first batch in the intake | {drain.first_seconds:.1f} s |",
        f"| outbox file | {drain.file_before / 1e6:,.0f} MB before, {drain.file_at_last / 1e6:,.1f} MB with the "
        f"last record, {drain.file_after / 1e6:,.1f} MB {drain.shrink_seconds:.1f} s later |",
        f"| critical record, one a second ({drain.pulses}) | p50 {drain.p50 * 1000:.0f} ms, "
        f"p99 {drain.p99 * 1000:.0f} ms, worst {drain.worst * 1000:.0f} ms |",
    ]
    lines += [f"| {u.name} | {u.cpu_seconds:.1f} CPU s, peak {u.peak_rss_mb:.0f} MB |" for u in drain.usages]
    lines += ["", "| aim | measured | |", "|---|--:|---|"]
    lines += [f"| {text} | {value:.3g} | {'met' if met else 'missed'} |" for text, value, met in aims]
    out.mkdir(parents=True, exist_ok=True)
    (out / "drain.md").write_text("\n".join(lines) + "\n", "utf-8")
    found = {"machine": about, "fresh_records_per_second": fresh, "drain": asdict(drain)}
    (out / "drain.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    print("\n".join(lines))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bytes", type=int, default=10_000_000_000, help="sealed bytes of the backlog")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the file that gives the fresh rate")
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    parser.add_argument("--work", type=Path, help="where the data goes meanwhile; the system's temporary directory")
    parser.add_argument("--keep", action="store_true", help="leave data and logs there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
