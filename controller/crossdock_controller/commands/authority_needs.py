"""Which agents would be locked out by the next phase of replacing a certificate authority, and why. Pure.

An agent whose certificates all ended longer ago than the grace needs a visit in any case: it holds nothing back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from crossdock_controller.authority.states import State, short
from crossdock_controller.store.certificates import Certificate


@dataclass(frozen=True, slots=True)
class Need:
    """*agent* needs the authority: *reason* says why, and *step* what ends it."""

    agent: str
    reason: str
    step: str


@dataclass(frozen=True, slots=True)
class Active:
    """An agent on the list; *expires_us* of its last certificate, 0 when nobody knows."""

    host: str
    connected: bool
    expires_us: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What the store knows, by agent. *held*: what each may hold, see `certificates.held`; *confirmed*: what each said
    it trusts; *tokens*: (agent, the authority it carries, when it ends or 0), see `certificates.live_tokens`."""

    active: Mapping[str, Active]
    held: Mapping[str, Sequence[Certificate]]
    confirmed: Mapping[str, frozenset[str]]
    tokens: Sequence[tuple[str, str, int]]
    now_us: int
    grace_us: int

    def trusts(self, agent: str, first: str) -> frozenset[str]:
        """The authorities that *agent* trusts for certain: by its own word, else those that came with its certificate,
        whichever of them it holds; *first*, the first of this controller, where nothing is known."""
        said = self.confirmed.get(agent)
        if said:
            return said
        handed = [frozenset(c.bundle or (first,)) for c in self.held.get(agent, ())]
        return frozenset.intersection(*handed) if handed else frozenset({first})

    def gone(self, agent: str) -> bool:
        """Whether it cannot come back by itself, whatever is done here."""
        ends = [c.expires_us for c in self.held.get(agent, ())] or [self.active[agent].expires_us]
        return all(0 < end_us <= self.now_us - self.grace_us for end_us in ends)


def for_switch(states: Sequence[State], new: State, facts: Facts) -> list[Need]:
    """Who could not verify the server once *new* serves: neither trusts it, nor any authority that vouches for it. By
    agent; then join tokens."""
    first = states[0].fingerprint
    good = {new.fingerprint, *_anchor(states, new)}
    found = [
        Need(agent, f"has not confirmed that it trusts {short(new.fingerprint)}", _let_it_hear(agent, facts))
        for agent in sorted(facts.active)
        if not facts.gone(agent) and not facts.trusts(agent, first) & good
    ]
    return found + list(_tokens(facts, first, lambda carried: carried not in good))


def for_retire(states: Sequence[State], old: State, facts: Facts) -> list[Need]:
    """Who needs *old* still: holds a certificate of it that may be used, or has not confirmed that it trusts the
    authority that serves. By agent; then join tokens that carry *old*."""
    first, serving = states[0].fingerprint, next(s for s in states if s.serving)
    found = []
    for agent in sorted(facts.active):
        if facts.gone(agent):
            continue
        holds = _holds(agent, old, facts, first)
        if holds:
            found.append(Need(agent, holds, _let_it_renew(agent, facts)))
        elif serving.fingerprint not in facts.trusts(agent, first):
            reason = f"has not confirmed that it trusts {short(serving.fingerprint)}, which serves now"
            found.append(Need(agent, reason, _let_it_hear(agent, facts)))
    return found + list(_tokens(facts, first, lambda carried: carried == old.fingerprint))


def counts(state: State, facts: Facts, first: str) -> tuple[int, int]:
    """(active agents that trust it by their own word, active agents that hold a certificate of it)."""
    trusting = sum(state.fingerprint in facts.confirmed.get(agent, ()) for agent in facts.active)
    holding = sum(bool(_holds(agent, state, facts, first)) for agent in facts.active)
    return trusting, holding


def _anchor(states: Sequence[State], new: State) -> list[str]:
    """The oldest trusted authority that vouches for *new*: the only one whose cross certificate is sent."""
    return [s.fingerprint for s in states if s.trusted and s.fingerprint in new.crosses][:1]


def _holds(agent: str, state: State, facts: Facts, first: str) -> str:
    """Why *agent* is taken to hold a usable certificate of *state*; "" when it does not."""
    held = facts.held.get(agent)
    if not held:  # of a release that kept no ledger, and not seen since
        return "has not been seen since certificates are recorded" if state.fingerprint == first else ""
    usable = [
        c for c in held if c.authority == state.fingerprint and c.expires_us + facts.grace_us > facts.now_us
    ]  # fmt: skip
    if not usable:
        return ""
    ends = max(c.expires_us for c in usable)
    if ends > facts.now_us:
        return f"holds a certificate of it, for {_period(ends - facts.now_us)} more"
    return (
        f"holds a certificate of it that ended {_period(facts.now_us - ends)} ago, within the "
        f"{_period(facts.grace_us)} of grace"
    )


def _tokens(facts: Facts, first: str, needs: Callable[[str], bool]) -> Iterator[Need]:
    for agent, carried, ends_us in facts.tokens:
        if needs(carried or first):
            token = f"join token for it carries {short(carried or first)}"
            if ends_us:
                until = f"for {_period(ends_us - facts.now_us)} more"
                yield Need(agent, f"a {token}, {until}", "let it be used or end; or make a new one after this step")
            else:
                yield Need(
                    agent, f"waits for approval, and the {token}", f"crossdock agents approve {agent}, or deny it"
                )


def _let_it_hear(agent: str, facts: Facts) -> str:
    known = facts.active[agent]
    if known.connected:
        return "it is connected: an older release takes it up at its next renewal, or upgrade it"
    at = known.host or "its site"
    return f"let it connect once (at {at}: crossdock-agent check), or give it up: crossdock agents revoke {agent}"


def _let_it_renew(agent: str, facts: Facts) -> str:
    if facts.active[agent].connected:
        return "it is connected and renews by itself; an older release at two thirds of its certificate's life"
    return _let_it_hear(agent, facts)


def _period(us: int) -> str:
    """ "3 d", "5 h", "7 min": roughly."""
    seconds = us / 1e6
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
