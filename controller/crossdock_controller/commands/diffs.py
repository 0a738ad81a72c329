"""The page an approver reads: who, when and why, what changes in words, what the policy asks, and what is doubtful."""

from __future__ import annotations

import difflib
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossdock_controller.commands import approvals, gate, naming
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import connection, proposals, revisions, rollouts

if TYPE_CHECKING:
    from crossdock_controller.commands.approvals import ProposalView
    from crossdock_controller.config.diff import Plan
    from crossdock_controller.config.policy import Need


MAX_LINES = 5_000  # of a file whose lines are compared


@dataclass(frozen=True, slots=True)
class FileDiff:
    """*lines* of a unified diff, without its two header lines."""

    path: str
    action: str  # added, removed, changed
    lines: list[str]


@dataclass(frozen=True, slots=True)
class Page:
    """The way from *before* to *after* ("revision 12", "proposal p3", "nothing"). *proposal*: when it waited or waits
    for a second person; *needs*: by the policy of *before*."""

    before: str
    after: str
    hash: str
    environment: str
    by: str
    created_us: int
    message: str
    needs: tuple[Need, ...]
    proposal: ProposalView | None
    files: list[FileDiff]
    plan: Plan


@dataclass(frozen=True, slots=True)
class _Side:
    name: naming.Named
    tree: revisions.StoredTree | None
    by: str
    created_us: int
    message: str
    base: int


@served
def page(data: DataDirectory, name: str, other: str = "") -> Page:
    """What *name* changed against the revision before it; or with *other*, the way from *name* to *other*.

    Raises ConfigError for names that name nothing, Corrupt for a damaged revision.
    """
    with closing(connection.connect(data.state)) as db:
        after = _side(db, naming.named(db, other or name))
        base = naming.named(db, name) if other else naming.Named(after.base)
        before = _side(db, base) if base.revision or base.proposal else _NOTHING
        proposal = proposals.get(db, after.name.proposal) if after.name.proposal else None
        proposal = proposal or proposals.of_revision(db, after.name.revision or -1)
        waited = approvals.view(db, proposal, revisions.head_number(db)) if proposal is not None else None
    made = _plan(before, after)
    head = gate.Head(before.name.revision, before.tree, before.tree.environment if before.tree is not None else "")
    needs = gate.required(gate.Change(made, head, after.by, gate.APPLY, after.message)) if made.applicable else []
    return Page(
        before.name.text if before.tree is not None else "nothing", after.name.text, made.after, made.environment,
        after.by, after.created_us, after.message, tuple(needs), waited,
        file_diffs(before.tree or {}, after.tree or {}), made,
    )  # fmt: skip


def file_diffs(before: dict[str, str], after: dict[str, str]) -> list[FileDiff]:
    """Each file that differs, by path. What looks like a plain secret is not shown."""
    found: list[FileDiff] = []
    for path in sorted({*before, *after}):
        was, will = before.get(path), after.get(path)
        if was != will:
            action = "added" if was is None else "removed" if will is None else "changed"
            found.append(FileDiff(path, action, _lines((was or "").splitlines(), (will or "").splitlines())))
    return found


def _lines(was: list[str], will: list[str]) -> list[str]:
    from crossdock_controller.config import secrets

    if max(len(was), len(will)) > MAX_LINES:  # comparing may cost the square of them
        return [f"({len(was)} lines before, {len(will)} after: too many to be compared here)"]
    lines = list(difflib.unified_diff(was, will, n=3, lineterm=""))
    return [secrets.masked_line(line) for line in lines[2:]]


_NOTHING = _Side(naming.Named(0), None, "", 0, "", 0)


def _side(db: sqlite3.Connection, name: naming.Named) -> _Side:
    if name.proposal:
        row = proposals.get(db, name.proposal)
        assert row is not None  # noqa: S101 - it was just named
        return _Side(name, proposals.tree(db, name.proposal), row.actor, row.created_us, row.message, row.base)
    rows = {row.number: row for row in revisions.list_all(db)}
    found = rows[name.revision]
    rolled = rollouts.get(db, name.revision)
    taken_back = {number for number, (state, _why) in rollouts.states(db).items() if state != "complete"}
    base = max((number for number in rows if number < name.revision and number not in taken_back), default=0)
    base = rolled.base if rolled is not None else base
    return _Side(name, revisions.tree(db, name.revision), found.author, found.created_us, found.message, base)


def _plan(before: _Side, after: _Side) -> Plan:
    from crossdock_controller.config import diff

    tree = after.tree if after.tree is not None else revisions.StoredTree()
    return diff.plan(before.tree, tree, tree.environment)
