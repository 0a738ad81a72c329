"""What `try` and `discover` say to a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from crossdock_agent import plain
from crossdock_agent.guessing import Guess
from crossdock_agent.guessing.files import FileGuess
from crossdock_agent.sql.suggest import watermarks
from crossdock_agent.sql.survey import Listed, TableSurvey
from crossdock_agent.trial import TableTrial, Trial

_REJECTS = 5
_USUAL = {("quote", '"'), ("header", True), ("encoding", "utf-8"), ("delimiter", ",")}


def of_trial(trial: Trial, settings: Mapping[str, Any]) -> Iterator[str]:
    """*settings* are the source's, to say where a guess differs from them."""
    yield f"source {trial.source} ({trial.kind}{', ' + trial.format if trial.format else ''})"
    read = f"{trial.records:,} records, {trial.bytes:,} bytes read"
    yield f"  {read}{', and there is more' if trial.more else ''}; nothing was moved, sent or remembered"
    if trial.origins:
        names = ", ".join(trial.origins[:3]) + (f" and {len(trial.origins) - 3} more" if len(trial.origins) > 3 else "")
        yield f"  from {names}"
    for note in trial.notes:
        yield f"  note: {note}"
    if trial.rows:
        yield ""
        yield from plain.table(trial.names, trial.rows)
        if len(trial.rows) < trial.records:
            yield f"... {len(trial.rows)} of {trial.records:,} shown"
    if trial.types and trial.table is None:
        yield ""
        yield from plain.table(["column", "type"], list(zip(trial.names, trial.types, strict=True)))
    yield from _rejects(trial)
    if trial.file is not None:
        yield from of_file(trial.file, settings)
    if trial.table is not None:
        yield from _of_table(trial.table, settings)
    yield ""
    yield f"checkpoint it would have: {msgspec.json.encode(trial.checkpoint).decode()[:300]}"
    if trial.counters:
        yield "counters: " + ", ".join(f"{name} {value}" for name, value in sorted(trial.counters.items()))


def of_file(guess: FileGuess, settings: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield "guessed settings (a start for you to look at, not used by themselves)"
    rows = [[g.setting, _value(g.value), "sure" if g.sure else "a guess", g.reason] for g in guess.guesses]
    names = ["setting", "value", "", "because"]
    if settings:
        names.insert(2, "is set to")
        for row, g in zip(rows, guess.guesses, strict=True):
            row.insert(2, _agrees(g, settings))
    yield from plain.table(names, rows, 160, open_end=True)
    if line := _to_copy(guess):
        yield f"to copy: {line}"
    if guess.columns:
        yield ""
        columns = [[c.name, c.kind, c.format, c.reason] for c in guess.columns]
        yield from plain.table(["column", "looks like", "format", "because"], columns, 120, open_end=True)
    for i, (one, other, name) in enumerate(guess.differing):
        if not i:
            yield ""
            yield f"lines that read otherwise in {name}:"
        yield f"  as guessed: {plain.shown(one, 100)}"
        yield f"  {name.rjust(10)}: {plain.shown(other, 100)}"


def _to_copy(guess: FileGuess) -> str:
    """`format` as a source file has it, without what goes without saying; "" for kinds that need a layout."""
    values = {g.setting.removeprefix("format."): g.value for g in guess.guesses if g.setting.startswith("format.")}
    if values.get("kind") not in {"csv", "jsonl"}:
        return ""
    given = {name: value for name, value in values.items() if (name, value) not in _USUAL}
    if values.get("header") is False:
        given["columns"] = [column.name for column in guess.columns]
    return f"format: {plain.flow(given)}"


def of_list(tables: list[Listed], details: Mapping[str, TableSurvey]) -> Iterator[str]:
    rows = []
    for table in tables:
        known = details.get(table.full_name)
        marks = [mark.column for mark in watermarks(known)] if known else []
        rows.append([
            table.full_name, "view" if table.is_view else "table", table.rows_text,
            ", ".join(known.keys[0]) if known and known.keys else "", len(known.indexes) if known else "",
            ", ".join(marks),
        ])  # fmt: skip
    yield from plain.table(["name", "", "rows", "key", "indexes", "watermark candidates"], rows, 60, open_end=True)


def of_survey(trial: TableTrial) -> Iterator[str]:
    """One table: columns, indexes, and what it could be read by."""
    table = trial.survey
    rows = [
        [
            c.name, c.declared, "text, a time" if c.is_time and c.kind == "text" else c.kind,
            "yes" if c.nullable else "", "yes" if c.indexed else "",
            "" if c.nulls is None else f"{c.nulls:.0%}",
        ]
        for c in table.columns
    ]  # fmt: skip
    yield from plain.table(["column", "declared", "type", "may be NULL", "indexed", "NULL in sample"], rows)
    yield ""
    for index in table.indexes:
        what = "primary key" if index.primary else "unique index" if index.unique else "index"
        yield f"{what} {index.name} ({', '.join(name or 'an expression' for name in index.columns)})"
    for mark in trial.watermarks:
        yield f"watermark candidate {mark.column} ({mark.mode}): {', '.join(mark.remarks)}"
    yield ""
    settings = trial.suggestion.settings
    yield "suggested: " + (", ".join(f"{k}: {_value(v)}" for k, v in settings.items()) if settings else "nothing")
    for reason in trial.suggestion.reasons:
        yield f"  {reason}"


def _of_table(trial: TableTrial, settings: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield from of_survey(trial)
    suggested = trial.suggestion.settings or {}
    other = {key: settings.get(key) for key in suggested if settings.get(key) not in (suggested[key], [suggested[key]])}
    if other:
        yield "  it is set otherwise: " + ", ".join(f"{key}: {_value(value)}" for key, value in other.items())


def _rejects(trial: Trial) -> Iterator[str]:
    for i, reject in enumerate(trial.rejects[:_REJECTS]):
        if not i:
            yield ""
            yield f"{len(trial.rejects)} record(s) would be set aside"
        yield f"  record {reject.record}: {reject.code}: {reject.reason}"
        yield f"    {plain.shown(reject.begins, 80)}"


def _agrees(guess: Guess, settings: Mapping[str, Any]) -> str:
    """What the settings say of the same, if that is something else."""
    value: Any = settings
    for part in guess.setting.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ""
        value = value[part]
    return _value(value) if value != guess.value else "the same"


def _value(value: object) -> str:
    return (
        value
        if isinstance(value, str) and value.isprintable() and value.strip()
        else msgspec.json.encode(value).decode()
    )
