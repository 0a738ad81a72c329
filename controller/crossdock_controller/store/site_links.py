"""Which agents can take deliveries, and which are connected for them now. Functions that write are one statement."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SiteLink:
    """*takes*: it is of a release that writes back; *connected*: its downlink is open, since *since_us*."""

    agent: str
    takes: bool
    version: str
    connected: bool
    since_us: int


def greeted(db: sqlite3.Connection, agent: str, *, takes: bool, version: str) -> None:
    """*agent* said hello."""
    db.execute(
        "INSERT INTO site_links(agent, takes, version) VALUES(?,?,?)"
        " ON CONFLICT(agent) DO UPDATE SET takes = excluded.takes, version = excluded.version",
        (agent, int(takes), version),
    )


def linked(db: sqlite3.Connection, agent: str, *, connected: bool, now_us: int) -> None:
    """Its downlink begins, or ends."""
    db.execute(
        "INSERT INTO site_links(agent, takes, connected, since_us) VALUES(?,1,?,?)"
        " ON CONFLICT(agent) DO UPDATE SET connected = excluded.connected, since_us = excluded.since_us",
        (agent, int(connected), now_us),
    )


def unlink_all(db: sqlite3.Connection) -> None:
    """A gateway begins: nobody is connected."""
    db.execute("UPDATE site_links SET connected = 0 WHERE connected = 1")


def get(db: sqlite3.Connection, agent: str) -> SiteLink | None:
    row = db.execute(
        "SELECT agent, takes, version, connected, since_us FROM site_links WHERE agent = ?", (agent,)
    ).fetchone()
    return SiteLink(row[0], bool(row[1]), row[2], bool(row[3]), row[4]) if row else None


def agents_of(db: sqlite3.Connection, site: str) -> list[str]:
    """Those of *site* that may use the link, by name."""
    rows = db.execute("SELECT agent FROM agents WHERE site = ? AND state = 'active' ORDER BY agent", (site,))
    return [agent for (agent,) in rows]
