"""Exceptions: what someone has to look at, one row an item. Items with the same *cause* are one piece of work.

Whoever finds one adds it in the transaction of what it is about (the dead letter, the held event), so that neither is
ever there without the other; whoever settles that resolves it in the same way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from crossdock_controller.store.causes import cause_of_delivery, cause_of_record

Kind = Literal["record", "delivery", "hold", "code", "difference", "missing", "conflict"]
"""A dead record; a dead delivery; a document held by a rule; a code without meaning; two systems that do not agree; a
document that did not come; a writer's refusal to overwrite what changed at the site."""

TITLE_CHARACTERS = 400


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


def add_of_records(db: sqlite3.Connection, after: int, now_us: int) -> None:
    """An exception for each dead record beyond letter *after*. In the transaction that set them aside."""
    rows = db.execute(
        "SELECT d.id, d.code, d.field, d.reason, d.list, d.value, s.site, s.source FROM dead_letters d"
        " JOIN sources s ON s.id = d.source_id WHERE d.id > ? ORDER BY d.id",
        (after,),
    )
    add(
        db,
        [
            Item(
                kind="code" if list_ else "record", severity="reject", title=reason[:TITLE_CHARACTERS], site=site,
                cause=cause_of_record(code, source, field, reason, list_, value), source=source, letter=letter,
            )
            for letter, code, field, reason, list_, value, site, source in rows
        ],
        now_us,
    )  # fmt: skip


def refused_anew(db: sqlite3.Connection, letter: int) -> None:
    """A dead record is refused for another reason by now: its exception is about that. In a transaction."""
    row = db.execute(
        "SELECT x.id, d.code, s.source, d.field, d.reason, d.list, d.value FROM exceptions x"
        " JOIN dead_letters d ON d.id = x.letter_id JOIN sources s ON s.id = d.source_id"
        " WHERE x.letter_id = ? AND x.state = 'open'",
        (letter,),
    ).fetchone()
    if row is not None:
        item, code, source, field, reason, list_, value = row
        coded = list_ if code == "unknown_code" else ""
        reword(db, [(item, cause_of_record(code, source, field, reason, coded, value), reason[:TITLE_CHARACTERS])])
        db.execute("UPDATE exceptions SET kind = ? WHERE id = ?", ("code" if coded else "record", item))


def add_of_deliveries(db: sqlite3.Connection, after: int, now_us: int) -> None:
    """An exception for each dead delivery beyond letter *after*; one that was retried and died again is open again, as
    old as it was. In the transaction that set them aside."""
    rows = db.execute(
        "SELECT d.id, d.code, d.reason, s.site, s.source, e.document, e.key, k.name, e.seq FROM dead_letters d"
        " JOIN sources s ON s.id = d.source_id JOIN events e ON e.seq = d.event_seq JOIN sinks k ON k.id = d.sink_id"
        " WHERE d.id > ? ORDER BY d.id",
        (after,),
    ).fetchall()
    fresh = []
    for letter, code, reason, site, source, document, key, sink, seq in rows:
        cause = cause_of_delivery(sink, code, reason)
        if not _reopened(db, seq, sink, letter, cause, reason[:TITLE_CHARACTERS]):
            fresh.append(
                Item(
                    kind="delivery", severity="reject", cause=cause, title=reason[:TITLE_CHARACTERS], site=site,
                    source=source, document=document, key=key, sink=sink, event_seq=seq, letter=letter,
                )
            )  # fmt: skip
    add(db, fresh, now_us)


def _reopened(db: sqlite3.Connection, seq: int, sink: str, letter: int, cause: str, title: str) -> bool:
    row = db.execute(
        "SELECT id FROM exceptions WHERE event_seq = ? AND sink = ? AND kind = 'delivery' AND outcome = 'retried'"
        " ORDER BY id DESC LIMIT 1",
        (seq, sink),
    ).fetchone()
    if row is None:
        return False
    db.execute(
        "UPDATE exceptions SET state = 'open', resolved_us = 0, resolved_by = '', outcome = '', letter_id = ?,"
        " cause = ?, title = ?, reopened = reopened + 1 WHERE id = ?",
        (letter, cause, title, row[0]),
    )
    return True


def resolve_letters(db: sqlite3.Connection, letters: Iterable[int], *, by: str, outcome: str, now_us: int) -> None:
    """What was open about these dead letters is settled. In a transaction."""
    _resolve(db, "letter_id = ?", letters, by, outcome, now_us)


def resolve_events(db: sqlite3.Connection, events: Iterable[int], *, by: str, outcome: str, now_us: int) -> None:
    """What was open about these events (by seq), but for their dead letters, is settled. In a transaction."""
    _resolve(db, "event_seq = ? AND letter_id IS NULL", events, by, outcome, now_us)


def resolve_items(db: sqlite3.Connection, items: Iterable[int], *, by: str, outcome: str, now_us: int) -> None:
    """These items (by id) are settled. In a transaction."""
    _resolve(db, "id = ?", items, by, outcome, now_us)


def _resolve(db: sqlite3.Connection, which: str, values: Iterable[int], by: str, outcome: str, now_us: int) -> None:
    db.executemany(
        "UPDATE exceptions SET state = 'resolved', resolved_us = ?, resolved_by = ?, outcome = ?"
        f" WHERE state = 'open' AND {which}",
        [(now_us, by, outcome, value) for value in values],
    )


def reword(db: sqlite3.Connection, items: Sequence[tuple[int, str, str]]) -> None:
    """(id, cause, title) of open items that are about something else by now. In a transaction."""
    db.executemany("UPDATE exceptions SET cause = ?, title = ? WHERE id = ?", [(c, t, i) for i, c, t in items])
