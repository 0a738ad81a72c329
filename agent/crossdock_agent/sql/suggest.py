"""From what a table shows to the settings to begin with, each with its reason and its warning. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.survey import NUMBERS, ColumnSurvey, TableSurvey

_CHANGED = re.compile(
    r"chang|modif|updat|upd_|_upd|write|touch|amend|aend|änd|last_|mod_?date|mtime|rev_?date", re.IGNORECASE
)
_CREATED = re.compile(r"creat|insert|entry|entered|added|anleg|erfass|ctime", re.IGNORECASE)


class Watermark(msgspec.Struct, frozen=True):
    """A column by which new rows might be found, and what speaks for and against it."""

    column: str
    mode: str
    remarks: list[str]
    rank: float


class Suggestion(msgspec.Struct, frozen=True):
    """*settings* are what the source's kind takes beside `connection` and `table`; None: nothing to go by."""

    settings: dict[str, Any] | None
    reasons: list[str]


def watermarks(table: TableSurvey) -> list[Watermark]:
    """Candidates, best first."""
    found = [mark for column in table.columns if (mark := _watermark(column, table)) is not None]
    return sorted(found, key=lambda mark: -mark.rank)


def suggest(table: TableSurvey, connection: Any) -> Suggestion:
    """The first of the possible settings that this agent's `sql_table` accepts."""
    for settings, reasons in _possible(table):
        whole = {"connection": connection, "table": table.table.full_name, **settings}
        try:
            msgspec.convert(whole, type=SqlTableSettings)
        except msgspec.ValidationError:
            continue
        return Suggestion(settings, reasons)
    return Suggestion(None, ["it has no key and no column that says what is new: read a view that has one"])


def _watermark(column: ColumnSurvey, table: TableSurvey) -> Watermark | None:
    if column.is_time:
        return _time(column)
    if column.kind not in NUMBERS or [column.name] not in table.keys:
        return None
    if column.rises is False:
        return None
    remarks = ["unique", "rows that change later are not seen again"]
    return Watermark(column.name, "incrementing", remarks, 1.0 + column.indexed)


def _time(column: ColumnSurvey) -> Watermark | None:
    changed, created = bool(_CHANGED.search(column.name)), bool(_CREATED.search(column.name))
    nulls = column.nulls or 0.0
    if nulls == 1.0:
        return None
    remarks = ["named like a time of change" if changed else "named like a time of creation" if created else
               "a time; whether it moves when the row changes is for you to know"]  # fmt: skip
    remarks.append("begins an index" if column.indexed else "not indexed: each poll reads the whole table")
    if nulls:
        remarks.append(f"{nulls:.0%} of the sample is NULL, and such rows are not seen")
    if column.kind == "date":
        remarks.append("a date without a time: a day's rows come again and again until it is over")
    rank = 3.0 * changed - 1.0 * created + 1.0 * column.indexed - nulls - 2.0 * (column.kind == "date")
    return Watermark(column.name, "timestamp", remarks, rank)


def _possible(table: TableSurvey) -> list[tuple[dict[str, Any], list[str]]]:
    marks = watermarks(table)
    key = table.keys[0] if table.keys else []
    found = []
    times = [mark for mark in marks if mark.mode == "timestamp"]
    changed = [mark for mark in times if _CHANGED.search(mark.column)]
    if key and changed:
        found.append(_timestamp(changed[0], times, key, table))
    for mark in [mark for mark in marks if mark.mode == "incrementing"][:1]:
        reasons = [f"{mark.column}: {', '.join(mark.remarks)}", "right for a table that is only added to"]
        found.append(({"mode": "incrementing", "column": mark.column, "key": [mark.column]}, reasons))
    if key:
        reason = "no column says what has changed: the whole table is read by its key and compared"
        found.append(({"mode": "snapshot", "key": key}, [reason]))
    if key and times:
        found.append(_timestamp(times[0], times, key, table))
    return found


def _timestamp(
    mark: Watermark, times: list[Watermark], key: list[str], table: TableSurvey
) -> tuple[dict[str, Any], list[str]]:
    reasons = [f"{mark.column}: {', '.join(mark.remarks)}", f"key ({', '.join(key)}): {_why(key, table)}"]
    column: str | list[str] = mark.column
    nulls = {c.name: c.nulls or 0.0 for c in table.columns}
    filled = [t.column for t in times if t.column != mark.column and not nulls[t.column] and _CREATED.search(t.column)]
    if nulls[mark.column] and filled:
        column = [mark.column, filled[0]]
        reasons.append(f"{filled[0]} stands in where {mark.column} is NULL")
    return {"mode": "timestamp", "column": column, "key": key}, reasons


def _why(key: list[str], table: TableSurvey) -> str:
    primary = any(index.primary and index.columns == key for index in table.indexes)
    return "the primary key" if primary else "unique and never NULL"
