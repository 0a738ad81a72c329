"""Rollouts, one for each revision that had waves. A row changes only from the step its changer saw."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

LIVE = ("rolling", "held", "reverting")


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """*plan*, *progress* and *evidence* are JSON (`crossdock_controller.rollouts.model`)."""

    revision: int
    base: int
    state: str  # "rolling", "held" (by a person), "reverting", "reverted" or "complete"
    steps: int
    plan: str
    progress: str
    why: str
    evidence: str
    started_us: int
    ended_us: int


_COLUMNS = "revision, base, state, steps, plan, progress, why, evidence, started_us, ended_us"


def begin(db: sqlite3.Connection, revision: int, base: int, plan: str, progress: str, now_us: int) -> None:
    """In the transaction that stores *revision*: it is not in force before its rollout is complete."""
    db.execute(
        "INSERT INTO rollouts(revision, base, state, plan, progress, started_us) VALUES(?,?,'rolling',?,?,?)",
        (revision, base, plan, progress, now_us),
    )


def pause_all(db: sqlite3.Connection) -> list[int]:
    """After a restore: what went on at the backup begins no wave before a person resumes it. Their revisions; in a
    transaction."""
    rows = db.execute(
        "UPDATE rollouts SET state = 'held', steps = steps + 1 WHERE state = 'rolling' RETURNING revision"
    )
    return sorted(revision for (revision,) in rows.fetchall())


def live(db: sqlite3.Connection) -> RolloutRow | None:
    """The one that runs now."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM rollouts WHERE state IN (?,?,?) ORDER BY revision DESC LIMIT 1", LIVE
    ).fetchone()
    return RolloutRow(*row) if row else None


def get(db: sqlite3.Connection, revision: int) -> RolloutRow | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM rollouts WHERE revision = ?", (revision,)).fetchone()
    return RolloutRow(*row) if row else None


def newest(db: sqlite3.Connection) -> RolloutRow | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM rollouts ORDER BY revision DESC LIMIT 1").fetchone()
    return RolloutRow(*row) if row else None


def hold_seconds(db: sqlite3.Connection) -> float:
    """How long the one that runs holds each wave; 0 when none does."""
    row = live(db)
    return float(json.loads(row.plan)["hold_seconds"]) if row else 0.0


def states(db: sqlite3.Connection) -> dict[int, tuple[str, str]]:
    """{revision: (state, why)} of every revision that had a rollout."""
    return {r: (state, why) for r, state, why in db.execute("SELECT revision, state, why FROM rollouts")}


def change(
    db: sqlite3.Connection, seen: RolloutRow, *, state: str, progress: str, why: str, evidence: str, ended_us: int = 0
) -> bool:
    """Compare and swap, in a transaction: False, and nothing changed, when someone else has changed it since *seen*."""
    return (
        db.execute(
            "UPDATE rollouts SET state = ?, progress = ?, why = ?, evidence = ?, ended_us = ?, steps = steps + 1"
            " WHERE revision = ? AND steps = ?",
            (state, progress, why, evidence, ended_us, seen.revision, seen.steps),
        ).rowcount
        == 1
    )
