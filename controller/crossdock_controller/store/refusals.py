"""What was refused, counted: one row for each (kind, who, from where), however often it is tried again.

Kinds at the link: "twin" (a second live process with one identity), "machine" (another machine), "outdated" (an older
certificate than the one in use). At the enrollment port: "token", "flood", "request" (one that makes no sense) and
"reenrol". Rows of the port are limited in number: what comes from yet another address is counted under "others".
Functions are for a transaction of the caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

IDENTITY = ("twin", "machine", "outdated")
PORT = ("token", "flood", "request", "reenrol")
PORT_ROWS = 500
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Refusal:
    """*count* attempts since *first_us*; *said_us*: when the audit log last told of it."""

    kind: str
    subject: str
    address: str
    count: int
    first_us: int
    last_us: int
    said_us: int
    detail: str


def add(db: sqlite3.Connection, kind: str, subject: str, address: str, count: int, detail: str, now_us: int) -> Refusal:
    """Count *count* more attempts; the row as it is now, its `said_us` 0 when it is new."""
    if kind in PORT and not _known(db, kind, subject, address) and _full(db):
        subject, address, detail = "", OTHERS, ""
    row = db.execute(
        "INSERT INTO refusals(kind, subject, address, count, first_us, last_us, said_us, detail)"
        " VALUES(?1,?2,?3,?4,?5,?5,0,?6) ON CONFLICT(kind, subject, address) DO UPDATE SET count = count + ?4,"
        " last_us = excluded.last_us, detail = excluded.detail"
        " RETURNING kind, subject, address, count, first_us, last_us, said_us, detail",
        (kind, subject, address, count, now_us, detail),
    ).fetchone()
    return Refusal(*row)


def said(db: sqlite3.Connection, refusal: Refusal, now_us: int) -> None:
    """The audit log tells of it now."""
    db.execute(
        "UPDATE refusals SET said_us = ? WHERE kind = ? AND subject = ? AND address = ?",
        (now_us, refusal.kind, refusal.subject, refusal.address),
    )


def since(db: sqlite3.Connection, from_us: int, kinds: Iterable[str] = (*IDENTITY, *PORT)) -> list[Refusal]:
    """Those that were tried at or after *from_us*, the last one first."""
    wanted = tuple(kinds)
    marks = ",".join("?" * len(wanted))
    rows = db.execute(
        "SELECT kind, subject, address, count, first_us, last_us, said_us, detail FROM refusals"
        f" WHERE last_us >= ? AND kind IN ({marks}) ORDER BY last_us DESC, kind, subject, address",
        (from_us, *wanted),
    )
    return [Refusal(*row) for row in rows]


def forget(db: sqlite3.Connection, subject: str, kinds: Iterable[str] = IDENTITY) -> None:
    """A person has settled what was wrong with agent *subject*."""
    db.executemany("DELETE FROM refusals WHERE subject = ? AND kind = ?", [(subject, kind) for kind in kinds])


def forget_before(db: sqlite3.Connection, before_us: int) -> None:
    """What was last tried before *before_us* is of no interest any more; the audit log has it."""
    db.execute("DELETE FROM refusals WHERE last_us < ?", (before_us,))


def _known(db: sqlite3.Connection, kind: str, subject: str, address: str) -> bool:
    found = db.execute(
        "SELECT 1 FROM refusals WHERE kind = ? AND subject = ? AND address = ?", (kind, subject, address)
    )
    return found.fetchone() is not None


def _full(db: sqlite3.Connection) -> bool:
    marks = ",".join("?" * len(PORT))
    (rows,) = db.execute(f"SELECT count(*) FROM refusals WHERE kind IN ({marks})", PORT).fetchone()
    return int(rows) >= PORT_ROWS
