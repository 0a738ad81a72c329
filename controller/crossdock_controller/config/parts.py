"""Each file alone: from text to a model of its kind, or to every problem with it. Files do not know one another here.

A file with problems still says its name, so that one mistake is not reported a second time by whoever refers to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

from crossdock import yamlfile
from crossdock_controller.config import secrets, typed
from crossdock_controller.config.errors import Problem
from crossdock_controller.config.models import SINK_KEYS, SOURCE_KEYS, Route, SinkDef, Site, Source
from crossdock_controller.config.schema import source_kinds
from crossdock_controller.config.tree import FOLDERS, Tree, folder_of
from crossdock_controller.hints import did_you_mean
from crossdock_controller.mappings import model as mapping_model
from crossdock_controller.sinks.base import kinds as sink_kinds

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """One file of a tree. *model* is None when *problems* has an error."""

    file: yamlfile.YamlFile
    name: str  # what it declares, or its file's stem when that cannot be read
    model: T | None
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Parts:
    """All files of a tree, each read alone, by path."""

    sites: list[Part[Site]]
    sources: list[Part[Source]]
    mappings: list[Part[mapping_model.Mapping]]
    routes: list[Part[Route]]
    sinks: list[Part[SinkDef]]

    def all(self) -> list[Part[Any]]:
        return [*self.sites, *self.sources, *self.mappings, *self.routes, *self.sinks]

    def problems(self) -> list[Problem]:
        return [problem for part in self.all() for problem in part.problems]


def read_parts(tree: Tree) -> Parts:
    """Every YAML file of *tree*, by its folder. Files that belong to no folder are `tree.check`'s business."""
    by_folder: dict[str, list[tuple[yamlfile.YamlFile, str]]] = {folder: [] for folder in FOLDERS}
    for name in sorted(tree):
        if folder_of(name) in by_folder and name.endswith((".yaml", ".yml")):
            text = tree[name].removeprefix("\ufeff")
            by_folder[folder_of(name)].append((yamlfile.parse(name, text), text))
    return Parts(
        sites=[_part(*read, "site", _site) for read in by_folder["sites"]],
        sources=[_part(*read, "source", _source) for read in by_folder["sources"]],
        mappings=[_part(*read, "mapping", _mapping) for read in by_folder["mappings"]],
        routes=[_part(*read, "route", _route) for read in by_folder["routes"]],
        sinks=[_part(*read, "sink", _sink) for read in by_folder["sinks"]],
    )


_Build = Callable[[yamlfile.YamlFile, Mapping[str, Any], str], tuple[T | None, list[Problem]]]


def _part(file: yamlfile.YamlFile, text: str, word: str, build: _Build[T]) -> Part[T]:
    stem = PurePosixPath(file.name).stem
    if not isinstance(file.value, dict):
        problems = list(file.problems)
        if not problems:
            found = "is empty" if file.value is None else "does not hold 'key: value' lines"
            problems.append(Problem(file.name, 1, "", found, f"begin with '{word}: {stem}', or delete the file"))
        written = re.search(rf"^{word}: *['\"]?([\w.-]+)", text, re.MULTILINE)
        return Part(file, written[1] if written else stem, None, problems)
    declared = file.value.get(word)
    model, found_problems = build(file, file.value, stem)
    problems = [*file.problems, *found_problems]
    if any(p.severity == "error" for p in problems):
        model = None
    return Part(file, declared if isinstance(declared, str) else stem, model, problems)


def _site(file: yamlfile.YamlFile, data: Mapping[str, Any], _stem: str) -> tuple[Site | None, list[Problem]]:
    site, problems = typed.build(Site, data, file)
    return site, _with_secrets(problems, file, data.get("variables"), ("variables",))


def _source(file: yamlfile.YamlFile, data: Mapping[str, Any], _stem: str) -> tuple[Source | None, list[Problem]]:
    settings = {key: value for key, value in data.items() if key not in SOURCE_KEYS}
    own = {key: value for key, value in data.items() if key in SOURCE_KEYS}
    source, problems = typed.build(Source, {**own, "settings": settings}, file)
    problems += _kind_problems(file, data, source_kinds(), "source")
    return source, _with_secrets(problems, file, settings)


def _route(file: yamlfile.YamlFile, data: Mapping[str, Any], stem: str) -> tuple[Route | None, list[Problem]]:
    route, problems = typed.build(Route, {"route": stem, **data}, file)
    if isinstance(data.get("when"), bool):
        problems = [p for p in problems if p.path != "when"]
        problems.append(file.problem(("when",), "must be text", "leave it out to take every event"))
    return route, problems


def _sink(file: yamlfile.YamlFile, data: Mapping[str, Any], _stem: str) -> tuple[SinkDef | None, list[Problem]]:
    settings = {key: value for key, value in data.items() if key not in SINK_KEYS}
    own = {key: value for key, value in data.items() if key in SINK_KEYS}
    sink, problems = typed.build(SinkDef, {**own, "settings": settings}, file)
    kinds = sink_kinds()
    problems += _kind_problems(file, data, kinds, "sink")
    kind = kinds.get(str(data.get("kind")))
    if kind is not None:
        problems += typed.build(kind.settings, settings, file, names=SINK_KEYS)[1]
    return sink, _with_secrets(problems, file, settings)


def _mapping(
    file: yamlfile.YamlFile, data: Mapping[str, Any], stem: str
) -> tuple[mapping_model.Mapping | None, list[Problem]]:

    def moved(path: yamlfile.Path) -> yamlfile.Path:
        return mapping_model.yaml_path(data, path)

    return typed.build(mapping_model.Mapping, {"mapping": stem, **data}, file, moved=moved)


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
