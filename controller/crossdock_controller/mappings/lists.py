"""Documents whose lines are the elements of a list inside the record: one record, one document, any number of lines.

A bad line fails its whole document. Errors name a line as a person corrects it: `lines.2.QTY`, counted from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from crossdock.errors import Rejected
from crossdock_controller.formats.base import Decoded
from crossdock_controller.formats.lists import Elements
from crossdock_controller.mappings.build import Built
from crossdock_controller.mappings.codes import UnknownCode
from crossdock_controller.mappings.compile import Program
from crossdock_controller.mappings.derived import Columns
from crossdock_controller.mappings.fields import AROUND


def built_lines(program: Program, rows: Decoded, columns: Columns, n: int) -> tuple[Built, list[tuple[object, ...]]]:
    """The lines of *n* records: errors and warnings by record, and a tuple of lines for each."""
    assert program.lines is not None  # noqa: S101 - a compiled mapping with a list has lines
    assert program.lines_of is not None  # noqa: S101 - as above
    elements = rows.elements(program.lines_of)
    source: Columns = {}
    for name in program.lines.columns:
        around = name.startswith(AROUND)
        source[name] = elements.spread(columns[name[len(AROUND) :]]) if around else elements.column(name)
    lines = program.lines.build(source, len(elements.flat), text_only=False)
    ends = list(accumulate(elements.counts))
    tuples: list[tuple[object, ...]] = [
        tuple(lines.structs[end - count : end]) for end, count in zip(ends, elements.counts, strict=True)
    ]
    found = Built([])
    _charge(found, lines, program.lines_of, elements, ends)
    for i, reason in elements.faults.items():
        found.errors[i] = [Rejected("bad_list", f"{program.lines_of}: {reason}", field="lines")]
    assert len(tuples) == n  # noqa: S101 - a list for each record
    return found, tuples


def _charge(found: Built, lines: Built, name: str, elements: Elements, ends: Sequence[int]) -> None:
    """What was wrong with a line is charged to its record, under the line's number."""
    if not lines.errors and not lines.warnings:
        return
    owner = [i for i, count in enumerate(elements.counts) for _ in range(count)]
    for at in sorted(lines.errors):
        i = owner[at]
        place = f"{name}.{at - ends[i] + elements.counts[i] + 1}"
        for error in lines.errors[at]:
            found.errors.setdefault(i, []).append(_at(place, error))
    for at in sorted(lines.warnings):
        i = owner[at]
        place = f"{name}.{at - ends[i] + elements.counts[i] + 1}"
        found.warnings.setdefault(i, []).extend(f"{place}: {text}" for text in lines.warnings[at])


def _at(place: str, error: Rejected) -> Rejected:
    message = _placed(place, error.message)
    if isinstance(error, UnknownCode):
        return UnknownCode(error.list, error.value, message, field=error.field, hint=error.hint)
    return Rejected(error.code, message, field=error.field, hint=error.hint)


def _placed(place: str, message: str) -> str:
    """A message begins with the column at fault; one of the record around the list stands for itself."""
    return message[len(AROUND) :] if message.startswith(AROUND) else f"{place}.{message}"
