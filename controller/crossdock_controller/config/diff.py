"""What applying a tree would change, in words, before anything changes: for each site, and for the controller.

Sites are compared by what their agents would get, variables put in, so that a change shows where it takes effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import msgspec

from crossdock import siteconfig, yamlfile
from crossdock_controller.config import mapping_tests, reach, secrets
from crossdock_controller.config.compile import site_config
from crossdock_controller.config.errors import Problem, errors_of, ordered
from crossdock_controller.config.load import Loaded, inspect
from crossdock_controller.config.tree import Tree, digest
from crossdock_controller.store.revisions import StoredTree

Action = Literal["added", "removed", "changed"]
_SHOWN = 60  # characters of a value
_MOST_CODES = 20  # changed ones of a list


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One setting. *before* or *after* is None where it was not set; both are texts as they may be shown."""

    path: str
    before: str | None
    after: str | None

    def text(self) -> str:
        if self.before is None:
            return f"{self.path} set to {self.after}"
        if self.after is None:
            return f"{self.path} removed (was {self.before})"
        return f"{self.path} {self.before} → {self.after}"


@dataclass(frozen=True, slots=True)
class Change:
    """One named part: a source at a site, or a site, mapping, route, sink or list of the controller."""

    part: str  # "source", "site", "mapping", "route", "sink", "list", "team", "reconciliation"
    name: str
    action: Action
    site: str = ""  # where it takes effect; "" for the controller
    keys: tuple[KeyChange, ...] = ()

    def text(self) -> str:
        words = " ".join(word for word in (self.part, self.name, self.action) if word)
        return f"{words}: {'; '.join(k.text() for k in self.keys)}" if self.keys else words


@dataclass(frozen=True, slots=True)
class Plan:
    """*changes* is empty when only comments or layout differ. Nothing may be applied while *problems* has an error."""

    before: str  # content hashes; "" when there is no revision yet
    after: str
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...]
    tree: Tree = field(default_factory=dict, repr=False)  # what was planned: the one to store when it is applied
    environment: str = ""
    moves: bool = False  # to another environment
    touched: tuple[str, ...] = ()  # files, those that take something from a changed one among them
    sites: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)  # labels of each, after
    labels_before: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)

    @property
    def nothing_to_do(self) -> bool:
        return self.before == self.after and not self.moves

    @property
    def untouched(self) -> list[str]:
        """Sites at which nothing changes: neither for their agents, nor in what becomes of their records."""
        reached = {change.site for change in self.changes}
        return [] if "" in reached else sorted(self.sites.keys() - reached)

    @property
    def reached(self) -> list[Mapping[str, str]]:
        """Labels of the sites at which something changes, before and after: who takes a label off a site reaches it by
        that label. A change of the controller's own parts reaches them all."""
        untouched = set(self.untouched)
        of_each = [*sorted(self.labels_before.items()), *sorted(self.sites.items())]
        return [labels for name, labels in of_each if name not in untouched]

    @property
    def applicable(self) -> bool:
        return not errors_of(self.problems)

    def as_json(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "after": self.after,
            "nothing_to_do": self.nothing_to_do,
            "applicable": self.applicable,
            "environment": self.environment,
            "touched": list(self.touched),
            "untouched_sites": self.untouched,
            "changes": [{**asdict(change), "keys": [asdict(key) for key in change.keys]} for change in self.changes],
            "problems": [problem.as_json() for problem in self.problems],
        }


def plan(current: Tree | None, new: Tree, environment: str | None = None) -> Plan:
    """The way from *current* (None: no revision yet) to *new* in *environment*, with every problem of *new*.

    Without *environment*, that of a stored tree. A current tree that no longer loads (an older release accepted it) is
    compared as if there were none. Tests of mappings are run; one that fails is a problem.
    """
    loaded, problems = inspect(new, environment)
    before, after = digest(current) if current is not None else "", digest(new)
    if loaded is None:
        return Plan(before, after, (), tuple(problems), new, environment or "")
    served = current.environment if isinstance(current, StoredTree) else ""
    moves = current is not None and served != loaded.environment
    if before == after and not moves:
        return Plan(before, after, (), tuple(problems), new, loaded.environment)
    failed = [problem for tested in mapping_tests.run(loaded, loaded.tests) for problem in tested.problems]
    if failed:
        return Plan(before, after, (), tuple(ordered([*problems, *failed])), new, loaded.environment)
    old = inspect(current)[0] if current is not None else None
    changes = [*_site_changes(old, loaded), *_controller_changes(old, loaded)]
    labels_before = _labels(old)
    sites = {**labels_before, **_labels(loaded)}
    touched = tuple(reach.touched(old, loaded))
    return Plan(
        before, after, tuple(changes), tuple(problems), new, loaded.environment, moves, touched, sites, labels_before
    )


def _labels(loaded: Loaded | None) -> dict[str, Mapping[str, str]]:
    return {name: site.all_labels() for name, site in loaded.sites.items()} if loaded else {}


def _site_changes(old: Loaded | None, new: Loaded) -> Iterator[Change]:
    for site in sorted({*(old.sites if old else ()), *new.sites}):
        was, will = _agent_part(old, site), _agent_part(new, site)
        if was is None or will is None:
            yield Change("site", site, "added" if was is None else "removed", site)
        else:
            keys = tuple(_key_changes(_site_settings(old, site, was), _site_settings(new, site, will)))
            if keys:
                yield Change("site", site, "changed", site, keys)
        yield from _named("source", _sources(was), _sources(will), site)
        yield from _named("writer", _writers(was), _writers(will), site)


def _controller_changes(old: Loaded | None, new: Loaded) -> Iterator[Change]:
    for word in ("mapping", "route", "sink", "team", "reconciliation"):
        was = _plain(getattr(old, f"{word}s")) if old else {}
        yield from _named(word, was, _plain(getattr(new, f"{word}s")), "")
    yield from map(_short, _named("list", _codes(old), _codes(new), ""))


def _codes(loaded: Loaded | None) -> dict[str, Any]:
    """The rows of each code list, by code."""
    return {
        name: {row[0]: row[1] if len(row) == 2 else ", ".join(row[1:]) for row in found.rows}
        for name, found in (loaded.lists.items() if loaded else ())
    }


def _short(change: Change) -> Change:
    """A list of a thousand new codes is not told code by code."""
    rest = len(change.keys) - _MOST_CODES
    if rest <= 0:
        return change
    return replace(change, keys=(*change.keys[:_MOST_CODES], KeyChange(f"{rest} more codes", "", "changed")))


def _named(word: str, old: Mapping[str, Any], new: Mapping[str, Any], site: str) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        if name not in old:
            yield Change(word, name, "added", site)
        elif name not in new:
            yield Change(word, name, "removed", site)
        elif old[name] != new[name]:
            yield Change(word, name, "changed", site, tuple(_key_changes(old[name], new[name])))


def _agent_part(loaded: Loaded | None, site: str) -> siteconfig.SiteConfig | None:
    if loaded is None or site not in loaded.sites:
        return None
    return msgspec.json.decode(site_config(loaded, site, 0), type=siteconfig.SiteConfig)


def _site_settings(loaded: Loaded | None, site: str, part: siteconfig.SiteConfig) -> dict[str, Any]:
    model = loaded.sites[site] if loaded else None
    return {
        "labels": dict(model.labels) if model else {},
        "zone": model.zone if model else "",
        "outbox": msgspec.structs.asdict(part.outbox),
        "stop_all": part.stop_all,
        **({"limits": msgspec.to_builtins(part.limits)} if part.limits is not None else {}),
    }


def _sources(part: siteconfig.SiteConfig | None) -> dict[str, Any]:
    """Sources by name, their settings beside kind, lane, schedule and budget, as they are written."""
    return {s.name: {**_common(s), **s.settings} for s in part.sources} if part else {}


def _writers(part: siteconfig.SiteConfig | None) -> dict[str, Any]:
    return {w.name: {"kind": w.kind, **w.settings} for w in part.writers} if part else {}


def _common(source: siteconfig.SourceConfig) -> dict[str, Any]:
    given: dict[str, Any] = {"kind": source.kind, "lane": source.lane}
    for name in ("schedule", "quiet", "budget"):
        value = msgspec.to_builtins(getattr(source, name))
        if value:
            given[name] = list(value) if name == "quiet" else value
    return given


def _plain(models: Mapping[str, Any]) -> dict[str, Any]:
    """Models as they are written: the settings of a sink stand beside its kind."""
    plain: dict[str, Any] = {}
    for name, model in models.items():
        data = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
        settings = data.pop("settings", {})
        plain[name] = {**data, **settings}
    return plain


def _key_changes(old: Any, new: Any) -> Iterator[KeyChange]:
    was, will = dict(_leaves(old, ())), dict(_leaves(new, ()))
    for path in sorted({*was, *will}, key=lambda p: [str(part) for part in p]):
        if was.get(path, _ABSENT) != will.get(path, _ABSENT):
            yield KeyChange(yamlfile.dotted(path), _shown(path, was), _shown(path, will))


_ABSENT = object()


def _leaves(value: Any, path: yamlfile.Path) -> Iterator[tuple[yamlfile.Path, Any]]:
    """Settings by path. A list of plain values is one setting; so is an empty mapping."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for i, item in enumerate(value):
            yield from _leaves(item, (*path, i))
    else:
        yield path, value


def _shown(path: yamlfile.Path, values: Mapping[yamlfile.Path, Any]) -> str | None:
    if path not in values:
        return None
    value = secrets.masked(path, values[path])
    text = value if isinstance(value, str) and value else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
