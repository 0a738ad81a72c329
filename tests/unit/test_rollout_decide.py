"""The steps of a rollout, decided purely, against fleets on paper."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock_controller.rollouts.decide import finished, halted
from support.rollout_world import BASE, NEW, SECOND, PaperAgent, World

ILL = ["refuses", "fails", "rejects", "loops", "leaves", "hangs"]


def world(**how: str) -> World:
    agents = [PaperAgent(site, how.get(site, "well")) for site in ("a", "b", "c", "d")]
    return World([["a"], ["b", "c"], ["d"]], agents)


def test_a_revision_that_is_well_everywhere_goes_through_its_waves_in_order_and_comes_in_force() -> None:
    found = world()
    assert found.run() == "complete"
    assert [s.offer for s in found.steps if s.offer] == [("a",), ("b", "c"), ("d",)]
    assert all(w.passed_us - w.taken_us >= 10 * SECOND for w in found.rollout.progress.begun)
    assert found.targets == set()


@pytest.mark.parametrize("how", ILL)
def test_an_illness_at_the_first_site_takes_the_revision_back_and_no_other_site_ever_ran_it(how: str) -> None:
    found = world(a=how)
    assert found.run() == "reverted"
    assert "site a" in found.rollout.why
    assert all(found.agents[site].ran == [BASE] for site in ("b", "c", "d"))
    assert all(agent.effective == BASE for agent in found.agents.values() if agent.here)


@pytest.mark.parametrize("how", ILL)
def test_an_illness_in_a_later_wave_takes_it_back_from_the_waves_before_as_well(how: str) -> None:
    found = world(c=how)
    assert found.run() == "reverted"
    assert found.agents["a"].ran == [BASE, NEW, BASE]
    assert found.agents["d"].ran == [BASE]


def test_a_refusal_says_the_sites_reason_and_its_last_log_lines() -> None:
    found = world(a="refuses")
    found.run()
    assert found.rollout.why == "in wave 1 of 3, site a: it refused revision 5: no such column"
    assert found.rollout.evidence == ("line 1", "line 2")


def test_an_agent_that_is_away_is_waited_for_and_then_left_behind_by_name() -> None:
    found = world()
    found.agents["b"].here = False
    assert found.run() == "complete"
    second = found.rollout.progress.begun[1]
    assert second.taken_us - second.began_us > 60 * SECOND
    assert list(second.without) == ["b"]
    assert second.without["b"].startswith("offline for")


def test_an_agent_that_comes_back_in_time_is_not_left_behind() -> None:
    found = world()
    found.agents["b"].here = False
    while len(found.rollout.progress.begun) < 2:
        found.tick()
    for _ in range(20):
        found.tick()
    found.agents["b"].here = True
    assert found.run() == "complete"
    assert found.rollout.progress.begun[1].without == {}
    assert found.agents["b"].ran == [BASE, NEW]


def test_an_agent_that_comes_back_and_says_nothing_is_not_waited_for_without_end() -> None:
    found = world(a="hangs")
    found.agents["a"].here = False
    for _ in range(30):
        found.tick()
    found.agents["a"].here = True
    assert found.run() == "reverted"
    assert "it has not answered and does not run revision 5 after" in found.rollout.why


def test_a_wave_without_one_agent_that_took_it_proves_nothing_and_halts() -> None:
    found = world()
    found.agents["a"].here = False
    assert found.run() == "reverted"
    assert "no agent of wave w0 took revision 5" in found.rollout.why


def test_a_wave_that_nobody_is_left_to_speak_for_halts_and_does_not_wait_without_end() -> None:
    """Its only agent is revoked during the hold."""
    found = world()
    while not found.rollout.progress.begun or not found.rollout.progress.begun[0].taken_us:
        found.tick()
    del found.agents["a"]
    assert found.run() == "reverted"
    assert "no agent of wave w0 runs revision 5 any more" in found.rollout.why


def test_a_site_that_was_ill_before_its_wave_is_judged_by_change() -> None:
    """Its source failed already: the revision is not to blame."""
    found = world()
    ill = found.agents["a"]
    plain = ill.seen

    def seen() -> object:
        now = plain()
        return replace(now, sources={"stock": replace(now.sources["stock"], state="failing")})

    ill.seen = seen  # type: ignore[method-assign,assignment]
    assert found.run() == "complete"


def test_while_it_is_paused_no_wave_begins_and_an_illness_is_seen_all_the_same() -> None:
    found = world(a="fails")
    while not found.rollout.progress.begun:
        found.tick()
    found.rollout = type(found.rollout)(**{**_fields(found), "state": "held"})
    assert found.run() == "reverted"
    calm = world()
    while not calm.rollout.progress.begun:
        calm.tick()
    calm.rollout = type(calm.rollout)(**{**_fields(calm), "state": "held"})
    for _ in range(200):
        calm.tick()
    assert (calm.rollout.state, len(calm.rollout.progress.begun)) == ("held", 1)


def test_a_controller_that_was_away_for_an_hour_gives_its_agents_time_to_come_back() -> None:
    found = world()
    while not found.rollout.progress.begun or not found.rollout.progress.begun[-1].taken_us:
        found.tick()
    for agent in found.agents.values():
        agent.here = False
    found.now_us += 3600 * SECOND
    found.listening_us = found.now_us + 60 * SECOND
    for _ in range(30):
        found.tick()
    assert found.rollout.state == "rolling", found.rollout.why
    for agent in found.agents.values():
        agent.here = True
    assert found.run() == "complete"


def test_a_hold_is_watched_as_a_whole_also_by_a_controller_that_was_away_for_an_hour_of_it() -> None:
    """A hold that nobody watched shows nothing: what fails with the first new data is not seen by then."""
    found = world()
    while not found.rollout.progress.begun or not found.rollout.progress.begun[-1].taken_us:
        found.tick()
    found.now_us += 3600 * SECOND
    found.listening_us, found.watching_us = found.now_us + 60 * SECOND, found.now_us
    for _ in range(9):
        found.tick()
    assert len(found.rollout.progress.begun) == 1
    assert found.run() == "complete"


def test_a_hold_does_not_end_before_each_agent_was_heard_of_in_its_later_half() -> None:
    found = world()
    while not found.rollout.progress.begun or not found.rollout.progress.begun[-1].taken_us:
        found.tick()
    silent = found.agents["a"]
    silent.tick = lambda _target, _now: None  # type: ignore[method-assign]
    for _ in range(15):
        found.tick()
    assert len(found.rollout.progress.begun) == 1
    del silent.tick
    assert found.run() == "complete"


def test_who_could_not_be_told_of_the_revert_is_named() -> None:
    found = world(c="fails")
    while len(found.rollout.progress.begun) < 2 or not found.rollout.progress.begun[-1].taken_us:
        found.tick()
    while found.rollout.state == "rolling":
        found.tick()
    found.agents["b"].here = False
    found.agents["b"].effective = NEW
    assert found.run() == "reverted"
    assert list(found.rollout.progress.left) == ["b"]


def test_a_site_that_went_back_by_itself_and_says_so_last_is_not_waited_for() -> None:
    """An agent that crashed with the revision tells of it after it came back with the base."""
    found = world(a="fails")
    while found.rollout.state == "rolling":
        found.tick()
    back = found.agents["a"]
    back.here = False  # it ends, and starts again with the base
    began = found.now_us
    for _ in range(5):
        found.tick()
    back.here, back.effective, back.offered, back.offered_us = True, BASE, BASE, found.now_us
    back.said_of, back.said, back.said_us = NEW, "failed", found.now_us
    assert found.run() == "reverted"
    assert found.now_us - began < 10 * SECOND
    assert found.rollout.progress.left == {}


def test_a_person_halts_and_another_finishes() -> None:
    found = world()
    for _ in range(5):
        found.tick()
    found.take(halted(found.rollout, "halted by anna: wrong day", (), found.now_us))
    assert found.run() == "reverted"
    assert found.agents["a"].ran == [BASE, NEW, BASE]
    other = world()
    for _ in range(5):
        other.tick()
    other.take(finished(other.rollout, other.now_us))
    other.tick()
    assert all(agent.effective == NEW for agent in other.agents.values())


def _fields(found: World) -> dict[str, object]:
    return {name: getattr(found.rollout, name) for name in found.rollout.__struct_fields__}


_SITES = [f"s{i}" for i in range(6)]


@settings(max_examples=200, deadline=None)
@given(
    hows=st.lists(st.sampled_from(["well"] * 6 + ILL), min_size=6, max_size=6),
    away=st.sets(st.sampled_from(_SITES), max_size=2),
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=3).filter(lambda c: len(set(c)) == len(c)),
    events=st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["lose", "down", "leave", "return"])), max_size=12),
)
def test_whatever_happens_it_ends_sites_come_in_order_and_an_illness_reaches_no_later_wave(
    hows: list[str], away: set[str], cuts: list[int], events: list[tuple[int, str]]
) -> None:
    bounds = [0, *sorted(cuts), len(_SITES)]
    waves = [_SITES[a:b] for a, b in pairwise(bounds)]
    found = World(waves, [PaperAgent(s, how, here=s not in away) for s, how in zip(_SITES, hows, strict=True)])
    for seconds, event in events:
        for _ in range(seconds):
            found.tick(lost=event == "lose" and seconds % 2 == 0)
            _sane(found, waves)
        if event == "down":  # the controller is away for a while, and everybody with it
            found.now_us += 600 * SECOND
            found.listening_us = found.now_us + 60 * SECOND
        elif event in {"leave", "return"}:
            found.agents[_SITES[seconds % 6]].here = event == "return"
    for _ in range(4000):
        if found.over:
            break
        found.tick()
        _sane(found, waves)
    assert found.over, (found.rollout.state, found.rollout.progress)
    touched = [site for wave in waves[: len(found.rollout.progress.begun)] for site in wave]
    if found.rollout.state == "complete":
        ill = [s for s in _SITES if found.agents[s].how in {"refuses", "fails", "rejects", "loops"}]
        assert not [s for s in ill if NEW in found.agents[s].ran and s not in away and found.agents[s].here]
        assert touched == _SITES
    else:
        assert found.rollout.why
        for site in _SITES:
            if site not in touched:
                assert found.agents[site].ran == [BASE]
            elif found.agents[site].here and site not in found.rollout.progress.left:
                assert found.agents[site].effective == BASE


def _sane(found: World, waves: list[list[str]]) -> None:
    """What holds after each step."""
    begun = found.rollout.progress.begun
    assert all(w.passed_us for w in begun[:-1]), "a wave begins when the one before it has passed"
    touched = {site for wave in waves[: len(begun)] for site in wave}
    assert found.targets <= touched
    if found.rollout.state in {"reverting", "reverted", "complete"}:
        assert not found.targets
    for site, agent in found.agents.items():
        if site not in touched and found.rollout.state != "complete":
            assert agent.ran == [BASE]
