"""Documents from rows: lines from every row, the header from the first row of each group, then the rules.

One bad record fails its whole document; all its errors are told at once, each with its line.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from crossdock.errors import Rejected
from crossdock_controller.formats.base import Decoded
from crossdock_controller.mappings.build import Built
from crossdock_controller.mappings.codes import UnknownCode
from crossdock_controller.mappings.compile import Program
from crossdock_controller.mappings.derived import Columns
from crossdock_controller.mappings.lists import built_lines
from crossdock_controller.mappings.rules import Broken, KnownKeys
from crossdock_controller.mappings.where import trimmed
from crossdock_controller.outcomes import Hold

_MOST_ERRORS = 5  # told of one document; a document of 1,000 bad lines has one cause


@dataclass(slots=True)
class Failure:
    """Why one document cannot be. *row* is the row at fault, whose raw bytes a person should see."""

    code: str
    reason: str
    field: str
    row: int | None = None
    list: str = ""  # of a code without a meaning: its list, and the code
    value: str = ""


@dataclass(slots=True)
class Work:
    """*documents*[g] is made of the rows [firsts[g], lasts[g]); one with a failure is not to be used."""

    documents: list[Any]
    firsts: Sequence[int]
    lasts: Sequence[int]
    failures: dict[int, Failure] = field(default_factory=dict)
    warnings: dict[int, list[str]] = field(default_factory=dict)
    holds: dict[int, list[Hold]] = field(default_factory=dict)
    beside: dict[int, list[Any]] = field(default_factory=dict)  # further documents of the same rows


def at(line: int) -> str:
    """The beginning of a sentence about one record of several; a table has no lines."""
    return f"line {line}: " if line else ""


def assemble(program: Program, rows: Decoded, firsts: Sequence[int], lasts: Sequence[int], *, text_only: bool) -> Work:
    """One document for each [firsts[g], lasts[g]), which are in order and do not overlap."""
    if not program.each:
        return _one_each(program, rows, firsts, lasts, text_only=text_only)
    end = lasts[-1] if len(lasts) else 0
    columns = _columns(program, rows, end)
    lines = program.lines.build(columns, end, text_only=text_only) if program.lines is not None else Built([])
    heads: Columns = {name: [column[i] for i in firsts] for name, column in columns.items()}
    given = None
    if program.lines is not None:
        given = {"lines": [tuple(lines.structs[first:last]) for first, last in zip(firsts, lasts, strict=True)]}
    built = program.header.build(heads, len(firsts), text_only=text_only, given=given)
    work = Work(built.structs, firsts, lasts, warnings=built.warnings)
    errors: dict[int, list[tuple[int, Rejected]]] = {
        g: [(firsts[g], error) for error in found] for g, found in built.errors.items()
    }
    for i, found in lines.errors.items():
        g = _owner(work, i)
        if g is not None:
            errors.setdefault(g, []).extend((i, error) for error in found)
    for i, warned in lines.warnings.items():
        g = _owner(work, i)
        if g is not None:
            work.warnings.setdefault(g, []).extend(f"{at(rows.lines[i])}{text}" for text in warned)
    for g, entries in errors.items():
        work.failures[g] = _failure([(i, at(rows.lines[i]), error) for i, error in sorted(entries, key=lambda e: e[0])])
    _warn_of_conflicts(program, work, columns, rows)
    return work


def _one_each(program: Program, rows: Decoded, firsts: Sequence[int], lasts: Sequence[int], *, text_only: bool) -> Work:
    """Without grouping: record g is document g, with the lines of its list, or one line if lines are mapped."""
    n = len(firsts)
    columns = _columns(program, rows, n)
    given: dict[str, Sequence[Any]] | None = None
    lines = Built([])
    if program.lines_of is not None:
        lines, given_lines = built_lines(program, rows, columns, n)
        given = {"lines": given_lines}
    elif program.lines is not None:
        lines = program.lines.build(columns, n, text_only=text_only)
        given = {"lines": [(line,) for line in lines.structs]}
    built = program.header.build(columns, n, text_only=text_only, given=given)
    work = Work(built.structs, firsts, lasts, warnings=built.warnings)
    for i, warned in lines.warnings.items():
        work.warnings.setdefault(i, []).extend(warned)
    for g in sorted(built.errors.keys() | lines.errors.keys()):
        work.failures[g] = _failure([(g, "", error) for error in built.errors.get(g, []) + lines.errors.get(g, [])])
    return work


def check(program: Program, work: Work, known: KnownKeys) -> None:
    """Runs the rules over the documents without a failure; all of one rule at once."""
    for rule in program.checks:
        sound = [g for g in range(len(work.documents)) if g not in work.failures] if work.failures else None
        documents = work.documents if sound is None else [work.documents[g] for g in sound]
        broken: dict[int, list[Broken]] = {}
        for entry in rule.run(documents, known):
            g = entry.document if sound is None else sound[entry.document]
            if entry.severity == "warn":
                work.warnings.setdefault(g, []).append(entry.reason)
            else:
                broken.setdefault(g, []).append(entry)
        for g, entries in broken.items():
            code, path, told = entries[0].code, entries[0].field, _told([entry.reason for entry in entries])
            if rule.severity == "reject":
                work.failures[g] = Failure(code, told, path)
            else:
                waits = tuple(dict.fromkeys(wait for entry in entries for wait in entry.waits))
                work.holds.setdefault(g, []).append(Hold(code, path, told, waits))


def _columns(program: Program, rows: Decoded, n: int) -> Columns:
    """The columns the mapping reads, *n* values each."""
    if not n:
        return {name: [] for name in program.columns}
    whole = n == len(rows.rows)
    return {name: rows.column(name) if whole else rows.column(name)[:n] for name in program.columns}


def _owner(work: Work, row: int) -> int | None:
    g = bisect_right(work.firsts, row) - 1
    return g if g >= 0 and row < work.lasts[g] else None


def _failure(errors: list[tuple[int, str, Rejected]]) -> Failure:
    row, _, first = errors[0]
    return failure_of(first, _told([f"{where}{error}" for _, where, error in errors]), row)


def failure_of(error: Rejected, reason: str, row: int) -> Failure:
    """*reason* tells of *error* and, maybe, of others."""
    failure = Failure(error.code, reason, error.field, row)
    if isinstance(error, UnknownCode):
        failure.list, failure.value = error.list, error.value
    return failure


def _told(reasons: list[str]) -> str:
    rest = len(reasons) - _MOST_ERRORS
    return "; ".join(reasons[:_MOST_ERRORS]) + (f"; and {rest} more" if rest > 0 else "")


def _warn_of_conflicts(program: Program, work: Work, columns: Columns, rows: Decoded) -> None:
    """A header column should say the same on every record of a group; the first is taken."""
    of_lines = program.lines.columns if program.lines is not None else ()
    for name in program.header.columns:
        if name in of_lines or name in program.each:
            continue
        values = columns[name]
        for g, (first, last) in enumerate(zip(work.firsts, work.lasts, strict=True)):
            part = values[first:last]
            if part.count(part[0]) == len(part):
                continue
            taken = trimmed(part[0])
            other = next((i for i, value in enumerate(part) if trimmed(value) not in ("", taken)), None)
            if other is not None:
                said = f"{name} is {taken!r} on the first record and {trimmed(part[other])!r} here"
                work.warnings.setdefault(g, []).append(f"{at(rows.lines[first + other])}{said}; the first is taken")
