"""Exceptions as people look at them: by cause, with what was noted about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from crossdock_controller.store import audit


@dataclass(frozen=True, slots=True)
class Tally:
    """Open items that are alike but for what they are about. *first_letter* is None when none is of a dead letter."""

    cause: str
    kind: str
    severity: str
    site: str
    source: str
    document: str
    sink: str
    count: int
    oldest_us: int
    newest_us: int
    title: str  # of the newest


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One item. *letter* is the dead letter, *event_seq* the event it is about."""

    id: int
    kind: str
    severity: str
    cause: str
    title: str
    site: str
    source: str
    document: str
    key: str
    sink: str
    event_seq: int | None
    letter: int | None
    opened_us: int
    reopened: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """Of a cause at a site: to whom, and until when where somebody said so (0: by the team's hours)."""

    assigned: str
    due_us: int
    at_us: int


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody did about a cause. *what*: noted, assigned, due, retried, fixed or resolved."""

    site: str
    at_us: int
    actor: str
    what: str
    text: str


def tallies(db: sqlite3.Connection, cause: str | None = None) -> list[Tally]:
    """Everything open, or what is open of *cause*, counted."""
    where = " AND cause = ?" if cause is not None else ""
    rows = db.execute(
        "SELECT cause, kind, severity, site, source, document, sink, count(*), min(opened_us), max(opened_us), title,"
        f" max(id) FROM exceptions WHERE state = 'open'{where}"
        " GROUP BY cause, kind, severity, site, source, document, sink",
        (cause,) if cause is not None else (),
    )
    return [Tally(*row[:11]) for row in rows]


def items(db: sqlite3.Connection, cause: str, *, after: int = 0, limit: int = 1000) -> list[ItemRow]:
    """Open items of *cause* beyond id *after*, oldest first."""
    rows = db.execute(
        "SELECT id, kind, severity, cause, title, site, source, document, key, sink, event_seq, letter_id, opened_us,"
        " reopened FROM exceptions WHERE state = 'open' AND cause = ? AND id > ? ORDER BY id LIMIT ?",
        (cause, after, limit),
    )
    return [ItemRow(*row) for row in rows]


def of_kind(db: sqlite3.Connection, prefix: str) -> list[ItemRow]:
    """Open items of every cause that begins with *prefix*."""
    rows = db.execute(
        "SELECT id, kind, severity, cause, title, site, source, document, key, sink, event_seq, letter_id, opened_us,"
        " reopened FROM exceptions WHERE state = 'open' AND cause >= ?1 AND cause < ?1 || char(1114111) ORDER BY id",
        (prefix,),
    )
    return [ItemRow(*row) for row in rows]


def assignments(db: sqlite3.Connection) -> dict[tuple[str, str], Assignment]:
    """By cause and site."""
    rows = db.execute("SELECT cause, site, assigned, due_us, at_us FROM exception_groups")
    return {(cause, site): Assignment(*rest) for cause, site, *rest in rows}


def notes(db: sqlite3.Connection, cause: str, limit: int = 200) -> list[Note]:
    """What was done about *cause*, oldest first; the latest *limit*."""
    rows = db.execute(
        "SELECT site, at_us, actor, what, text FROM exception_notes WHERE cause = ? ORDER BY id DESC LIMIT ?",
        (cause, limit),
    )
    return [Note(*row) for row in rows][::-1]


def assign(
    db: sqlite3.Connection,
    cause: str,
    sites: Iterable[str],
    *,
    assigned: str | None,
    due_us: int | None,
    by: str,
    now_us: int,
) -> None:
    """*cause* is somebody's at these *sites* from now on, or is due then; None leaves it as it is. In a transaction."""
    for site in sites:
        db.execute(
            "INSERT INTO exception_groups(cause, site, assigned, due_us, at_us) VALUES(?1, ?2, coalesce(?3, ''),"
            " coalesce(?4, 0), ?5) ON CONFLICT(cause, site) DO UPDATE SET assigned = coalesce(?3, assigned),"
            " due_us = coalesce(?4, due_us), at_us = ?5",
            (cause, site, assigned, due_us, now_us),
        )
    details = {"assigned": assigned, "due_us": due_us, "sites": sorted(sites)}
    audit.append(db, actor=by, action="exceptions.assign", target=cause, details=details, now_us=now_us)


def note(
    db: sqlite3.Connection, cause: str, sites: Iterable[str], *, what: str, text: str, by: str, now_us: int
) -> None:
    """In a transaction."""
    db.executemany(
        "INSERT INTO exception_notes(cause, site, at_us, actor, what, text) VALUES(?,?,?,?,?,?)",
        [(cause, site, now_us, by, what, text) for site in sites],
    )
