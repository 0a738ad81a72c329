"""A rollout as it is stored, and what is seen of its agents. Times are microseconds since the epoch, UTC."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from crossdock_controller.store.rollouts import RolloutRow


class Wave(msgspec.Struct, frozen=True):
    """*name* is its own or its selector's text; *sites* were resolved when the rollout was made."""

    name: str
    selector: str
    sites: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True):
    """*patience_seconds*: how long a wave waits for its agents that are not connected."""

    waves: tuple[Wave, ...]
    hold_seconds: float
    patience_seconds: float


class Before(msgspec.Struct, frozen=True):
    """How an agent was when its wave began."""

    connected: bool
    starts: int
    failing: tuple[str, ...] = ()  # sources that were failing, stopped or blocked then
    stuck: tuple[str, ...] = ()  # sources whose records waited in the intake with a problem
    lag_seconds: float = 0.0
    pending: dict[str, int] = {}  # records by source


class Rates(msgspec.Struct, frozen=True):
    """Of one source of one agent in the hour before its wave."""

    records: int = 0
    dead: int = 0
    dead_deliveries: int = 0


class Begun(msgspec.Struct, frozen=True):
    """A wave that has begun. Marks are numbers of the newest batch and dead letter then."""

    began_us: int
    mark_input: int
    mark_letter: int
    before: dict[str, Before] = {}  # by agent
    rates: dict[str, dict[str, Rates]] = {}  # by agent, then source
    taken_us: int = 0  # when its agents had applied the revision: the hold counts from then
    passed_us: int = 0
    without: dict[str, str] = {}  # agents that the wave went on without, and why


class Progress(msgspec.Struct, frozen=True):
    """*begun* are the waves so far, in order; *taken_back_us* is when the revert began, *left* who could not be told
    of it."""

    begun: tuple[Begun, ...] = ()
    taken_back_us: int = 0
    left: dict[str, str] = {}


class Rollout(msgspec.Struct, frozen=True):
    revision: int
    base: int
    state: str  # "rolling", "held", "reverting", "reverted" or "complete"
    plan: Plan
    progress: Progress = Progress()
    why: str = ""
    evidence: tuple[str, ...] = ()
    started_us: int = 0
    ended_us: int = 0

    @property
    def touched(self) -> tuple[str, ...]:
        """The sites of the waves that have begun."""
        return tuple(site for wave in self.plan.waves[: len(self.progress.begun)] for site in wave.sites)


@dataclass(frozen=True, slots=True)
class SourceSeen:
    state: str
    error: str = ""
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one source since its wave began; *reason* is why its newest dead letter is one, without a value of it."""

    records: int = 0
    dead: int = 0
    dead_deliveries: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AgentSeen:
    """One agent that may use the link, now. *offered* is what it was last asked to run, *said* is its last answer,
    about revision *said_of*; *beat_us* is when its last heartbeat came, of which *sources* and *lag_seconds* are."""

    agent: str
    site: str
    connected: bool
    last_seen_us: int
    starts: int = 0
    effective: int = 0
    effective_us: int = 0
    offered: int = 0
    offered_us: int = 0
    said_of: int = 0
    said: str = ""
    said_us: int = 0
    reason: str = ""
    log: tuple[str, ...] = ()
    beat_us: int = 0
    problems: tuple[str, ...] = ()  # in the agent's own words
    lag_seconds: float = 0.0
    sources: dict[str, SourceSeen] = field(default_factory=dict)
    stuck: dict[str, str] = field(default_factory=dict)  # source: why its records wait in the intake
    counts: dict[str, Counts] = field(default_factory=dict)  # by source, since its wave began
    hour: dict[str, Rates] = field(default_factory=dict)  # by source; only looked up for a wave that may begin


@dataclass(frozen=True, slots=True)
class Seen:
    """Every agent of the sites in waves at *now_us*; *mark* are the newest batch and dead letter. Agents may be here
    again since *listening_us*: while the controller was down, nobody could be. It watches since *watching_us*."""

    now_us: int
    listening_us: int
    silent_seconds: float
    mark: tuple[int, int]
    agents: tuple[AgentSeen, ...]
    watching_us: int = 0


def of_row(row: RolloutRow) -> Rollout:
    return Rollout(
        row.revision, row.base, row.state, msgspec.json.decode(row.plan, type=Plan),
        msgspec.json.decode(row.progress, type=Progress), row.why,
        msgspec.json.decode(row.evidence, type=tuple[str, ...]), row.started_us, row.ended_us,
    )  # fmt: skip


def text(value: msgspec.Struct | tuple[str, ...]) -> str:
    """JSON, as it is stored."""
    return msgspec.json.encode(value).decode()
