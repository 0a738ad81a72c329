"""Whose an exception is, by the teams of the revision in force."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossdock.errors import ConfigError
from crossdock_controller.config import parts, teams
from crossdock_controller.config.checks import source_of
from crossdock_controller.config.teams import Team
from crossdock_controller.config.tree import folder_of
from crossdock_controller.store import revisions, targets
from crossdock_controller.store.exception_views import Assignment, Tally

if TYPE_CHECKING:
    from crossdock_controller.config.runtime import Runtime

_HOUR_US = 3_600_000_000
_READ = frozenset({"sites", "groups", "environments", "teams", "mappings", "shared"})  # of a tree, to tell owners


@dataclass(frozen=True, slots=True)
class Ownership:
    """*owner* is a team, or whom it was assigned to; *due_us* 0 when nobody owns it and nobody said when."""

    owner: str
    assigned: bool
    members: tuple[str, ...]
    due_us: int


class Owners:
    """Teams, and what they select by."""

    def __init__(
        self, of: Mapping[str, Team], labels: Mapping[str, Mapping[str, str]], documents: Mapping[str, str]
    ) -> None:
        self._teams = of
        self._labels = labels
        self._documents = documents

    def document_of(self, tally: Tally) -> str:
        """What it is about; of a dead record, what its mapping would have made of it."""
        return tally.document or self._documents.get(tally.source, "")

    def ownership(self, tally: Tally, assignment: Assignment | None) -> Ownership:
        team = teams.owner(
            self._teams.values(), self._labels.get(tally.site, {"site": tally.site}), kind=tally.kind,
            document=self.document_of(tally), source=tally.source, sink=tally.sink,
        )  # fmt: skip
        due_us = tally.oldest_us + int(team.sla.hours(tally.severity) * _HOUR_US) if team is not None else 0
        owner, members = (team.team, tuple(team.members)) if team is not None else ("", ())
        if assignment is None or assignment.at_us < tally.oldest_us:  # of what was settled since
            return Ownership(owner, False, members, due_us)
        if assignment.assigned:
            named = self._teams.get(assignment.assigned)
            owner, members = assignment.assigned, tuple(named.members) if named is not None else ()
        return Ownership(owner, bool(assignment.assigned), members, assignment.due_us or due_us)


def read(db: sqlite3.Connection) -> Owners:
    """Of the revision in force; nobody owns anything before the first. A team that this release cannot read owns
    nothing: `plan` refuses such a file."""
    tree = revisions.tree(db, targets.in_force(db))
    own = {name: text for name, text in (tree or {}).items() if folder_of(name) in _READ}
    found = parts.read_parts(own)
    labels = {p.name: p.model.all_labels() for p in found.sites if p.model is not None}
    documents = {source_of(p): p.model.document for p in found.mappings if p.model is not None}
    return Owners(parts.models(found.teams), labels, documents)


def runtimes(db: sqlite3.Connection) -> Callable[[str], Runtime]:
    """The runtime that a site is worked for by, each revision loaded once. It raises ConfigError when there is none."""
    from crossdock_controller.config.runtime import Runtime

    known: dict[int, Runtime] = {}
    revision_of = targets.read(db)

    def at(site: str) -> Runtime:
        number = revision_of.of(site)
        if number not in known:
            tree = revisions.tree(db, number)
            if tree is None:
                raise ConfigError("there is no configuration to map it by", hint="crossdock apply DIR")
            known[number] = Runtime.from_tree(tree, number)
        return known[number]

    return at
