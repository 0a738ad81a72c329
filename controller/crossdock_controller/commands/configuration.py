"""Plan, apply, history, rollback. A revision is never changed once it is stored; going back makes a new one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossdock.errors import ConfigError
from crossdock_controller.commands.fleet import agents
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import connection, revisions, rollouts

if TYPE_CHECKING:
    from crossdock_controller.commands.rollout import InWaves, Prepared
    from crossdock_controller.config.diff import Plan


@dataclass(frozen=True, slots=True)
class Planned:
    """What *directory* would change against revision *revision* (0: there is none yet)."""

    revision: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class Applied:
    """*revision* is in force, or with *rollout* on its way to be; *changed* is False when the tree was in force already
    and no revision was made."""

    revision: int
    changed: bool
    plan: Plan
    rollout: Prepared | None = None


@dataclass(frozen=True, slots=True)
class RevisionView:
    """*agents*: names of those that run it now; *rollout*: the state of its rollout, "" when it had none, and *why* it
    was taken back."""

    revision: int
    created_us: int
    author: str
    message: str
    hash: str
    current: bool
    agents: list[str]
    rollout: str = ""
    why: str = ""


def plan(data: DataDirectory, directory: Path) -> Planned:
    """Compare the tree below *directory* with the revision in force; without a controller's data, with nothing."""
    number, current = _head(data) if data.state.exists() else (0, None)
    return Planned(number, _planned(directory, current))


def apply(
    data: DataDirectory, directory: Path, author: str, message: str, now_us: int, waves: InWaves | None = None
) -> Applied:
    """Make the tree below *directory* the next revision, in force at once or in *waves*. Raises ConfigInvalid with
    every problem; nothing changed."""
    from crossdock_controller.config import tree as trees
    from crossdock_controller.config.errors import ConfigInvalid

    number, current = _base(data)
    made = _planned(directory, current)
    if not made.applicable:
        raise ConfigInvalid(made.problems)
    if made.nothing_to_do:
        return Applied(number, False, made)
    return _stored(data, made, trees.read(directory)[0], (number, current), author, message, now_us, waves)


def history(data: DataDirectory, now_us: int) -> list[RevisionView]:
    """Every revision, newest first."""
    running: dict[int, list[str]] = {}
    for agent in agents(data, now_us):
        if agent.state != "revoked":
            running.setdefault(agent.revision, []).append(agent.agent)
    with closing(connection.connect(data.state)) as db:
        rows, head, rolled = revisions.list_all(db), revisions.head_number(db), rollouts.states(db)
    return [
        RevisionView(
            r.number, r.created_us, r.author, r.message, r.hash, r.number == head, running.get(r.number, []),
            *rolled.get(r.number, ("", "")),
        )
        for r in rows
    ]  # fmt: skip


def rollback(data: DataDirectory, revision: int, author: str, now_us: int, waves: InWaves | None = None) -> Applied:
    """Store the tree of *revision* as the next one, in force at once or in *waves*. Raises ConfigError when there is no
    such revision, or when this release no longer accepts its tree."""
    from crossdock_controller.config import diff
    from crossdock_controller.config.errors import ConfigInvalid

    number, current = _base(data)
    with closing(connection.connect(data.state)) as db:
        old = revisions.tree(db, revision)
    if old is None:
        raise ConfigError(f"there is no revision {revision}", hint="'crossdock history' lists them")
    made = diff.plan(current, old)
    if not made.applicable:
        raise ConfigInvalid(made.problems)
    if made.nothing_to_do:
        return Applied(number, False, made)
    return _stored(data, made, old, (number, current), author, f"back to revision {revision}", now_us, waves)


def _head(data: DataDirectory) -> tuple[int, dict[str, str] | None]:
    with closing(connection.connect(data.state)) as db:
        found = revisions.head(db)
    return found if found is not None else (0, None)


def _base(data: DataDirectory) -> tuple[int, dict[str, str] | None]:
    """As `_head`, to make another revision over. Raises ConfigError while a rollout runs, before anything else."""
    with closing(connection.connect(data.state)) as db:
        revisions.refuse_during_rollout(db)
    return _head(data)


def _planned(directory: Path, current: dict[str, str] | None) -> Plan:
    from dataclasses import replace

    from crossdock_controller.config import diff, errors
    from crossdock_controller.config import tree as trees

    new, problems = trees.read(directory)
    made = diff.plan(current, new)
    return replace(made, problems=tuple(errors.ordered([*made.problems, *problems])))


def _stored(
    data: DataDirectory,
    made: Plan,
    tree: Mapping[str, str],
    base: tuple[int, Mapping[str, str] | None],
    author: str,
    message: str,
    now_us: int,
    waves: InWaves | None,
) -> Applied:
    number, current = base
    if waves is None:
        return Applied(_store(data, tree, number, author, message, now_us), True, made)
    from crossdock_controller.commands import rollout

    prepared = rollout.prepare(data, waves, current, tree)

    def begin(db: sqlite3.Connection, revision: int) -> None:
        rollout.begin(db, prepared, revision, number, author, now_us)

    return Applied(_store(data, tree, number, author, message, now_us, begin), True, made, prepared)


def _store(
    data: DataDirectory,
    tree: Mapping[str, str],
    expected: int,
    author: str,
    message: str,
    now_us: int,
    also: Callable[[sqlite3.Connection, int], None] = lambda _db, _number: None,
) -> int:
    """The new revision's number. Raises ConfigError when someone else applied one meanwhile: nobody saw that plan."""
    from crossdock_controller.config import tree as trees

    with closing(connection.connect(data.state)) as db:
        return revisions.append(
            db, tree, hash_=trees.digest(tree), author=author, message=message, now_us=now_us, expected=expected,
            also=lambda revision: also(db, revision),
        )  # fmt: skip
