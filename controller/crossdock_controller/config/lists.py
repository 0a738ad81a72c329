"""Code lists and cross-references: `lists/NAME.csv`, a header line and a row for each code, or a small YAML table.

The first two columns of a CSV file are the code and its meaning, whatever they are called; a mapping may ask for any
other two by their names. It is the only folder in which a file need not be YAML.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from crossdock.yamlfile import YamlFile
from crossdock_controller.config import typed
from crossdock_controller.config.errors import Problem
from crossdock_controller.config.part import Part
from crossdock_controller.config.selection import NAME_PATTERN, Name
from crossdock_controller.config.tree import Tree, folder_of
from crossdock_controller.mappings.codes import CodeList
from crossdock_controller.mappings.model import texts

FOLDER = "lists"
MAX_ROWS = 100_000
MAX_COLUMNS = 20
MAX_CELL = 500  # characters
_MOST_PROBLEMS = 20  # told of one file


class ListFile(BaseModel):
    """A small code list as YAML: `lists/*.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    list: Name = Field(description="its name, unique; fields of mappings ask for it by `codes`")
    description: str = Field(default="", description="for people")
    codes: Annotated[dict[str, str], BeforeValidator(texts)] = Field(description="each code and its meaning")


def build(file: YamlFile, data: Mapping[str, Any], stem: str) -> tuple[CodeList | None, list[Problem]]:
    """A YAML table."""
    model, problems = typed.build(ListFile, {"list": stem, **data}, file)
    if model is None:
        return None, problems
    return CodeList(("from", "to"), tuple((code.strip(), to.strip()) for code, to in model.codes.items())), problems


def tables(tree: Tree) -> list[Part[CodeList]]:
    """The CSV files of *tree*."""
    return [
        _part(name, tree[name].removeprefix("\ufeff"))
        for name in sorted(tree)
        if folder_of(name) == FOLDER and name.endswith(".csv")
    ]


def _part(name: str, text: str) -> Part[CodeList]:
    stem = PurePosixPath(name).stem
    reader = _Reader(name)
    if re.fullmatch(NAME_PATTERN, stem) is None:
        reader.problem(0, f"{stem!r} is no name for a list", "small letters, digits, '-', '_' and '.'")
    model = reader.read(text)
    return Part(YamlFile(name, None, {}), stem, model, reader.problems, {"": model} if model is not None else {})


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self.problems: list[Problem] = []

    def problem(self, line: int, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self._name, line, "", message, hint))

    def read(self, text: str) -> CodeList | None:
        """None after reporting what is wrong."""
        head = text.partition("\n")[0]
        delimiter = ";" if ";" in head and "," not in head else ","
        lines = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            columns = self._header(next(lines, []))
            rows = tuple(self._rows(lines, columns)) if columns else ()
        except csv.Error as error:
            self.problem(lines.line_num, f"is not CSV: {error}", "quotes inside a quoted cell are doubled")
        return None if self.problems else CodeList(columns, rows)

    def _header(self, cells: list[str]) -> tuple[str, ...]:
        columns = tuple(cell.strip() for cell in cells)
        if len(columns) < 2:
            self.problem(1, "the header line names fewer than two columns", "begin with the line: from,to")
        elif len(columns) > MAX_COLUMNS:
            self.problem(1, f"has {len(columns)} columns, the limit is {MAX_COLUMNS}", "split it into several lists")
        elif not all(columns) or len(set(columns)) < len(columns):
            self.problem(1, f"the names of columns are not all different: {', '.join(columns)[:80]}")
        return () if self.problems else columns

    def _rows(self, lines: Any, columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        seen: dict[str, tuple[str, ...]] = {}
        for cells in lines:
            row = tuple(cell.strip() for cell in cells)
            if not any(row):
                continue
            wrong = _wrong(row, columns) or _doubled(row, seen, columns)
            if wrong:
                self.problem(lines.line_num, *wrong)
            elif row[0] not in seen:
                seen[row[0]] = row
                yield row
            if len(seen) > MAX_ROWS:
                self.problem(lines.line_num, f"has more than {MAX_ROWS} codes", "split it into several lists")
            if len(self.problems) >= _MOST_PROBLEMS or len(seen) > MAX_ROWS:
                return


def _wrong(row: tuple[str, ...], columns: tuple[str, ...]) -> tuple[str, str] | None:
    if len(row) != len(columns):
        return f"has {len(row)} cells, the header has {len(columns)}", "put a cell with a comma in it in quotes"
    if not row[0]:
        return f"the column {columns[0]!r} is blank", "give the code, or delete the line"
    for cell in row:
        if len(cell) > MAX_CELL:
            return f"a cell has {len(cell)} characters, the limit is {MAX_CELL}", ""
        if "\n" in cell or "\r" in cell or "\x00" in cell:
            return "a cell has a line break or a NUL in it", "is a quote missing?"
    return None


def _doubled(
    row: tuple[str, ...], seen: Mapping[str, tuple[str, ...]], columns: tuple[str, ...]
) -> tuple[str, str] | None:
    earlier = seen.get(row[0])
    if earlier is None or earlier == row:
        return None
    return f"{columns[0]} {row[0]!r} stands above already with another meaning", "keep one of the two"


def by_name(parts: Iterable[Part[CodeList]]) -> dict[str, CodeList | None]:
    """Every list, the first of each name; None for one that cannot be read."""
    found: dict[str, CodeList | None] = {}
    for part in parts:
        found.setdefault(part.name, part.model)
    return found
