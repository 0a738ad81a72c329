"""One file of N rows, moved four ways in one run, and a table of what it cost.

    .venv/bin/python tests/bench/bench_transfer.py [--rows 1000000] [--rounds 1] [--parts i,ii,a,b] [--out DIR]

(a) file to acknowledged and durable in the controller, (b) the same on to a SQLite `sql` sink; beside (i) a Python
script that loads the file into SQLite and (ii) rsyslog over RELP with TLS. Everything runs on this machine, on real
files and sockets; the input is in the page cache for all. Writes transfer.json and transfer.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import part_crossdock
import part_python
import part_rsyslog
import workload
from measure import machine
from report import Aim, Measurement, Report

TITLES = {
    "a": "(a) crossdock: file to acknowledged, durable in the controller",
    "b": "(b) crossdock: file to committed in the SQLite sink",
    "i": "(i) one Python process: csv to executemany, 1,000 a commit",
    "ii": "(ii) rsyslog: imfile, disk-assisted queue, RELP over TLS, file",
}
AIMS = (
    Aim("(a) at least 2x (i)", "a", "i", 2.0),
    Aim("(a) at least 4x (ii)", "a", "ii", 4.0),
    Aim("(a) under 5 CPU s per million, agent and controller together", "a", "", 5.0),
    Aim("(b) at least 0.4x (i)", "b", "i", 0.4),
)


def main() -> None:
    options = _options()
    base = Path(tempfile.mkdtemp(prefix="crossdock-bench-", dir=options.work))
    try:
        _run(options, base)
    finally:
        if options.keep:
            print(f"kept: {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)


def _run(options: argparse.Namespace, base: Path) -> None:
    source = base / "stock.csv"
    size = workload.write(source, options.rows)
    setting = {
        "rows": options.rows,
        "bytes_per_row": round(size / options.rows, 1),
        "zstd_ratio": round(_ratio(source), 1),
        "rounds": options.rounds,
    }
    report = Report(f"{options.rows:,} rows, four ways", machine(base), setting, TITLES, AIMS)
    ways = _ways(source, options.rows)
    for number in range(1, options.rounds + 1):
        for part in options.parts:
            directory = base / f"{part}-{number}"
            directory.mkdir()
            print(f"round {number}: {TITLES[part]} ...", end=" ", flush=True)
            seconds, records, processes = ways[part](directory)
            report.measurements.append(Measurement(part, seconds, records, processes))
            print(f"{records / seconds:,.0f} records/s", flush=True)
            if not options.keep:
                shutil.rmtree(directory, ignore_errors=True)
    print()
    print(report.write(options.out, "transfer"))


def _ways(source: Path, rows: int) -> dict[str, Callable[[Path], part_crossdock.Result]]:
    return {
        "i": lambda directory: part_python.run(source, directory),
        "ii": lambda directory: part_rsyslog.run(source, directory),
        "a": lambda directory: part_crossdock.to_intake(source, directory, rows),
        "b": lambda directory: part_crossdock.to_sink(source, directory, rows),
    }


def _ratio(source: Path) -> float:
    """How well the rows compress in batches as the agent makes them: synthetic data compresses better than most."""
    with source.open("rb") as file:
        file.seek(source.stat().st_size // 2)
        sample = file.read(256 * 1024)
    return len(sample) / len(zstandard.ZstdCompressor(level=1).compress(sample))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1, help="the table shows the median round")
    parser.add_argument("--parts", default="i,ii,a,b", help="which, in which order")
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    parser.add_argument("--work", type=Path, help="where the data goes meanwhile; the system's temporary directory")
    parser.add_argument("--keep", action="store_true", help="leave data and logs there")
    options = parser.parse_args()
    options.parts = options.parts.split(",")
    unknown = sorted(set(options.parts) - set(TITLES))
    if unknown:
        parser.error(f"unknown part {unknown[0]}; known: {', '.join(TITLES)}")
    if "ii" in options.parts and not part_rsyslog.available():
        parser.error(
            "rsyslogd was not found: install the packages rsyslog and rsyslog-relp, or leave ii out of --parts"
        )
    return options


if __name__ == "__main__":
    main()
