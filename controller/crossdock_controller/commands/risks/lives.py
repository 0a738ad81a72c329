"""Certificates of agents that run out, and renewals that fail: who is locked out when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crossdock_controller.commands.fleet import AgentView
from crossdock_controller.commands.risks.risk import Risk, alarm
from crossdock_controller.commands.risks.said import duration

RENEW_AT = 2 / 3  # of its life an agent renews its certificate
SLACK = 0.1  # of what is left then may pass before a renewal is late
DEFAULT_LIFE_US = 86_400_000_000
LATE = "the certificate cannot be renewed"  # as an agent of ours begins to say why


@dataclass(frozen=True, slots=True)
class Life:
    """Of the certificate that an agent may hold with the latest end. *issued_us* is 0 when nobody knows."""

    issued_us: int
    expires_us: int

    @property
    def length_us(self) -> int:
        return self.expires_us - self.issued_us if self.issued_us else DEFAULT_LIFE_US

    @property
    def due_us(self) -> int:
        """When it is to be renewed."""
        return self.expires_us - int(self.length_us * (1 - RENEW_AT))


def life_of(agent: AgentView, newest: tuple[int, int] | None) -> Life | None:
    """*newest*: when its newest certificate was issued and ends, by the ledger. None when nothing is known of it."""
    if newest is not None:
        return Life(*newest)
    return Life(0, agent.certificate_expires_us) if agent.certificate_expires_us else None


def certificates(fleet: Sequence[AgentView], known: Mapping[str, Life], grace_us: int, now_us: int) -> list[Risk]:
    """One for each agent whose certificate was not renewed when it was due. *grace_us*: how long after its end an agent
    may come back by itself."""
    found = []
    for agent in fleet:
        life = known.get(agent.agent) if agent.state != "revoked" else None
        if life is None:
            continue
        if agent.state in {"connected", "silent"} and now_us < life.expires_us:
            risk = _late(agent, life, now_us)
        else:
            risk = _away(agent, life, grace_us, now_us)
        found += [risk] if risk is not None else []
    return found


def _late(agent: AgentView, life: Life, now_us: int) -> Risk | None:
    """It is connected, and should have renewed."""
    late_us = now_us - life.due_us
    if late_us < SLACK * (life.expires_us - life.due_us):
        return None
    why = next((problem for problem in agent.problems if problem.startswith(LATE)), "")
    return Risk(
        alarm(life.expires_us - now_us, life.length_us) or "soon", "renewal", agent.agent, life.expires_us,
        f"agent {agent.agent} should have renewed its certificate {_span(late_us)} ago, which ends in"
        f" {_span(life.expires_us - now_us)}" + (f": {why}" if why else ""),
        f"at {agent.host or agent.site}: crossdock-agent check",
    )  # fmt: skip


def _away(agent: AgentView, life: Life, grace_us: int, now_us: int) -> Risk | None:
    """It is not connected: its certificate ends, then the grace, and then somebody has to go there."""
    locked_us = life.expires_us + grace_us
    level = alarm(locked_us - now_us, life.length_us + grace_us)
    if level == "locked":
        return Risk(
            level, "certificate", agent.agent, locked_us,
            f"agent {agent.agent} is locked out: its certificate ended {_span(now_us - life.expires_us)} ago"
            + (f", {_span(now_us - locked_us)} longer than it may come back by itself" if grace_us else ""),
            f"crossdock token create --site {agent.site} --agent {agent.agent}, and enroll it at "
            f"{agent.host or agent.site}",
        )  # fmt: skip
    if not level and now_us < life.expires_us:
        return None
    if now_us < life.expires_us:
        state = f"its certificate ends in {_span(life.expires_us - now_us)}"
    else:
        state = f"its certificate ended {_span(now_us - life.expires_us)} ago"
    return Risk(
        level or "notice", "certificate", agent.agent, locked_us,
        f"agent {agent.agent} is away ({agent.state}) and {state}; it can come back by itself for"
        f" {_span(locked_us - now_us)} more",
        f"bring it back: at {agent.host or agent.site} crossdock-agent check",
    )  # fmt: skip


def _span(us: int) -> str:
    return duration(us / 1e6)
