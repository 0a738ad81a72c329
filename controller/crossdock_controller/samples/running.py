"""Runs one test of a mapping: its input through the engine, and what came of it beside what was expected."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from crossdock.errors import Refused
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import FormatSettings, TextSettings
from crossdock_controller.mappings.engine import Engine
from crossdock_controller.outcomes import Dead, Mapped, Outcomes
from crossdock_controller.samples import cutting
from crossdock_controller.samples.cases import MAX_INPUT_BYTES, MAX_RECORDS, Expected, ExpectedDead, MappingTest
from crossdock_controller.samples.compare import Difference, differences

Batch = tuple[BatchHeader, bytes, int]
_NOTHING = "nothing"


class Everything:
    """A look-up for which every document is known, or those of *keys* alone."""

    def __init__(self, keys: dict[str, list[str]] | None = None) -> None:
        self._keys = keys

    def known(self, document: str, keys: set[str]) -> set[str]:
        return keys if self._keys is None else keys & set(self._keys.get(document, ()))


def run(test: MappingTest, engine: Engine, settings: FormatSettings) -> list[Difference]:
    """Every difference; none when the test passes. Raises nothing for what an input may hold."""
    try:
        batches = _input(test, settings)
    except Refused as error:
        return [Difference(_input_path(test), "the input", "records", f"{error} ({error.hint})")]
    records = sum(header.records + len(header.rejects) for header, _, _ in batches)
    if records > MAX_RECORDS:
        return [Difference(_input_path(test), "the input", f"at most {MAX_RECORDS} records", f"{records}")]
    outcomes = engine.run(batches, Everything(test.known), cap_reached=True)
    return list(_judged(test, records, outcomes))


def _input_path(test: MappingTest) -> tuple[str, ...]:
    return ("rows",) if test.rows is not None else ("input",) if test.input is not None else ("input_base64",)


def _input(test: MappingTest, settings: FormatSettings) -> list[Batch]:
    if (test.rows is not None) != (settings.kind == "rows"):
        said = "rows of a table" if settings.kind == "rows" else f"a file of the format {settings.kind}"
        raise Refused(f"the source reads {said}", hint="give 'rows' for a table, 'input' for a file")
    if test.rows is not None:
        return _table(test.rows, test)
    if test.input is not None:
        encoding = settings.encoding if isinstance(settings, TextSettings) else "utf-8"
        try:
            data = test.input.encode(encoding)
        except UnicodeEncodeError as error:
            raise Refused(
                f"{error.object[error.start]!r} cannot be written in {encoding}",
                hint="give the bytes as 'input_base64', or another character",
            ) from error
    else:
        data = base64.b64decode("".join((test.input_base64 or "").split()))
    if len(data) > MAX_INPUT_BYTES:
        raise Refused(f"the input has {len(data)} bytes", hint=f"a test has at most {MAX_INPUT_BYTES}")
    return cutting.batches(settings, data, name=test.file, limit=MAX_RECORDS + 1)[0]


def _table(rows: Sequence[dict[str, Any]], test: MappingTest) -> list[Batch]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [(name, test.columns.get(name, "text")) for name in names]
    values = [[_cell(row.get(name), kind) for name, kind in columns] for row in rows]
    return cutting.rows(columns, values, test.file)


def _cell(value: Any, kind: str) -> Any:
    """As an agent would send it: what is no text, number of its own or list travels as text."""
    if value is None or isinstance(value, list | dict) or (kind in ("integer", "float", "boolean")):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _judged(test: MappingTest, records: int, outcomes: Sequence[Outcomes]) -> Iterator[Difference]:
    mapped = [one for out in outcomes for m in out.mapped for one in m.all()]
    dead = [d for out in outcomes for d in out.dead]
    expected = test.expected
    if expected.documents is not None:
        yield from _documents(test, mapped, dead)
    if expected.dead is not None:
        yield from _dead(expected.dead, dead)
    elif dead and expected.documents is not None:
        first = dead[0]
        told = f"{first.code}, {first.reason}"
        yield Difference(("expected",), f"dead letter 1, {first.locator.text()}", _NOTHING, told)
    if expected.counts is not None:
        yield from _counts(expected, records, mapped, outcomes)


def _documents(test: MappingTest, mapped: Sequence[Mapped], dead: Sequence[Dead]) -> Iterator[Difference]:
    wanted = test.expected.documents or []
    for i, (one, found) in enumerate(zip(wanted, mapped, strict=False)):
        path, name = ("expected", "documents", i), f"document {i + 1}"
        facts = {"document": found.document, "key": found.key, "records": found.records}
        given = {word: value for word in facts if (value := getattr(one, word)) is not None}
        for difference in differences(given, facts, path, exact=False):
            yield difference._replace(at=f"{name}, its {difference.at}")
        body = msgspec.json.decode(found.body)
        for difference in differences(one.fields, body, (*path, "fields"), exact=test.exact):
            yield difference._replace(at=f"{name} ({found.key}), {difference.at}")
        if one.warnings is not None and not _texts_stand_in(one.warnings, found.warnings):
            yield Difference((*path, "warnings"), f"{name}, its warnings", str(one.warnings), str(list(found.warnings)))
    if len(wanted) != len(mapped):
        extra = ", ".join(m.key for m in mapped[len(wanted) :][:3])
        told = f"{len(mapped)}" + (f" ({extra} more than expected)" if extra else _why(dead))
        yield Difference(("expected", "documents"), "documents", str(len(wanted)), told)


def _why(dead: Sequence[Dead]) -> str:
    return f"; {dead[0].locator.text()} is dead: {dead[0].code}, {dead[0].reason}" if dead else ""


def _dead(wanted: Sequence[ExpectedDead], dead: Sequence[Dead]) -> Iterator[Difference]:
    for i, (one, found) in enumerate(zip(wanted, dead, strict=False)):
        path, name = ("expected", "dead", i), f"dead letter {i + 1}"
        if one.code != found.code:
            yield Difference((*path, "code"), f"{name}, its code", one.code, f"{found.code}: {found.reason}")
        elif one.field is not None and one.field != found.field:
            yield Difference((*path, "field"), f"{name}, its field", one.field, found.field or _NOTHING)
        elif one.reason is not None and one.reason not in found.reason:
            yield Difference((*path, "reason"), f"{name}, its reason", repr(one.reason), repr(found.reason))
        elif one.records is not None and one.records != found.records:
            yield Difference((*path, "records"), f"{name}, its records", str(one.records), str(found.records))
    if len(wanted) != len(dead):
        more = dead[len(wanted)] if len(dead) > len(wanted) else None
        told = f"{len(dead)}" + (f"; {more.locator.text()}: {more.code}, {more.reason}" if more else "")
        yield Difference(("expected", "dead"), "dead letters", str(len(wanted)), told)


def _counts(
    expected: Expected, records: int, mapped: Sequence[Mapped], outcomes: Sequence[Outcomes]
) -> Iterator[Difference]:
    facts = {
        "records": records,
        "documents": len(mapped),
        "dead": sum(d.records for out in outcomes for d in out.dead),
        "ignored": sum(i.records for out in outcomes for i in out.ignored),
        "warnings": sum(len(m.warnings) for m in mapped),
    }
    given = expected.counts.model_dump(exclude_none=True) if expected.counts is not None else {}
    yield from differences(given, facts, ("expected", "counts"), exact=False)


def _texts_stand_in(wanted: Sequence[str], found: Sequence[str]) -> bool:
    return len(wanted) == len(found) and all(one in other for one, other in zip(wanted, found, strict=True))
