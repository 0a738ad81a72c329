"""What a tree would change, seen as rights: a person of some sites may change those, and nothing that all share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import lru_cache

from crossdock_controller.access import Labels, Sites
from crossdock_controller.config import diff, load, parts, tree
from crossdock_controller.config.load import Loaded
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import connection, facts, revisions

OWN_FOLDERS = frozenset({"sites", "sources"})  # everything else is shared by all sites


def labels_of(data: DataDirectory) -> Labels:
    """Labels as the revision in force gives them. Without one, or when this release cannot read it, no site has any."""
    loaded = _loaded(str(data.state), in_force(data))
    return lambda site: dict(loaded.sites[site].labels) if loaded is not None and site in loaded.sites else {}


def in_force(data: DataDirectory) -> int:
    """The number of the revision that rights go by now."""
    with closing(connection.connect(data.state)) as db:
        return revisions.head_number(db)


@lru_cache(maxsize=2)  # a revision's number never changes its meaning
def _loaded(state: str, number: int) -> Loaded | None:
    from pathlib import Path

    with closing(connection.connect(Path(state))) as db:
        found = revisions.sound(db, [number])[0].get(number)
    return load.inspect(found)[0] if found is not None else None


def confined(data: DataDirectory, new: Mapping[str, str], sites: Sites, environment: str | None = None) -> bool:
    """Whether everything that *new* changes takes effect at *sites* only: by the labels of now (*sites* goes by them)
    and by those the new tree gives. A tree with errors changes nothing, and whoever wrote it may hear of them. The
    labels of here say nothing of another *environment*."""
    with closing(connection.connect(data.state)) as db:
        found, serves = revisions.head(db), facts.environment(db)
    if environment is not None and environment != serves:
        return False
    current = found[1] if found is not None else {}
    changed = {path for path in {*current, *new} if current.get(path) != new.get(path)}
    if any(tree.folder_of(path) not in OWN_FOLDERS for path in changed):
        return False
    after, _ = load.inspect(new, serves)
    if after is None:
        return True
    before = load.inspect(current)[0] if current else None
    if current and (before is None or before.environment != serves):
        return False
    known = before.sites if before is not None else {}
    relabelled = sites.under(lambda site: after.sites[site].labels if site in after.sites else {})
    for site in (*_affected(before, after, current, new, serves), *_elsewhere(before, after, changed)):
        if site is None or (site in known and not sites(site)) or (site in after.sites and not relabelled(site)):
            return False
    return True


def _elsewhere(before: Loaded | None, after: Loaded, changed: set[str]) -> Iterator[None]:
    """None for a changed site of another environment: whose it is there cannot be told by the grants of here."""
    for loaded in (before, after):
        if loaded is not None and after.environment:
            for part in parts.read_parts(loaded.tree).sites:
                if part.file.name in changed and part.name not in loaded.sites:
                    yield None


def _affected(
    before: Loaded | None, after: Loaded, current: Mapping[str, str], new: Mapping[str, str], serves: str
) -> Iterator[str | None]:
    """Sites at which anything changes; None for what is not of any one site."""
    for change in diff.plan(current, new, serves).changes:
        yield change.site or None
    known = before.sites if before is not None else {}
    for site in {*known, *after.sites}:
        if known.get(site) != after.sites.get(site):
            yield site
    sources = before.sources if before is not None else {}
    for name in {*sources, *after.sources}:
        if sources.get(name) == after.sources.get(name):
            continue
        runs_at = [
            site
            for loaded in (before, after)
            if loaded is not None and name in loaded.sources
            for site, model in loaded.sites.items()
            if loaded.sources[name].runs_at(model)
        ]
        if not runs_at:
            yield None  # one that runs nowhere yet may run anywhere tomorrow
        yield from runs_at
