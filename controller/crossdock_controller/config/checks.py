"""What no file can know alone: names that must be unique, names that must exist, settings that depend on the site.

What refers to a broken file is not reported again: the file's own problem is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from crossdock_controller.config import owner_checks, route_checks, selection, source_checks, writer_checks
from crossdock_controller.config.errors import Problem, errors_of
from crossdock_controller.config.part import Part
from crossdock_controller.config.parts import Parts
from crossdock_controller.config.policy import Policy, covers
from crossdock_controller.config.tree import POLICY
from crossdock_controller.hints import did_you_mean

MAX_PAIRS = 4_000_000  # of a site and a source

_Check = Callable[[Parts], Iterable[Problem]]


def cross_check(parts: Parts) -> list[Problem]:
    """Every problem between the files of one tree, unsorted. Where documents go is asked of a sound tree only."""
    if len(parts.sites) * len(parts.sources) > MAX_PAIRS:
        message = f"{len(parts.sites)} sites by {len(parts.sources)} sources are more than this release can compare"
        return [Problem("sources", 0, "", message, "a source serves many sites by 'on': keep one file for all of them")]
    found = [problem for check in _CHECKS for problem in check(parts)]
    if not errors_of([*parts.problems(), *found]):
        found.extend(route_checks.documents_have_a_way(parts))
    return found


def source_of(mapping: Part[Any]) -> str:
    """The name of the source a mapping belongs to: what it says, or its own name."""
    value = mapping.file.value
    declared = value.get("source") if isinstance(value, dict) else None
    return declared if isinstance(declared, str) else mapping.name


def _not_empty(parts: Parts) -> Iterator[Problem]:
    if not parts.sites:
        yield Problem("sites", 0, "", "there is no site", "add sites/NAME.yaml; an empty tree would stop everything")


def _unique_names(parts: Parts) -> Iterator[Problem]:
    words = (
        ("site", parts.sites),
        ("source", parts.sources),
        ("mapping", parts.mappings),
        ("route", parts.routes),
        ("sink", parts.sinks),
        ("writer", parts.writers),
        ("list", parts.lists),
        ("group", parts.groups),
        ("environment", parts.environments),
        ("team", parts.teams),
        ("reconciliation", parts.reconciliations),
        ("test", parts.tests),
    )
    for word, of_kind in words:
        first: dict[str, Part[Any]] = {}
        for part in of_kind:
            other = first.setdefault(part.name, part)
            if other is not part:
                yield part.file.problem(
                    (word,),
                    f"the {word} {part.name!r} is declared in {other.file.name} already",
                    "names are unique: rename one",
                )


def _one_mapping_a_source(parts: Parts) -> Iterator[Problem]:
    known = {part.name for part in parts.sources}
    first: dict[str, Part[Any]] = {}
    for mapping in parts.mappings:
        source = source_of(mapping)
        path = ("source",) if isinstance(mapping.file.value, dict) and "source" in mapping.file.value else ("mapping",)
        if source not in known:
            hint = did_you_mean(source, known) or f"add sources/{source}.yaml, or name another with 'source:'"
            yield mapping.file.problem(path, f"there is no source {source!r}", hint)
            continue
        other = first.setdefault(source, mapping)
        if other is not mapping and other.name != mapping.name:
            message = f"the source {source!r} has a mapping already, in {other.file.name}"
            yield mapping.file.problem(path, message, "a source has one mapping: remove one")
    for source_part in parts.sources:
        if source_part.name not in first:
            message = "no mapping belongs to it: its records are kept in the intake and become no document"
            hint = f"add mappings/{source_part.name}.yaml"
            yield source_part.file.problem(("source",), message, hint, warning=True)


def _sinks_exist(parts: Parts) -> Iterator[Problem]:
    known = {part.name for part in parts.sinks}
    used: set[str] = set()
    for route in parts.routes:
        to = route.file.value.get("to") if isinstance(route.file.value, dict) else None
        for i, name in enumerate(to if isinstance(to, list) else []):
            used.add(str(name))
            if isinstance(name, str) and name not in known:
                yield route.file.problem(("to", i), f"there is no sink {name!r}", did_you_mean(name, known))
    if all(route.model is not None for route in parts.routes):
        for sink in parts.sinks:
            if sink.name not in used:
                yield sink.file.problem(("sink",), "no route leads to it", "name it in 'to' of a route", warning=True)


def _lists_are_used(parts: Parts) -> Iterator[Problem]:
    if any(part.model is None for part in parts.mappings):
        return
    used = {name for part in parts.mappings if part.model is not None for name in part.model.lists_used()}
    for part in parts.lists:
        if part.name not in used:
            yield part.file.problem(("list",), "no mapping asks for it", "name it in 'codes' of a field", warning=True)


def _scopes_select(parts: Parts) -> Iterator[Problem]:
    """Groups and environments that no site belongs to: usually a mistyped label."""
    sites = [part.model.all_labels() for part in parts.sites if part.model is not None]
    if len(sites) < len(parts.sites):
        return
    scopes: list[Part[Any]] = [*parts.groups, *parts.environments]
    for part in scopes:
        if part.model is not None and not any(selection.matches(part.model.on, labels) for labels in sites):
            yield part.file.problem(("on",), "selects no site", selection.hint(part.model.on, sites), warning=True)


def _policy_names_what_exists(parts: Parts) -> Iterator[Problem]:
    known = [part.name for part in parts.environments]
    for part in parts.policies:
        policy = part.model
        if policy is None:
            continue
        if policy.promotion is not None and policy.promotion.from_ not in known:
            message = f"there is no environment {policy.promotion.from_!r}"
            yield part.file.problem(("promotion", "from"), message, did_you_mean(policy.promotion.from_, known))
        yield from _rules_govern_something(parts, part, policy)
        for i, rule in enumerate(policy.approvals):
            for j, name in enumerate(rule.environments or ()):
                if name not in known:
                    path = ("approvals", i, "environments", j)
                    yield part.file.problem(path, f"there is no environment {name!r}", did_you_mean(name, known))


def _rules_govern_something(parts: Parts, part: Part[Policy], policy: Policy) -> Iterator[Problem]:
    """Warnings: a rule with a mistyped path or label guards nothing, and looks as if it did."""
    files = [POLICY, *parts.shared, *(other.file.name for other in parts.all())]
    sites = [site.model.all_labels() for site in parts.sites if site.model is not None]
    for i, rule in enumerate(policy.approvals):
        for j, pattern in enumerate(rule.paths):
            if not any(covers(pattern, name) for name in files):
                message = f"no file of the tree is called so: {pattern!r}"
                yield part.file.problem(("approvals", i, "paths", j), message, "write it like sinks/*", warning=True)
        if rule.sites is not None and not any(selection.matches(rule.sites, labels) for labels in sites):
            advice = selection.hint(rule.sites, sites)
            yield part.file.problem(("approvals", i, "sites"), "selects no site", advice, warning=True)


_CHECKS: tuple[_Check, ...] = (
    _not_empty,
    _unique_names,
    _one_mapping_a_source,
    _sinks_exist,
    _lists_are_used,
    _scopes_select,
    _policy_names_what_exists,
    source_checks.sources_run_somewhere,
    source_checks.settings_are_valid,
    source_checks.mappings_fit_their_sources,
    route_checks.conditions_are_sound,
    owner_checks.teams_name_what_exists,
    owner_checks.reconciliations_name_what_exists,
    writer_checks.settings_are_valid,
    writer_checks.writers_are_somewhere,
    writer_checks.sinks_have_their_writer,
)
