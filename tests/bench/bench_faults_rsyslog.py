"""The same numbered file through rsyslog and crossdock, while both sides are killed: records lost and doubled.

    .venv/bin/python tests/bench/bench_faults_rsyslog.py [--rows 500000] [--parts recommended,strict,crossdock]

In one run, one after the other: at 20 % received the sending side is killed (SIGKILL) and started again after 2 s, at
50 % the receiving side is killed and stays away for 20 s. What is missing when nothing has come for a minute counts
as lost. Writes faults.json and faults.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import part_rsyslog
from faults import Outcome, Transport, put_through, write
from faults_crossdock import Crossdock
from faults_rsyslog import Rsyslog
from measure import machine

TITLES = {
    "recommended": "rsyslog, recommended: disk-assisted queue, RELP over TLS",
    "strict": "rsyslog, strict: pure disk queue, receiver without a queue",
    "crossdock": "crossdock, as shipped",
}


def run(base: Path, rows: int, parts: list[str]) -> dict[str, Outcome]:
    source = base / "stock.csv"
    write(source, rows)
    size = source.stat().st_size
    ways: dict[str, Callable[[Path], AbstractContextManager[Transport]]] = {
        "recommended": lambda directory: Rsyslog(directory, size, strict=False),
        "strict": lambda directory: Rsyslog(directory, size, strict=True),
        "crossdock": lambda directory: Crossdock(directory, rows),
    }
    outcomes = {}
    for part in parts:
        print(f"{TITLES[part]} ...", flush=True)
        with ways[part](base / part) as transport:
            outcomes[part] = put_through(transport, source, rows)
    return outcomes


def markdown(rows: int, outcomes: dict[str, Outcome]) -> str:
    lines = [
        f"# {rows:,} records; the sender killed once, the receiver killed for 20 s", "",
        "| | counted in | lost | doubled | seconds | received when each was killed |",
        "| --- | --- | --: | --: | --: | --: |",
    ]  # fmt: skip
    for part, outcome in outcomes.items():
        for where, count in outcome.counts.items():
            at = " and ".join(f"{share:.0%}" for share in outcome.at)
            lines.append(
                f"| {TITLES[part]} | {where} | {count.lost:,} | {count.doubled:,} | {outcome.seconds:.0f} | {at} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--parts", default=",".join(TITLES), help="which, in which order")
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    parser.add_argument("--keep", action="store_true", help="leave data and logs there")
    options = parser.parse_args()
    parts = options.parts.split(",")
    unknown = sorted(set(parts) - set(TITLES))
    if unknown:
        parser.error(f"unknown part {unknown[0]}; known: {', '.join(TITLES)}")
    if set(parts) - {"crossdock"} and not part_rsyslog.available():
        parser.error("rsyslogd was not found: packaging/setup.sh bench, or --parts crossdock")
    base = Path(tempfile.mkdtemp(prefix="crossdock-bench-"))
    try:
        host = machine(base)
        outcomes = run(base, options.rows, parts)
    finally:
        if options.keep:
            print(f"kept: {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)
    text = markdown(options.rows, outcomes)
    options.out.mkdir(parents=True, exist_ok=True)
    whole = {"machine": host, "rows": options.rows, "outcomes": {part: asdict(o) for part, o in outcomes.items()}}
    (options.out / "faults.json").write_text(json.dumps(whole, indent=2) + "\n", "utf-8")
    (options.out / "faults.md").write_text(text, "utf-8")
    print(text)
    ours = outcomes.get("crossdock")
    if ours is not None and any(count.lost or count.doubled for count in ours.counts.values()):
        sys.exit("crossdock lost or doubled records")


if __name__ == "__main__":
    main()
