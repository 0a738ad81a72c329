"""Clocks that are off, releases that are old, copies of an identity: what each agent's own state says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crossdock import __version__
from crossdock.wire import OLDEST_PROTOCOL
from crossdock_controller.commands.fleet import CLOCK_SECONDS, AgentView
from crossdock_controller.commands.identity import OVER_SECONDS, sentence
from crossdock_controller.commands.risks.lives import Life
from crossdock_controller.commands.risks.risk import DAY_US, Risk
from crossdock_controller.commands.risks.said import ago, duration
from crossdock_controller.store.machines import Machine
from crossdock_controller.store.refusals import Refusal

BACKDATE_US = 7 * DAY_US  # before this long a certificate is valid before it was issued
FAR_SECONDS = 3600.0


def clocks(fleet: Sequence[AgentView], lives: Mapping[str, Life], server_ends_us: int, now_us: int) -> list[Risk]:
    """Agents whose clock is off, and those it is about to lock out: an agent judges our certificate, and when its own
    is to be renewed, by its own clock."""
    found = []
    for agent in fleet:
        off_us = agent.clock_offset_us
        if agent.state == "revoked" or abs(off_us) <= CLOCK_SECONDS * 1e6:
            continue
        level, why = _consequence(off_us, lives.get(agent.agent), server_ends_us - now_us if server_ends_us else 0)
        way = "ahead of" if off_us > 0 else "behind"
        found.append(
            Risk(
                level, "clock", agent.agent, 0,
                f"the clock of agent {agent.agent} is {duration(abs(off_us) / 1e6)} {way} ours{why}",
                f"set the time service on {agent.host or agent.site}",
            )
        )  # fmt: skip
    return found


def _consequence(off_us: int, life: Life | None, server_left_us: int) -> tuple[str, str]:
    if off_us < -BACKDATE_US:
        return "critical", ": it takes our certificate for not yet valid, and does not connect again"
    if server_left_us and off_us > server_left_us:
        return "critical", ": it takes our certificate for ended, and does not connect again"
    if life is not None and off_us < -life.length_us / 2:
        return "urgent", ": it renews its certificate only after that has ended"
    if life is not None and off_us > life.length_us:
        return "soon", ": it takes its own certificate for ended, and renews it all the time"
    return ("soon" if abs(off_us) > FAR_SECONDS * 1e6 else "notice"), ""


def releases(fleet: Sequence[AgentView]) -> list[Risk]:
    """Agents of an older release than ours, and those whose protocol is not spoken here."""
    found = []
    for agent in fleet:
        if agent.state == "revoked":
            continue
        misfit = next((p for p in agent.own_problems if "speaks protocol" in p), "")
        if misfit:
            found.append(Risk("locked", "protocol", agent.agent, 0, misfit, f"upgrade agent {agent.agent}"))
        elif _number(agent.version) and _number(agent.version) < _number(__version__):
            found.append(
                Risk(
                    "notice", "version", agent.agent, 0,
                    f"agent {agent.agent} runs crossdock {agent.version}, the controller {__version__}; protocol"
                    f" {OLDEST_PROTOCOL} is the oldest that is spoken",
                    f"upgrade it at {agent.host or agent.site}",
                )
            )  # fmt: skip
    return found


def _number(version: str) -> tuple[int, ...]:
    """ "1.2.0" as (1, 2, 0), to be compared; empty for what is no release."""
    parts = version.split(".")
    return tuple(int(p) for p in parts) if len(parts) > 1 and all(p.isdigit() for p in parts) else ()


def strangers(fleet: Sequence[AgentView]) -> list[Risk]:
    """Agents with a certificate of ours that are on no list."""
    return [
        Risk(
            "locked", "unknown", agent.agent, 0,
            f"agent {agent.agent} knocks with a certificate of ours, is on no list and is refused",
            f"is it one of yours? crossdock agents adopt {agent.agent} --site SITE",
        )
        for agent in fleet
        if agent.state == "unknown"
    ]  # fmt: skip


def copies(refused: Sequence[Refusal], sites: Mapping[str, str], now_us: int) -> list[Risk]:
    """Clones, other machines and outdated certificates of the last day; what has stopped is less urgent."""
    found = []
    for row in refused:
        over = now_us - row.last_us > OVER_SECONDS * 1e6
        tried = f"{row.count} times, " if row.count > 1 else ""
        site = sites.get(row.subject, "SITE")
        steps = {
            "twin": f"stop the agent on {row.detail or row.address or 'that machine'}; a machine of its own enrols"
            f" under a name of its own: crossdock token create --site {site} --agent NAME",
            "machine": f"if it is to take the other's place: crossdock agents move {row.subject}; else stop it",
            "outdated": f"its right machine enrols anew: crossdock token create --site {site} --agent {row.subject}; if"
            f" nobody knows that address: crossdock agents revoke {row.subject} --because stolen",
        }
        found.append(
            Risk(
                "soon" if over else "urgent", "identity", row.subject, 0,
                f"agent {row.subject}: {sentence(row)} ({tried}last {ago(row.last_us, now_us)})", steps[row.kind],
            )
        )  # fmt: skip
    return found


def moves(bound: Sequence[Machine], now_us: int) -> list[Risk]:
    """Identities that the next machine may take."""
    return [
        Risk(
            "notice", "move", one.agent, 0,
            f"the next machine that greets as agent {one.agent} has its identity, for"
            f" {duration((one.moving_us - now_us) / 1e6 + 86_400)} more",
            f"start the agent on its new machine; the old one ({one.host or 'unnamed'}) is refused then",
        )
        for one in bound
        if one.free(now_us)
    ]  # fmt: skip
