"""Which files a change reaches: those that differ, and those that take something from one that differs.

A shared file is a change of every file that includes it, a group of the sites it selects, an environment of its sites
and of every file that uses a variable, a code list of the mappings that ask for it. So a rule for `sinks/*` cannot be
got round by way of `shared/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from crossdock_controller.config import variables
from crossdock_controller.config.parts import Parts

if TYPE_CHECKING:
    from crossdock_controller.config.load import Loaded

Takes = Mapping[str, frozenset[str]]


def takes(parts: Parts) -> dict[str, frozenset[str]]:
    """For each file, the other files that it takes something from."""
    environments = {part.name: frozenset({part.file.name, *part.file.origins.values()}) for part in parts.environments}
    every = frozenset(name for names in environments.values() for name in names)
    found: dict[str, frozenset[str]] = {}
    for part in parts.all():
        of = set(part.file.origins.values())
        if variables.uses_variables(part.file.value):
            of |= every
        found[part.file.name] = frozenset(of)
    for site in parts.sites:
        found[site.file.name] = found[site.file.name].union(*(environments.get(e, frozenset()) for e in site.variants))
    lists = {part.name: part.file.name for part in parts.lists}
    for part in parts.mappings:
        used = part.model.lists_used() if part.model is not None else frozenset()
        found[part.file.name] |= {lists[name] for name in used if name in lists}
    return found


def touched(old: Loaded | None, new: Loaded) -> list[str]:
    """Sorted paths of the files, old and new, that the way from *old* to *new* reaches."""
    before = old.tree if old is not None else {}
    differ = {name for name in {*before, *new.tree} if before.get(name) != new.tree.get(name)}
    reached = {
        name
        for loaded in (old, new)
        if loaded is not None
        for name, of in loaded.takes.items()
        if not differ.isdisjoint(of)
    }
    return sorted(differ | reached)
