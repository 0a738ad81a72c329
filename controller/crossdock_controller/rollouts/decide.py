"""The next step of a rollout: what it is and what is seen of its agents, to what it will be. Pure, and safe to repeat.

A wave begins with a record of how its agents are, waits until they have applied the revision, holds for as long as was
asked, and passes when nothing is in doubt and each agent was heard of in the later half of the hold; a controller that
was away meanwhile watches a whole one. One illness, of any site that has the revision, takes it back from all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from crossdock_controller.rollouts.gate import Finding, has_answered, has_refused, has_taken, judge
from crossdock_controller.rollouts.model import AgentSeen, Before, Begun, Rollout, Seen
from crossdock_controller.rollouts.thresholds import DEFAULTS, Thresholds

_SECOND = 1_000_000
_STOPPED = {"failing", "stopped", "blocked"}
SENTENCE = 600  # characters of a reason that are kept


@dataclass(frozen=True, slots=True)
class Step:
    """*rollout* is what it becomes; *offer* are sites that are to run its revision from now on, *clear* means that
    from now on all run what is in force. *event* names it for the record, *said* is a line for the log."""

    rollout: Rollout
    event: str
    said: str
    offer: tuple[str, ...] = ()
    clear: bool = False


def decide(rollout: Rollout, seen: Seen, limits: Thresholds = DEFAULTS) -> Step | None:
    """The next step, None when it is not time for one."""
    if rollout.state == "reverting":
        return _reverting(rollout, seen, limits)
    if rollout.state not in {"rolling", "held"}:
        return None
    limits = limits.within(rollout.plan.hold_seconds)
    found = findings(rollout, seen, limits)
    ill = [f for f in found if f.ill]
    if ill:
        return halted(rollout, _sentence(rollout, ill), _evidence(ill), seen.now_us)
    if rollout.state == "held":
        return None
    if not rollout.progress.begun:
        return _begin(rollout, seen)
    wave = rollout.progress.begun[-1]
    if not wave.taken_us:
        return _taken(rollout, wave, seen)
    since_us = max(wave.taken_us, seen.watching_us)  # a hold that nobody watched shows nothing
    if found or seen.now_us < since_us + int(rollout.plan.hold_seconds * _SECOND):
        return None
    took = [a for a in _of_wave(rollout, seen) if has_taken(a, rollout.revision)]
    if not took:  # revoked meanwhile, or gone: nobody is left to say that it is well
        name = rollout.plan.waves[len(rollout.progress.begun) - 1].name
        return halted(rollout, f"no agent of wave {name} runs revision {rollout.revision} any more", (), seen.now_us)
    half_us = since_us + int(rollout.plan.hold_seconds * _SECOND / 2)
    return _passed(rollout, wave, seen) if all(a.beat_us >= half_us for a in took) else None


def findings(rollout: Rollout, seen: Seen, limits: Thresholds) -> list[Finding]:
    """All that is wrong, or may be, at sites that have the revision; the worst first."""
    waves = {site: i for i, wave in enumerate(rollout.plan.waves) for site in wave.sites}
    found: list[Finding] = []
    for agent in seen.agents:
        index = waves.get(agent.site, len(rollout.plan.waves))
        if index < len(rollout.progress.begun):
            begun = rollout.progress.begun[index]
            found += judge(agent, rollout.revision, begun, seen, limits)
    return sorted(found, key=lambda f: not f.ill)


def halted(rollout: Rollout, why: str, evidence: tuple[str, ...], now_us: int) -> Step:
    """Take the revision back from every site that has it."""
    progress = msgspec.structs.replace(rollout.progress, taken_back_us=now_us)
    after = msgspec.structs.replace(rollout, state="reverting", why=why, evidence=evidence, progress=progress)
    return Step(after, "halted", f"halted, {_sites(len(rollout.touched))} get revision {rollout.base} again: {why}",
                clear=True)  # fmt: skip


def finished(rollout: Rollout, now_us: int) -> Step:
    """In force everywhere, whatever is left of waves and holds."""
    after = msgspec.structs.replace(rollout, state="complete", ended_us=now_us)
    return Step(after, "complete", f"revision {rollout.revision} is in force everywhere", clear=True)


def _begin(rollout: Rollout, seen: Seen) -> Step:
    """Offer the revision to the next wave, and remember how its agents are now."""
    number = len(rollout.progress.begun)
    wave = rollout.plan.waves[number]
    agents = [a for a in seen.agents if a.site in wave.sites]
    begun = Begun(
        seen.now_us,
        *seen.mark,
        before={a.agent: _before(a, seen) for a in agents},
        rates={a.agent: dict(a.hour) for a in agents if a.hour},
    )
    progress = msgspec.structs.replace(rollout.progress, begun=(*rollout.progress.begun, begun))
    after = msgspec.structs.replace(rollout, progress=progress)
    said = f"wave {number + 1} of {len(rollout.plan.waves)}, {wave.name}: offered to {_sites(len(wave.sites))}"
    return Step(after, "wave", said, offer=wave.sites)


def _before(agent: AgentSeen, seen: Seen) -> Before:
    return Before(
        connected=_is_here(agent, seen),
        starts=agent.starts,
        failing=tuple(sorted(name for name, s in agent.sources.items() if s.state in _STOPPED)),
        stuck=tuple(sorted(agent.stuck)),
        lag_seconds=agent.lag_seconds,
        pending={name: s.pending for name, s in agent.sources.items()},
    )


def _taken(rollout: Rollout, wave: Begun, seen: Seen) -> Step | None:
    """The hold begins once every agent of the wave has the revision; one that is away is waited for, for a while."""
    agents = _of_wave(rollout, seen)
    took = [a for a in agents if has_taken(a, rollout.revision)]
    missing = [a for a in agents if not has_taken(a, rollout.revision)]
    waited = (seen.now_us - wave.began_us) / _SECOND
    impatient = waited > rollout.plan.patience_seconds
    if missing and (not impatient or any(_is_here(a, seen) for a in missing)):
        return None  # who is here answers, or is judged for not answering
    if not took:
        name = rollout.plan.waves[len(rollout.progress.begun) - 1].name
        why = f"no agent of wave {name} took revision {rollout.revision} within {waited:.0f} s: {_names(missing)}"
        return halted(rollout, why, (), seen.now_us)
    without = {a.agent: _away(a, seen) for a in missing}
    after = _with_last(rollout, msgspec.structs.replace(wave, taken_us=seen.now_us, without=without))
    said = f"{len(took)} of {len(agents)} agents run revision {rollout.revision}; held for"
    said += f" {rollout.plan.hold_seconds:g} s" + (f", without {_names(missing)}" if missing else "")
    return Step(after, "held", said)


def _passed(rollout: Rollout, wave: Begun, seen: Seen) -> Step:
    after = _with_last(rollout, msgspec.structs.replace(wave, passed_us=seen.now_us))
    if len(after.progress.begun) == len(after.plan.waves):
        return finished(after, seen.now_us)
    return _begin(after, seen)


def _reverting(rollout: Rollout, seen: Seen, limits: Thresholds) -> Step | None:
    """Over when each agent that had the revision runs another one, or has not come back to say so."""
    touched = set(rollout.touched)
    agents = [a for a in seen.agents if a.site in touched]
    still = [a for a in agents if _has_it_still(a, rollout, seen)]
    waited = (seen.now_us - rollout.progress.taken_back_us) / _SECOND
    if still and waited <= limits.revert_seconds:
        return None
    left = {a.agent: _away(a, seen) for a in still}
    left |= {a.agent: f"refused revision {rollout.base}: {a.reason}" for a in agents if has_refused(a, rollout.base)}
    progress = msgspec.structs.replace(rollout.progress, left=left)
    after = msgspec.structs.replace(rollout, state="reverted", progress=progress, ended_us=seen.now_us)
    said = f"revision {rollout.base} runs again at {_sites(len(touched))} after {waited:.1f} s"
    return Step(after, "reverted", said + (f", not heard of: {', '.join(sorted(left))}" if left else ""))


def _has_it_still(agent: AgentSeen, rollout: Rollout, seen: Seen) -> bool:
    """Not back yet: one that is here has to answer the offer of the base; one that is away is waited for if it had the
    revision."""
    if has_answered(agent, rollout.base) or _gave_up_by_itself(agent, rollout):
        return False
    return _is_here(agent, seen) or agent.effective == rollout.revision


def _gave_up_by_itself(agent: AgentSeen, rollout: Rollout) -> bool:
    """It went back before it was told to, and its last word is why: it runs the base, which it is to run."""
    runs_base = agent.effective == rollout.base and agent.offered == rollout.base
    return runs_base and has_refused(agent, rollout.revision) and agent.said_us >= agent.offered_us


def _with_last(rollout: Rollout, wave: Begun) -> Rollout:
    progress = msgspec.structs.replace(rollout.progress, begun=(*rollout.progress.begun[:-1], wave))
    return msgspec.structs.replace(rollout, progress=progress)


def _of_wave(rollout: Rollout, seen: Seen) -> list[AgentSeen]:
    """Agents of the wave that began last."""
    sites = rollout.plan.waves[len(rollout.progress.begun) - 1].sites
    return [a for a in seen.agents if a.site in sites]


def _is_here(agent: AgentSeen, seen: Seen) -> bool:
    return agent.connected and (seen.now_us - agent.last_seen_us) / _SECOND <= seen.silent_seconds


def _away(agent: AgentSeen, seen: Seen) -> str:
    if not agent.last_seen_us:
        return "never connected"
    state = "offline" if not agent.connected else "has not answered" if _is_here(agent, seen) else "silent"
    return f"{state} for {(seen.now_us - agent.last_seen_us) / _SECOND:.0f} s"


def _sentence(rollout: Rollout, ill: list[Finding]) -> str:
    more = f"; and {len(ill) - 1} more" if len(ill) > 1 else ""
    number = len(rollout.progress.begun)
    said = " ".join(ill[0].text.split())  # an agent's reason may be of several lines
    said = said if len(said) <= SENTENCE else f"{said[: SENTENCE - 1]}…"
    return f"in wave {number} of {len(rollout.plan.waves)}, {said}{more}"


def _evidence(ill: list[Finding]) -> tuple[str, ...]:
    return next((f.evidence for f in ill if f.evidence), ())


def _names(agents: list[AgentSeen]) -> str:
    return ", ".join(a.agent for a in agents) or "it has none"


def _sites(count: int) -> str:
    return f"{count} site{'' if count == 1 else 's'}"
