"""Exceptions: what someone has to look at, one row an item. Items with the same *cause* are one piece of work.

Whoever finds one adds it in the transaction of what it is about (the dead letter, the held event), so that neither is
ever there without the other; whoever settles that resolves it in the same way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Literal

import msgspec

Kind = Literal["record", "delivery", "hold", "code", "difference", "missing", "conflict"]
"""A dead record; a dead delivery; a document held by a rule; a code without meaning; two systems that do not agree; a
document that did not come; a writer's refusal to overwrite what changed at the site."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """*cause* groups: equal for all that one fix would settle ("unknown_code:uom:PCE"). *title* is a sentence."""

    kind: Kind
    severity: Literal["reject", "hold", "warn"]
    cause: str
    title: str
    site: str = ""
    source: str = ""
    document: str = ""
    key: str = ""
    sink: str = ""
    event_seq: int | None = None
    letter: int | None = None


def add(db: sqlite3.Connection, items: Iterable[Item], now_us: int) -> None:
    """In a transaction."""
    db.executemany(
        "INSERT INTO exceptions(kind, severity, cause, title, site, source, document, key, sink, event_seq, letter_id,"
        " opened_us) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
        [
            (i.kind, i.severity, i.cause, i.title, i.site, i.source, i.document, i.key, i.sink, i.event_seq, i.letter,
             now_us)
            for i in items
        ],
    )  # fmt: skip


def resolve_letters(db: sqlite3.Connection, letters: Iterable[int], *, by: str, outcome: str, now_us: int) -> None:
    """What was open about these dead letters is settled. In a transaction."""
    _resolve(db, "letter_id = ?", letters, by, outcome, now_us)


def resolve_events(db: sqlite3.Connection, events: Iterable[int], *, by: str, outcome: str, now_us: int) -> None:
    """What was open about these events (by seq), but for their dead letters, is settled. In a transaction."""
    _resolve(db, "event_seq = ? AND letter_id IS NULL", events, by, outcome, now_us)


def _resolve(db: sqlite3.Connection, which: str, values: Iterable[int], by: str, outcome: str, now_us: int) -> None:
    db.executemany(
        "UPDATE exceptions SET state = 'resolved', resolved_us = ?, resolved_by = ?, outcome = ?"
        f" WHERE state = 'open' AND {which}",
        [(now_us, by, outcome, value) for value in values],
    )
