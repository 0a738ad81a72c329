"""Revisions that wait for a second person, and who approved them. A proposal is no revision, and nobody is offered it.

A state only moves from the one its changer saw: of two who settle a proposal at once, one does.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from crossdock_controller.store.revisions import StoredTree, digest, dumps, verified

OPEN = "open"  # waits for people
APPROVED = "approved"  # became `revision`
REJECTED = "rejected"
STALE = "stale"  # another revision is in force than the one it was planned against
UNCONFIRMED = "unconfirmed"  # in force without a second person, who is still to look at it
CONFIRMED = "confirmed"


@dataclass(frozen=True, slots=True)
class Proposal:
    """Without its tree. *needs* and *options* are JSON; *actor* is its author ("local:anna")."""

    number: int
    base: int
    hash: str
    environment: str
    actor: str
    action: str
    message: str
    needs: str
    options: str
    state: str
    created_us: int
    settled_us: int
    settled_by: str
    reason: str
    revision: int


@dataclass(frozen=True, slots=True)
class Approval:
    person: str
    actor: str
    comment: str
    at_us: int


_COLUMNS = (
    "number, base, hash, environment, actor, action, message, needs, options, state, created_us, settled_us,"
    " settled_by, reason, revision"
)


def add(
    db: sqlite3.Connection,
    tree: dict[str, str],
    *,
    base: int,
    environment: str,
    actor: str,
    action: str,
    message: str,
    needs: str,
    options: str,
    now_us: int,
    state: str = OPEN,
    reason: str = "",
    revision: int = 0,
) -> int:
    """Its number, gapless from 1. In a transaction."""
    text = dumps(tree)
    number: int = db.execute("SELECT coalesce(max(number), 0) + 1 FROM proposals").fetchone()[0]
    db.execute(
        "INSERT INTO proposals(number, base, hash, tree, environment, actor, action, message, needs, options, state,"
        " created_us, reason, revision) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (number, base, digest(text), text, environment, actor, action, message, needs, options, state, now_us, reason,
         revision),
    )  # fmt: skip
    return number


def get(db: sqlite3.Connection, number: int) -> Proposal | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM proposals WHERE number = ?", (number,)).fetchone()
    return Proposal(*row) if row else None


def tree(db: sqlite3.Connection, number: int) -> StoredTree:
    """Raises Corrupt when it is not what was stored, KeyError when there is none."""
    row = db.execute("SELECT tree, hash, environment FROM proposals WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise KeyError(number)
    found = verified(row[0], row[1], f"proposal {number}")
    found.environment = row[2]
    return found


def list_all(db: sqlite3.Connection, states: tuple[str, ...] = ()) -> list[Proposal]:
    """Newest first; only those in *states* when given."""
    marks = ",".join("?" * len(states))
    where = f"WHERE state IN ({marks}) " if states else ""
    rows = db.execute(f"SELECT {_COLUMNS} FROM proposals {where}ORDER BY number DESC", states)
    return [Proposal(*row) for row in rows]


def of_revision(db: sqlite3.Connection, revision: int) -> Proposal | None:
    """The proposal that became *revision*."""
    row = db.execute(f"SELECT {_COLUMNS} FROM proposals WHERE revision = ?", (revision,)).fetchone()
    return Proposal(*row) if row else None


def settle(
    db: sqlite3.Connection, seen: Proposal, state: str, *, by: str, now_us: int, reason: str = "", revision: int = 0
) -> bool:
    """In a transaction: False, and nothing changed, when it is no longer in the state of *seen*."""
    done = db.execute(
        "UPDATE proposals SET state = ?, settled_us = ?, settled_by = ?, reason = CASE WHEN ? = '' THEN reason ELSE ?"
        " END, revision = CASE WHEN ? = 0 THEN revision ELSE ? END WHERE number = ? AND state = ?",
        (state, now_us, by, reason, reason, revision, revision, seen.number, seen.state),
    )
    return done.rowcount == 1


def approve(db: sqlite3.Connection, number: int, *, person: str, actor: str, comment: str, now_us: int) -> bool:
    """In a transaction: False when *person* has approved it already."""
    done = db.execute(
        "INSERT OR IGNORE INTO approvals(proposal, person, actor, comment, at_us) VALUES(?,?,?,?,?)",
        (number, person, actor, comment, now_us),
    )
    return done.rowcount == 1


def withdraw(db: sqlite3.Connection, actor: str) -> list[int]:
    """In a transaction: what *actor* approved and still waits is approved by one fewer; numbers of the proposals."""
    rows = db.execute(
        "DELETE FROM approvals WHERE actor = ? AND proposal IN (SELECT number FROM proposals WHERE state IN (?, ?))"
        " RETURNING proposal",
        (actor, OPEN, UNCONFIRMED),
    ).fetchall()
    return sorted(number for (number,) in rows)


def approvals(db: sqlite3.Connection, number: int) -> list[Approval]:
    """In the order they came."""
    rows = db.execute(
        "SELECT person, actor, comment, at_us FROM approvals WHERE proposal = ? ORDER BY at_us, person", (number,)
    )
    return [Approval(*row) for row in rows]
