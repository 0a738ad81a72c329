"""Agents with a certificate of ours that are on no list: enrolled after the backup that the store was restored from.

Each function is one statement on state.db; times are microseconds since the epoch, UTC.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stranger:
    agent: str
    peer: str
    first_us: int
    last_us: int


def note(db: sqlite3.Connection, agent: str, peer: str, now_us: int) -> None:
    """*agent* knocked and was refused. One that is on the list (revoked) is no stranger."""
    db.execute(
        "INSERT INTO strangers(agent, peer, first_us, last_us) SELECT ?1, ?2, ?3, ?3"
        " WHERE NOT EXISTS (SELECT 1 FROM agents WHERE agent = ?1)"
        " ON CONFLICT(agent) DO UPDATE SET peer = excluded.peer, last_us = excluded.last_us",
        (agent, peer, now_us),
    )


def list_all(db: sqlite3.Connection) -> list[Stranger]:
    """Those that are still on no list, by name."""
    rows = db.execute(
        "SELECT agent, peer, first_us, last_us FROM strangers WHERE agent NOT IN (SELECT agent FROM agents)"
        " ORDER BY agent"
    )
    return [Stranger(*row) for row in rows]


def forget(db: sqlite3.Connection, agent: str) -> None:
    db.execute("DELETE FROM strangers WHERE agent = ?", (agent,))
