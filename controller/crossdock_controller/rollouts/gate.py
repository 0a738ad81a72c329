"""Whether an agent that was given a revision is well: one sentence with numbers for each thing that is wrong. Pure.

*ill* is a reason to take the revision back now; *doubts* are what may pass, and keeps the wave from passing meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crossdock_controller.rollouts.model import AgentSeen, Before, Begun, Rates, Seen
from crossdock_controller.rollouts.thresholds import Thresholds

_STOPPED = {"failing", "stopped", "blocked"}
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """*evidence* are the agent's last log lines where it refused, else what it says of itself besides."""

    agent: str
    site: str
    text: str
    ill: bool
    evidence: tuple[str, ...] = ()


def has_taken(agent: AgentSeen, revision: int) -> bool:
    """It runs *revision* and has not refused it since."""
    return agent.effective == revision and not has_refused(agent, revision)


def has_refused(agent: AgentSeen, revision: int) -> bool:
    return agent.said_of == revision and agent.said == "failed"


def has_answered(agent: AgentSeen, revision: int) -> bool:
    """It was last asked to run *revision*, and has said since that it does, or why not."""
    said = agent.said_of == revision and agent.said in {"applied", "failed"}
    return said and agent.offered == revision and agent.said_us >= agent.offered_us


def judge(agent: AgentSeen, revision: int, wave: Begun, seen: Seen, limits: Thresholds) -> list[Finding]:
    """What is wrong with *agent* since *wave* of *revision* began."""
    found = _Judge(agent, revision, wave, seen, limits).all()
    return [
        Finding(agent.agent, agent.site, f"{_who(agent)} {text}", ill, agent.log if refused else agent.problems)
        for text, ill, refused in found
    ]


def _who(agent: AgentSeen) -> str:
    return f"site {agent.site}:" if agent.agent == agent.site else f"site {agent.site}, agent {agent.agent}:"


@dataclass(frozen=True, slots=True)
class _Judge:
    agent: AgentSeen
    revision: int
    wave: Begun
    seen: Seen
    limits: Thresholds

    @property
    def before(self) -> Before:
        return self.wave.before.get(self.agent.agent, Before(connected=False, starts=self.agent.starts))

    def all(self) -> Iterator[tuple[str, bool, bool]]:
        """(text, whether it is ill, whether it refused)."""
        agent = self.agent
        if has_refused(agent, self.revision):
            yield f"it refused revision {self.revision}: {agent.reason or 'it gave no reason'}", True, True
            return
        yield from ((text, ill, False) for text, ill in self._presence())
        if not has_taken(agent, self.revision):
            return
        if agent.beat_us >= agent.effective_us:
            yield from ((text, ill, False) for text, ill in (*self._sources(), *self._lag()))
        yield from ((text, ill, False) for text, ill in (*self._stuck(), *self._rejects()))

    def _presence(self) -> Iterator[tuple[str, bool]]:
        agent, before, limits = self.agent, self.before, self.limits
        taken = has_taken(agent, self.revision)
        starts = agent.starts - before.starts
        if starts >= limits.restarts:
            yield f"it started {starts} times since it was offered revision {self.revision}", True
        if agent.connected and not taken:
            yield from self._unanswered()
        if not (before.connected or taken):
            return  # it was away before: that it is away is no news
        away = self._seconds(agent.last_seen_us)
        missed = min(away, self._seconds(self.seen.listening_us))
        if not agent.connected:
            yield f"it disconnected, {away:.0f} s ago", missed > limits.grace_seconds
        elif missed > self.seen.silent_seconds:
            yield f"it has said nothing for {away:.0f} s", missed > self.seen.silent_seconds + limits.grace_seconds

    def _unanswered(self) -> Iterator[tuple[str, bool]]:
        """One that is here; if it was away when its wave began, from when it was offered the revision."""
        agent, since = self.agent, self.wave.began_us
        if agent.offered == self.revision:
            since = max(since, agent.offered_us)
        elif not self.before.connected:
            return  # it came this moment
        waited = self._seconds(since)
        if waited > self.limits.apply_seconds:
            said = f"said {agent.said!r} of it" if agent.said_of == self.revision else "has not answered"
            yield f"it {said} and does not run revision {self.revision} after {waited:.0f} s", True

    def _sources(self) -> Iterator[tuple[str, bool]]:
        since = self._seconds(self.agent.effective_us)
        for name, source in sorted(self.agent.sources.items()):
            if source.state in _STOPPED and name not in self.before.failing:
                said = f" ({source.error})" if source.error else ""
                text = f"source {name} is {source.state} since revision {self.revision} runs, {since:.0f} s{said}"
                yield text, since > self.limits.grace_seconds

    def _lag(self) -> Iterator[tuple[str, bool]]:
        agent, before, limits = self.agent, self.before, self.limits
        if agent.lag_seconds > max(limits.lag_seconds, limits.lag_factor * before.lag_seconds):
            was_seconds = before.lag_seconds
            text = f"its oldest record waits in the outbox for {agent.lag_seconds:.0f} s, it was {was_seconds:.0f} s"
            yield text, True
        for name, source in sorted(agent.sources.items()):
            was = before.pending.get(name)  # a source that is new begins with all there is
            if was is not None and source.pending > max(limits.pending_records, limits.pending_factor * was):
                yield f"source {name} has {source.pending:,} records in the outbox, it had {was:,}", True

    def _stuck(self) -> Iterator[tuple[str, bool]]:
        since = self._seconds(self.agent.effective_us)
        for name, problem in sorted(self.agent.stuck.items()):
            if name not in self.before.stuck:
                yield f"records of source {name} wait in the intake: {problem}", since > self.limits.grace_seconds

    def _rejects(self) -> Iterator[tuple[str, bool]]:
        hour, limits = self.wave.rates.get(self.agent.agent, {}), self.limits
        for name, counts in sorted(self.agent.counts.items()):
            was = hour.get(name, Rates())
            share = counts.dead / max(counts.records, counts.dead, 1)
            usual = was.dead / max(was.records, was.dead, 1)
            if counts.dead >= limits.dead_records and share > max(limits.dead_share, limits.dead_factor * usual):
                text = (
                    f"{counts.dead:,} of {counts.records:,} records of source {name} became dead letters since revision"
                    f" {self.revision} runs ({share:.0%}; {usual:.0%} in the hour before): {counts.reason}"
                )
                yield text, True
            expected = was.dead_deliveries * self._seconds(self.wave.began_us) / 3600
            few = max(limits.dead_deliveries - 1, limits.dead_deliveries_factor * expected)
            if counts.dead_deliveries > few:
                text = (
                    f"{counts.dead_deliveries:,} deliveries of source {name} became dead letters"
                    f" ({was.dead_deliveries:,} in the hour before): {counts.reason}"
                )
                yield text, True

    def _seconds(self, since_us: int) -> float:
        return max(0.0, (self.seen.now_us - since_us) / _SECOND)
