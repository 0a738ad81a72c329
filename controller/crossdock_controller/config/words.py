"""A plan for people: what changes alike at many sites is said once, and which sites and sources it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from crossdock_controller.config.diff import Change, Plan
from crossdock_controller.config.errors import errors_of

_NAMED = 5  # sites or sources of a group that are named


@dataclass(frozen=True, slots=True)
class Block:
    """The same *changes* at each of *sites*; no sites: of the controller."""

    title: str
    sites: tuple[str, ...]
    changes: tuple[Change, ...]


def blocks(plan: Plan, site: str = "") -> list[Block]:
    """What changes, the changes of most sites first, the controller's own last; only those at *site* when given."""
    places: dict[Change, list[str]] = {}
    for change in plan.changes:
        if change.site and site in ("", change.site):
            alike = replace(change, site="", name="" if change.part == "site" else change.name)
            places.setdefault(alike, []).append(change.site)
    together: dict[tuple[str, ...], list[Change]] = {}
    for change, names in places.items():
        together.setdefault(tuple(names), []).append(change)
    found = [
        Block(_title(sites, plan.sites), sites, tuple(_named(change, sites) for change in changes))
        for sites, changes in sorted(together.items(), key=lambda item: (-len(item[0]), item[0]))
    ]
    own = tuple(change for change in plan.changes if not change.site)
    return [*found, Block("controller", (), own)] if own and not site else found


def summary(plan: Plan) -> list[str]:
    """Lines below the changes: which sources begin anew or end where, and whom all of it leaves alone."""
    lines = []
    for word, action in (("restarts", "changed"), ("stops", "removed")):
        together: dict[tuple[str, ...], list[str]] = {}
        for source, sites in _sources(plan, action).items():
            together.setdefault(tuple(sites), []).append(source)
        lines += [f"{word}: {_names(names)} at {counted(sites, plan.sites)}" for sites, names in together.items()]
    if plan.untouched:
        lines.append(f"untouched: {counted(plan.untouched, plan.sites)}")
    return lines


def _sources(plan: Plan, action: str) -> dict[str, list[str]]:
    """{source: sites at which it is changed, or removed}."""
    found: dict[str, list[str]] = {}
    for change in plan.changes:
        if change.part == "source" and change.action == action:
            found.setdefault(change.name, []).append(change.site)
    return dict(sorted(found.items()))


def text(plan: Plan, site: str = "") -> str:
    """The whole plan: problems first, then what changes, then what does not."""
    lines = [f"{p.severity}: {p.text()}" for p in plan.problems]
    if not plan.applicable:
        return "\n".join([*lines, f"{len(errors_of(plan.problems))} error(s): nothing can be applied"])
    if plan.nothing_to_do:
        return "\n".join([*lines, "nothing to do: the tree equals the current revision"])
    if not plan.changes:
        return "\n".join([*lines, "only comments or layout differ"])
    for block in blocks(plan, site):
        lines.append(block.title)
        lines.extend(f"  {change.text()}" for change in block.changes)
    return "\n".join([*lines, *([] if site else summary(plan))])


def counted(sites: list[str] | tuple[str, ...], known: Mapping[str, Mapping[str, str]]) -> str:
    """ "atl1", "all 80 sites", "38 sites (region: us)", "7 sites (a, b, c, d, e and 2 more)"."""
    if len(sites) == 1:
        return sites[0]
    if len(sites) == len(known):
        return f"all {len(sites)} sites"
    return f"{len(sites)} sites ({_label_of(set(sites), known) or _names(sites)})"


def _title(sites: tuple[str, ...], known: Mapping[str, Mapping[str, str]]) -> str:
    return f"site {sites[0]}" if len(sites) == 1 else counted(sites, known)


def _named(change: Change, sites: tuple[str, ...]) -> Change:
    """At one site its change is said with its name, as everything else is."""
    return replace(change, name=sites[0]) if change.part == "site" and len(sites) == 1 else change


def _label_of(sites: set[str], known: Mapping[str, Mapping[str, str]]) -> str:
    """The label that these sites have and no other, if there is one."""
    labels = known[next(iter(sites))]
    for name, value in sorted(labels.items()):
        if {site for site, own in known.items() if own.get(name) == value} == sites:
            return f"{name}: {value}"
    return ""


def _names(names: list[str] | tuple[str, ...]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:_NAMED])} and {more} more"
