"""Why an agent was taken off the list: by whom, when, and the reason given. For a transaction of the caller."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Revocation:
    agent: str
    at_us: int
    by: str
    because: str


def record(db: sqlite3.Connection, agent: str, by: str, because: str, now_us: int) -> None:
    db.execute(
        "INSERT INTO revocations(agent, at_us, by_whom, because) VALUES(?,?,?,?) ON CONFLICT(agent) DO UPDATE"
        " SET at_us = excluded.at_us, by_whom = excluded.by_whom, because = excluded.because",
        (agent, now_us, by, because),
    )


def lift(db: sqlite3.Connection, agent: str) -> None:
    """*agent* enrolled anew."""
    db.execute("DELETE FROM revocations WHERE agent = ?", (agent,))


def list_all(db: sqlite3.Connection) -> dict[str, Revocation]:
    rows = db.execute("SELECT agent, at_us, by_whom, because FROM revocations")
    return {row[0]: Revocation(*row) for row in rows}
