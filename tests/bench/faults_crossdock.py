"""crossdock under kills: agent and controller as shipped, counted in the intake and in a `file` sink.

The sink writes a line a delivered document; nothing upserts, so that a record delivered twice would be two lines.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType

from faults import tally
from part_crossdock import _MAPPING, _ROUTE, _SITE, _SOURCE, agent_runs

from crossdock.codec import open_sealed
from support.processes import Centre, Process

_SINK = "sink: warehouse\nkind: file\ndirectory: ${sink}\n"


class Crossdock:
    """A `faults.Transport`. A context manager: both processes are gone at its end."""

    def __init__(self, directory: Path, rows: int) -> None:
        self._drop, self._sink, self._rows = directory / "drop", directory / "sink", rows
        self._drop.mkdir(parents=True)
        self._sink.mkdir()
        self._centre = Centre(directory)
        self._agent: Process | None = None
        self._closing = ExitStack()
        self._read: dict[str, int] = {}  # lines of each finished file of the sink

    def __enter__(self) -> Crossdock:
        self._closing.enter_context(self._centre)
        tree = {
            "sites/bench.yaml": _SITE,
            "sources/stock.yaml": _SOURCE,
            "mappings/stock.yaml": _MAPPING,
            "routes/stock.yaml": _ROUTE,
            "sinks/warehouse.yaml": _SINK,
        }
        self._agent = agent_runs(self._centre, tree, drop=self._drop.as_posix(), sink=self._sink.as_posix())
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None) -> None:
        self._closing.close()

    def drop(self, source: Path) -> None:
        os.link(source, self._drop / "stock.csv")

    def progress(self) -> float:
        """Of the intake until it is full, then of the sink: the last record counts when it is there."""
        if not (self._centre.data / "intake.db").exists():
            return 0.0
        with closing(sqlite3.connect(self._centre.data / "intake.db", timeout=30)) as db:
            taken = db.execute("SELECT coalesce(sum(records), 0) FROM streams").fetchone()[0] / self._rows
        return min(taken, 0.999) if taken < 1 or self._lines() < self._rows else max(taken, self._lines() / self._rows)

    def kill_receiver(self) -> None:
        self._centre.process.kill()

    def start_receiver(self) -> None:
        self._centre.start()

    def kill_sender(self) -> None:
        self._running().kill()

    def start_sender(self) -> None:
        self._running().start()

    def counts(self) -> dict[str, Counter[int]]:
        intake: Counter[int] = Counter()
        with closing(sqlite3.connect(self._centre.data / "intake.db")) as db:
            for (sealed,) in db.execute("SELECT sealed FROM batches"):
                intake += tally(open_sealed(sealed)[1].splitlines())
        sink: Counter[int] = Counter()
        for path in self._sink.glob("*.jsonl"):
            with path.open("rb") as lines:
                sink.update(int(json.loads(line)["body"]["sku"].removeprefix("SKU-")) for line in lines)
        return {"intake": intake, "sink": sink}

    def _lines(self) -> int:
        for path in self._sink.glob("*.jsonl"):
            if path.name not in self._read:
                self._read[path.name] = path.read_bytes().count(b"\n")
        return sum(self._read.values())

    def _running(self) -> Process:
        assert self._agent is not None, "use it in a with statement"
        return self._agent
