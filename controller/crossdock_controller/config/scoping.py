"""Sites with what is laid under them: first the variables of their environment, then their groups, then their own file.

Two groups that are equally specific must not set the same thing differently for one site: which of them wins would be
chance. It is an error that names both files, unless something more specific decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from crossdock import yamlfile
from crossdock_controller.config import layers, variables
from crossdock_controller.config.errors import Problem
from crossdock_controller.config.models import Site
from crossdock_controller.config.part import File, Part
from crossdock_controller.config.scopes import GROUP_KEYS, Environment, Group
from crossdock_controller.config.selection import matches

ENVIRONMENT = "environment"  # the variable that is the environment's own name
_Build = Callable[[File], Part[Site]]


def worlds(environments: list[Part[Environment]]) -> dict[str, dict[str, str] | None]:
    """The variables of each environment, by its name; "" with None when the tree has none (or none that is sound)."""
    found: dict[str, dict[str, str] | None] = {
        part.name: {**part.model.variables, ENVIRONMENT: part.name} for part in environments if part.model is not None
    }
    return found or {"": None}


def scoped(
    files: list[File], groups: list[Part[Group]], environments: list[Part[Environment]], build: _Build
) -> tuple[list[Part[Site]], list[Problem]]:
    """Each site with its groups, in each environment it belongs to; and where groups contradict each other."""
    parts: list[Part[Site]] = []
    clashes: dict[tuple[str, ...], Problem] = {}
    told = all(g.model is not None for g in groups) and all(e.model is not None for e in environments)
    for file in files:
        labels = _labels(file.yaml)
        if labels is None or not file.sound:
            parts.append(build(file))
            continue
        chosen = [part for part in groups if part.model is not None and matches(part.model.on, labels)]
        for key, problem in _clashes(file.yaml, chosen, labels["site"]):
            clashes.setdefault(key, problem)
        grouped = replace(file, yaml=_under(file.yaml, chosen))
        part = build(grouped)
        if not told:
            part = replace(part, variants={})  # what it gets cannot be told
        elif environments:
            part = _in_each(grouped, part, labels, environments, build)
        parts.append(part)
    return parts, list(clashes.values())


def _in_each(
    file: File, part: Part[Site], labels: Mapping[str, str], environments: list[Part[Environment]], build: _Build
) -> Part[Site]:
    variants: dict[str, Site] = {}
    problems = list(part.problems)
    belongs = False
    for environment in environments:
        if environment.model is None or not matches(environment.model.on, labels):
            continue
        belongs = True
        values = {**environment.model.variables, ENVIRONMENT: environment.name}
        own = file.yaml.value.get("variables", {})
        for path, message, hint in variables.unknown(own, values):
            advice = hint or "add it to 'variables' of the environment"
            where = f"{message} in environment {environment.name}"
            problems.append(file.yaml.problem(("variables", *path), where, advice))
        found = build(replace(file, yaml=_filled(file.yaml, environment, values)))
        problems += [p for p in found.problems if p not in problems]
        if found.model is not None:
            variants[environment.name] = found.model
    if not belongs:
        message = "belongs to no environment: no controller serves it"
        names = ", ".join(sorted(e.file.name for e in environments))
        problems.append(file.yaml.problem(("labels",), message, f"see 'on' of {names}", warning=True))
    sound = not any(p.severity == "error" for p in problems)
    return replace(part, problems=problems, variants=variants, model=part.model if sound else None)


def _filled(site: yamlfile.YamlFile, environment: Part[Environment], values: dict[str, str]) -> yamlfile.YamlFile:
    """*site* with the variables of its environment under its own, whose texts may refer to them."""
    below = layers.only(environment.file, ("variables",), site.name)
    below.value["variables"] = dict(values)
    own = {**site.value, "variables": variables.substitute(site.value.get("variables") or {}, values)}
    return layers.over(below, replace(site, value=own))


def _under(site: yamlfile.YamlFile, groups: list[Part[Group]]) -> yamlfile.YamlFile:
    for group in sorted(groups, key=_rank, reverse=True):
        site = layers.over(layers.only(group.file, GROUP_KEYS, site.name), site)
    return site


def _rank(group: Part[Group]) -> tuple[int, str]:
    """Least specific first; the name only makes an order of what does not matter."""
    return (len(group.model.on) if group.model is not None else 0, group.file.name)


def _clashes(
    site: yamlfile.YamlFile, groups: list[Part[Group]], name: str
) -> Iterator[tuple[tuple[str, ...], Problem]]:
    decided = {path for path, _ in _settings(site.value)}
    ranked: dict[int, list[Part[Group]]] = {}
    for group in groups:
        ranked.setdefault(_rank(group)[0], []).append(group)
    for _, equal in sorted(ranked.items(), reverse=True):
        first: dict[yamlfile.Path, tuple[Part[Group], Any]] = {}
        for group in equal:
            for path, value in _settings(group.file.value):
                other, before = first.setdefault(path, (group, value))
                if before != value and path not in decided:
                    yield _clash(group, other, path, name)
        decided |= first.keys()


def _clash(group: Part[Group], other: Part[Group], path: yamlfile.Path, site: str) -> tuple[tuple[str, ...], Problem]:
    message = f"{other.file.name} sets it to something else for site {site}, and is as specific"
    hint = "name one label more in 'on' of the one that is to win, or set it at the site"
    return (group.name, other.name, *map(str, path)), group.file.problem(path, message, hint)


def _settings(data: Mapping[str, Any]) -> Iterator[tuple[yamlfile.Path, Any]]:
    """What a group may set, by path; a list is one setting."""
    for key in GROUP_KEYS:
        if key in data:
            yield from _leaves(data[key], (key,))


def _leaves(value: Any, path: yamlfile.Path) -> Iterator[tuple[yamlfile.Path, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    else:
        yield path, value


def _labels(site: yamlfile.YamlFile) -> dict[str, str] | None:
    """Labels of a site as they are written; None when that cannot be told."""
    if not isinstance(site.value, dict) or site.problems:
        return None
    name, labels = site.value.get("site"), site.value.get("labels", {})
    if not isinstance(name, str) or not isinstance(labels, dict):
        return None
    return {**{k: v for k, v in labels.items() if isinstance(v, str)}, "site": name}
