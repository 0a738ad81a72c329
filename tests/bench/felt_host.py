"""The host: a PostgreSQL with a steady load of short transactions, and the burst that a month's end brings.

The load is `pgbench` (comes with PostgreSQL) with a scheduled rate: its latency counts from when a transaction was due,
so that a host which stalls cannot hide it by sending less. One run goes through all phases and writes a line for each
transaction; `Load.between` cuts a phase out of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import workload

from support.postgres import Postgres

CLIENTS = 4
SCALE = 10
CALIBRATE_SECONDS = 6
NOBODY_READS = "apart"  # where the burst of a phase without agent goes: nothing must find it later

JOURNAL = """CREATE TABLE {0} (id bigserial PRIMARY KEY, order_no text NOT NULL, sku text NOT NULL,
 quantity numeric(12,3), booked_at timestamptz NOT NULL, text text)"""
ROWS = """INSERT INTO {0} (order_no, sku, quantity, booked_at, text)
SELECT 'SO-' || lpad(n::text, 9, '0'), 'SKU-' || lpad((n % 40000)::text, 6, '0'), (n % 5000) / 4.0,
 now() + n * INTERVAL '1.7 milliseconds', 'Hex bolt M8 x ' || (n % 120) || ' zinc plated, month end ' || md5(n::text)
FROM generate_series(1, {1}) AS n"""


def pin(pid: int, cores: set[int]) -> None:
    """Keep a process, its threads and its children on *cores*; what they start later stays there too."""
    if not sys.platform.startswith("linux") or (os.cpu_count() or 1) < 2:
        return
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):  # it ended meanwhile
            for thread in one.threads():
                os.sched_setaffinity(thread.id, cores)


@dataclass(frozen=True, slots=True)
class Felt:
    """What the host's own transactions were like in a time. Latencies are milliseconds from when they were due."""

    seconds: float
    transactions: int
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        return self.transactions / self.seconds


class Load:
    """Short transactions at a steady rate, from `start` to `stop`."""

    def __init__(self, server: Postgres, directory: Path, core: int) -> None:
        self._server = server
        self._prefix = directory / "transactions"
        self._core = core
        self._process: subprocess.Popen[bytes] | None = None
        self.rate = 0.0

    def calibrate(self, share: float) -> float:
        """Make the tables, find out how many transactions a second the host can do, and take *share* of them."""
        self._run(["-i", "-q", "-s", str(SCALE)])
        done = self._run(["-N", "-c", str(CLIENTS), "-T", str(CALIBRATE_SECONDS)])
        line = next(line for line in done.splitlines() if line.startswith("tps ="))
        most = float(line.split()[2])
        self.rate = round(most * share, 1)
        return most

    def start(self) -> None:
        arguments = [
            "-N",
            "-c",
            str(CLIENTS),
            "-R",
            str(self.rate),
            "-T",
            "36000",
            "-l",
            "--log-prefix",
            str(self._prefix),
        ]
        self._process = subprocess.Popen(
            self._command(arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._prefix.parent
        )
        pin(self._process.pid, {self._core})

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)

    def between(self, begin: float, end: float) -> Felt:
        """Of the transactions that ended from *begin* to *end* (seconds since the epoch). Wait a moment before: the log
        is written in pieces."""
        took = []
        for path in self._prefix.parent.glob(self._prefix.name + ".*"):
            for line in path.read_text("ascii").splitlines():
                words = line.split()  # client, number, microseconds, script, second, microsecond, lag
                if len(words) >= 6 and begin <= int(words[4]) + int(words[5]) / 1e6 < end:
                    took.append(int(words[2]) / 1000)
        took.sort()
        assert took, "the host made no transaction in this phase: see whether pgbench runs"
        return Felt(end - begin, len(took), took[len(took) // 2], took[int(len(took) * 0.99)])

    def _run(self, arguments: list[str]) -> str:
        done = subprocess.run(self._command(arguments), capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == 0, f"pgbench: {done.stderr}"
        return done.stdout

    def _command(self, arguments: list[str]) -> list[str]:
        address = ["-h", "127.0.0.1", "-p", str(self._server.port), "-U", "crossdock", self._server.database]
        return [str(self._server.binaries / "pgbench"), *arguments, *address]


class Burst:
    """Rows in a table and files in a folder, all at once. Each time others: files of a known content are not read."""

    def __init__(self, server: Postgres, drop: Path, rows: int, files: int, megabytes: int) -> None:
        self._server = server
        self._drop = drop
        self._rows, self._files = rows, files
        self._lines = max(1, megabytes * 1_000_000 // files // 200)
        self._number = 0
        self.records = rows + files * self._lines
        server.execute(*(JOURNAL.format(name) for name in ("journal", NOBODY_READS)))

    def prepare(self) -> None:
        """Files on the disk, in a folder nobody reads. Before anything is measured."""
        self._number += 1
        body = [";".join(workload.row(i)) for i in range(self._lines - 1)]
        rest = "\n".join(body).encode(workload.ENCODING) + b"\n"
        head = (";".join(workload.COLUMNS) + "\n").encode(workload.ENCODING)
        for n in range(self._files):
            first = workload.row(n)
            first[2] = f"B{self._number}-{n}"
            path = self._staging / f"STK{self._number:02}{n:05}.csv"
            path.write_bytes(head + ";".join(first).encode(workload.ENCODING) + b"\n" + rest)
        if hasattr(os, "sync"):
            os.sync()

    def land(self, *, is_read: bool) -> None:
        """The rows in one transaction, then the files."""
        table, folder = ("journal", self._drop) if is_read else (NOBODY_READS, self._drop.parent / NOBODY_READS)
        folder.mkdir(exist_ok=True)
        self._server.execute(ROWS.format(table, self._rows))
        for path in sorted(self._staging.iterdir()):
            path.rename(folder / path.name)

    @property
    def _staging(self) -> Path:
        folder = self._drop.parent / "staging"
        folder.mkdir(exist_ok=True)
        return folder


class Alerts:
    """A critical record a second, and when each was written."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self.written_us: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        server.execute("CREATE TABLE alert (id bigserial PRIMARY KEY, text text)")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        connection = self._server.connect()
        try:
            while not self._stop.wait(1.0):
                connection.execute("INSERT INTO alert (text) VALUES ('a truck waits at dock 7')")
                self.written_us.append(time.time_ns() // 1000)
        finally:
            connection.close()
