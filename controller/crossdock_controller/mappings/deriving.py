"""Derived columns from field specs: each checked, under a name of ours. Problems are collected, not raised."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from crossdock.errors import ConfigError
from crossdock_controller.mappings.cleaning import cleaner
from crossdock_controller.mappings.converters import Convert, converters
from crossdock_controller.mappings.derived import Cases, Column, Compute, Derived, FirstOf, Fixed, Join, Part, Settled
from crossdock_controller.mappings.expressions import parse
from crossdock_controller.mappings.model import Case, Cleaning, FieldSpec, JoinPart
from crossdock_controller.mappings.where import Test
from crossdock_controller.mappings.work import Path, Work, constant

# How the columns of an expression are written.
NUMBERS = ("decimal", "thousands", "negative", "positive", "implied")


class Deriving:
    def __init__(self, work: Work, path: Path, spec: FieldSpec, neutral: Convert) -> None:
        """*neutral* converts constants as they are written in a mapping."""
        self._work, self._path, self._spec, self._neutral = work, path, spec, neutral

    def column(self) -> tuple[str, str]:
        """The name under which `Work.derived` has the column, and what a person reads for it."""
        made, label = self._made(self._spec, self._path)
        name = f"={len(self._work.derived)}"  # no column of a record: they are only made here
        self._work.derived[name] = made
        return name, label

    def _made(self, of: FieldSpec | Case, path: Path) -> tuple[Derived, str]:
        if of.join is not None:
            named = ", ".join(part.from_ for part in of.join if part.from_ is not None)
            return Join([self._part(part, (*path, "join", i)) for i, part in enumerate(of.join)]), named
        if of.first_of is not None:
            choices = [self._column(name, (*path, "first_of", i)) for i, name in enumerate(of.first_of)]
            return FirstOf(choices, frozenset(self._spec.blank)), " or ".join(of.first_of)
        if of.compute is not None:
            return self._computed(of.compute, (*path, "compute")), of.compute
        if isinstance(of, FieldSpec) and of.cases is not None:
            return Cases([self._case(case, i) for i, case in enumerate(of.cases)]), "by cases"
        if of.value is not None:
            return Fixed(Settled(constant(self._work, (*path, "value"), of.value, self._neutral))), ""
        return self._column(of.from_ or "", (*path, "from")), of.from_ or ""

    def _column(self, name: str, path: Path) -> Derived:
        places = {"$site": self._work.site.name, "$source": self._work.site.source}
        if name in places:
            return Fixed(places[name])
        self._work.column(path, name)
        return Column(name)

    def _part(self, part: JoinPart, path: Path) -> Part:
        if part.value is not None:
            if part.model_fields_set & set(Cleaning.model_fields):
                self._work.problem(path, "a text needs no cleaning", "write it as it should be")
            return Part(Fixed(part.value), "", None)
        name = part.from_ or ""
        try:
            clean = cleaner(part)
        except ConfigError as error:
            self._work.problem(path, error.message, error.hint)
            clean = None
        return Part(self._column(name, path), name, clean)

    def _case(self, case: Case, i: int) -> tuple[tuple[Test, ...], Derived]:
        path = (*self._path, "cases", i)
        if not case.when and i + 1 < len(self._spec.cases or ()):
            self._work.problem(path, "only the last case may have no 'when': those after it are never reached")
        tests: list[Test] = []
        for j, condition in enumerate(case.when):
            self._work.column((*path, "when", j, "column"), condition.column)
            try:
                tests.append(Test(condition))
            except re.error as error:
                self._work.problem((*path, "when", j, "matches"), f"bad pattern: {error}")
        return tuple(tests), self._made(case, path)[0]

    def _computed(self, text: str, path: Path) -> Derived:
        spec = self._spec
        strange = spec.model_fields_set & {*Cleaning.model_fields, "codes"}
        if strange:
            self._work.problem(path, f"{', '.join(sorted(strange))} is about texts, and this is a number")
        try:
            expression = parse(text)
        except ConfigError as error:
            self._work.problem(path, error.message, error.hint)
            return Fixed(None)
        for name in expression.columns:
            self._work.column(path, name)
        options: dict[str, Any] = {name: getattr(spec, name) for name in NUMBERS}
        number = converters()["decimal"].make(FieldSpec(value="", **options), None)
        return Compute(expression, number, frozenset(spec.blank), spec.implied or 0)


def needed(spec: FieldSpec) -> tuple[str, ...]:
    """The columns that a field cannot do without; of choices (`first_of`, `cases`) it is not known which."""
    if spec.join is not None:
        return tuple(part.from_ for part in spec.join if part.from_ is not None)
    if spec.compute is not None:
        with suppress(ConfigError):  # told where the field is compiled
            return parse(spec.compute).columns
    return (spec.from_,) if spec.from_ is not None else ()
