"""Rollouts: prepared by `apply` and `rollback`, looked at, paused, ended; and which agents run what they should not."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import msgspec

from crossdock.errors import ConfigError
from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.commands.rollout_views import AgentView, RolloutView, WaveView, narrowed
from crossdock_controller.paths import DataDirectory
from crossdock_controller.rollouts import affected, gate, model, waves
from crossdock_controller.rollouts.conductor import take_now
from crossdock_controller.rollouts.decide import Step, findings, finished, halted
from crossdock_controller.rollouts.model import AgentSeen, Rollout, Seen
from crossdock_controller.rollouts.observe import observe
from crossdock_controller.rollouts.thresholds import DEFAULTS
from crossdock_controller.rollouts.waves import Asked
from crossdock_controller.served import served
from crossdock_controller.store import agents, audit, connection, rollouts
from crossdock_controller.store.rollouts import RolloutRow

LONGEST_SECONDS = 366 * 86_400.0  # for which a wave may hold or wait
TRIES = 20  # the controller takes a step now and then while a command is given


@dataclass(frozen=True, slots=True)
class InWaves:
    """How a revision is to be brought to the sites."""

    asked: Sequence[Asked]
    hold_seconds: float
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """*later*: what belongs to no site and changes when the rollout is complete, and not before."""

    plan: model.Plan
    later: tuple[str, ...]


def prepare(
    data: DataDirectory, asked: InWaves, current: Mapping[str, str] | None, tree: Mapping[str, str]
) -> Prepared:
    """Which sites are in which wave. Raises ConfigError when it cannot be rolled out in waves, and why."""
    from crossdock_controller.config.load import load

    for does, seconds in (("holds", asked.hold_seconds), ("waits", asked.patience_seconds)):
        if not 0 <= seconds <= LONGEST_SECONDS:  # agents are told in a number of so many bits
            raise ConfigError(
                f"a wave {does} for 0 s to {LONGEST_SECONDS / 86_400:.0f} d, not {seconds:g} s", hint="--hold 10m"
            )
    if current is None:
        raise ConfigError(
            "the first revision cannot be rolled out in waves: there is none to go back to",
            hint="apply it without --wave",
        )
    old, new = load(current), load(tree)
    with closing(connection.connect(data.state)) as db:
        manned = set(agents.active(db).values())
    changing = {site: labels for site, labels in affected.changing(old, new).items() if site in manned}
    resolved = waves.resolve(asked.asked, changing, sorted(new.sites))
    plan = model.Plan(resolved, asked.hold_seconds, asked.patience_seconds)
    return Prepared(plan, tuple(affected.shared(old, new)))


def begin(db: sqlite3.Connection, prepared: Prepared, revision: int, base: int, by: str, now_us: int) -> None:
    """In the transaction that stores *revision*."""
    rollouts.begin(db, revision, base, model.text(prepared.plan), model.text(model.Progress()), now_us)
    details = {"base": base, "waves": {w.name: list(w.sites) for w in prepared.plan.waves}}
    audit.append(db, actor=actor(by), action="rollout.begin", target=str(revision), details=details, now_us=now_us)


def actor(by: str) -> str:
    return by if ":" in by else f"local:{by}"


@served
def pause(data: DataDirectory, by: str, why: str, now_us: int) -> Rollout:
    """No wave begins or passes until `resume`; the sites that have the revision are judged all the same."""
    return _change(data, by, now_us, {"rolling"}, lambda r: Step(_to(r, "held"), "pause", why or "paused"))


@served
def resume(data: DataDirectory, by: str, why: str, now_us: int) -> Rollout:
    return _change(data, by, now_us, {"held"}, lambda r: Step(_to(r, "rolling"), "resume", why or "resumed"))


@served
def halt(data: DataDirectory, by: str, why: str, now_us: int) -> Rollout:
    """Take the revision back from every site that has it."""
    sentence = f"halted by {by.partition(':')[2] or by}: {why}"
    return _change(data, by, now_us, {"rolling", "held"}, lambda r: halted(r, sentence, (), now_us))


@served
def finish(data: DataDirectory, by: str, why: str, now_us: int) -> Rollout:
    """In force everywhere now, whatever is left of waves and holds. Raises ConfigError without a reason."""
    if not why.strip():
        raise ConfigError("to skip the holds needs a reason", hint="crossdock rollout finish -m WHY")

    def step(rollout: Rollout) -> Step:
        done = finished(rollout, now_us)
        return Step(done.rollout, "finish", f"{done.said}, without the holds that were left: {why}", clear=True)

    return _change(data, by, now_us, {"rolling", "held"}, step)


def _to(rollout: Rollout, state: str) -> Rollout:
    return msgspec.structs.replace(rollout, state=state)


def _change(data: DataDirectory, by: str, now_us: int, states: set[str], step: Callable[[Rollout], Step]) -> Rollout:
    """Take *step* from the rollout as it is. Raises ConfigError when there is none in one of *states*."""
    for _ in range(TRIES):
        with closing(connection.connect(data.state)) as db:
            row = rollouts.live(db)
        rollout = _live(row, states)
        assert row is not None  # noqa: S101 - `_live` raised
        taken = step(rollout)
        if take_now(data.state, row, taken, actor(by), now_us):
            return taken.rollout
    raise ConfigError("the rollout went on each time while this was asked", hint="give the command again")


def _live(row: RolloutRow | None, states: set[str]) -> Rollout:
    if row is None:
        raise ConfigError("no rollout runs", hint="'crossdock history' shows those that did")
    if row.state not in states:
        what = {"held": "is paused", "rolling": "is not paused", "reverting": "is being taken back already"}[row.state]
        raise ConfigError(f"the rollout of revision {row.revision} {what}", hint="'crossdock rollout' shows it")
    return model.of_row(row)


@served
def rollout(
    data: DataDirectory, now_us: int, revision: int | None = None, within: Sites = EVERYWHERE
) -> RolloutView | None:
    """The one that runs, else the last one, or that of *revision*; None when there was none."""
    with closing(connection.connect(data.state)) as db, connection.snapshot(db):
        found = of_store(db, now_us, revision)
    return narrowed(found, within) if found is not None else None


def of_store(db: sqlite3.Connection, now_us: int, revision: int | None = None) -> RolloutView | None:
    row = rollouts.get(db, revision) if revision is not None else rollouts.live(db) or rollouts.newest(db)
    if row is None:
        return None
    found = model.of_row(row)
    return _view(found, observe(db, found, now_us, 0))


def _view(rollout: Rollout, seen: Seen) -> RolloutView:
    live = rollout.state in {"rolling", "held"}
    doubts = findings(rollout, seen, DEFAULTS.within(rollout.plan.hold_seconds)) if live else []
    return RolloutView(
        rollout.revision, rollout.base, rollout.state, rollout.why, list(rollout.evidence), rollout.plan.hold_seconds,
        rollout.started_us, rollout.ended_us, [_wave(rollout, i, seen) for i in range(len(rollout.plan.waves))],
        [f.text for f in doubts], dict(rollout.progress.left),
    )  # fmt: skip


def _wave(rollout: Rollout, number: int, seen: Seen) -> WaveView:
    wave, begun = rollout.plan.waves[number], rollout.progress.begun
    known = [_agent(a, rollout, number < len(begun), seen) for a in seen.agents if a.site in wave.sites]
    if number >= len(begun):
        return WaveView(wave.name, wave.selector, "waiting", list(wave.sites), known)
    at = begun[number]
    back = rollout.state in {"reverting", "reverted"}
    state = "taken back" if back else "passed" if at.passed_us else "holding" if at.taken_us else "offered"
    passes = at.taken_us + int(rollout.plan.hold_seconds * 1e6) if state == "holding" else 0
    return WaveView(
        wave.name, wave.selector, state, list(wave.sites), known, at.began_us, at.taken_us, passes, at.passed_us,
        dict(at.without),
    )  # fmt: skip


def _agent(agent: AgentSeen, rollout: Rollout, begun: bool, seen: Seen) -> AgentView:
    here = agent.connected and (seen.now_us - agent.last_seen_us) / 1e6 <= seen.silent_seconds
    if gate.has_taken(agent, rollout.revision):
        state, detail = "taken", ""
    elif gate.has_refused(agent, rollout.revision):
        state, detail = "refused", agent.reason
    elif rollout.state in {"reverting", "reverted"} and begun and agent.effective == rollout.base:
        state, detail = "back", ""
    else:
        state, detail = ("offered" if begun else "waiting") if here else "offline", ""
    return AgentView(agent.agent, agent.site, state, agent.effective, detail)
