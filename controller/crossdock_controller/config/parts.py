"""Each file alone: from text to a model of its kind, or to every problem with it. Files do not know one another here,
but for what is laid under them: what they include, the groups of a site, and the variables of an environment.

A file with problems still says its name, so that one mistake is not reported a second time by whoever refers to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeVar

from crossdock import yamlfile
from crossdock_controller.config import lists, scoping, secrets, typed, variables
from crossdock_controller.config.errors import Problem
from crossdock_controller.config.includes import FOLDER as SHARED
from crossdock_controller.config.includes import Includes
from crossdock_controller.config.models import SINK_KEYS, SOURCE_KEYS, WRITER_KEYS, Route, SinkDef, Site, Source, Writer
from crossdock_controller.config.part import File, Part
from crossdock_controller.config.policy import Policy
from crossdock_controller.config.reconciliations import Reconciliation
from crossdock_controller.config.schema import source_kinds, writer_kinds
from crossdock_controller.config.scopes import Environment, Group
from crossdock_controller.config.teams import Team
from crossdock_controller.config.tree import FOLDERS, POLICY, Tree, folder_of
from crossdock_controller.hints import did_you_mean
from crossdock_controller.mappings import model as mapping_model
from crossdock_controller.mappings.codes import CodeList
from crossdock_controller.samples.cases import MappingTest
from crossdock_controller.sinks.base import kinds as sink_kinds
from crossdock_controller.store.revisions import StoredTree

T = TypeVar("T")

TESTS = "tests"
MAX_TREE_VALUES = 300_000  # of all files, what they include counted in each


@dataclass(frozen=True, slots=True)
class Parts:
    """All files of a tree, each read alone, by path. *others* are problems that belong to no one of them."""

    sites: list[Part[Site]]
    sources: list[Part[Source]]
    mappings: list[Part[mapping_model.Mapping]]
    routes: list[Part[Route]]
    sinks: list[Part[SinkDef]]
    writers: list[Part[Writer]]
    lists: list[Part[CodeList]]
    groups: list[Part[Group]]
    environments: list[Part[Environment]]
    policies: list[Part[Policy]]
    teams: list[Part[Team]]
    reconciliations: list[Part[Reconciliation]]
    tests: list[Part[MappingTest]]
    shared: list[str]
    others: list[Problem]

    def all(self) -> list[Part[Any]]:
        scopes: list[Part[Any]] = [*self.groups, *self.environments, *self.policies]
        mapped: list[Part[Any]] = [*self.mappings, *self.lists, *self.tests]
        people: list[Part[Any]] = [*self.teams, *self.reconciliations]
        return [*self.sites, *self.sources, *mapped, *self.routes, *self.sinks, *self.writers, *scopes, *people]

    def problems(self) -> list[Problem]:
        return [*self.others, *(problem for part in self.all() for problem in part.problems)]


def read_parts(tree: Tree) -> Parts:
    """Every YAML file of *tree*, by its folder. Files that belong to no folder are `tree.check`'s business."""
    files, others = _files(tree)
    environments = [_part(f, "environment", _environment) for f in files["environments"]]
    groups = [_part(f, "group", _group) for f in files["groups"]]
    worlds = scoping.worlds(environments)
    sites, clashes = scoping.scoped(files["sites"], groups, environments, _site_part)
    return Parts(
        sites=sites,
        sources=[_part(f, "source", _source) for f in files["sources"]],
        mappings=[_part(f, "mapping", _mapping) for f in files["mappings"]],
        routes=[_part(f, "route", _route) for f in files["routes"]],
        sinks=[_in_each(f, worlds) for f in files["sinks"]],
        writers=[_part(f, "writer", _writer) for f in files["writers"]],
        lists=[*(_part(f, "list", lists.build) for f in files[lists.FOLDER]), *lists.tables(tree)],
        groups=groups,
        environments=environments,
        policies=[_part(f, "approvals", _policy) for f in files[POLICY]],
        teams=[_part(f, "team", _team) for f in files["teams"]],
        reconciliations=[_part(f, "reconciliation", _reconciliation) for f in files["reconciliations"]],
        tests=[_part(f, "test", _test) for f in files[TESTS]],
        shared=[name for name in sorted(tree) if folder_of(name) == SHARED],
        others=[*others, *clashes],
    )


def _files(tree: Tree) -> tuple[dict[str, list[File]], list[Problem]]:
    """The files of each folder with what they include, as far as the limit for a whole tree allows. Tests had their say
    before a tree was stored: those of a stored one are not read again."""
    unread = TESTS if isinstance(tree, StoredTree) else None
    read: dict[str, list[tuple[yamlfile.YamlFile, str]]] = {folder: [] for folder in (*FOLDERS, POLICY)}
    budget = _Budget()
    for name in sorted(tree):
        folder = folder_of(name)
        if folder in read and folder != unread and name.endswith((".yaml", ".yml")) and budget.left:
            text = tree[name].removeprefix("\ufeff")
            parsed = yamlfile.parse(name, text)
            budget.take(parsed)
            read[folder].append((parsed, text))
    includes = Includes({file.name: file for file, _ in read.pop("shared")})
    files: dict[str, list[File]] = {folder: [] for folder in read}
    for folder, given in read.items():
        for parsed, text in given:
            if budget.left:
                whole, sound = includes.resolve(parsed)
                budget.take(whole)
                files[folder].append(File(whole, text, sound))
    return files, [*includes.problems(), *budget.problems()]


class _Budget:
    """How many values a tree may still have: aliases and includes make many out of few bytes."""

    def __init__(self) -> None:
        self._values, self._at = 0, ""

    @property
    def left(self) -> bool:
        return self._values <= MAX_TREE_VALUES

    def take(self, file: yamlfile.YamlFile) -> None:
        self._values += len(file.lines)
        if not self.left and not self._at:
            self._at = file.name

    def problems(self) -> Iterator[Problem]:
        if self._at:
            message = f"here the tree has more than {MAX_TREE_VALUES} values, aliases and includes counted"
            yield Problem(self._at, 0, "", message, "use fewer aliases and includes; nothing after this file was read")


_Build = Callable[[yamlfile.YamlFile, Mapping[str, Any], str], tuple[T | None, list[Problem]]]


def _part(file: File, word: str, build: _Build[T]) -> Part[T]:
    yaml, stem = file.yaml, PurePosixPath(file.yaml.name).stem
    if not isinstance(yaml.value, dict):
        problems = list(yaml.problems)
        if not problems:
            found = "is empty" if yaml.value is None else "does not hold 'key: value' lines"
            problems.append(Problem(yaml.name, 1, "", found, f"begin with '{word}: {stem}', or delete the file"))
        written = re.search(rf"^{word}: *['\"]?([\w.-]+)", file.text, re.MULTILINE)
        return Part(yaml, written[1] if written else stem, None, problems)
    declared = yaml.value.get(word)
    name = declared if isinstance(declared, str) else stem
    if not file.sound:
        return Part(yaml, name, None, list(yaml.problems))
    model, found_problems = build(yaml, yaml.value, stem)
    problems = [*yaml.problems, *found_problems]
    if any(p.severity == "error" for p in problems):
        model = None
    return Part(yaml, name, model, problems, {"": model} if model is not None else {})


def _in_each(file: File, worlds: Mapping[str, Mapping[str, str] | None]) -> Part[SinkDef]:
    """A sink in each environment: its problems there, each once."""
    parts = {name: _part(file, "sink", partial(_sink, name, values)) for name, values in worlds.items()}
    first = next(iter(parts.values()))
    problems = list(dict.fromkeys(p for part in parts.values() for p in part.problems))
    found = {name: part.model for name, part in parts.items() if part.model is not None}
    return replace(first, model=first.model if len(found) == len(parts) else None, problems=problems, variants=found)


def _site_part(file: File) -> Part[Site]:
    return _part(file, "site", _site)


def _group(file: yamlfile.YamlFile, data: Mapping[str, Any], stem: str) -> tuple[Group | None, list[Problem]]:
    group, problems = typed.build(Group, {"group": stem, **data}, file)
    return group, _with_secrets(problems, file, data.get("variables"), ("variables",))


def _environment(
    file: yamlfile.YamlFile, data: Mapping[str, Any], stem: str
) -> tuple[Environment | None, list[Problem]]:
    environment, problems = typed.build(Environment, {"environment": stem, **data}, file)
    return environment, _with_secrets(problems, file, data.get("variables"), ("variables",))


def _policy(file: yamlfile.YamlFile, data: Mapping[str, Any], _stem: str) -> tuple[Policy | None, list[Problem]]:
    return typed.build(Policy, data, file)


def _team(file: yamlfile.YamlFile, data: Mapping[str, Any], stem: str) -> tuple[Team | None, list[Problem]]:
    return typed.build(Team, {"team": stem, **data}, file)


def _reconciliation(
    file: yamlfile.YamlFile, data: Mapping[str, Any], stem: str
) -> tuple[Reconciliation | None, list[Problem]]:
    return typed.build(Reconciliation, {"reconciliation": stem, **data}, file)


def _site(file: yamlfile.YamlFile, data: Mapping[str, Any], _stem: str) -> tuple[Site | None, list[Problem]]:
    site, problems = typed.build(Site, data, file)
    return site, _with_secrets(problems, file, data.get("variables"), ("variables",))


def _source(file: yamlfile.YamlFile, data: Mapping[str, Any], _stem: str) -> tuple[Source | None, list[Problem]]:
    settings = {key: value for key, value in data.items() if key not in SOURCE_KEYS}
    own = {key: value for key, value in data.items() if key in SOURCE_KEYS}
    source, problems = typed.build(Source, {**own, "settings": settings}, file)
    problems += _kind_problems(file, data, source_kinds(), "source")
    return source, _with_secrets(problems, file, settings)


def _writer(file: yamlfile.YamlFile, data: Mapping[str, Any], _stem: str) -> tuple[Writer | None, list[Problem]]:
    settings = {key: value for key, value in data.items() if key not in WRITER_KEYS}
    own = {key: value for key, value in data.items() if key in WRITER_KEYS}
    writer, problems = typed.build(Writer, {**own, "settings": settings}, file)
    problems += _kind_problems(file, data, writer_kinds(), "writer")
    return writer, _with_secrets(problems, file, settings)


def _route(file: yamlfile.YamlFile, data: Mapping[str, Any], stem: str) -> tuple[Route | None, list[Problem]]:
    route, problems = typed.build(Route, {"route": stem, **data}, file)
    if isinstance(data.get("when"), bool):
        problems = [p for p in problems if p.path != "when"]
        problems.append(file.problem(("when",), "must be text", "leave it out to take every event"))
    return route, problems


def _sink(
    world: str, values: Mapping[str, str] | None, file: yamlfile.YamlFile, data: Mapping[str, Any], _stem: str
) -> tuple[SinkDef | None, list[Problem]]:
    """In the environment *world*, whose variables are *values*; None where there are no environments."""
    settings = {key: value for key, value in data.items() if key not in SINK_KEYS}
    own = {key: value for key, value in data.items() if key in SINK_KEYS}
    unknown: list[Problem] = []
    if values is not None:
        for path, message, hint in variables.unknown(settings, values):
            advice = hint or "add it to 'variables' of the environment, or write $${...} for the text"
            unknown.append(file.problem(path, f"{message} in environment {world}", advice))
        settings = variables.substitute(settings, values)
    sink, problems = typed.build(SinkDef, {**own, "settings": settings}, file)
    kinds = sink_kinds()
    problems += _kind_problems(file, data, kinds, "sink")
    kind = kinds.get(str(data.get("kind")))
    if kind is not None:
        problems += typed.build(kind.settings, settings, file, names=SINK_KEYS)[1]
    return sink, [*unknown, *_with_secrets(problems, file, settings)]


def _mapping(
    file: yamlfile.YamlFile, data: Mapping[str, Any], stem: str
) -> tuple[mapping_model.Mapping | None, list[Problem]]:

    def moved(path: yamlfile.Path) -> yamlfile.Path:
        return mapping_model.yaml_path(data, path)

    return typed.build(mapping_model.Mapping, {"mapping": stem, **data}, file, moved=moved)


def _test(file: yamlfile.YamlFile, data: Mapping[str, Any], stem: str) -> tuple[MappingTest | None, list[Problem]]:
    return typed.build(MappingTest, {"test": stem, **data}, file)


def _kind_problems(file: yamlfile.YamlFile, data: Mapping[str, Any], kinds: Any, word: str) -> list[Problem]:
    kind = data.get("kind")
    if not isinstance(kind, str) or kind in kinds:
        return []
    return [file.problem(("kind",), f"unknown kind of {word} {kind!r}", did_you_mean(kind, kinds))]


def _with_secrets(
    problems: list[Problem], file: yamlfile.YamlFile, value: Any, base: yamlfile.Path = ()
) -> list[Problem]:
    """*problems*, and one for each secret written out below *value*: alone at its path, so that no other shows it."""
    found = [file.problem((*base, *path), *rest) for path, *rest in secrets.plain_secrets(value)]
    paths = {p.path for p in found}
    return [p for p in problems if p.path not in paths] + found


def models(parts: list[Part[Any]]) -> dict[str, Any]:
    """Sound models by name, the first of each name."""
    found: dict[str, Any] = {}
    for part in parts:
        if part.model is not None:
            found.setdefault(part.name, part.model)
    return found


def models_in(parts: list[Part[Any]], environment: str) -> dict[str, Any]:
    """Models in *environment* by name, the first of each name: of sites, those that belong to it."""
    found: dict[str, Any] = {}
    for part in parts:
        if environment in part.variants:
            found.setdefault(part.name, part.variants[environment])
    return found
