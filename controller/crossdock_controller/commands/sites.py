"""What the configuration says of each site: which sources run there, by which labels, and which secrets they need."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossdock.errors import ConfigError
from crossdock_controller.commands import naming
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import connection, facts, revisions

if TYPE_CHECKING:
    from crossdock_controller.config.load import Loaded
    from crossdock_controller.config.parts import Parts

CONTROLLER = "controller"
_REFERENCE = re.compile(r"secret:([A-Za-z0-9][A-Za-z0-9._-]{0,99})")


@dataclass(frozen=True, slots=True)
class SiteView:
    """*environments* that it belongs to; *groups* whose defaults it takes; *sources* that run there. *served*: this
    controller's agents get it."""

    site: str
    file: str
    labels: dict[str, str]
    environments: list[str]
    groups: list[str]
    sources: list[str]
    served: bool
    stopped: bool


@dataclass(frozen=True, slots=True)
class SecretView:
    """One secret of one place: *where* is a site, or "controller". *used_by*: "source wms-stock", "sink finance".
    *variable* or *file* (of the agent's state directory, or the controller's data directory) holds it; *known* says
    whether the controller's own can be read here, None for a site's."""

    where: str
    secret: str
    used_by: list[str]
    variable: str
    file: str
    known: bool | None


def sites(
    data: DataDirectory, directory: Path | None = None, *, labels: Sequence[str] = (), revision: str = ""
) -> list[SiteView]:
    """Of the tree below *directory*, else of *revision*, else of the one in force; those that *labels* select
    ("region=us", "env!=test"). Raises ConfigError, ConfigInvalid."""
    return sites_of(data, _below(directory), list(labels), revision)


@served
def sites_of(
    data: DataDirectory, tree: Mapping[str, str] | None = None, labels: Sequence[str] = (), revision: str = ""
) -> list[SiteView]:
    """`sites` of a tree that was read already: {path: text}."""
    from crossdock_controller.config import selection

    try:
        wanted = selection.parse(labels)
    except ValueError as error:
        raise ConfigError(str(error), hint="--label region=us, --label env!=test") from error
    loaded, parts, serves = _read(data, tree, revision)
    found: list[SiteView] = []
    for part in parts.sites:
        site = part.model
        if site is None or not selection.matches(wanted, site.all_labels()):
            continue
        groups = [g.name for g in parts.groups if g.model and selection.matches(g.model.on, site.all_labels())]
        sources = sorted(name for name, source in loaded.sources.items() if source.runs_at(site))
        found.append(
            SiteView(
                site.site, part.file.name, dict(site.labels), sorted(filter(None, part.variants)), groups, sources,
                serves in part.variants, site.stop_all,
            )
        )  # fmt: skip
    return sorted(found, key=lambda view: view.site)


def secrets(data: DataDirectory, directory: Path | None = None, *, revision: str = "") -> list[SecretView]:
    """What must be set where before the tree can run: of the controller first, then of each site it serves."""
    return secrets_of(data, _below(directory), revision)


@served
def secrets_of(data: DataDirectory, tree: Mapping[str, str] | None = None, revision: str = "") -> list[SecretView]:
    """`secrets` of a tree that was read already: {path: text}. Never a value."""
    loaded, _parts, _serves = _read(data, tree, revision)
    needed: dict[tuple[str, str], list[str]] = {}
    for name, sink in sorted(loaded.sinks.items()):
        for secret in _references(sink.settings):
            needed.setdefault((CONTROLLER, secret), []).append(f"sink {name}")
    for site in sorted(loaded.sites):
        for source in loaded.sources_at(site):
            for secret in _references(loaded.settings_at(site, source.source)):
                needed.setdefault((site, secret), []).append(f"source {source.source}")
    return [
        SecretView(
            where, secret, list(dict.fromkeys(users)), _variable(secret), f"secrets/{secret}",
            _is_known(data, secret) if where == CONTROLLER else None,
        )
        for (where, secret), users in needed.items()
    ]  # fmt: skip


def _below(directory: Path | None) -> dict[str, str] | None:
    from crossdock_controller.config.tree import read

    return read(directory)[0] if directory is not None else None


def _read(data: DataDirectory, tree: Mapping[str, str] | None, revision: str) -> tuple[Loaded, Parts, str]:
    from crossdock_controller.config.load import load
    from crossdock_controller.config.parts import read_parts

    serves = ""
    if data.state.exists():
        with closing(connection.connect(data.state)) as db:
            serves = facts.environment(db)
            if tree is None:
                number = naming.revision_named(db, revision) if revision else revisions.head_number(db)
                stored = revisions.tree(db, number)
                tree, serves = stored, stored.environment if stored is not None else serves
    if tree is None:
        raise ConfigError(
            "there is no revision yet", hint="name the folder of a tree, or apply one: crossdock apply DIR"
        )
    return load(tree, serves), read_parts(tree), serves


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _REFERENCE.findall(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _variable(secret: str) -> str:
    return "CROSSDOCK_SECRET_" + secret.upper().replace("-", "_").replace(".", "_")


def _is_known(data: DataDirectory, secret: str) -> bool:
    from crossdock.secrets import Secrets

    try:
        return bool(Secrets(data.root).resolve(f"secret:{secret}"))
    except ConfigError:
        return False
