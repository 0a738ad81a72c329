"""What came of each reconciliation the last time, and when each was looked at."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """*left* and *right* are documents on each side when they were last believed; *problem* says why the last
    comparison told nothing of documents, or could not be made."""

    name: str
    looked_us: int
    ran_us: int = 0
    left: int = 0
    right: int = 0
    missing_left: int = 0
    missing_right: int = 0
    different: int = 0
    young: int = 0
    problem: str = ""


_SELECT = (
    "SELECT name, looked_us, ran_us, left_count, right_count, missing_left, missing_right, different, young, problem"
    " FROM reconciliations"
)


def last(db: sqlite3.Connection) -> dict[str, Run]:
    """By name; one that was never looked at has none."""
    return {row[0]: Run(*row) for row in db.execute(_SELECT)}


def looked(db: sqlite3.Connection, name: str, now_us: int) -> None:
    """Its schedule was followed up to now. In a transaction."""
    db.execute(
        "INSERT INTO reconciliations(name, looked_us) VALUES(?1, ?2)"
        " ON CONFLICT(name) DO UPDATE SET looked_us = max(looked_us, ?2)",
        (name, now_us),
    )


def keep(db: sqlite3.Connection, run: Run) -> None:
    """In a transaction."""
    db.execute(
        "INSERT OR REPLACE INTO reconciliations(name, looked_us, ran_us, left_count, right_count, missing_left,"
        " missing_right, different, young, problem) VALUES(?,?,?,?,?,?,?,?,?,?)",
        (
            run.name, run.looked_us, run.ran_us, run.left, run.right, run.missing_left, run.missing_right,
            run.different, run.young, run.problem,
        ),
    )  # fmt: skip


def sources(db: sqlite3.Connection, name: str) -> list[tuple[int, str]]:
    """(number, site) of every source of this name."""
    return db.execute("SELECT id, site FROM sources WHERE source = ?", (name,)).fetchall()
