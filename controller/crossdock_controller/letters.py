"""What a person does with dead letters: correct and retry, or discard. Each is one transaction, and stays on record."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence

from crossdock.errors import Refused, Rejected
from crossdock_controller import recoding
from crossdock_controller.outcomes import Dead, Mapped
from crossdock_controller.recoding import Runtime
from crossdock_controller.store import dead_letters
from crossdock_controller.store.dead_letters import DeadLetter


def retry(
    db: sqlite3.Connection,
    runtime: Runtime,
    number: int,
    changes: Mapping[str, str],
    *,
    by: str,
    note: str = "",
    force: bool = False,
) -> DeadLetter:
    """Try dead letter *number* again; the letter as it stands after. Wake "normalize" and "dispatch" afterwards.

    A delivery is due now. A record is mapped again by the revision in force, with *changes* made to its columns:
    "COLUMN" in every row, "2.COLUMN" in the second, "lines.2.COLUMN" in the second element of a list. Raises Refused
    when it is not open, cannot be corrected, has no such column, or, unless by *force*, when the same source has sent
    a later version of the document meanwhile; Rejected when the mapping still refuses it (it stays open then).
    """
    letter = _open(db, number)
    now_us = time.time_ns() // 1000
    if letter.kind == "delivery":
        if changes:
            raise Refused(
                f"dead letter {number} is a delivery, which has no columns to set",
                hint="correct the document at its source, or discard this delivery",
            )
        dead_letters.retry_delivery(db, letter, by, note, now_us)
    else:
        document = remapped(db, runtime, letter, changes)
        later = recoding.commit(db, runtime, letter, document, by, note, now_us, fields=sorted(changes), force=force)
        if later is not None:
            raise Refused(
                f"{document.document} {document.key} has a later version of the same source, event {later}: this one"
                " would be taken for newer",
                hint=f"crossdock dead discard {number}; or, to have it all the same: dead retry {number} --force",
            )
    return dead_letters.get(db, number)


def discard(db: sqlite3.Connection, number: int, *, by: str, note: str) -> DeadLetter:
    """Give dead letter *number* up; later versions that a dead delivery held are due now. Raises Refused."""
    letter = _open(db, number)
    dead_letters.discard(db, letter, by, note, time.time_ns() // 1000)
    return dead_letters.get(db, number)


def corrected(
    letter: DeadLetter, changes: Mapping[str, str], columns: Sequence[str], line_columns: Sequence[str] = ()
) -> list[dict[str, object]]:
    """The letter's rows with *changes* made; *columns* are those the mapping reads, *line_columns* those it reads of an
    element of a list. Raises Refused.

    A column that was damaged is not in its row: setting it supplies it.
    """
    rows: list[dict[str, object]] = [dict(row) for row in letter.rows] or [{}]
    if len(rows) != letter.records:
        raise Refused(
            f"only {len(letter.rows)} of the {letter.records} records of dead letter {letter.id} could be decoded",
            hint="have the source send them again correctly, then discard this one",
        )
    known = {column for row in rows for column in row} | set(columns)
    for name, value in changes.items():
        if name not in known and _set_in_list(letter, rows, line_columns, name, value):
            continue
        column, meant = _meant(letter, rows, known, name)
        for row in meant:
            row[column] = value
    return rows


def _set_in_list(
    letter: DeadLetter, rows: list[dict[str, object]], columns: Sequence[str], name: str, value: str
) -> bool:
    """Sets `lines.2.QTY`, the second element of a list; False when *name* means no list. Raises Refused."""
    ordinal, _, rest = name.partition(".")
    meant = rows
    if ordinal.isdigit() and 1 <= int(ordinal) <= len(rows):  # `1.lines.2.QTY`
        meant, name = [rows[int(ordinal) - 1]], rest
    column, _, rest = name.partition(".")
    number, _, inner = rest.partition(".")
    found = False
    for row in meant:
        elements = row.get(column)
        if not (isinstance(elements, list) and number.isdigit() and inner):
            continue
        found = True
        if not 1 <= int(number) <= len(elements):
            raise Refused(
                f"{column} of dead letter {letter.id} has {len(elements)} elements, not {number}",
                hint="elements count from 1",
            )
        changed = dict(elements[int(number) - 1])
        if inner not in changed and inner not in columns:
            raise Refused(
                f"{column} of dead letter {letter.id} has no column {inner!r}",
                hint=f"its columns are {', '.join(sorted({*changed, *columns}))}",
            )
        row[column] = [*elements[: int(number) - 1], changed | {inner: value}, *elements[int(number) :]]
    return found


def _meant(
    letter: DeadLetter, rows: list[dict[str, object]], known: Collection[str], name: str
) -> tuple[str, list[dict[str, object]]]:
    """The column and the rows that *name* means."""
    if name in known:
        return name, rows
    ordinal, _, column = name.partition(".")
    if not (ordinal.isdigit() and column in known):
        raise Refused(
            f"dead letter {letter.id} has no column {name!r}", hint=f"its columns are {', '.join(sorted(known))}"
        )
    if not 1 <= int(ordinal) <= len(rows):
        raise Refused(f"dead letter {letter.id} has {len(rows)} rows, not {ordinal}", hint="rows count from 1")
    return column, [rows[int(ordinal) - 1]]


def _open(db: sqlite3.Connection, number: int) -> DeadLetter:
    letter = dead_letters.get(db, number)
    if letter.state != "open":
        raise Refused(
            f"dead letter {number} is not open: {letter.state} by {letter.resolved_by}",
            hint="crossdock dead list shows those that are",
        )
    return letter


def remapped(db: sqlite3.Connection, runtime: Runtime, letter: DeadLetter, changes: Mapping[str, str]) -> Mapped:
    """The document that the letter's record becomes with *changes*. Raises Refused and Rejected, as `retry` does."""
    engine = runtime.engine(letter.site, letter.source)
    if engine is None:
        raise Refused(
            f"revision {runtime.number} has no mapping for source {letter.source} at {letter.site}",
            hint="add it to the configuration and apply it",
        )
    rows = corrected(letter, changes, engine.columns, engine.line_columns)
    result = recoding.remap(db, engine, letter, rows)
    if isinstance(result, Dead):
        raise Rejected(
            result.code, f"dead letter {letter.id} is still refused: {result.reason}", field=result.field,
            hint=f"crossdock dead retry {letter.id} --set COLUMN=VALUE",
        )  # fmt: skip
    return result
