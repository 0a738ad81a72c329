"""Which environment this controller serves, and the slip that says what ran here for another one to go by."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossdock.errors import ConfigError
from crossdock_controller.commands import gate
from crossdock_controller.commands.configuration import Applied, head_of, put
from crossdock_controller.commands.fleet import agents
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit, connection, dead_letters, facts, revisions, rollouts

if TYPE_CHECKING:
    from crossdock_controller.config.slip import Slip


@dataclass(frozen=True, slots=True)
class EnvironmentView:
    """*serves*: "" when none was set. *known*: those of the tree in force, revision *revision* for *in_force*."""

    serves: str
    known: list[str]
    revision: int
    in_force: str


@dataclass(frozen=True, slots=True)
class EnvironmentSet:
    """*applied* is None when nothing in force had to change: it counts from the next apply on."""

    serves: str
    applied: Applied | None


@dataclass(frozen=True, slots=True)
class SlipMade:
    """*text* is the file; *authority* the fingerprint of the CA that signed it."""

    slip: Slip
    text: str
    authority: str


@served
def environment(data: DataDirectory) -> EnvironmentView:
    head = head_of(data)
    known = _environments(head.tree)
    return EnvironmentView(head.serves, known, head.number, head.tree.environment if head.tree is not None else "")


@served
def set_environment(data: DataDirectory, name: str, by: str, now_us: int, *, break_glass: str = "") -> EnvironmentSet:
    """From now on this controller serves *name*. What is in force is put in force anew for it: a revision, or a
    proposal when there is a policy. Raises ConfigError for one that the tree in force does not have.
    "" is none, for trees without environments."""
    from crossdock_controller.config import diff
    from crossdock_controller.config.errors import ConfigInvalid
    from crossdock_controller.config.selection import NAME_PATTERN

    if name and not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(
            f"{name!r} is no name of an environment", hint="small letters, digits, '-', '_' and '.': prod"
        )
    head = head_of(data)
    if head.tree is None or not _environments(head.tree):
        with closing(connection.connect(data.state)) as db, connection.transaction(db):
            facts.set_environment(db, name)
            details = {"before": head.serves}
            audit.append(db, actor=by, action=gate.ENVIRONMENT, target=name, details=details, now_us=now_us)
        return EnvironmentSet(name, None)
    made = diff.plan(head.tree, head.tree, name)
    if not made.applicable:
        raise ConfigInvalid(made.problems)
    if made.nothing_to_do:
        return EnvironmentSet(name, None)
    message = f"environment {name}" + (f" instead of {head.tree.environment}" if head.tree.environment else "")
    applied = put(data, gate.Change(made, head, by, gate.ENVIRONMENT, message, None, break_glass), now_us)
    return EnvironmentSet(name if applied.changed else head.serves, applied)


def promote(data: DataDirectory, out: Path, by: str, now_us: int) -> SlipMade:
    """Write a slip of the tree in force to *out*. Raises ConfigError when there is none, or no environment."""
    made = make_slip(data, by, now_us)
    try:
        out.write_text(made.text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}", hint="name another file with --out") from error
    return made


@served
def make_slip(data: DataDirectory, by: str, now_us: int) -> SlipMade:
    """`promote`, with the text of the slip in place of a file."""
    from crossdock_controller.authority import Authority
    from crossdock_controller.config import slip
    from crossdock_controller.config.tree import digest

    head = head_of(data)
    if head.tree is None or head.damaged or not head.tree.environment:
        why = "there is no revision" if head.tree is None else f"revision {head.number} was put in force for none"
        raise ConfigError(
            f"only what runs in an environment can be promoted, and {why}",
            hint="environments/NAME.yaml in the tree, and crossdock config environment NAME",
        )
    authority = Authority.open(data.authority)
    since, trouble_us, trouble, running = _record(data, head, now_us)
    found = slip.Slip(
        digest(head.tree), head.tree.environment, head.number, since, max(0, now_us - max(since, trouble_us)), trouble,
        running, now_us, by,
    )  # fmt: skip
    text = slip.signed(found, authority.sign(slip.payload(found)), authority.bundle)
    signers = slip.parse(text.encode(), "the slip")[1]
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        details = {"hash": found.tree, "environment": found.environment, "quiet_hours": round(found.quiet_hours, 1)}
        audit.append(db, actor=by, action="revision.promote", target=str(head.number), details=details, now_us=now_us)
    return SlipMade(found, text, signers[0])


def _record(data: DataDirectory, head: gate.Head, now_us: int) -> tuple[int, int, str, int]:
    """(since when this tree is in force, when there was trouble last, in words, agents that run it)."""
    with closing(connection.connect(data.state)) as db:
        rows = [row for row in revisions.list_all(db) if row.number <= head.number]
        last_dead = dead_letters.newest_us(db)
        rolled = rollouts.get(db, head.number)
    here = next(row for row in rows if row.number == head.number)
    since = here.created_us
    for row in rows:
        if (row.hash, row.environment) != (here.hash, here.environment):
            break
        since = row.created_us
    since = max(since, rolled.ended_us) if rolled is not None and since == here.created_us else since
    fleet = [agent for agent in agents(data, now_us) if agent.state != "revoked"]
    refused = [agent.agent for agent in fleet if agent.config_state == "failed"]
    running = sum(1 for agent in fleet if agent.revision == head.number and agent.config_state != "failed")
    if refused:
        return since, now_us, f"refused by {', '.join(refused[:5])}", running
    if last_dead > since:
        return since, last_dead, "a dead letter", running
    return since, since, "", running


def _environments(tree: revisions.StoredTree | None) -> list[str]:
    from crossdock_controller.config.parts import read_parts

    if tree is None or not any(name.startswith("environments/") for name in tree):
        return []
    return sorted(part.name for part in read_parts(tree).environments)
