"""What compiling a mapping gathers on its way through the fields: problems, columns, zones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from crossdock.errors import Rejected
from crossdock_controller.mappings.codes import CodeList, Coding
from crossdock_controller.mappings.converters import Warned
from crossdock_controller.mappings.derived import Derived

Path = tuple[str | int, ...]
AROUND = "^"  # before a column of the record around a list, in the fields of its elements


class Problem(NamedTuple):
    path: Path  # keys into the mapping as modelled; see model.yaml_path for the file
    message: str
    hint: str = ""


class Site(NamedTuple):
    """Where the records come from. *zone* is None when only the mapping is checked."""

    name: str = ""
    source: str = ""
    zone: ZoneInfo | None = None


@dataclass(slots=True)
class Work:
    site: Site
    declared: frozenset[str] | None
    coding: Coding
    lists: Mapping[str, CodeList | None] | None = None  # None: not known, so that nothing is said about them
    derived: dict[str, Derived] = field(default_factory=dict)  # columns made of others, under names of ours
    problems: list[Problem] = field(default_factory=list)
    zones: set[str] = field(default_factory=set)  # in which the mapping reads local times
    around: frozenset[str] | None = None  # inside a list: the columns of the record; `declared` are its elements'
    in_list: bool = False

    def problem(self, path: Path, message: str, hint: str = "") -> None:
        self.problems.append(Problem(path, message, hint))

    def column(self, path: Path, name: str) -> None:
        known, what = self.declared, "the list" if self.in_list else "the source"
        if name.startswith(AROUND):
            if not self.in_list:
                self.problem(path, f"{name!r} is a column around a list, and these fields are of no list's elements")
                return
            known, name, what = self.around, name[len(AROUND) :], "the source"
        if known is not None and name not in known:
            self.problem(path, f"{what} has no column {name!r}", near(name, known))

    def enter(self, elements: Sequence[str] | None) -> None:
        """What follows is about the elements of a list with the columns *elements* (None: only the data tells)."""
        self.around, self.declared, self.in_list = self.declared, None, True
        if elements is not None:
            self.declared = frozenset(elements)

    def leave(self) -> None:
        if self.in_list:
            self.declared, self.around, self.in_list = self.around, None, False


def constant(work: Work, path: Path, value: str | float | bool, convert: Any) -> object:
    """What *convert* makes of a constant of the mapping; None after reporting that it makes nothing."""
    try:
        made = convert(str(value).lower() if isinstance(value, bool) else str(value)) if value != "" else ""
    except Rejected as error:
        work.problem(path, error.message)
        return None
    return made.value if isinstance(made, Warned) else made


def near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
