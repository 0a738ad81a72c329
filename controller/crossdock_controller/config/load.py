"""Tree in, Loaded out, or every problem at once. A Loaded is complete and consistent: no user checks it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossdock_controller.conditions.predicate import compile_predicate
from crossdock_controller.config import checks, parts
from crossdock_controller.config.errors import ConfigInvalid, Problem, errors_of, ordered
from crossdock_controller.config.models import Route, SinkDef, Site, Source
from crossdock_controller.config.tree import Tree
from crossdock_controller.config.tree import check as check_tree
from crossdock_controller.config.variables import substitute, values_of
from crossdock_controller.mappings.model import Mapping as DocumentMapping
from crossdock_controller.routing import CompiledRoute, Router


@dataclass(frozen=True, slots=True)
class Loaded:
    """A sound tree as models, by name. Mappings are by the name of their source."""

    tree: Tree
    sites: Mapping[str, Site]
    sources: Mapping[str, Source]
    mappings: Mapping[str, DocumentMapping]
    routes: Mapping[str, Route]
    sinks: Mapping[str, SinkDef]
    warnings: tuple[Problem, ...]

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

    def router(self) -> Router:
        """A router of this tree's routes, in the order of their names."""
        routes = [
            CompiledRoute(name, compile_predicate(route.when), tuple(dict.fromkeys(route.to)))
            for name, route in sorted(self.routes.items())
        ]
        return Router(routes, {name: source.lane for name, source in self.sources.items()})


def load(tree: Tree) -> Loaded:
    """Raises ConfigInvalid with every problem of *tree* when one of them is an error."""
    loaded, problems = inspect(tree)
    if loaded is None:
        raise ConfigInvalid(problems)
    return loaded


def inspect(tree: Tree) -> tuple[Loaded | None, list[Problem]]:
    """What `load` gives or raises, as values: the tree when it has no error, and all problems, sorted."""
    read = parts.read_parts(tree)
    problems = ordered([*check_tree(tree), *read.problems(), *checks.cross_check(read)])
    if errors_of(problems):
        return None, problems
    loaded = Loaded(
        tree=dict(tree),
        sites=parts.models(read.sites),
        sources=parts.models(read.sources),
        mappings={checks.source_of(part): part.model for part in read.mappings if part.model is not None},
        routes=parts.models(read.routes),
        sinks=parts.models(read.sinks),
        warnings=tuple(problems),
    )
    return loaded, problems
