"""At which sites a call takes effect, and so which grant it needs.

A scope answers for one call whether *sites* (where its caller holds the role) covers it, before anything is done. The
default is the narrowest: who does not hold the role at every site may not. Never does an answer tell a caller whether
something exists at a site that is not theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from crossdock.errors import Refused
from crossdock_controller.access import Sites
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import agents, commands, connection, dead_letters, enrolments, holds

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """Every site: of the whole fleet, or of nobody's in particular."""

    def covers(self, sites: Sites, _data: DataDirectory, _arguments: Arguments) -> bool:
        return sites.everything

    def narrowed(self, answer: Any, _sites: Sites, _data: DataDirectory) -> Any:
        """The part of the answer that the caller may see."""
        return answer

    @property
    def words(self) -> str:
        return "on every site"


@dataclass(frozen=True, slots=True)
class Anywhere(Scope):
    """The role at any site will do: nothing in the answer belongs to one."""

    def covers(self, _sites: Sites, _data: DataDirectory, _arguments: Arguments) -> bool:
        return True

    @property
    def words(self) -> str:
        return "on any site"


@dataclass(frozen=True, slots=True)
class Within(Anywhere):
    """The function itself leaves other sites out: it has a parameter *within*."""

    @property
    def words(self) -> str:
        return "sees its own sites"


@dataclass(frozen=True, slots=True)
class Rows(Anywhere):
    """The answer is a list of dataclasses, or a dataclass with such lists; those of other sites are left out. *field*
    is the attribute that names the site, or the agent when *by_agent*. An element without it is left out too."""

    field: str = "site"
    by_agent: bool = False

    def narrowed(self, answer: Any, sites: Sites, data: DataDirectory) -> Any:
        if sites.everything:
            return answer
        if isinstance(answer, Sequence) and not isinstance(answer, str | bytes):
            return [row for row in answer if self._visible(row, sites, data)]
        if is_dataclass(answer) and not isinstance(answer, type):
            lists = {f.name: getattr(answer, f.name) for f in fields(answer)}
            narrow = {
                name: [row for row in rows if self._visible(row, sites, data)]
                for name, rows in lists.items()
                if isinstance(rows, list | tuple)
            }
            return replace(answer, **narrow)
        raise TypeError(f"{type(answer).__name__} has no rows that belong to sites")

    def _visible(self, row: object, sites: Sites, data: DataDirectory) -> bool:
        named = getattr(row, self.field, None)
        site = _site_of(data, named) if self.by_agent and isinstance(named, str) else named
        return isinstance(site, str) and sites(site)

    @property
    def words(self) -> str:
        return "sees its own sites"


@dataclass(frozen=True, slots=True)
class OfSite(Scope):
    """The argument *name* is the site. The one that *agent* names, if there is such an agent, is of a site that counts
    as well: its name must not be taken by somebody of another site."""

    name: str = "site"
    agent: str = ""

    def covers(self, sites: Sites, data: DataDirectory, arguments: Arguments) -> bool:
        site = arguments.get(self.name)
        if sites.everything:
            return True
        known = _site_of(data, arguments.get(self.agent) or str(site)) if self.agent else None
        return isinstance(site, str) and sites(site) and (known is None or sites(known))

    @property
    def words(self) -> str:
        return f"on the site `{self.name}`"


@dataclass(frozen=True, slots=True)
class OfAgent(Scope):
    """The argument *name* is an agent: its site. One that is not there is nobody's."""

    name: str = "agent"

    def covers(self, sites: Sites, data: DataDirectory, arguments: Arguments) -> bool:
        agent = arguments.get(self.name)
        if sites.everything:
            return True
        site = _site_of(data, agent) if isinstance(agent, str) else None
        return site is not None and sites(site)

    @property
    def words(self) -> str:
        return f"on the site of agent `{self.name}`"


@dataclass(frozen=True, slots=True)
class OfPending(Scope):
    """The argument *name* is an agent that waits for a person: the site of every enrolment under that name."""

    name: str = "agent"

    def covers(self, sites: Sites, data: DataDirectory, arguments: Arguments) -> bool:
        if sites.everything:
            return True
        with closing(connection.connect(data.state)) as db:
            waiting = {e.site for e in enrolments.waiting(db) if e.agent == arguments[self.name]}
        return bool(waiting) and all(sites(site) for site in waiting)

    @property
    def words(self) -> str:
        return f"on the site at which `{self.name}` is to be"


@dataclass(frozen=True, slots=True)
class OfLetter(Scope):
    """The argument *name* is the number of a dead letter: the site of its source."""

    name: str = "letter"

    def covers(self, sites: Sites, data: DataDirectory, arguments: Arguments) -> bool:
        if sites.everything:
            return True
        with closing(connection.connect(data.state)) as db:
            try:
                return sites(dead_letters.get(db, arguments[self.name]).site)
            except Refused:
                return False

    @property
    def words(self) -> str:
        return f"on the site of dead letter `{self.name}`"


@dataclass(frozen=True, slots=True)
class OfHold(Scope):
    """The argument *name* is the number of a held event: the site of its source. One never held is nobody's."""

    name: str = "event"

    def covers(self, sites: Sites, data: DataDirectory, arguments: Arguments) -> bool:
        if sites.everything:
            return True
        with closing(connection.connect(data.state)) as db:
            site = holds.site_of(db, arguments[self.name])
        return site is not None and sites(site)

    @property
    def words(self) -> str:
        return f"on the site of held event `{self.name}`"


@dataclass(frozen=True, slots=True)
class OfTree(Scope):
    """The argument *name* is a tree: every site at which it changes anything, as it is labelled before and after."""

    name: str = "tree"

    def covers(self, sites: Sites, data: DataDirectory, arguments: Arguments) -> bool:
        if sites.everything:
            return True
        if arguments.get("environment") is not None:  # as it would be elsewhere, which shows every site
            return False
        from crossdock_controller.operations import (
            trees,
        )  # the whole configuration, which the remote client has no use for

        return trees.confined(data, arguments[self.name], sites, arguments.get("environment"))

    @property
    def words(self) -> str:
        return "on every site that the tree changes, and on all for what all share"


@dataclass(frozen=True, slots=True)
class OfTarget(Scope):
    """The argument *name* says whom a command is for: the site that it names, or that of the agent that it names. By
    label, or for everyone: the function leaves out what is not the caller's (`within`)."""

    name: str = "target"

    def covers(self, sites: Sites, data: DataDirectory, arguments: Arguments) -> bool:
        target = arguments[self.name]
        if sites.everything or target.labels or target.everyone:
            return True
        site = _site_of(data, target.name)
        return sites(site if site is not None else target.name)

    @property
    def words(self) -> str:
        return f"on the site of `{self.name}`"


@dataclass(frozen=True, slots=True)
class OfCommand(Scope):
    """The argument *name* is how the id of a command begins: the site of its agent. One that is not is nobody's."""

    name: str = "prefix"

    def covers(self, sites: Sites, data: DataDirectory, arguments: Arguments) -> bool:
        if sites.everything:
            return True
        with closing(connection.connect(data.state)) as db:
            found = commands.beginning_with(db, arguments[self.name])
        return any((site := _site_of(data, row.agent)) is not None and sites(site) for row in found)

    @property
    def words(self) -> str:
        return f"on the site of command `{self.name}`"


def _site_of(data: DataDirectory, agent: str) -> str | None:
    with closing(connection.connect(data.state)) as db:
        known = agents.get(db, agent)
    return known.site if known is not None else None
