"""When a site that has a revision is ill: by change, and never by a few records."""

from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from crossdock_controller.rollouts.gate import Finding, has_answered, judge
from crossdock_controller.rollouts.model import AgentSeen, Before, Begun, Counts, Rates, Seen, SourceSeen
from crossdock_controller.rollouts.thresholds import DEFAULTS

SECOND = 1_000_000
NOW = 10_000 * SECOND
WELL = AgentSeen(
    "atl1", "atl1", True, NOW - SECOND, starts=3, effective=7, effective_us=NOW - 60 * SECOND, offered=7,
    offered_us=NOW - 61 * SECOND, said_of=7, said="applied", said_us=NOW - 60 * SECOND, beat_us=NOW - SECOND,
    sources={"stock": SourceSeen("waiting")},
)  # fmt: skip
BEFORE = Before(connected=True, starts=3, pending={"stock": 100})


def found(agent: AgentSeen, before: Before = BEFORE, rates: dict[str, Rates] | None = None) -> list[Finding]:
    wave = Begun(NOW - 70 * SECOND, 0, 0, {"atl1": before}, {"atl1": rates or {}})
    return judge(agent, 7, wave, Seen(NOW, 0, 20.0, (0, 0), (agent,)), DEFAULTS)


def ill(agent: AgentSeen, before: Before = BEFORE, rates: dict[str, Rates] | None = None) -> list[str]:
    return [f.text for f in found(agent, before, rates) if f.ill]


def test_an_agent_that_does_all_it_should_is_well() -> None:
    assert found(WELL) == []


def test_a_refusal_says_why_with_its_log() -> None:
    refused = replace(WELL, said="failed", reason="no table ORDERS", log=("a", "b"), effective=6)
    (one,) = found(refused)
    assert (one.text, one.ill, one.evidence) == (
        "site atl1: it refused revision 7: no table ORDERS", True, ("a", "b"),
    )  # fmt: skip


def test_an_illness_comes_with_what_the_agent_says_of_itself_besides() -> None:
    (one,) = found(replace(WELL, sources={"stock": SourceSeen("failing")}, problems=("the disk is full",)))
    assert one.evidence == ("the disk is full",)


def test_a_refusal_of_an_older_revision_is_not_held_against_this_one() -> None:
    assert ill(replace(WELL, said_of=6, said="failed")) == []


@pytest.mark.parametrize("state", ["failing", "stopped", "blocked"])
def test_a_source_that_stands_still_is_a_doubt_first_and_an_illness_when_it_lasts(state: str) -> None:
    failing = {"stock": SourceSeen(state, "share is gone")}
    young = replace(WELL, sources=failing, effective_us=NOW - 5 * SECOND)
    assert [f.ill for f in found(young)] == [False]
    assert ill(replace(WELL, sources=failing)) == [
        f"site atl1: source stock is {state} since revision 7 runs, 60 s (share is gone)"
    ]


def test_a_source_that_failed_before_is_not_held_against_the_revision_and_another_is() -> None:
    both = replace(WELL, sources={"stock": SourceSeen("failing"), "orders": SourceSeen("failing")})
    assert [("orders" in text) for text in ill(both, changed(BEFORE, failing=("stock",)))] == [True]


def test_a_heartbeat_from_before_the_revision_says_nothing_of_it() -> None:
    old = replace(WELL, sources={"stock": SourceSeen("failing")}, beat_us=WELL.effective_us - 1)
    assert found(old) == []


def test_an_agent_that_disconnects_is_given_a_little_time() -> None:
    assert [f.ill for f in found(replace(WELL, connected=False, last_seen_us=NOW - 10 * SECOND))] == [False]
    assert ill(replace(WELL, connected=False, last_seen_us=NOW - 40 * SECOND)) == [
        "site atl1: it disconnected, 40 s ago"
    ]


def test_an_agent_that_goes_silent_is_ill_and_one_that_was_away_before_is_not() -> None:
    silent = replace(WELL, last_seen_us=NOW - 55 * SECOND, beat_us=WELL.effective_us)
    assert ill(silent) == ["site atl1: it has said nothing for 55 s"]
    away = replace(WELL, connected=False, effective=6, last_seen_us=NOW - 9000 * SECOND)
    assert found(away, changed(BEFORE, connected=False)) == []


def test_an_agent_that_starts_again_and_again_is_ill() -> None:
    assert ill(replace(WELL, starts=5)) == []
    assert ill(replace(WELL, starts=6)) == ["site atl1: it started 3 times since it was offered revision 7"]


def test_few_dead_letters_say_nothing_and_many_against_a_clean_hour_do() -> None:
    assert ill(replace(WELL, counts={"stock": Counts(4, 4, 0, "bad date")})) == []
    assert ill(replace(WELL, counts={"stock": Counts(100, 20, 0, "bad date")}), rates={"stock": Rates(5000, 10)}) == [
        "site atl1: 20 of 100 records of source stock became dead letters since revision 7 runs (20%; 0% in the hour"
        " before): bad date"
    ]


def test_a_source_that_always_rejects_much_is_judged_by_how_much_more_it_rejects() -> None:
    usual = {"stock": Rates(1000, 200)}
    assert ill(replace(WELL, counts={"stock": Counts(100, 40)}), rates=usual) == []
    assert len(ill(replace(WELL, counts={"stock": Counts(100, 70)}), rates=usual)) == 1


def test_a_small_share_of_very_many_is_no_illness() -> None:
    assert ill(replace(WELL, counts={"stock": Counts(100_000, 400)})) == []


def test_deliveries_given_up_count_against_what_the_hour_before_lets_expect() -> None:
    assert ill(replace(WELL, counts={"stock": Counts(100, 0, 4)})) == []
    assert len(ill(replace(WELL, counts={"stock": Counts(100, 0, 5, "409")}))) == 1
    assert ill(replace(WELL, counts={"stock": Counts(100, 0, 5)}), rates={"stock": Rates(9, 0, 360)}) == []


def test_lag_counts_when_it_is_long_and_much_longer_than_before() -> None:
    assert ill(replace(WELL, lag_seconds=250.0)) == []
    assert len(ill(replace(WELL, lag_seconds=400.0))) == 1
    assert ill(replace(WELL, lag_seconds=400.0), changed(BEFORE, lag_seconds=200.0)) == []


def test_a_new_source_may_begin_with_a_backlog_and_one_that_was_there_may_not() -> None:
    many = SourceSeen("running", pending=50_000)
    assert ill(replace(WELL, sources={"history": many})) == []
    assert len(ill(replace(WELL, sources={"stock": many}))) == 1


def test_records_that_wait_in_the_intake_since_the_revision_runs_are_an_illness() -> None:
    stuck = replace(WELL, stuck={"stock": "no mapping for source stock"})
    assert ill(stuck) == ["site atl1: records of source stock wait in the intake: no mapping for source stock"]
    assert found(stuck, changed(BEFORE, stuck=("stock",))) == []


def test_an_answer_from_before_the_offer_is_not_one_to_it() -> None:
    """The site ran the base once, had the revision since, and is offered the base again."""
    assert has_answered(WELL, 7)
    assert not has_answered(replace(WELL, offered_us=WELL.said_us + 1), 7)
    assert not has_answered(replace(WELL, said="applying"), 7)
    assert not has_answered(replace(WELL, offered=8), 7)


def test_no_grace_is_longer_than_the_hold() -> None:
    assert DEFAULTS.within(600.0).grace_seconds == 30.0
    assert DEFAULTS.within(2.0).grace_seconds == 2.0
    assert DEFAULTS.within(0.0).grace_seconds == 1.0
