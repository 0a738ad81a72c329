"""A mapping, checked against its document type and compiled to cells and checks. Every problem is found, not the first.

`problems` is for the plan (all errors of a configuration at once, each with its path); `compile_mapping` is for the
engine and raises ConfigError for a mapping that has any.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from crossdock.errors import ConfigError
from crossdock_controller.documents.base import Document, Line, Money, Quantity, entities
from crossdock_controller.mappings.build import Builder
from crossdock_controller.mappings.cells import Cell, Constant
from crossdock_controller.mappings.codes import CodeList, Coding
from crossdock_controller.mappings.deletes import ABOUT_THE_RECORD, delete_builder
from crossdock_controller.mappings.fields import AROUND, Problem, Site, StructFields, Work, near, plain_type
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
    lines_of: str | None = None  # the column whose list holds the lines
    deletes: Builder | None = None  # makes the document of a deleted record
    deletes_ignored: bool = False
    name: str = ""  # of a further document
    also: tuple[Program, ...] = ()  # that make further documents of the same records


@dataclass(frozen=True, slots=True)
class Declared:
    """What the settings of a source tell about its records; None where only the data does.

    *lists*: the columns of the elements of each list in a record (None: not known); empty when it has no lists.
    *delete*: the columns that are filled when a record was deleted. *listless* is what to do where a list is asked for
    and there is none.
    """

    columns: Sequence[str] | None = None
    lists: typing.Mapping[str, Sequence[str] | None] | None = None
    delete: Sequence[str] | None = None
    listless: str = "a record here is flat; group records with 'each'"


def problems(
    model: Mapping,
    columns: Declared | Sequence[str] | None = None,
    lists: typing.Mapping[str, CodeList | None] | None = None,
) -> list[Problem]:
    """Everything wrong with *model*; *columns* are those its source declares, where the settings tell them; *lists* are
    the code lists there are (None: it is not known), without its content one that cannot be read."""
    declared = columns if isinstance(columns, Declared) else Declared(columns)
    return _compile(model, Site(), declared, Coding(), lists)[1]


def compile_mapping(model: Mapping, site: Site, coding: Coding | None = None) -> Program:
    """*coding* is asked what codes mean, while the program runs. Raises ConfigError listing every problem."""
    program, found = _compile(model, site, Declared(), coding or Coding())
    if program is None or found:
        listed = "; ".join(f"{'.'.join(map(str, p.path))}: {p.message}" for p in found)
        raise ConfigError(f"mapping {model.mapping}: {listed}", hint="run 'crossdock plan' to see each with its line")
    return program


def _compile(
    model: Mapping,
    site: Site,
    declared: Declared,
    coding: Coding,
    lists: typing.Mapping[str, CodeList | None] | None = None,
) -> tuple[Program | None, list[Problem]]:
    entity = entities().get(model.document)
    if entity is None:
        return None, [Problem(("document",), f"unknown document {model.document!r}", near(model.document, entities()))]
    work = Work(site, frozenset(declared.columns) if declared.columns is not None else None, coding, lists)
    header = StructFields(work, entity, ("fields",)).cells(model.fields)
    _add_zone(work, entity, header)
    line_type = _line_type(entity)
    lines = _lines(work, model, line_type, declared)
    for name in model.each:
        work.column(("each",), name)
    tests = _tests(work, model)
    checks = _checks(work, model, entity, line_type)
    deletes = delete_builder(work, model, entity, declared.delete) if model.deletes is not None else None
    also = [_also(model, i, site, declared, coding, lists) for i in range(len(model.also))]
    found = [*work.problems, *_about_also(model), *(problem for _, problems in also for problem in problems)]
    if found:
        return None, found
    head = Builder(entity, header, work.derived)
    line = Builder(line_type, lines, work.derived) if lines and line_type else None
    inner = line.columns if line else ()
    if model.lines_of is not None:
        around = (name[len(AROUND) :] for name in inner if name.startswith(AROUND))
        inner = (model.lines_of, *around)
    asked = (test.column for test in tests if test.column not in ABOUT_THE_RECORD)
    others = tuple(replace(made, name=one.called) for (made, _), one in zip(also, model.also, strict=True) if made)
    of_others = (name for other in others for name in other.columns)
    of_deletes = deletes.columns if deletes else ()
    read = dict.fromkeys((*model.each, *asked, *head.columns, *inner, *of_deletes, *of_others))
    program = Program(
        entity, head, line, model.each, tests, checks, tuple(read), model.lines_of, deletes, model.deletes_ignored,
        also=others,
    )  # fmt: skip
    return program, []


def _also(
    model: Mapping,
    i: int,
    site: Site,
    declared: Declared,
    coding: Coding,
    lists: typing.Mapping[str, CodeList | None] | None,
) -> tuple[Program | None, list[Problem]]:
    """A further document, as a mapping of its own of the same records. What is said of all is told with the first."""
    program, found = _compile(model.also[i].alone(model), site, declared, coding, lists)
    told = [p._replace(path=("also", i, *p.path)) for p in found if p.path[:1] != ("each",)]
    return program, told


def _about_also(model: Mapping) -> typing.Iterator[Problem]:
    names = [model.document, *(one.called for one in model.also)]
    for i, one in enumerate(model.also):
        if one.called in names[: i + 1]:
            hint = "give one of them a 'name'"
            yield Problem(("also", i, "document"), f"{one.called} is made twice of the same records", hint)


def _lines(work: Work, model: Mapping, line_type: type[Line] | None, declared: Declared) -> dict[str, Cell]:
    """Cells of the lines: of each record of a group, of the record itself, or of the elements of a list in it."""
    if line_type is None:
        if model.lines or model.lines_of is not None:
            work.problem(("lines",), f"{model.document} has no lines")
            return {}
    elif model.lines_of is not None:
        _check_list(work, model, declared)
        known = declared.lists.get(model.lines_of) if declared.lists is not None else None
        work.enter(known)
        cells = StructFields(work, line_type, ("lines",)).cells(model.lines)
        work.leave()
        return cells
    elif model.lines:
        return StructFields(work, line_type, ("lines",)).cells(model.lines)
    if model.each and not model.is_further:
        work.problem(
            ("each",), "records are grouped, but no lines are mapped", "add 'lines' to the fields, or leave 'each' out"
        )
    return {}


def _check_list(work: Work, model: Mapping, declared: Declared) -> None:
    name = str(model.lines_of)
    if model.each:
        work.problem(
            ("lines_of",), f"lines are the elements of {name!r}, and records are grouped as well",
            "leave one 'each' out: a record is a whole document, or a line of one",
        )  # fmt: skip
    if declared.lists is not None and name not in declared.lists:
        hint = near(name, declared.lists) if declared.lists else declared.listless
        work.problem(("lines_of",), f"the source has no list {name!r} in its records", hint)


def _add_zone(work: Work, entity: type[Document], cells: dict[str, Cell]) -> None:
    """The zone of the source's local times goes with the document, so that a reader gets the local day back."""
    if "zone" not in cells and len(work.zones) == 1 and issubclass(entity, Document):
        cells["zone"] = Constant(next(iter(work.zones)))


def _tests(work: Work, model: Mapping) -> tuple[Test, ...]:
    tests: list[Test] = []
    for i, condition in enumerate(model.where):
        if condition.column not in ABOUT_THE_RECORD:
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
            elif name in check.numbers and kind not in (Decimal, int, Quantity, Money):
                work.problem(path, f"{name} is not a number")
            elif name in check.dates and kind not in (date, datetime):
                work.problem(path, f"{name} is neither a date nor a time")
            elif rule.kind in ("within", "agrees") and name in check.of_lines and not name.startswith("lines."):
                work.problem(path, f"{name} is not of a line", f"write it like lines.{name}")
        if rule.kind in ("known", "within", "agrees"):
            _check_other(work, path, check, getattr(rule, rule.kind).document)
        checks.append(check)
    return tuple(checks)


def _check_other(work: Work, path: tuple[str | int, ...], check: Check, name: str) -> None:
    """The document that a rule looks at beside the mapping's own, and its fields there."""
    other = entities().get(name)
    if other is None:
        work.problem((*path, "document"), f"unknown document {name!r}", near(name, entities()))
        return
    for field in check.theirs:
        kind = _type_at(other, _line_type(other), field)
        if kind is None or not field.startswith("lines."):
            work.problem(path, f"{name} has no {field!r} in its lines")
        elif field in check.their_numbers and kind not in (Decimal, int, Quantity, Money):
            work.problem(path, f"{field} of {name} is not a number")


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
