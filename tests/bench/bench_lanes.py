"""How long critical documents take through a sink with a backlog of bulk, and what that costs the bulk.

    python tests/bench/bench_lanes.py --bulk 200000 --critical 2000

Rates are of the line alone, with a sink that says yes at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from loguru import logger

from crossdock_controller.line import Line
from crossdock_controller.store import sinks
from support.pipeline import Box, FakeRuntime, FakeSink


def fill(box: Box, prefix: str, number: int, lane: str, source: str) -> float:
    for start in range(0, number, 5000):
        records = [f"{prefix}{i};t" for i in range(start, min(number, start + 5000))]
        box.send(*records, lane=lane, source=source, unit=source.encode())
    began = time.perf_counter()
    box.normalize(FakeRuntime("finance"))
    return number / (time.perf_counter() - began)


def line(box: Box, sink: FakeSink) -> Line:
    number = sinks.sink_id(box.db, "finance")
    cursor = sinks.claim(box.db, number, "me", time.time_ns() // 1000)
    assert cursor is not None
    return Line(box.db, number, "finance", sink, 500, "me", cursor)


def drain(ready: Line) -> None:
    while ready.step():
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bulk", type=int, default=200_000)
    parser.add_argument("--critical", type=int, default=2_000)
    asked = parser.parse_args()
    logger.remove()
    found: dict[str, float] = {}
    for critical in (0, asked.critical):
        with tempfile.TemporaryDirectory() as folder:
            box = Box(Path(folder))
            found[f"normalized_per_second_{critical}"] = round(fill(box, "b", asked.bulk, "bulk", "history"))
            if critical:
                found["critical_normalized_per_second"] = round(fill(box, "c", critical, "critical", "orders"))
            sink = FakeSink()
            ready = line(box, sink)
            began = time.perf_counter()
            if critical:
                while sum(d.key.startswith("c") for d in sink.applied) < critical:
                    ready.step()
                found["critical_all_sent_after_seconds"] = round(time.perf_counter() - began, 3)
                found["of_all_deliveries_by_then"] = len(sink.applied)
            drain(ready)
            rate = (asked.bulk + critical) / (time.perf_counter() - began)
            found[f"delivered_per_second_with_{critical}_critical"] = round(rate)
            box.close()
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
