"""What follows from a sink's verdicts. Pure: time and chance come in, decisions go out; `line` sends and persists.

A delivery is done only on the sink's own word. One that is not holds the later versions of its key and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crossdock.retry import Backoff
from crossdock_controller.sinks.base import Verdict
from crossdock_controller.store.deliveries import Failure, Picked, State, chain_of
from crossdock_controller.store.runs import Attempt

_DAY_US = 86_400_000_000
NOT_SENT = "held"  # a sink's code for a delivery that it did not try (sinks/base.py)


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a delivery is tried, from the first time the sink said "later" of it, as long as the sink took others
    meanwhile. One that takes nothing at all may be down for longer: its deliveries wait."""

    backoff: Backoff = field(default_factory=lambda: Backoff(1.0, 2.0, 300.0))
    max_age_us: int = 2 * _DAY_US
    max_attempts: int | None = None
    rate: float = 0.0  # deliveries a second; 0: as fast as the sink takes them
    supersede: frozenset[str] = frozenset()  # kinds of document of which only the newest version matters
    ttl_us: Mapping[str, int] = field(default_factory=dict)  # how old a document of each kind may be when it is sent
    versions: Mapping[str, int] = field(default_factory=dict)  # the newest version of each kind that the sink takes

    def gives_up(self, attempts: int, age_us: int, *, took_others: bool) -> bool:
        if self.max_attempts is not None and attempts >= self.max_attempts:
            return True
        return took_others and age_us >= self.max_age_us


@dataclass(slots=True)
class Judged:
    """A run after its verdicts, each delivery in exactly one of *done*, *failures* and *held*."""

    done: list[Picked] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    held: list[tuple[int, int]] = field(default_factory=list)  # event seq, chain
    attempts: list[Attempt] = field(default_factory=list)
    letters: list[tuple[int, str, str]] = field(default_factory=list)  # event seq, code, reason

    @property
    def all_retry(self) -> bool:
        """Nothing was done or refused: that says more about the sink than about the documents."""
        return not self.done and not self.letters and bool(self.failures)


def judge(
    run: Sequence[Picked],
    verdicts: Sequence[Verdict],
    policy: Policy,
    now_us: int,
    rng: random.Random,
    served_us: int | None = None,
) -> Judged:
    """*run* in event order, one verdict each. *served_us* is when the sink last took or refused a delivery of an
    earlier run; None when that is not known to be so: then nothing is given up for its age."""
    judged = Judged()
    if any(v.outcome != "retry" for v in verdicts):
        served_us = now_us
    failed: set[tuple[str, str]] = set()
    for delivery, verdict in zip(run, verdicts, strict=True):
        key = (delivery.document, delivery.key)
        if verdict.outcome == "done":
            judged.done.append(delivery)
        elif key in failed:
            judged.held.append((delivery.event_seq, _chain(delivery)))
        else:
            failed.add(key)
            if verdict.outcome == "retry" and verdict.code == NOT_SENT:
                judged.failures.append(_not_sent(delivery, verdict, now_us))
            else:
                _failed(judged, delivery, verdict, policy, now_us, rng, served_us)
    return judged


def no_verdict(
    delivery: Picked, reason: str, policy: Policy, now_us: int, rng: random.Random, *, failures: int
) -> Judged:
    """One delivery on which the sink fails without an answer, again and again: it is put behind, not given up. It does
    not count as an attempt: a sink that is down must not use them up. *failures* in a row make the wait longer."""
    judged = Judged()
    due_us = now_us + int(policy.backoff.delay(failures, rng) * 1_000_000)
    judged.attempts.append(Attempt(delivery.event_seq, delivery.attempt + 1, now_us, "no_verdict", "", reason))
    judged.failures.append(
        Failure(delivery.event_seq, _chain(delivery), State.RETRYING, delivery.attempt, due_us, delivery.since_us)
    )
    return judged


def _failed(
    judged: Judged,
    delivery: Picked,
    verdict: Verdict,
    policy: Policy,
    now_us: int,
    rng: random.Random,
    served_us: int | None,
) -> None:
    attempt = delivery.attempt + 1
    since_us = delivery.since_us or now_us
    code, reason = verdict.code, verdict.reason
    judged.attempts.append(Attempt(delivery.event_seq, attempt, now_us, verdict.outcome, code, reason))
    dead = verdict.outcome == "rejected"
    took_others = served_us is not None and served_us >= since_us
    if not dead and policy.gives_up(attempt, now_us - since_us, took_others=took_others):
        dead, reason = True, f"given up after {attempt} attempts: {reason}"
    if dead:
        judged.letters.append((delivery.event_seq, code or "rejected", reason))
        state, due_us = State.DEAD, None
    else:
        delay = policy.backoff.delay(attempt, rng, at_least=verdict.after_seconds)
        state, due_us = State.RETRYING, now_us + int(delay * 1_000_000)
    judged.failures.append(Failure(delivery.event_seq, _chain(delivery), state, attempt, due_us, since_us))


def _not_sent(delivery: Picked, verdict: Verdict, now_us: int) -> Failure:
    """The run ended before this one: it is due again when the sink says, and no attempt was made."""
    due_us = now_us + int((verdict.after_seconds or 0.0) * 1_000_000)
    return Failure(delivery.event_seq, _chain(delivery), State.RETRYING, delivery.attempt, due_us, delivery.since_us)


def _chain(delivery: Picked) -> int:
    return delivery.chain if delivery.chain is not None else chain_of(delivery.document, delivery.key)
