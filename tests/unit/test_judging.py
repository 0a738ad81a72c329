"""What follows from verdicts, without a sink and without waiting."""

import random

from crossdock_controller.judging import Policy, judge
from crossdock_controller.sinks.base import DONE, Verdict
from crossdock_controller.store.deliveries import Picked, State

NOW_US = 1_000_000_000


def picked(seq: int, key: str, attempt: int = 0) -> Picked:
    return Picked(seq, attempt, None, None, b"i" * 16, "SalesOrder", key, b"{}")


def test_a_delivery_that_was_not_sent_is_due_when_the_sink_says_and_has_no_attempt() -> None:
    run = [picked(1, "a"), picked(2, "b")]
    verdicts = [Verdict("retry", "http_429", "slow down", 7.0), Verdict("retry", "held", "not sent", 7.0)]
    judged = judge(run, verdicts, Policy(), NOW_US, random.Random(1))
    assert [(f.event_seq, f.attempt) for f in judged.failures] == [(1, 1), (2, 0)]
    assert [a.event_seq for a in judged.attempts] == [1]
    assert judged.failures[1].due_us == NOW_US + 7_000_000


def test_a_delivery_that_is_never_sent_is_never_given_up() -> None:
    policy = Policy(max_age_us=0, max_attempts=1)
    judged = judge([picked(1, "a", 5)], [Verdict("retry", "held", "not sent")], policy, NOW_US, random.Random(1))
    assert [f.state for f in judged.failures] == [State.RETRYING]
    assert judged.letters == []


def test_a_failing_version_holds_the_later_ones_of_its_key_and_nobody_else() -> None:
    run = [picked(1, "a"), picked(2, "b"), picked(3, "a"), picked(4, "c")]
    verdicts = [Verdict("rejected", "http_400", "no"), DONE, Verdict("retry", "held", "behind"), DONE]
    judged = judge(run, verdicts, Policy(), NOW_US, random.Random(1))
    assert [d.event_seq for d in judged.done] == [2, 4]
    assert [f.event_seq for f in judged.failures] == [1]
    assert [seq for seq, _ in judged.held] == [3]
    assert [letter[0] for letter in judged.letters] == [1]
