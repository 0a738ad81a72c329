"""The agent under a burst: what it is told, what it uses of the host, and when the centre has everything."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from support.gateway import wait_until
from support.processes import Centre, Process

SAMPLE_SECONDS = 0.5
WORST_SECONDS = 10.0

SOURCES = {
    "sources/journal.yaml": (
        "source: journal\non: {}\nkind: sql_table\nlane: standard\n"
        "connection: {odbc: \"%(odbc)s\", dialect: postgresql}\n"
        "table: journal\nmode: incrementing\ncolumn: id\nkey: [id]\npoll_seconds: 1\n"
    ),
    "sources/alerts.yaml": (
        "source: alerts\non: {}\nkind: sql_table\nlane: critical\n"
        "connection: {odbc: \"%(odbc)s\", dialect: postgresql}\n"
        "table: alert\nmode: incrementing\ncolumn: id\nkey: [id]\npoll_seconds: 0.2\n"
    ),
    "sources/files.yaml": (
        "source: files\non: {}\nkind: file_drop\nlane: bulk\ndirectory: %(drop)s\n"
        'pattern: "*.csv"\nsettle_seconds: 0\n'
        'format: {kind: csv, delimiter: ";", encoding: cp1252}\n'
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    at: float
    cpu: float
    written: int
    sent: int
    resident: int


@dataclass(slots=True)
class Used:
    """What the agent used in a phase: mean, and the worst of any ten seconds."""

    cpu_percent: float = 0.0
    cpu_percent_worst: float = 0.0
    written_per_second: float = 0.0
    written_per_second_worst: float = 0.0
    sent_per_second: float = 0.0
    sent_per_second_worst: float = 0.0
    rss_mb: float = 0.0


@dataclass(slots=True)
class Sampler:
    """Looks at the agent's process twice a second while a phase lasts."""

    pid: int
    port: int
    samples: list[Sample] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Sampler:
        self._take()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        self._take()

    def used(self) -> Used:
        first, last = self.samples[0], self.samples[-1]
        return Used(
            *(round(value, 1) for name, factor in (("cpu", 100.0), ("written", 1.0), ("sent", 1.0))
              for value in (self._rate(name, first, last) * factor, self._worst(name) * factor)),
            rss_mb=round(max(sample.resident for sample in self.samples) / 1e6, 1),
        )  # fmt: skip

    @staticmethod
    def _rate(name: str, first: Sample, last: Sample) -> float:
        return float(getattr(last, name) - getattr(first, name)) / max(0.001, last.at - first.at)

    def _worst(self, name: str) -> float:
        """Over any ten seconds; over all of it when it was shorter."""
        worst, begin = 0.0, 0
        for end, sample in enumerate(self.samples):
            while begin < end and sample.at - self.samples[begin + 1].at >= WORST_SECONDS:
                begin += 1
            if sample.at - self.samples[begin].at >= WORST_SECONDS:
                worst = max(worst, self._rate(name, self.samples[begin], sample))
        return worst or self._rate(name, self.samples[0], self.samples[-1])

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._take()

    def _take(self) -> None:
        process = psutil.Process(self.pid)
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
        written = process.io_counters().write_bytes
        cpu = times.user + times.system
        self.samples.append(Sample(time.monotonic(), cpu, written, self._sent(), memory.rss))

    def _sent(self) -> int:
        """Bytes the kernel has sent on the agent's connections to the controller (they stay open through a phase)."""
        asked = ["ss", "-tniOH", "state", "established", "dport", "=", f":{self.port}"]
        told = subprocess.run(asked, capture_output=True, encoding="utf-8", check=True).stdout
        return sum(int(found) for found in re.findall(r"\bbytes_sent:(\d+)", told))


class Site:
    """The centre and the one agent of the bench."""

    def __init__(self, centre: Centre, values: dict[str, str]) -> None:
        self.centre = centre
        self._tree = centre.directory / "tree"
        for name, text in SOURCES.items():
            path = self._tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text % values, "utf-8")
        self.agent: Process | None = None

    @property
    def port(self) -> int:
        return int(json.loads((self.centre.data / "addresses.json").read_text("utf-8"))["link"].rpartition(":")[2])

    def apply(self, limits: str) -> None:
        """Give the site these *limits* (YAML, may be empty), and wait until the agent, if it runs, has them."""
        site = self._tree / "sites" / "bench.yaml"
        site.parent.mkdir(exist_ok=True)
        said = f"site: bench\nlabels: {{}}\n{f'limits: {limits}' if limits else ''}\n"
        if not site.exists() or site.read_text("utf-8") != said:
            site.write_text(said, "utf-8")
            self.centre.run("apply", str(self._tree))
        if self.agent is not None and self.agent.alive():
            wait_until(self._is_configured, "the agent runs the revision", 60)

    def start(self, directory: Path) -> Process:
        """The agent, enrolled once, with its state (the outbox) in *directory*: on the host's disk."""
        if self.agent is None:
            directory.mkdir()
            (self.centre.directory / "agent-bench").symlink_to(directory)
            self.agent = self.centre.enrol("bench")
        self.agent.start()
        wait_until(self._is_configured, "the agent runs the revision", 60)
        return self.agent

    def records(self) -> int:
        """Records of the burst that the centre has on its disk."""
        return self._ask("SELECT coalesce(sum(records), 0) FROM streams WHERE source <> 'alerts'")[0][0]

    def alerts(self) -> list[int]:
        """When each critical record was received, microseconds since the epoch, in order."""
        rows = self._ask(
            "SELECT received_us, b.records FROM batches AS b JOIN streams AS s ON s.id = b.stream_id"
            " WHERE s.source = 'alerts' ORDER BY b.stream_id, b.sequence"
        )
        return [received for received, records in rows for _ in range(records)]

    def _ask(self, question: str) -> list[Any]:
        with closing(sqlite3.connect(self.centre.data / "intake.db", timeout=30)) as db:
            return db.execute(question).fetchall()

    def _is_configured(self) -> bool:
        with closing(sqlite3.connect(self.centre.data / "state.db", timeout=30)) as db:
            wanted = db.execute("SELECT max(number) FROM revisions").fetchone()[0]
            found = db.execute("SELECT revision, config_state FROM agents WHERE connected = 1").fetchall()
        return found == [(wanted, "applied")]
