"""One run: a plant under the schedule of one seed, then quiet, then the reckoning."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.faults import Lift, inject
from chaos.history import explain
from chaos.plant import Plant
from chaos.schedule import KINDS, Fault, Kind, plan
from chaos.verdict import Verdict, judge
from support.gateway import wait_until

WARM_SECONDS = 300.0  # faults that meet nothing prove nothing
DRAIN_SECONDS = 240.0
Say = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """*injected* counts faults that had an effect, by kind and target; *drain_seconds* from the last fault's end."""

    seed: int
    verdict: Verdict
    seconds: float = 0.0
    drain_seconds: float = 0.0
    injected: Counter[tuple[str, str]] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)  # by which it shows that the faults were felt
    ended: list[str] = field(default_factory=list)
    directory: Path = Path()

    def as_json(self) -> dict[str, object]:
        return {
            "seed": self.seed, "seconds": self.seconds, "drain_seconds": self.drain_seconds,
            "records": self.verdict.records, "arrived": self.verdict.arrived,
            "findings": self.verdict.findings.sentences, "effects": self.effects, "ended": self.ended,
            "injected": [[kind, target, count] for (kind, target), count in sorted(self.injected.items())],
        }  # fmt: skip


def run(
    directory: Path, seed: int, seconds: float, say: Say, kinds: Sequence[Kind] = KINDS, every_seconds: float = 1.0
) -> Outcome:
    """The run's outcome; its directory is complete when it returns, and nothing of it runs any more."""
    directory.mkdir(parents=True)  # a new one: what another run left would be taken for its own
    schedule = plan(seed, seconds, kinds, every_seconds)
    (directory / "schedule.json").write_text(json.dumps([f.as_json() for f in schedule], indent=1), "utf-8")
    with Plant(directory, seed) as plant:
        outcome = Outcome(seed, Verdict(), directory=directory)
        wait_until(plant.moving, "records of every site arrive", WARM_SECONDS)
        began = time.monotonic()
        _storm(plant, schedule, seconds, outcome)
        outcome.seconds = time.monotonic() - began
        _quiet(plant)
        calm = time.monotonic()
        outcome.verdict = _drained(plant)
        outcome.drain_seconds = time.monotonic() - calm
        outcome.ended, outcome.effects = plant.ended, plant.effects()
        if outcome.verdict.findings:
            explain(plant, outcome.verdict.findings, say)
    return outcome


def _storm(plant: Plant, schedule: list[Fault], seconds: float, outcome: Outcome) -> None:
    """Faults begin and end by the clock; those that hold longer than the storm end with it."""
    begins = deque(schedule)
    ends: list[tuple[float, Fault, Lift]] = []
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        while begins and begins[0].at <= now:
            fault = begins.popleft()
            lift = inject(plant, fault)
            plant.note(f"{fault}" + ("" if lift else " (no effect)"))
            if lift is not None:
                outcome.injected[fault.kind, fault.target] += 1
                ends.append((fault.at + fault.seconds, fault, lift))
        for end in [e for e in ends if e[0] <= now]:
            ends.remove(end)
            _end(plant, *end[1:])
        plant.keep()
        time.sleep(0.05)
    for _, fault, lift in ends:
        _end(plant, fault, lift)


def _end(plant: Plant, fault: Fault, lift: Lift) -> None:
    lift()
    if fault.seconds:
        plant.note(f"        end of {fault.kind} {fault.target} (of {fault.at})")


def _quiet(plant: Plant) -> None:
    """Every fault is lifted, everything runs, nobody gives any more."""
    plant.note("quiet")
    for proxy in plant.proxies.values():
        proxy.heal()
    plant.thaw_all()
    plant.well()
    plant.web.mode = ""
    plant.web.open_port()
    plant.stray.end()
    for business in plant.businesses.values():
        business.end()
        if business.failure is not None:
            raise business.failure
    plant.person.push("route")  # with the sink that came and went: what it was due when it went must reach it now
    plant.keep_all()
    while not plant.person.idle():
        plant.keep()
        time.sleep(0.1)


def _drained(plant: Plant) -> Verdict:
    """The verdict once it is good, or after DRAIN_SECONDS."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while True:
        plant.keep()
        late = time.monotonic() > deadline
        verdict = judge(plant, thorough=late)
        if not verdict.findings or late:
            return verdict
        plant.note(f"draining: {verdict.findings.sentences[0]}")
        time.sleep(1.0)
