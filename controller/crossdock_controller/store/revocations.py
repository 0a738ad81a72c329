"""Why an agent was taken off the list: by whom, when, for which reason; and which of its certificates are void since.

A revocation stays when the agent enrols anew: what was issued before it never lets anyone in again. Functions are for a
transaction of the caller.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from crossdock_controller.store.certificates import Certificate


@dataclass(frozen=True, slots=True)
class Revocation:
    """*until_seq*: the last certificate of the ledger at that moment."""

    agent: str
    at_us: int
    by: str
    because: str
    until_seq: int


def record(db: sqlite3.Connection, agent: str, by: str, because: str, now_us: int) -> None:
    db.execute(
        "INSERT INTO revocations(agent, at_us, by_whom, because, until_seq)"
        " VALUES(?,?,?,?,(SELECT coalesce(max(seq), 0) FROM certificates)) ON CONFLICT(agent) DO UPDATE"
        " SET at_us = excluded.at_us, by_whom = excluded.by_whom, because = excluded.because,"
        " until_seq = excluded.until_seq",
        (agent, now_us, by, because),
    )


def list_all(db: sqlite3.Connection) -> dict[str, Revocation]:
    """The last one of each agent, also of those that enrolled anew."""
    rows = db.execute("SELECT agent, at_us, by_whom, because, until_seq FROM revocations")
    return {row[0]: Revocation(*row) for row in rows}


def voiding(db: sqlite3.Connection, shown: Certificate) -> Revocation | None:
    """The revocation that came after *shown* was issued. One that the ledger does not know is judged by its dates."""
    row = db.execute(
        "SELECT agent, at_us, by_whom, because, until_seq FROM revocations WHERE agent = ?", (shown.agent,)
    ).fetchone()
    if row is None:
        return None
    found = Revocation(*row)
    known = db.execute("SELECT seq FROM certificates WHERE serial = ? AND how <> 'seen'", (shown.serial,)).fetchone()
    void = known[0] <= found.until_seq if known else shown.issued_us <= found.at_us
    return found if void else None
