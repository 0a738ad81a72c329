"""Plan, apply, history, rollback. A revision is never changed once it is stored; going back makes a new one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossdock.errors import ConfigError
from crossdock_controller.commands.fleet import agents
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import audit, connection, revisions

if TYPE_CHECKING:
    from crossdock_controller.config.diff import Plan


@dataclass(frozen=True, slots=True)
class Planned:
    """What *directory* would change against revision *revision* (0: there is none yet)."""

    revision: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class Applied:
    """*revision* is in force; *changed* is False when the tree was in force already and no revision was made."""

    revision: int
    changed: bool
    plan: Plan


@dataclass(frozen=True, slots=True)
class RevisionView:
    """*agents*: names of those that run it now."""

    revision: int
    created_us: int
    author: str
    message: str
    hash: str
    current: bool
    agents: list[str]


def plan(data: DataDirectory, directory: Path) -> Planned:
    """Compare the tree below *directory* with the revision in force; without a controller's data, with nothing."""
    number, current = _head(data) if data.state.exists() else (0, None)
    return Planned(number, _planned(directory, current))


def apply(data: DataDirectory, directory: Path, by: str, message: str, now_us: int) -> Applied:
    """Make the tree below *directory* the next revision, on behalf of *by* ("local:anna"). Raises ConfigInvalid
    with every problem; nothing changed."""
    from crossdock_controller.config.errors import ConfigInvalid

    number, current = _head(data)
    made = _planned(directory, current)
    if not made.applicable:
        raise ConfigInvalid(made.problems)
    if made.nothing_to_do:
        return Applied(number, False, made)
    return Applied(_store(data, made, number, by, message, now_us, "revision.apply"), True, made)


def history(data: DataDirectory, now_us: int) -> list[RevisionView]:
    """Every revision, newest first."""
    running: dict[int, list[str]] = {}
    for agent in agents(data, now_us):
        if agent.state != "revoked":
            running.setdefault(agent.revision, []).append(agent.agent)
    with closing(connection.connect(data.state)) as db:
        rows = revisions.list_all(db)
    return [
        RevisionView(r.number, r.created_us, r.author, r.message, r.hash, r is rows[0], running.get(r.number, []))
        for r in rows
    ]


def rollback(data: DataDirectory, revision: int, by: str, now_us: int) -> Applied:
    """Store the tree of *revision* as the next one. Raises ConfigError when there is no such revision, or when this
    release no longer accepts its tree."""
    from crossdock_controller.config import diff
    from crossdock_controller.config.errors import ConfigInvalid

    number, current = _head(data)
    with closing(connection.connect(data.state)) as db:
        old = revisions.tree(db, revision)
    if old is None:
        raise ConfigError(f"there is no revision {revision}", hint="'crossdock history' lists them")
    made = diff.plan(current, old)
    if not made.applicable:
        raise ConfigInvalid(made.problems)
    if made.nothing_to_do:
        return Applied(number, False, made)
    message = f"back to revision {revision}"
    return Applied(_store(data, made, number, by, message, now_us, "revision.rollback"), True, made)


def _head(data: DataDirectory) -> tuple[int, dict[str, str] | None]:
    with closing(connection.connect(data.state)) as db:
        found = revisions.head(db)
    return found if found is not None else (0, None)


def _planned(directory: Path, current: dict[str, str] | None) -> Plan:
    from dataclasses import replace

    from crossdock_controller.config import diff, errors
    from crossdock_controller.config import tree as trees

    new, problems = trees.read(directory)
    made = diff.plan(current, new)
    return replace(made, problems=tuple(errors.ordered([*made.problems, *problems])))


def _store(data: DataDirectory, plan: Plan, expected: int, by: str, message: str, now_us: int, action: str) -> int:
    """The new revision's number. Raises ConfigError when someone else applied one meanwhile: nobody saw that plan."""
    author = by.partition(":")[2] or by
    details = {"hash": plan.after, "message": message, "changes": len(plan.changes)}
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        number = revisions.add(
            db, plan.tree, hash_=plan.after, author=author, message=message, now_us=now_us, expected=expected
        )
        audit.append(db, actor=by, action=action, target=str(number), details=details, now_us=now_us)
    return number
