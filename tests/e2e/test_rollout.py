"""Rollouts over real processes: a few sites, what goes wrong there, and a controller that is killed meanwhile."""

from pathlib import Path

import pytest

from support.rollout_fleet import RolloutFleet


def apply(fleet: RolloutFleet, why: str, hold: str = "2s") -> list[str]:
    return ["apply", str(fleet.tree), "-m", why, "--wave", "canary=s01", "--then", "all", "--hold", hold]


@pytest.fixture
def fleet(tmp_path: Path) -> RolloutFleet:
    return RolloutFleet(tmp_path, ["s01", "s02", "s03"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_revision_that_breaks_a_source_is_taken_back_from_its_first_wave_and_reaches_no_other_site(
    fleet: RolloutFleet,
) -> None:
    with fleet:
        fleet.centre.run("apply", str(fleet.tree), "-m", "first")
        fleet.enrol()
        fleet.start_all()
        fleet.wait_until_all_run(1)
        fleet.stock(directory="gone")
        fleet.centre.run(*apply(fleet, "moved"))
        found = fleet.wait_for("reverted")
    assert "site s01: source stock is failing since revision 2 runs" in found["why"]
    assert "gone cannot be reached" in found["why"]
    assert [w["state"] for w in found["waves"]] == ["taken back", "waiting"]
    assert fleet.ever_applied("s01") == [1, 2, 1]
    for site in ("s02", "s03"):
        assert fleet.ever_applied(site) == [1]
        assert fleet.ask("SELECT offered FROM sightings WHERE agent = ?", site) == [(1,)]
    assert [fleet.runs(site) for site in fleet.sites] == [1, 1, 1]
