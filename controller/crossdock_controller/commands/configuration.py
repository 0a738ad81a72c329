"""Plan, apply, history, rollback. A revision is never changed once it is stored; going back makes a new one.

What a change needs before it is in force (a second person, a run elsewhere) is decided by `gate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from crossdock.errors import ConfigError, Corrupt
from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.commands import gate, naming
from crossdock_controller.commands.fleet import agents
from crossdock_controller.commands.gate import Head
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import connection, facts, proposals, revisions, rollouts

if TYPE_CHECKING:
    from crossdock.yamlfile import Problem
    from crossdock_controller.commands.rollout import InWaves, Prepared
    from crossdock_controller.config.diff import Plan
    from crossdock_controller.config.policy import Need


@dataclass(frozen=True, slots=True)
class Planned:
    """What *directory* would change against revision *revision* (0: there is none yet), and what it would need by the
    policy in force."""

    revision: int
    plan: Plan
    needs: tuple[Need, ...] = ()
    rollout: Prepared | None = None  # the waves, where they were asked for


@dataclass(frozen=True, slots=True)
class Applied:
    """*revision* is in force, or with *rollout* on its way to be; *changed* is False when the tree was in force already
    (no revision was made), or waits: then *proposal* is the number under which it does, and *needs* says for whom."""

    revision: int
    changed: bool
    plan: Plan
    proposal: int = 0
    needs: tuple[Need, ...] = ()
    rollout: Prepared | None = None


@dataclass(frozen=True, slots=True)
class RevisionView:
    """*agents*: names of those that run it now; *rollout*: the state of its rollout, "" when it had none, and *why* it
    was taken back. *approval*: "unconfirmed" while an emergency waits for a second person. *damaged*: its tree is not
    what was stored, and nobody is offered it."""

    revision: int
    created_us: int
    author: str
    message: str
    hash: str
    current: bool
    agents: list[str]
    rollout: str = ""
    why: str = ""
    environment: str = ""
    approval: str = ""
    damaged: bool = False


def plan(data: DataDirectory, directory: Path, environment: str | None = None, waves: InWaves | None = None) -> Planned:
    """Compare the tree below *directory* with the revision in force; without a controller's data, with nothing.

    *environment* None is the one that the controller serves. With *waves*, which sites would be in which; raises
    ConfigError when it could not be rolled out so.
    """
    from crossdock_controller.config import tree as trees

    tree, problems = trees.read(directory)
    planned = plan_tree(data, tree, environment, waves)
    return replace(planned, plan=_with(planned.plan, problems))


@served
def plan_tree(
    data: DataDirectory, tree: Mapping[str, str], environment: str | None = None, waves: InWaves | None = None
) -> Planned:
    """`plan` for a tree that was read already: {path: text}."""
    from crossdock_controller.config import diff

    head = head_of(data) if data.state.exists() else Head(0, None, "")
    made = diff.plan(head.tree, tree, head.serves if environment is None else environment)
    if not made.applicable or made.nothing_to_do:
        return Planned(head.number, made)
    change = gate.Change(made, head, "", gate.APPLY, "", None, "", waves)
    rollout = None
    if waves is not None and data.state.exists():
        with closing(connection.connect(data.state)) as db:
            rollout = gate.prepare(data, db, change)
    return Planned(head.number, made, tuple(gate.required(change)), rollout)


def apply(
    data: DataDirectory,
    directory: Path,
    by: str,
    message: str,
    now_us: int,
    waves: InWaves | None = None,
    *,
    promotion: Path | None = None,
    break_glass: str = "",
) -> Applied:
    """Make the tree below *directory* the next revision, on behalf of *by* ("local:anna"), in force at once or in
    *waves*; or a proposal when the policy in force asks for a second person. *promotion* is a slip of another
    environment, *break_glass* why it cannot wait.

    Raises ConfigInvalid with every problem, Refused when the policy forbids it; nothing changed.
    """
    from crossdock_controller.config import slip
    from crossdock_controller.config import tree as trees
    from crossdock_controller.config.errors import ConfigInvalid, errors_of

    tree, problems = trees.read(directory)
    if errors_of(problems):
        raise ConfigInvalid(problems)
    text = None
    if promotion is not None:
        slip.read(promotion)  # what is no slip is said here, before anything is sent
        text = promotion.read_text("utf-8")
    applied = apply_tree(data, tree, by, message, now_us, waves, promotion=text, break_glass=break_glass)
    return replace(applied, plan=_with(applied.plan, problems))


@served
def apply_tree(
    data: DataDirectory,
    tree: Mapping[str, str],
    by: str,
    message: str,
    now_us: int,
    waves: InWaves | None = None,
    *,
    promotion: str | None = None,
    break_glass: str = "",
    judged: int | None = None,
) -> Applied:
    """`apply` for a tree that was read already, {path: text}; *promotion* is the slip's text. *judged*: the revision by
    which it was judged whether *by* may do it; over another one it is not applied."""
    from crossdock_controller.config import diff, slip
    from crossdock_controller.config.errors import ConfigInvalid

    signed = slip.parse(promotion.encode(), "the promotion slip") if promotion is not None else None
    head = _base(data)
    if judged is not None and head.number != judged:
        raise ConfigError(f"revision {head.number} was applied meanwhile", hint="look at the plan again, then apply")
    made = diff.plan(head.tree, tree, head.serves)
    if not made.applicable:
        raise ConfigInvalid(made.problems)
    if made.nothing_to_do and not head.damaged:
        return Applied(head.number, False, made)
    return put(data, gate.Change(made, head, by, gate.APPLY, message, signed, break_glass, waves), now_us)


@served
def history(data: DataDirectory, now_us: int, within: Sites = EVERYWHERE) -> list[RevisionView]:
    """Every revision, newest first. Why one was taken back names sites, and is for who sees every site."""
    running: dict[int, list[str]] = {}
    for agent in agents(data, now_us, within):
        if agent.state != "revoked":
            running.setdefault(agent.revision, []).append(agent.agent)
    with closing(connection.connect(data.state)) as db:
        rows, head, damaged = revisions.list_all(db), revisions.head_number(db), set(revisions.damaged(db))
        approval = {p.revision: p.state for p in proposals.list_all(db) if p.revision}
        rolled = rollouts.states(db)
    if not within.everything:
        rolled = {number: (state, "") for number, (state, _why) in rolled.items()}
    return [
        RevisionView(
            r.number, r.created_us, r.author, r.message, r.hash, r.number == head, running.get(r.number, []),
            *rolled.get(r.number, ("", "")), r.environment, approval.get(r.number, ""), r.number in damaged,
        )
        for r in rows
    ]  # fmt: skip


@served
def rollback(
    data: DataDirectory,
    revision: str | int,
    by: str,
    now_us: int,
    waves: InWaves | None = None,
    *,
    break_glass: str = "",
) -> Applied:
    """Store the tree of *revision* (its number, or the beginning of its hash) as the next one, in force at once or in
    *waves*. Raises ConfigError when there is no such revision, when it is damaged, or when this release no longer
    accepts its tree."""
    from crossdock_controller.config import diff
    from crossdock_controller.config.errors import ConfigInvalid

    head = _base(data)
    with closing(connection.connect(data.state)) as db:
        wanted = naming.revision_named(db, str(revision))
        old = revisions.tree(db, wanted)
    if old is None:
        raise ConfigError(f"there is no revision {revision}", hint="'crossdock history' lists them")
    made = diff.plan(head.tree, old, head.serves)
    if not made.applicable:
        raise ConfigInvalid(made.problems)
    if made.nothing_to_do and not head.damaged:
        return Applied(head.number, False, made)
    message = f"back to revision {wanted}"
    return put(data, gate.Change(made, head, by, gate.ROLLBACK, message, None, break_glass, waves), now_us)


def head_of(data: DataDirectory) -> Head:
    """What is in force. A damaged head is compared with, and its policy taken, as of the last sound revision before it:
    the way out of it is to apply again."""
    with closing(connection.connect(data.state)) as db:
        number, serves = revisions.head_number(db), facts.environment(db)
        try:
            return Head(number, revisions.tree(db, number), serves)
        except Corrupt:
            damaged = set(revisions.damaged(db))
            sound = next((r.number for r in revisions.list_all(db) if r.number < number and r.number not in damaged), 0)
            return Head(number, revisions.tree(db, sound), serves, damaged=True)


def _base(data: DataDirectory) -> Head:
    """As `head_of`, to make another revision over. Raises ConfigError while a rollout runs, before anything else."""
    with closing(connection.connect(data.state)) as db:
        revisions.refuse_during_rollout(db)
    return head_of(data)


def put(data: DataDirectory, change: gate.Change, now_us: int) -> Applied:
    """*change* as a revision, or as a proposal."""
    done = gate.put(data, change, now_us)
    return Applied(done.revision, done.changed, change.plan, done.proposal, done.needs, done.rollout)


def _with(made: Plan, problems: Sequence[Problem]) -> Plan:
    """What could not be taken into the tree belongs to the problems of its plan."""
    from crossdock_controller.config import errors

    return replace(made, problems=tuple(errors.ordered([*made.problems, *problems])))
