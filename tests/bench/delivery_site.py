"""The controller's two workers over an intake that is filled at once: no agent, no gateway, nothing to wait for."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from bench_mapping import row
from part_crossdock import MAPPING, SITE, SOURCE

from crossdock.codec import Sealer
from crossdock.lifecycle import Stop, stop_on_signals
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_controller.config.load import inspect
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import connection, migrate, revisions
from crossdock_controller.store.intake import Incoming, IntakeWriter
from crossdock_controller.store.wake import Waker

COLUMNS = "LOC;SKU;LOT;STATUS;ON_HAND;AVAIL;ALLOC;ORDERED;UNIT;AS_OF;OWNER;GTIN;TEXT\r\n"
BATCH_RECORDS = 2_000
PATIENCE_SECONDS = 1_800.0


def made(root: Path, sinks: Mapping[str, str]) -> DataDirectory:
    """A data directory with a revision by which stock records of 13 fields are due at each of *sinks* (name: file)."""
    data = DataDirectory(root)
    data.prepare()
    migrate(data.state)
    IntakeWriter(data.intake).close()  # the workers expect it
    tree = {
        "sites/bench.yaml": SITE, "sources/stock.yaml": SOURCE.replace("${drop}", "/drop"),
        "mappings/stock.yaml": MAPPING,
        "routes/stock.yaml": f'when: document == "StockLevel"\nto: [{", ".join(sinks)}]\n',
        **{f"sinks/{name}.yaml": f"sink: {name}\n{text}" for name, text in sinks.items()},
    }  # fmt: skip
    _, problems = inspect(tree)
    if wrong := [problem.text() for problem in problems if "error" in str(problem.severity)]:
        raise SystemExit("\n".join(wrong))
    with closing(connection.connect(data.state)) as db:
        revisions.append(db, tree, hash_=revisions.digest(revisions.dumps(tree)), author="bench", message="", now_us=1)
    return data


def batches(records: int) -> list[Incoming]:
    """*records* of them, sealed as an agent does it."""
    sealer, found = Sealer(), []
    for sequence, first in enumerate(range(0, records, BATCH_RECORDS), start=1):
        count = min(BATCH_RECORDS, records - first)
        text = "".join(";".join(row(i)) + "\r\n" for i in range(first, first + count)).encode("cp1252")
        origin = Origin(kind="file", name="stock.csv", unit=b"stock", first_record=first, first_line=first + 2)
        header = BatchHeader(format="csv", records=count, origin=origin, closes=first + count >= records)
        header.prefix = COLUMNS.encode("cp1252")
        sealed = sealer.seal(header, text)
        found.append(
            Incoming("bench", "bench", "stock", b"e" * 16, sequence, "standard", count, b"", sealed.data, sealed.crc32)
        )
    return found


def fill(data: DataDirectory, sealed: list[Incoming]) -> float:
    """Commits them to the intake; when that began, by `perf_counter`."""
    with closing(IntakeWriter(data.intake)) as writer, closing(Waker(data.state)) as waker:
        began = time.perf_counter()
        writer.commit(sealed, time.time_ns() // 1000)
        waker.wake("normalize")
    return began


def _work(role: str, root: str) -> None:
    from loguru import logger

    logger.remove()
    stop = Stop()
    stop_on_signals(stop)
    data = DataDirectory(Path(root))
    if role == "normalize":
        from crossdock_controller.normalize import run_normalizer

        run_normalizer(data, stop)
    else:
        from crossdock_controller.dispatch import run_dispatcher

        run_dispatcher(data, stop)


@contextmanager
def working(data: DataDirectory, *roles: str) -> Iterator[None]:
    """Worker processes in *roles*, ended afterwards."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_work, args=(role, str(data.root))) for role in roles]
    for process in processes:
        process.start()
    try:
        _ready(data, roles)
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(30)
            if process.is_alive():
                process.kill()
                process.join()


def _ready(data: DataDirectory, roles: Sequence[str]) -> None:
    """Once they listen: how long Python takes to start is not measured."""
    deadline = time.perf_counter() + 60
    with closing(sqlite3.connect(data.state, timeout=30)) as db:
        while not {role for (role,) in db.execute("SELECT role FROM wakers")} >= set(roles):
            if time.perf_counter() > deadline:
                raise SystemExit("the workers do not start")
            time.sleep(0.02)


def done(data: DataDirectory, sinks: Sequence[str], records: int, began: float) -> dict[str, float]:
    """Seconds since *began* until the cursor of each of *sinks* has passed the last record; all are done then."""
    seconds: dict[str, float] = {}
    with closing(sqlite3.connect(data.state, timeout=30)) as db:
        while len(seconds) < len(sinks):
            if time.perf_counter() - began > PATIENCE_SECONDS:
                raise SystemExit(f"waited {PATIENCE_SECONDS} s in vain: {sorted(set(sinks) - set(seconds))}")
            for name, cursor in db.execute(
                "SELECT s.name, c.event_seq FROM sinks s JOIN sink_cursors c ON c.sink_id = s.id"
            ).fetchall():
                if name in sinks and name not in seconds and cursor >= records:
                    seconds[name] = time.perf_counter() - began
            time.sleep(0.02)
        for name in sinks:
            (count,) = db.execute(
                "SELECT count(*) FROM deliveries d JOIN sinks s ON s.id = d.sink_id WHERE s.name = ? AND d.state = 0",
                (name,),
            ).fetchone()
            if count != records:
                raise SystemExit(f"{count} of {records} deliveries of sink {name} are done")
    return seconds


def normalized(data: DataDirectory, records: int) -> None:
    """Once every record is a document."""
    deadline = time.perf_counter() + PATIENCE_SECONDS
    with closing(sqlite3.connect(data.state, timeout=30)) as db:
        while db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0] < records:
            if time.perf_counter() > deadline:
                raise SystemExit("the normalizer does not finish")
            time.sleep(0.05)
