"""A revision, ready to work with: built once for each revision, then read by gateway, normalizer and dispatcher.

A revision's number never changes its meaning, so a Runtime may be kept as long as a process lives. `engine` and
`router` are for one thread (each worker process has a Runtime of its own); the rest may be read from any.

    runtime = Runtime.from_tree(tree, number)      # raises ConfigInvalid; `apply` never stores such a tree
    engine = runtime.engine("atl1", "wms-shipments")   # None: no such source at the site, or no mapping for it
    runtime.router.route(document=..., key=..., site=..., source=..., labels=runtime.labels(site), fields=mapped.fields)
    runtime.sinks["finance"].kind, runtime.sinks["finance"].typed()
    runtime.site_config("atl1")                    # bytes for the agents of that site, unsigned
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from crossdock.errors import ConfigError
from crossdock_controller.config import compile as compiling
from crossdock_controller.config.load import Loaded, load
from crossdock_controller.config.models import SinkDef, Site
from crossdock_controller.config.tree import Tree
from crossdock_controller.mappings.answered import Answered, People
from crossdock_controller.mappings.codes import ListCodes
from crossdock_controller.mappings.engine import Engine
from crossdock_controller.routing import Router


class Runtime:
    """One revision. Engines are made when first asked for, and kept."""

    def __init__(self, loaded: Loaded, number: int) -> None:
        self.number = number
        self.loaded = loaded
        self.sites: Mapping[str, Site] = MappingProxyType(loaded.sites)
        self.sinks: Mapping[str, SinkDef] = MappingProxyType(loaded.sinks)
        self.router: Router = loaded.router()
        self.codes = ListCodes(loaded.lists)
        self._people: People | None = None
        self._engines: dict[tuple[str, str], Engine | None] = {}

    @classmethod
    def from_tree(cls, tree: Tree, number: int) -> Runtime:
        """Raises ConfigInvalid with every problem when *tree* does not load without errors (warnings are fine).

        A stored tree is taken in the environment that it was put in force for.
        """
        return cls(load(tree), number)

    def engine(self, site: str, source: str) -> Engine | None:
        """The engine of *source* at *site*, for decoding and mapping its batches.

        None when this revision has no such source at that site (it was removed while batches were on their way) or no
        mapping belongs to it. The raw batches stay in the intake; a later revision can normalize them.
        """
        if (site, source) not in self._engines:
            self._engines[site, source] = self._build(site, source)
        return self._engines[site, source]

    def asks(self, people: People) -> None:
        """Engines made from now on ask *people* about codes that no list knows."""
        self._people = people

    def labels(self, site: str) -> dict[str, str]:
        """Labels of *site*, empty for a site that this revision does not know."""
        known = self.sites.get(site)
        return dict(known.labels) if known else {}

    def site_config(self, site: str) -> bytes:
        """What the agents of *site* get: its own sources only. Raises ConfigError for a site that does not exist."""
        if site not in self.sites:
            raise ConfigError(
                f"site {site!r} is not in revision {self.number}", hint=f"add sites/{site}.yaml and apply it"
            )
        return compiling.site_config(self.loaded, site, self.number)

    def _build(self, site: str, source: str) -> Engine | None:
        mapping = self.loaded.mapping_of(source)
        settings = self.loaded.settings_at(site, source)
        format_settings = compiling.typed_format(settings) if settings is not None else None
        if mapping is None or format_settings is None:
            return None
        return Engine(
            site=site,
            source=source,
            zone=self.sites[site].zone,
            format_settings=format_settings,
            mapping=mapping,
            revision=self.number,
            codes=Answered(self.codes, self._people, site) if self._people is not None else self.codes,
        )
