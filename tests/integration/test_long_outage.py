"""A week without the controller, in small: reading stops lane by lane, nothing drops, and all of it drains."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock.codec import open_sealed
from crossdock.retry import Backoff
from crossdock.siteconfig import OutboxConfig, SourceConfig
from crossdock_agent import health, pump, pumps, streams
from crossdock_agent.outbox import forecast
from crossdock_agent.status import SourceStatus
from support import sources
from support.agents import RunningAgent, eventually, helpers_in_process, site_config
from support.controller import FakeController
from support.processes import command
from support.sources import reel

QUICK = Backoff(first_seconds=0.05, max_seconds=0.2)
LIMIT = 2_000_000
LANES = {"bulk": "stock", "standard": "moves", "critical": "orders"}


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeController]:
    monkeypatch.setattr(pump, "RETRY", QUICK)
    monkeypatch.setattr(health, "WRITE_SECONDS", 0.05)
    monkeypatch.setattr(pumps, "HOLD_SECONDS", 1.0)
    monkeypatch.setattr(streams.Stream.__init__, "__defaults__", (QUICK,))
    monkeypatch.setattr(forecast, "KNOWN_SECONDS", 0.2)
    helpers_in_process(monkeypatch)
    sources.install()
    fake = FakeController().start()
    yield fake
    fake.stop()


def tape(name: str, lines: int, size: int = 10_000) -> list[bytes]:
    rng = random.Random(name)
    return [b"%s %d " % (name.encode(), i) + rng.randbytes(size).replace(b"\n", b" ") for i in range(lines)]


def received(controller: FakeController, source: str) -> list[bytes]:
    batches = [b for (name, _), kept in controller.stored.items() if name == source for b in kept]
    return [line for batch in batches for line in open_sealed(batch.sealed)[1].split(b"\n")]


def source_of(agent: RunningAgent, name: str) -> SourceStatus | None:
    status = agent.status()
    return next((s for s in status.sources if s.source == name), None) if status else None


def is_blocked(agent: RunningAgent, name: str) -> bool:
    source = source_of(agent, name)
    return source is not None and source.state == "blocked" and source.blocked_since_us > 0


def test_a_week_without_the_controller_fills_stops_keeps_and_drains(controller: FakeController, tmp_path: Path) -> None:
    state = tmp_path / "state"
    controller.identity(state)
    configs = [
        SourceConfig(name=name, kind="tape", lane=lane, settings={"tape": name}) for lane, name in LANES.items()  # type: ignore[arg-type]
    ]  # fmt: skip
    limits = OutboxConfig(max_bytes=LIMIT, min_free_disk_bytes=0)
    controller.offer(site_config(1, *configs, outbox=limits), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: (1, "applied") in controller.statuses(), "it runs")
        controller.stop()

        reel("stock").lines = tape("stock", 300)  # 3 MB: more than all the room
        eventually(lambda: is_blocked(agent, "stock"), "bulk is blocked")
        reel("moves").lines = tape("moves", 30)
        eventually(lambda: is_blocked(agent, "moves"), "standard is blocked")
        reel("orders").lines = tape("orders", 5)
        eventually(lambda: (s := source_of(agent, "orders")) and s.records == 5, "critical still finds room")
        assert not is_blocked(agent, "orders")
        reel("orders").lines += tape("late", 20)
        eventually(lambda: is_blocked(agent, "orders"), "critical is blocked at last")

        # a source blocks on what is queued, the status tells what is stored: it follows within a commit
        eventually(lambda: (s := agent.status()) and s.outbox_bytes > 0.95 * LIMIT, "critical used its own room")
        status = agent.status()
        assert status is not None
        assert status.outbox_bytes <= LIMIT
        assert status.link == "not connected"
        eventually(lambda: "100% of its 2.0 MB" in agent.problems() or "95% of its" in agent.problems(), "it is told")
        said = subprocess.run(
            [command("crossdock-agent"), "status", "--state", str(state)],
            capture_output=True, encoding="utf-8", check=False, timeout=60,
        ).stdout  # fmt: skip
        assert "stock: blocked since 20" in said
        assert "forecast    in " in said
        assert "bring the controller or the link back" in said

    for name in LANES.values():
        reel(name).passes = 0
    with RunningAgent(state) as agent:  # the machine is restarted in the middle of it
        eventually(lambda: all(is_blocked(agent, name) for name in LANES.values()), "still blocked, still there")
        controller.start()
        for name in LANES.values():
            wanted = list(reel(name).lines)
            controller.wait(lambda n=name, w=wanted: len(received(controller, n)) >= len(w), f"{name} arrived")
            assert received(controller, name) == wanted, "every line, once, in order"
        eventually(lambda: (s := agent.status()) and s.outbox_bytes == 0 and not s.problems, "it is empty and calm")
        assert not any(is_blocked(agent, name) for name in LANES.values())
    assert state.joinpath("outbox.db").stat().st_size < LIMIT + 17 * 2**20, "the file is within its spare pages"
