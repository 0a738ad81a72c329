"""Breadth first over every interleaving: each state is judged, and each must still be able to reach the end.

The end is everything delivered: the source read to its end, nothing unacknowledged, each record in the intake.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from model.acknowledgement import known, steps
from model.states import Rules, State, initial


@dataclass
class Result:
    states: int = 0
    transitions: int = 0
    ends: int = 0  # states in which everything is delivered
    broken: str = ""  # the rule that did not hold, or ""
    path: list[str] = field(default_factory=list)  # the shortest way there
    last: State | None = None
    actions: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        found = f"; broken: {self.broken} by {' -> '.join(self.path)}" if self.broken else ""
        return f"{self.states} states, {self.transitions} transitions, {self.ends} of them ends{found}"


Check = Callable[[State, Rules], str]


def held(state: State) -> set[int]:
    return {n for content in state.outbox.log for n in content}


def stored(state: State) -> set[int]:
    return {n for _, _, content in state.intake for n in content}


def delivered(state: State, rules: Rules) -> bool:
    outbox = state.outbox
    everything = set(range(1, rules.records + 1))
    return (
        state.ready
        and outbox.acked == outbox.last
        and outbox.checkpoint == rules.records
        and stored(state) == everything
    )


def judge(state: State, rules: Rules) -> str:
    """The first rule that *state* breaks, or ""."""
    return (
        _nothing_lost(state, rules) or _acknowledged_is_durable(state, rules) or _atomic(state) or _gapless(state)
        or _nothing_doubled(state, rules) or _released_after_acknowledged(state)
    )  # fmt: skip


def _nothing_lost(state: State, rules: Rules) -> str:
    """Each record is in the intake, in the outbox, or at the source where the next reading finds it."""
    at = known(state.intake)
    checkpoint = state.outbox.checkpoint
    if state.outbox.fresh:
        told = state.welcome or at
        checkpoint = told[2] if told else 0
    safe = stored(state) | held(state) | {n for n in range(checkpoint + 1, rules.records + 1) if n not in state.gone}
    if not rules.atomic_checkpoint:
        safe |= set(state.half)
    lost = set(range(1, rules.records + 1)) - safe
    return f"record {min(lost)} is lost" if lost else ""


def _acknowledged_is_durable(state: State, rules: Rules) -> str:
    """Rule 1. An acknowledgement under way speaks of rows that are in the intake, unless that was taken away."""
    if "intake older" in rules.kinds and state.disasters < rules.disasters:
        lost = state.acknowledged - stored(state) - held(state)
        return f"record {min(lost)} was acknowledged and is nowhere" if lost else ""
    rows = {(e, s) for e, s, _ in state.intake}
    for stream in state.streams:
        for word, sequence in stream.down if stream is not None else ():
            if word == "ack" and not all((stream.epoch, n) in rows for n in range(1, sequence + 1)):  # type: ignore[union-attr]
                return f"rule 1: batch {sequence} is acknowledged before it is on the controller's disk"
    lost = state.acknowledged - stored(state)
    return f"rule 1: record {min(lost)} was acknowledged and is not in the intake" if lost else ""


def _atomic(state: State) -> str:
    """Rule 2. The outbox' checkpoint is the end of its last batch."""
    content = next((c for c in reversed(state.outbox.log) if c), None)
    if content is not None and not state.half and content[-1] > state.outbox.checkpoint:
        return f"rule 2: record {content[-1]} is in the outbox, the checkpoint is {state.outbox.checkpoint}"
    return ""


def _gapless(state: State) -> str:
    """The intake has each sequence of an epoch once, from 1 on, in the order in which the records were read."""
    for epoch in {e for e, _, _ in state.intake}:
        rows = [(s, c) for e, s, c in state.intake if e == epoch]
        if [s for s, _ in rows] != list(range(1, len(rows) + 1)):
            return f"the intake's sequences are {[s for s, _ in rows]}"
        records = [n for _, c in rows for n in c]
        if records != sorted(set(records)):
            return f"the intake's records are {records}"
    return ""


def _nothing_doubled(state: State, rules: Rules) -> str:
    """Rule 4. A record that was read twice is one event, because its id says only where in the source it stands."""
    ids = {
        (n if rules.ids_from_position else (epoch, sequence, n), n) for epoch, sequence, c in state.intake for n in c
    }
    records = [n for _, n in ids]
    doubled = sorted(n for n in set(records) if records.count(n) > 1)
    return f"rule 4: record {doubled[0]} became two events" if doubled else ""


def _released_after_acknowledged(state: State) -> str:
    """Rule 3."""
    early = state.gone - state.acknowledged
    return f"rule 3: record {min(early)} was deleted at the source before it was acknowledged" if early else ""


def explore(rules: Rules, check: Check = judge, limit: int = 3_000_000) -> Result:
    """Every state that *rules* allow. Stops at the first that breaks a rule, by the shortest way to it."""
    start = initial(rules)
    number = {start: 0}
    parents: list[tuple[int, str]] = [(-1, "")]
    found = [start]
    backward: list[list[int]] = [[]]  # progress only: no fault is needed to go on
    result = Result()
    queue = deque([0])
    while queue:
        at = queue.popleft()
        for action, fault, state in steps(found[at], rules):
            result.transitions += 1
            to = number.get(state)
            if to is None:
                to = number[state] = len(found)
                found.append(state)
                parents.append((at, action))
                backward.append([])
                queue.append(to)
                result.actions.add(action)
                result.broken = check(state, rules)
                if not result.broken and len(found) > limit:
                    raise RuntimeError(f"more than {limit} states: make {rules} smaller")
                if result.broken:
                    return _finish(result, found, parents, to)
            if not fault:
                backward[to].append(at)
    return _judge_ends(result, rules, found, parents, backward)


def _judge_ends(
    result: Result, rules: Rules, found: list[State], parents: list[tuple[int, str]], backward: list[list[int]]
) -> Result:
    ends = [i for i, state in enumerate(found) if delivered(state, rules)]
    result.ends = len(ends)
    reaches = bytearray(len(found))
    for end in ends:
        reaches[end] = 1
    while ends:
        for before in backward[ends.pop()]:
            if not reaches[before]:
                reaches[before] = 1
                ends.append(before)
    stuck = reaches.find(0)
    if stuck >= 0:
        result.broken = "no way leads from here to all delivered"
        return _finish(result, found, parents, stuck)
    result.states = len(found)
    return result


def _finish(result: Result, found: list[State], parents: list[tuple[int, str]], at: int) -> Result:
    result.states = len(found)
    result.last = found[at]
    while at > 0:
        at, action = parents[at]
        result.path.insert(0, action)
    return result
