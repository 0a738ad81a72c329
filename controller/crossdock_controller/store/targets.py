"""Which revision each site is to run: the one in force, or that of a rollout, where its wave has begun."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

IN_FORCE = (
    "SELECT coalesce((SELECT number FROM revisions WHERE number NOT IN"
    " (SELECT revision FROM rollouts WHERE state != 'complete') ORDER BY number DESC LIMIT 1), 0)"
)


@dataclass(frozen=True, slots=True)
class Targets:
    """*sites* are to run *rolling* (0: nothing is rolled out), every other site runs what is *in_force* (0: nothing
    was applied yet)."""

    in_force: int
    rolling: int = 0
    sites: frozenset[str] = frozenset()

    def of(self, site: str) -> int:
        """The revision that *site* is to run, and by which its records are mapped and routed."""
        return self.rolling if site in self.sites else self.in_force


def in_force(db: sqlite3.Connection) -> int:
    """The newest revision whose rollout is complete, or that had none; 0 before the first."""
    number: int = db.execute(IN_FORCE).fetchone()[0]
    return number


def read(db: sqlite3.Connection) -> Targets:
    """Cheap: asked several times a second. One statement, so that it is one moment's."""
    rows = db.execute(
        f"SELECT ({IN_FORCE}), t.site, t.revision FROM (SELECT 1) one LEFT JOIN site_targets t ON 1 = 1"
    ).fetchall()
    sites = frozenset(site for _, site, _ in rows if site is not None)
    return Targets(rows[0][0], rows[0][2] or 0, sites)


def add(db: sqlite3.Connection, sites: tuple[str, ...], revision: int) -> None:
    """From now on *sites* are to run *revision*. In a transaction."""
    db.executemany("INSERT OR REPLACE INTO site_targets(site, revision) VALUES(?,?)", [(s, revision) for s in sites])


def clear(db: sqlite3.Connection) -> None:
    """Every site is to run what is in force. In a transaction."""
    db.execute("DELETE FROM site_targets")
