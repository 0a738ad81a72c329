"""Tree in, Loaded out, or every problem at once. A Loaded is complete and consistent: no user checks it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crossdock.errors import ConfigError
from crossdock_controller.conditions.predicate import compile_predicate
from crossdock_controller.config import checks, parts, reach
from crossdock_controller.config.errors import ConfigInvalid, Problem, errors_of, ordered
from crossdock_controller.config.includes import FOLDER as SHARED
from crossdock_controller.config.models import Route, SinkDef, Site, Source, Writer
from crossdock_controller.config.part import Part
from crossdock_controller.config.policy import Policy
from crossdock_controller.config.reconciliations import Reconciliation
from crossdock_controller.config.teams import Team
from crossdock_controller.config.tree import POLICY, Tree, folder_of
from crossdock_controller.config.tree import check as check_tree
from crossdock_controller.config.variables import substitute, values_of
from crossdock_controller.hints import did_you_mean
from crossdock_controller.mappings.codes import CodeList
from crossdock_controller.mappings.model import Mapping as DocumentMapping
from crossdock_controller.routing import CompiledRoute, Router
from crossdock_controller.samples.cases import MappingTest
from crossdock_controller.store.revisions import StoredTree


@dataclass(frozen=True, slots=True)
class Loaded:
    """A sound tree as models, by name, as it is in *environment* ("" in a tree without environments): the sites that
    belong to it, and its sinks there. Mappings are by the name of their source."""

    tree: Tree
    environment: str
    policy: Policy | None
    sites: Mapping[str, Site]
    sources: Mapping[str, Source]
    mappings: Mapping[str, DocumentMapping]
    routes: Mapping[str, Route]
    sinks: Mapping[str, SinkDef]
    teams: Mapping[str, Team]
    reconciliations: Mapping[str, Reconciliation]
    writers: Mapping[str, Writer]
    lists: Mapping[str, CodeList]
    takes: Mapping[str, frozenset[str]]  # of each file, the other files it takes something from
    warnings: tuple[Problem, ...]
    tests: tuple[Part[MappingTest], ...] = ()  # none of a stored tree: they had their say

    def mapping_of(self, source: str) -> DocumentMapping | None:
        """The mapping that belongs to *source*."""
        return self.mappings.get(source)

    def sources_at(self, site: str) -> list[Source]:
        """Sources that run at *site*, by name; all that select it, also when it says `stop_all`."""
        known = self.sites.get(site)
        return [s for _, s in sorted(self.sources.items()) if s.runs_at(known)] if known else []

    def settings_at(self, site: str, source: str) -> dict[str, Any] | None:
        """Settings of *source* with the variables of *site*; None when it does not run there."""
        known, reader = self.sites.get(site), self.sources.get(source)
        if known is None or reader is None or not reader.runs_at(known):
            return None
        settings: dict[str, Any] = substitute(reader.settings, values_of(known))
        return settings

    def writers_at(self, site: str) -> list[tuple[Writer, dict[str, Any]]]:
        """Writers at *site*, by name, each with its settings there."""
        known = self.sites.get(site)
        if known is None:
            return []
        values = values_of(known)
        return [(w, substitute(w.settings, values)) for _, w in sorted(self.writers.items()) if w.runs_at(known)]

    def router(self) -> Router:
        """A router of this tree's routes, in the order of their names."""
        routes = [
            CompiledRoute(name, compile_predicate(route.when), tuple(dict.fromkeys(route.to)))
            for name, route in sorted(self.routes.items())
        ]
        return Router(routes, {name: source.lane for name, source in self.sources.items()})


def load(tree: Tree, environment: str | None = None) -> Loaded:
    """Raises ConfigInvalid with every problem of *tree* when one of them is an error. See `inspect`."""
    loaded, problems = inspect(tree, environment)
    if loaded is None:
        raise ConfigInvalid(problems)
    return loaded


def inspect(tree: Tree, environment: str | None = None) -> tuple[Loaded | None, list[Problem]]:
    """What `load` gives or raises, as values: the tree when it has no error, and all problems, sorted.

    Every environment is checked, whichever of them is asked for: the same tree goes to all of them. Without
    *environment* it is the one that a stored tree was put in force for.
    """
    if environment is None:
        environment = tree.environment if isinstance(tree, StoredTree) else ""
    read = parts.read_parts(tree)
    found = [
        *check_tree(tree, lenient=isinstance(tree, StoredTree)),
        *read.problems(),
        *checks.cross_check(read),
        *_serves(read, environment),
    ]
    problems = ordered(found)
    if errors_of(problems):
        return None, problems
    loaded = Loaded(
        tree=dict(tree),
        environment=environment,
        policy=next((part.model for part in read.policies), None),
        sites=parts.models_in(read.sites, environment),
        sources=parts.models(read.sources),
        mappings={checks.source_of(part): part.model for part in read.mappings if part.model is not None},
        routes=parts.models(read.routes),
        sinks=parts.models_in(read.sinks, environment),
        teams=parts.models(read.teams),
        reconciliations=parts.models(read.reconciliations),
        writers=parts.models(read.writers),
        lists=parts.models(read.lists),
        takes=reach.takes(read),
        warnings=tuple(problems),
        tests=tuple(read.tests),
    )
    return loaded, problems


def _serves(read: parts.Parts, environment: str) -> Iterator[Problem]:
    """Whether a controller of *environment* can serve the tree at all."""
    names = [part.name for part in read.environments]
    if environment and not names:
        message = f"this controller serves the environment {environment!r}, and the tree has no environments"
        yield Problem("environments", 0, "", message, f"add environments/{environment}.yaml")
    elif names and not environment:
        message = f"the tree has environments ({', '.join(sorted(names))}), and it is not said which is meant"
        hint = "crossdock config environment NAME, once for this controller; or plan --environment NAME"
        yield Problem("environments", 0, "", message, hint)
    elif environment and environment not in names:
        message = f"this controller serves the environment {environment!r}, which the tree does not have"
        yield Problem("environments", 0, "", message, did_you_mean(environment, names))


def policy_of(tree: Tree) -> Policy | None:
    """The policy of a tree in force; None when it has none. Raises ConfigError when it has one that cannot be read:
    what it forbids cannot be told."""
    if POLICY not in tree:
        return None
    own = {name: text for name, text in tree.items() if name == POLICY or folder_of(name) == SHARED}
    (part,) = parts.read_parts(own).policies
    if part.model is None:
        raise ConfigError(
            f"{POLICY} of the revision in force cannot be read: {part.problems[0].text() if part.problems else ''}",
            hint="a local administrator may go on, on record: apply DIR --break-glass REASON",
        )
    return part.model
