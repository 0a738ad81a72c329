"""A process that collects: the agent's own outbox and pumps, and instead of a controller a file that keeps each batch.

    python tests/support/collecting.py STATE SOURCES.json

STATE/received.db is the intake: a batch is committed there, with a sync, before it is acknowledged to the outbox, and a
batch that comes again is kept once. It runs until it is killed, which is the point of it. Every failing source is
printed, once a reason.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from crossdock import codec
from crossdock.lifecycle import Stop
from crossdock.siteconfig import OutboxConfig, SiteConfig, SourceConfig
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_agent.hints import Hints
from crossdock_agent.outbox import Outbox
from crossdock_agent.problems import Problems
from crossdock_agent.pumps import Pumps
from crossdock_agent.schedule import Schedule

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS received (n INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT, epoch BLOB,"
    " sequence INTEGER, sealed BLOB, UNIQUE (source, epoch, sequence))"
)


def main(state: Path, sources: list[dict[str, Any]]) -> None:
    config = SiteConfig(site="atl1", revision=1, sources=[SourceConfig(**source) for source in sources])
    with ExitStack() as stack:
        intake = stack.enter_context(closing(sqlite3.connect(state / "received.db", isolation_level=None)))
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", _SCHEMA):
            intake.execute(statement).fetchall()
        outbox = stack.enter_context(Outbox(state / "outbox.db", OutboxConfig(min_free_disk_bytes=0)))
        schedule, hints = stack.enter_context(Schedule()), stack.enter_context(Hints())
        pumps = Pumps(outbox, schedule, hints, Problems(), lambda text: text, random.Random())
        stack.callback(pumps.stop)
        pumps.resume(config)
        said: dict[str, str] = {}
        while not Stop().wait(0.02):
            for source in sources:
                _forward(outbox, intake, source["name"])
            for health in pumps.health():
                if health.error and said.get(health.source) != health.error:
                    said[health.source] = health.error
                    print(f"{time.time():.3f} {health.source}: {health.error} ({health.hint})", flush=True)


def _forward(outbox: Outbox, intake: sqlite3.Connection, source: str) -> None:
    position = outbox.positions().get(source)
    if position is None or not position.batches:
        return
    batches = outbox.page(source, position.acked_sequence, 1024 * 1024)
    intake.execute("BEGIN IMMEDIATE")
    for batch in batches:
        intake.execute(
            "INSERT OR IGNORE INTO received (source, epoch, sequence, sealed) VALUES (?, ?, ?, ?)",
            (source, outbox.epoch, batch.sequence, batch.sealed),
        )
    intake.execute("COMMIT")
    if batches:
        outbox.acknowledge(source, outbox.epoch, batches[-1].sequence)


def received(state: Path, source: str) -> Iterator[tuple[BatchHeader, bytes]]:
    """The batches of *source* as they were taken in, opened, in order. Fails when a sequence is missing."""
    if not (state / "received.db").exists():
        return
    with closing(sqlite3.connect(state / "received.db", timeout=30.0)) as db:
        expected: dict[bytes, int] = {}
        for epoch, sequence, sealed in db.execute(
            "SELECT epoch, sequence, sealed FROM received WHERE source = ? ORDER BY n", (source,)
        ):
            assert sequence == expected.get(epoch, 1), (
                f"{source}: batch {sequence} came, {expected.get(epoch, 1)} is due"
            )
            expected[epoch] = sequence + 1
            yield codec.open_sealed(sealed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text("utf-8")))
