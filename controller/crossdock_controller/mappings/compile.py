"""A mapping, checked against its document type and compiled to cells and checks. Every problem is found, not the first.

`problems` is for the plan (all errors of a configuration at once, each with its path); `compile_mapping` is for the
engine and raises ConfigError for a mapping that has any.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from crossdock.errors import ConfigError
from crossdock_controller.documents.base import Document, Line, Money, Quantity, entities
from crossdock_controller.mappings.build import Builder
from crossdock_controller.mappings.cells import Cell, Constant
from crossdock_controller.mappings.fields import Problem, Site, StructFields, Work, near, plain_type
from crossdock_controller.mappings.model import Mapping
from crossdock_controller.mappings.rules import Check, compile_rule
from crossdock_controller.mappings.where import Test


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled mapping."""

    entity: type[Document]
    header: Builder
    lines: Builder | None
    each: tuple[str, ...]
    where: tuple[Test, ...]
    checks: tuple[Check, ...]
    columns: tuple[str, ...]  # every column it reads


def problems(model: Mapping, columns: Sequence[str] | None = None) -> list[Problem]:
    """Everything wrong with *model*; *columns* are those its source declares, where the settings tell them."""
    return _compile(model, Site(), columns)[1]


def compile_mapping(model: Mapping, site: Site) -> Program:
    """Raises ConfigError listing every problem."""
    program, found = _compile(model, site, None)
    if program is None or found:
        listed = "; ".join(f"{'.'.join(map(str, p.path))}: {p.message}" for p in found)
        raise ConfigError(f"mapping {model.mapping}: {listed}", hint="run 'crossdock plan' to see each with its line")
    return program


def _compile(model: Mapping, site: Site, columns: Sequence[str] | None) -> tuple[Program | None, list[Problem]]:
    entity = entities().get(model.document)
    if entity is None:
        return None, [Problem(("document",), f"unknown document {model.document!r}", near(model.document, entities()))]
    work = Work(site, frozenset(columns) if columns is not None else None)
    header = StructFields(work, entity, ("fields",)).cells(model.fields)
    _add_zone(work, entity, header)
    line_type = _line_type(entity)
    lines: dict[str, Cell] = {}
    if model.lines and line_type is None:
        work.problem(("lines",), f"{model.document} has no lines")
    elif model.lines and line_type is not None:
        lines = StructFields(work, line_type, ("lines",)).cells(model.lines)
    elif model.each:
        work.problem(
            ("each",), "records are grouped, but no lines are mapped", "add 'lines' to the fields, or leave 'each' out"
        )
    for name in model.each:
        work.column(("each",), name)
    tests = _tests(work, model)
    checks = _checks(work, model, entity, line_type)
    if work.problems:
        return None, work.problems
    head = Builder(entity, header)
    line = Builder(line_type, lines) if lines and line_type else None
    read = dict.fromkeys(
        (*model.each, *(test.column for test in tests), *head.columns, *(line.columns if line else ()))
    )
    return Program(entity, head, line, model.each, tests, checks, tuple(read)), []


def _add_zone(work: Work, entity: type[Document], cells: dict[str, Cell]) -> None:
    """The zone of the source's local times goes with the document, so that a reader gets the local day back."""
    if "zone" not in cells and len(work.zones) == 1 and issubclass(entity, Document):
        cells["zone"] = Constant(next(iter(work.zones)))


def _tests(work: Work, model: Mapping) -> tuple[Test, ...]:
    tests: list[Test] = []
    for i, condition in enumerate(model.where):
        work.column(("where", i, "column"), condition.column)
        try:
            tests.append(Test(condition))
        except re.error as error:
            work.problem(("where", i, "matches"), f"bad pattern: {error}")
    return tuple(tests)


def _checks(work: Work, model: Mapping, entity: type[Document], line_type: type[Line] | None) -> tuple[Check, ...]:
    checks: list[Check] = []
    for i, rule in enumerate(model.rules):
        path = ("rules", i, rule.kind)
        try:
            check = compile_rule(rule)
        except re.error as error:
            work.problem((*path, "matches"), f"bad pattern: {error}")
            continue
        for name in check.fields:
            kind = _type_at(entity, line_type, name)
            if kind is None:
                work.problem(path, f"{model.document} has no field {name!r}")
            elif rule.kind in ("range", "sum") and kind not in (Decimal, int, Quantity, Money):
                work.problem(path, f"{name} is not a number")
        if rule.known and rule.known.document not in entities():
            work.problem(
                (*path, "document"), f"unknown document {rule.known.document!r}", near(rule.known.document, entities())
            )
        checks.append(check)
    return tuple(checks)


def _type_at(entity: type[Document], line_type: type[Line] | None, path: str) -> Any:
    """The type of the field at *path*, None when there is none."""
    kind: Any = entity
    names = path.split(".")
    if names[0] == "lines" and line_type is not None and len(names) > 1:
        kind, names = line_type, names[1:]
    for i, name in enumerate(names):
        if name == "extensions" and len(names) == i + 3:
            return str
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return None
        info = next((f for f in msgspec.structs.fields(kind) if f.name == name), None)
        if info is None:
            return None
        kind = plain_type(info.type)
    return kind


def _line_type(entity: type[Document]) -> type[Line] | None:
    info = next((f for f in msgspec.structs.fields(entity) if f.name == "lines"), None)
    if info is None:
        return None
    line: type[Line] = typing.get_args(info.type)[0]
    return line
