"""A fleet on paper: agents that do what they are told, or not, and a clock; a rollout's steps are taken against it."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from crossdock_controller.rollouts.decide import Step, decide
from crossdock_controller.rollouts.model import AgentSeen, Counts, Plan, Rollout, Seen, SourceSeen, Wave
from crossdock_controller.rollouts.thresholds import DEFAULTS, Thresholds

SECOND = 1_000_000
BASE, NEW = 4, 5
SILENT_SECONDS = 20.0


@dataclass
class PaperAgent:
    """*how* it takes the new revision: well, refuses, fails (its source), rejects (records), loops (starts again and
    again), hangs (says nothing of it) or leaves (goes away when it has it). *here* is whether it is connected."""

    site: str
    how: str = "well"
    here: bool = True
    effective: int = BASE
    effective_us: int = 0
    offered: int = BASE
    offered_us: int = 0
    said_of: int = BASE
    said: str = "applied"
    said_us: int = 0
    starts: int = 1
    last_seen_us: int = 0
    beat_us: int = 0
    dead: int = 0
    ran: list[int] = field(default_factory=lambda: [BASE])

    def tick(self, target: int, now_us: int) -> None:
        """A second with the controller: hear of the target, act, send a heartbeat."""
        if not self.here:
            return
        if self.offered != target:
            self.offered, self.offered_us = target, now_us
            self._answer(target, now_us)
        if self.how == "loops" and self.effective == NEW:
            self.starts += 1
        if self.how == "rejects" and self.effective == NEW:
            self.dead += 10
        if self.how == "leaves" and self.effective == NEW and now_us > self.effective_us + 2 * SECOND:
            self.here = False
            return
        self.last_seen_us = self.beat_us = now_us

    def _answer(self, target: int, now_us: int) -> None:
        if target == NEW and self.how == "hangs":
            return
        refuses = target == NEW and self.how == "refuses"
        self.said_of, self.said, self.said_us = target, "failed" if refuses else "applied", now_us
        if not refuses and self.effective != target:
            self.effective, self.effective_us = target, now_us
            self.ran.append(target)

    def seen(self) -> AgentSeen:
        failing = self.how == "fails" and self.effective == NEW
        return AgentSeen(
            self.site, self.site, self.here, self.last_seen_us, self.starts, self.effective, self.effective_us,
            self.offered, self.offered_us, self.said_of, self.said, self.said_us, "no such column",
            ("line 1", "line 2"), self.beat_us, (), 0.0,
            {"stock": SourceSeen("failing" if failing else "waiting", "gone")}, {},
            {"stock": Counts(self.dead, self.dead, 0, "not a number")} if self.dead else {},
        )  # fmt: skip


class World:
    """*lost* says of each step whether it was lost with the controller, which then begins anew."""

    def __init__(self, waves: list[list[str]], agents: list[PaperAgent], limits: Thresholds = DEFAULTS) -> None:
        self.agents = {a.site: a for a in agents}
        self.now_us = 1_000 * SECOND
        self.listening_us = self.watching_us = 0
        self.limits = limits
        self.targets: set[str] = set()
        plan = Plan(tuple(Wave(f"w{i}", "", tuple(w)) for i, w in enumerate(waves)), 10.0, 60.0)
        self.rollout = Rollout(NEW, BASE, "rolling", plan, started_us=self.now_us)
        self.steps: list[Step] = []
        for agent in agents:
            agent.last_seen_us = agent.beat_us = self.now_us

    def seen(self) -> Seen:
        found = tuple(a.seen() for a in self.agents.values())
        return Seen(self.now_us, self.listening_us, SILENT_SECONDS, (0, 0), found, self.watching_us)

    def tick(self, *, lost: bool = False) -> Step | None:
        """A second: agents act, then a step is decided and taken, unless the controller dies before it is stored."""
        self.now_us += SECOND
        for site, agent in self.agents.items():
            agent.tick(NEW if site in self.targets or self.rollout.state == "complete" else BASE, self.now_us)
        step = decide(self.rollout, self.seen(), self.limits)
        assert step == decide(self.rollout, self.seen(), self.limits), "the same is decided from the same"
        if step is None or lost:
            return None
        self.take(step)
        return step

    def take(self, step: Step) -> None:
        text = msgspec.json.encode(step.rollout)
        self.rollout = msgspec.json.decode(text, type=Rollout)  # as it comes back from the store
        if step.clear:
            self.targets = set()
        self.targets |= set(step.offer)
        self.steps.append(step)

    @property
    def over(self) -> bool:
        return self.rollout.state in {"complete", "reverted"}

    def run(self, seconds: int = 3000) -> str:
        for _ in range(seconds):
            if self.over:
                break
            self.tick()
        return self.rollout.state
