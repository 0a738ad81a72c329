"""Which sites a revision changes: what their agents read, or how their records are mapped and routed."""

from __future__ import annotations

import msgspec

from crossdock_controller.config.compile import site_config
from crossdock_controller.config.load import Loaded


def changing(old: Loaded, new: Loaded) -> dict[str, dict[str, str]]:
    """Sites of *new* that change, with their labels. One that is new, or is removed, is in no wave: it has nothing to
    be compared with."""
    routes = _plain(old.routes) != _plain(new.routes)
    return {
        site: dict(model.labels)
        for site, model in new.sites.items()
        if site in old.sites and (_changes(old, new, site) or (routes and bool(new.sources_at(site))))
    }


def shared(old: Loaded, new: Loaded) -> list[str]:
    """What belongs to no site and changes, or goes away, only when the rollout is complete."""
    was, will = _plain(old.sinks), _plain(new.sinks)
    return sorted(f"sink {name}" for name in was if was[name] != will.get(name))


def _changes(old: Loaded, new: Loaded, site: str) -> bool:
    before, after = old.sites[site], new.sites[site]
    if (before.labels, before.zone) != (after.labels, after.zone):
        return True
    if site_config(old, site, 0) != site_config(new, site, 0):
        return True
    names = {s.source for s in new.sources_at(site)}
    return any(_mapping(old, name) != _mapping(new, name) for name in names)


def _mapping(loaded: Loaded, source: str) -> object:
    found = loaded.mapping_of(source)
    return None if found is None else found.model_dump(mode="json", by_alias=True)


def _plain(models: object) -> dict[str, bytes]:
    assert isinstance(models, dict)  # noqa: S101
    return {name: msgspec.json.encode(model.model_dump(mode="json", by_alias=True)) for name, model in models.items()}
