"""Which sites are in which wave, and which sites change at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import ConfigError
from crossdock_controller.config.load import load
from crossdock_controller.rollouts import affected, waves
from crossdock_controller.rollouts.waves import Asked
from support.trees import small_tree

FORTY = {f"s{i:02}": {"region": "us" if i % 2 else "eu"} for i in range(40)}


def resolved(*texts: str, changing: dict[str, dict[str, str]] = FORTY) -> list[tuple[str, tuple[str, ...]]]:
    asked = [waves.first(texts[0]), *(waves.following(t) for t in texts[1:])]
    return [(w.name, w.sites) for w in waves.resolve(asked, changing, sorted({*FORTY, "new1"}))]


def test_a_named_canary_a_share_and_all() -> None:
    found = resolved("canary=s07", "10%", "all")
    assert [(name, len(sites)) for name, sites in found] == [("canary", 1), ("10%", 4), ("all", 35)]
    assert found[0][1] == ("s07",)


def test_a_share_is_not_the_first_of_the_alphabet_and_stays_what_it_was_in_every_release() -> None:
    assert resolved("10%")[0][1] == ("s13", "s23", "s25", "s39")


def test_a_share_is_of_the_sites_that_change_rounded_up() -> None:
    few = {site: FORTY[site] for site in sorted(FORTY)[:11]}
    assert [len(sites) for _, sites in resolved("10%", "all", changing=few)] == [2, 9]


@given(st.sets(st.sampled_from(sorted(FORTY)), min_size=1), st.integers(1, 100), st.randoms())
def test_the_choice_is_the_same_each_time_and_a_smaller_share_is_part_of_a_larger(
    sites: set[str], percent: int, rng: object
) -> None:
    names = list(sites)
    rng.shuffle(names)  # type: ignore[attr-defined]
    shuffled = {site: FORTY[site] for site in names}
    first = resolved(f"{percent}%", changing=shuffled)[0][1]
    assert first == resolved(f"{percent}%", changing={s: FORTY[s] for s in sorted(sites)})[0][1]
    assert set(first) <= set(resolved(f"{min(100, percent + 10)}%", changing=shuffled)[0][1])


def test_labels_select_and_a_wave_may_have_a_name() -> None:
    found = resolved("canary=s01", "early=region=us", "region=eu")
    assert [name for name, _ in found] == ["canary", "early", "region=eu"]
    assert len(found[1][1]) == 19
    assert all(FORTY[site]["region"] == "eu" for site in found[2][1])


def test_what_no_wave_selects_is_a_last_one_of_its_own() -> None:
    assert [(name, len(sites)) for name, sites in resolved("canary=s01,s02")] == [("canary", 2), ("the rest", 38)]


def test_all_after_everything_was_selected_is_no_wave() -> None:
    assert [name for name, _ in resolved("100%", "all")] == ["100%"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("canary=s77",), "there is no site 's77' .did you mean"),
        (("canary=new1",), "new1 does not change, or has no agent"),
        (("canary=s01", "region=mars"), r"wave region=mars .region=mars. selects no site"),
        (("0%",), "0% is no share"),
        (("canary=s01", "s01"), "selects no site that is left to change"),
    ],
)
def test_a_wave_that_would_hold_nothing_is_refused(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolved(*texts)


def test_when_no_site_changes_there_is_nothing_to_roll_out() -> None:
    with pytest.raises(ConfigError, match="no site with an agent changes"):
        waves.resolve([Asked("all", "all")], {}, ["s01"])


def changing(**changes: str | None) -> set[str]:
    return set(affected.changing(load(small_tree()), load(small_tree(**changes))))


def test_a_site_changes_by_what_its_agents_read_and_by_how_its_records_are_mapped_and_routed() -> None:
    tree = small_tree()
    assert changing() == set()
    assert changing(sites__atl1=tree["sites/atl1.yaml"].replace("D:/wms", "E:/wms")) == {"atl1"}
    assert changing(mappings__shipments=tree["mappings/shipments.yaml"].replace('decimal: ","', 'decimal: "."')) == {
        "atl1", "rtm1",
    }  # fmt: skip
    assert changing(routes__all="when: 'true'\nto: [finance]\n") == {"atl1", "rtm1"}
    assert changing(sinks__finance=tree["sinks/finance.yaml"].replace("finance.db", "other.db")) == set()


def test_a_sink_that_changes_waits_for_the_end_and_one_that_is_new_does_not() -> None:
    tree = small_tree()
    other = tree["sinks/finance.yaml"].replace("finance.db", "other.db")
    assert affected.shared(load(tree), load(small_tree(sinks__finance=other))) == ["sink finance"]
    extra = tree["sinks/finance.yaml"].replace("sink: finance", "sink: extra")
    assert affected.shared(load(tree), load(small_tree(sinks__extra=extra))) == []
