"""Many versions of few keys through a sink that fails at random, while the dispatcher is killed again and again.

The sink keeps what it was given in a file, repeats included; what a receiver that honours idempotency keys makes of it
is judged: every version of every key once, in order.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from crossdock_controller.store import connection
from support.pipeline import Box, FakeRuntime, wait_for

TESTS = Path(__file__).parents[1]
BATCH = 1000


@dataclass(frozen=True, slots=True)
class Figures:
    """*repeats* came a second time with the same idempotency key, after a kill."""

    documents: int
    keys: int
    kills: int
    failures: int
    repeats: int
    seconds: float


def fill(box: Box, documents: int, keys: int) -> None:
    """Version after version of all keys, in turn."""
    for start in range(0, documents, BATCH):
        numbers = range(start, min(documents, start + BATCH))
        box.send(*[f"K{n % keys};version {n // keys}" for n in numbers])
    box.normalize(FakeRuntime("finance"))


def deliver(box: Box, out: Path, documents: int, kills: int, failing: float = 0.1, seconds: float = 600.0) -> float:
    """Until all is delivered; the dispatcher is killed each time another share of it is. How long it took."""
    began = time.monotonic()
    for kill in range(kills):
        wanted = documents * (kill + 1) // (kills + 1)
        process = _start(box, out, failing)
        try:
            wait_for(lambda n=wanted: _lines(out) >= n, f"{wanted} are applied", seconds)  # type: ignore[misc]
        finally:
            process.kill()
            process.wait(30)
    process = _start(box, out, failing)
    try:
        wait_for(lambda: _over(box), "all are delivered", seconds)
    finally:
        process.kill()
        process.wait(30)
    return time.monotonic() - began


def judged(box: Box, out: Path, documents: int, keys: int, kills: int, took: float) -> Figures:
    """Asserts order and completeness by what the sink was given, and the account."""
    lines = [line.split() for line in out.read_text("utf-8").splitlines()]
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for event_id, key, _attempt in lines:
        if event_id not in seen:  # a receiver leaves out what has the idempotency key of something it did
            seen.add(event_id)
            found.setdefault(key, []).append(event_id)
    with connection.snapshot(box.db):
        expected: dict[str, list[str]] = {}
        for event_id, key in box.db.execute("SELECT lower(hex(id)), key FROM events ORDER BY seq"):
            expected.setdefault(key, []).append(event_id)
        (failures,) = box.db.execute("SELECT count(*) FROM attempts WHERE code = 'http_500'").fetchone()
    assert len(expected) == keys
    assert sum(map(len, expected.values())) == documents
    wrong = [key for key in expected if found.get(key) != expected[key]]
    assert not wrong, f"{len(wrong)} keys, the first: {wrong[0]}: {found.get(wrong[0])} for {expected[wrong[0]]}"
    account = box.account()
    assert account.balanced
    assert (account.delivered, account.dead) == (documents, 0)
    return Figures(documents, keys, kills, failures, len(lines) - len(seen), took)


def _start(box: Box, out: Path, failing: float) -> subprocess.Popen[bytes]:
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "support.dispatch_process", str(box.data.root), str(out), "0", str(failing)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def _lines(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


def _over(box: Box) -> bool:
    time.sleep(0.05)
    row = box.db.execute("SELECT 1 FROM deliveries WHERE state != 0 LIMIT 1").fetchone()
    return row is None
