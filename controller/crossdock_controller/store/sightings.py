"""What the controller saw each agent do: how often it started, what it was offered, what it runs, what it answered.

`agents` holds what an agent last said; this holds since when, which is what drift and rollouts are judged by. Times are
microseconds since the epoch, UTC, by the controller's clock.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LOG_LINES = 20
LINE_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Sighting:
    """*said* ("applying", "applied", "failed") is its last answer to an offer, of revision *said_of*."""

    agent: str
    starts: int
    offered: int
    offered_hash: str
    offered_us: int
    effective: int
    effective_hash: str
    effective_us: int
    said_of: int
    said: str
    reason: str
    log: tuple[str, ...]
    said_us: int

    @property
    def runs_another(self) -> bool:
        """It runs another content under the number it was offered: a number of before a restore, or a changed file."""
        known = self.effective_hash and self.offered_hash
        return bool(known and self.effective == self.offered and self.effective_hash != self.offered_hash)


_COLUMNS = (
    "agent, starts, offered, offered_hash, offered_us, effective, effective_hash, effective_us, said_of, said, reason,"
    " log, said_us"
)


def list_all(db: sqlite3.Connection) -> dict[str, Sighting]:
    """By agent."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM sightings")
    return {agent: _sighting(agent, *rest) for agent, *rest in rows}


def _sighting(agent: str, *row: Any) -> Sighting:
    *before, log, said_us = row
    return Sighting(agent, *before, tuple(json.loads(log)), said_us)  # type: ignore[call-arg]


def greeted(db: sqlite3.Connection, agent: str, instance: bytes, running: tuple[int, str], now_us: int) -> None:
    """A process of *agent* said hello, *running* a revision and its hash; counted when it is another than the last.

    Two statements.
    """
    db.execute(
        "INSERT INTO sightings(agent, instance, starts) VALUES(?,?,1) ON CONFLICT(agent) DO UPDATE SET"
        " starts = starts + (instance != excluded.instance), instance = excluded.instance",
        (agent, instance),
    )
    runs(db, agent, *running, now_us)


def offered(db: sqlite3.Connection, agent: str, revision: int, hash_: str, now_us: int) -> None:
    """*agent* is to run *revision*, whose part for its site has the digest *hash_*."""
    db.execute(
        "INSERT INTO sightings(agent, offered, offered_hash, offered_us) VALUES(?,?,?,?) ON CONFLICT(agent) DO UPDATE"
        " SET offered_us = CASE WHEN offered = excluded.offered THEN offered_us ELSE excluded.offered_us END,"
        " offered = excluded.offered, offered_hash = excluded.offered_hash",
        (agent, revision, hash_, now_us),
    )


def runs(db: sqlite3.Connection, agent: str, revision: int, hash_: str, now_us: int) -> None:
    """*agent* runs *revision* now. An empty *hash_*: it does not say."""
    db.execute(
        "INSERT INTO sightings(agent, effective, effective_hash, effective_us) VALUES(?,?,?,?) ON CONFLICT(agent) DO"
        " UPDATE SET effective_us = CASE WHEN effective = excluded.effective THEN effective_us"
        " ELSE excluded.effective_us END, effective_hash = CASE WHEN excluded.effective_hash = '' AND"
        " effective = excluded.effective THEN effective_hash ELSE excluded.effective_hash END,"
        " effective = excluded.effective",
        (agent, revision, hash_, now_us),
    )


def answered(
    db: sqlite3.Connection, agent: str, revision: int, state: str, reason: str, log: Sequence[str], now_us: int
) -> None:
    """What *agent* said of an offer; the last lines of its log when it refused."""
    lines = json.dumps([line[:LINE_CHARACTERS] for line in log][-LOG_LINES:], ensure_ascii=False)
    db.execute(
        "INSERT INTO sightings(agent, said_of, said, reason, log, said_us) VALUES(?,?,?,?,?,?) ON CONFLICT(agent) DO"
        " UPDATE SET said_of = excluded.said_of, said = excluded.said, reason = excluded.reason, log = excluded.log,"
        " said_us = excluded.said_us",
        (agent, revision, state, reason, lines, now_us),
    )
