"""A rollout over fifty real agent processes: a broken revision stops at the canary, a good one reaches all of them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.rollout_fleet import RolloutFleet, names

AGENTS = 50
CANARY = "s17"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_agents_get_a_good_revision_in_waves_and_a_broken_one_stops_at_the_canary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    with RolloutFleet(tmp_path, names(AGENTS)) as fleet:
        centre = fleet.centre
        centre.run("apply", str(fleet.tree), "-m", "first")
        with timed(said, f"{AGENTS} agents enrolled"):
            fleet.enrol()
        with timed(said, f"{AGENTS} processes started, connected, running revision 1"):
            fleet.start_all()
            fleet.wait_until_all_run(1)

        fleet.stock(directory="gone")  # the schema accepts it; at the site there is no such folder
        waves = ["--wave", f"canary={CANARY}", "--then", "10%", "--then", "all", "--hold", "2s"]
        with timed(said, "revision 2 offered to the canary, judged, taken back"):
            centre.run("apply", str(fleet.tree), "-m", "stock moves", *waves)
            broken = fleet.wait_for("reverted")
        said += timeline(broken)
        assert broken["why"].startswith(f"in wave 1 of 3, site {CANARY}: source stock is failing since revision 2 runs")
        assert [w["state"] for w in broken["waves"]] == ["taken back", "waiting", "waiting"]
        others = [site for site in fleet.sites if site != CANARY]
        assert fleet.ask("SELECT DISTINCT offered FROM sightings WHERE agent != ?", CANARY) == [(1,)]
        assert {tuple(fleet.ever_applied(site)) for site in others} == {(1,)}
        assert fleet.ever_applied(CANARY) == [1, 2, 1]
        assert {fleet.runs(site) for site in fleet.sites} == {1}
        assert centre.json("rollout", "drift")["drift"] == []

        fleet.stock(lane="critical")
        with timed(said, "revision 3 through three waves, in force"):
            centre.run("apply", str(fleet.tree), "-m", "stock is urgent", *waves)
            good = fleet.wait_for("complete", 400)
        said += timeline(good)
        assert [len(w["sites"]) for w in good["waves"]] == [1, 5, 44]
        assert [w["without"] for w in good["waves"]] == [{}, {}, {}]
        fleet.wait_until_all_run(3)
        assert {tuple(fleet.ever_applied(site)) for site in others} == {(1, 3)}
        assert fleet.ever_applied(CANARY) == [1, 2, 1, 3]
        assert centre.json("rollout", "drift")["drift"] == []
    with capsys.disabled():
        print("", *said, sep="\n  ")


@contextmanager
def timed(said: list[str], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    said.append(f"{what}: {time.monotonic() - began:.1f} s")


def timeline(rollout: dict[str, object]) -> list[str]:
    """Seconds from the start of the rollout, a line for each wave."""
    waves, start = rollout["waves"], rollout["started_us"]
    assert isinstance(waves, list)
    assert isinstance(start, int)

    def at(us: int) -> str:
        return f"{(us - start) / 1e6:.1f}" if us else "-"

    lines = [
        f"  wave {w['name']}, {len(w['sites'])} sites: begun {at(w['began_us'])}, taken {at(w['taken_us'])},"
        f" passed {at(w['passed_us'])}"
        for w in waves
    ]
    ended = rollout["ended_us"]
    assert isinstance(ended, int)
    return [*lines, f"  {rollout['state']} at {at(ended)} s"]
