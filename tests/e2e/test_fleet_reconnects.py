"""A fleet that connects at once, and comes back at once after the controller was killed: a small `make bench-fleet`."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import fleet
from support.fleet_agents import SimulatedAgent, Tally, running
from support.processes import Centre

AGENTS = 40
EVERY_SECONDS = 1.0


@pytest.mark.timeout(400)
def test_a_fleet_connects_at_once_and_comes_back_after_a_kill_with_every_batch_acknowledged_once(
    tmp_path: Path,
) -> None:
    with Centre(tmp_path) as centre:
        asyncio.run(_story(tmp_path, centre))


async def _story(tmp_path: Path, centre: Centre) -> None:
    database, tally = tmp_path / "warehouse.db", Tally()
    centre.run("apply", str(fleet.write_tree(tmp_path / "tree", AGENTS, database)))
    agents = await fleet.enrol(centre, AGENTS, tally)
    async with running(agents, EVERY_SECONDS):
        await _until(lambda: all(a.confirmed for a in agents), centre, "every agent has an acknowledgement")
        killed = await _kill(centre, agents)
        await asyncio.to_thread(centre.start)
        await _until(lambda: all(a.recovered(killed) for a in agents), centre, "every agent is back")
        for agent in agents:
            agent.resting = True
        await _until(lambda: not any(a.outbox for a in agents), centre, "every batch is acknowledged")
        records = tally.made * agents[0].records
        await _until(lambda: fleet.arrived(database)[0] >= records, centre, "every record is in the sink")
    assert tally.refused == []
    assert fleet.intake(centre) == (tally.made, records)
    assert fleet.arrived(database) == (records, records)


async def _kill(centre: Centre, agents: list[SimulatedAgent]) -> float:
    """The moment; each agent holds a batch for the time after."""
    centre.process.kill()
    killed = time.monotonic()
    for agent in agents:
        agent.make_batch()
    return killed


async def _until(condition: Callable[[], bool], centre: Centre, what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert centre.process.alive(), f"the controller died before {what}:\n{centre.process.tail()}"
        assert time.monotonic() < deadline, f"waited in vain until {what}:\n{centre.process.tail()}"
        await asyncio.sleep(0.05)
