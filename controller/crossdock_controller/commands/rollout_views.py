"""How a rollout is shown: light, for `status` shows it too."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from crossdock_controller.access import Sites
from crossdock_controller.store import rollouts


@dataclass(frozen=True, slots=True)
class AgentView:
    """One agent of a site in a wave. *state*: waiting (for its wave), offered, taken, refused, offline or back (on the
    base revision again)."""

    agent: str
    site: str
    state: str
    revision: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WaveView:
    """*state*: waiting, offered, holding, passed or taken back. *passes_us* is when its hold is over, 0 when it does
    not hold now."""

    name: str
    selector: str
    state: str
    sites: list[str]
    agents: list[AgentView]
    began_us: int = 0
    taken_us: int = 0
    passes_us: int = 0
    passed_us: int = 0
    without: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RolloutView:
    """*doubts* is what the gate sees now that keeps a wave from passing."""

    revision: int
    base: int
    state: str
    why: str
    evidence: list[str]
    hold_seconds: float
    started_us: int
    ended_us: int
    waves: list[WaveView]
    doubts: list[str]
    left: dict[str, str]

    @property
    def live(self) -> bool:
        return self.state in rollouts.LIVE

    @property
    def at(self) -> str:
        """ "wave 2 of 3"."""
        begun = sum(wave.began_us > 0 for wave in self.waves)
        return f"wave {max(begun, 1)} of {len(self.waves)}"


def narrowed(view: RolloutView, within: Sites) -> RolloutView:
    """Of the sites in *within*: what was seen and why, too, once there are others, for it names them."""
    if within.everything:
        return view
    waves = [
        replace(
            wave, sites=[s for s in wave.sites if within(s)], agents=[a for a in wave.agents if within(a.site)],
            without={s: why for s, why in wave.without.items() if within(s)}, selector="",
        )
        for wave in view.waves
    ]  # fmt: skip
    return replace(
        view, waves=waves, why="", evidence=[], doubts=[], left={s: w for s, w in view.left.items() if within(s)}
    )
