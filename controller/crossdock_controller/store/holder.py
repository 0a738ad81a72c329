"""Who may write a store: one row in each file, with a random id that its holder proves in every transaction.

A lock file tells two processes of one machine apart; this row also tells when the lock file was deleted, lies on a
share where locks do nothing, or was taken by another while its owner was stopped. state.db and intake.db have it both.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from crossdock.errors import CrossdockError
from crossdock_controller.store import faults

_COLUMNS = "id, generation, host, machine, pid, place, file, since_us, beat_us, released_us, min_free_disk_bytes"
TABLE = """CREATE TABLE IF NOT EXISTS holder(
    one INTEGER PRIMARY KEY CHECK(one = 1), id TEXT NOT NULL, generation INTEGER NOT NULL, host TEXT NOT NULL,
    machine TEXT NOT NULL, pid INTEGER NOT NULL, place TEXT NOT NULL, file TEXT NOT NULL, since_us INTEGER NOT NULL,
    beat_us INTEGER NOT NULL, released_us INTEGER NOT NULL, min_free_disk_bytes INTEGER NOT NULL
)"""


class HolderLost(CrossdockError):  # noqa: N818 - not a fault: another controller has the store, and nothing was changed
    """This controller is not the store's holder any more. It stops writing at once, and ends."""


@dataclass(frozen=True, slots=True)
class Holder:
    """*machine* tells boots and containers of one host apart; *file* is the file's number on its disk, which a copy
    does not have. *beat_us* is written every few seconds, *released_us* at a clean end (0 before)."""

    id: str
    generation: int
    host: str
    machine: str
    pid: int
    place: str
    file: str
    since_us: int
    beat_us: int
    released_us: int = 0
    min_free_disk_bytes: int = 0


def read(db: sqlite3.Connection) -> Holder | None:
    """None where nobody ever was, or the schema is older than this row."""
    known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'holder'").fetchone()
    row = db.execute(f"SELECT {_COLUMNS} FROM holder").fetchone() if known else None
    return Holder(*row) if row else None


def at(path: Path) -> Holder | None:
    """Who stands in the file at *path*. Raises StoreDamaged, StoreUnavailable."""
    if not path.exists() or not path.stat().st_size:
        return None
    with faults.told(path), closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA busy_timeout=10000")
        return read(db)


def take(db: sqlite3.Connection, new: Holder, seen: Holder | None) -> Holder:
    """Write *new* in the place of *seen*; as it stands now, with its generation. In a transaction.

    Raises HolderLost when it was not *seen* that stood there: someone else took it in between, or it lives.
    """
    now = read(db)
    if now != seen:
        raise HolderLost(
            f"the store was taken by {now.host if now else 'nobody'} (pid {now.pid if now else 0}) just now",
            hint="another controller is starting or running on this data directory: let it",
        )
    taken = replace(new, generation=(now.generation if now else 0) + 1)
    db.execute(
        f"INSERT OR REPLACE INTO holder(one, {_COLUMNS}) VALUES(1,?,?,?,?,?,?,?,?,?,?,?)",
        (
            taken.id, taken.generation, taken.host, taken.machine, taken.pid, taken.place, taken.file, taken.since_us,
            taken.beat_us, taken.released_us, taken.min_free_disk_bytes,
        ),
    )  # fmt: skip
    return taken


def check(db: sqlite3.Connection, holder_id: str) -> None:
    """Raises HolderLost unless *holder_id* holds the store. In a write transaction it stays true until the commit."""
    row = db.execute("SELECT id, host, pid FROM holder").fetchone()
    if row is None or row[0] != holder_id:
        who = f"a controller at {row[1]} (pid {row[2]}) has" if row else "nobody has"
        raise HolderLost(
            f"{who} taken over this store; nothing more is written to it from here",
            hint="only one controller may run on a data directory: 'crossdock status' names the one that does",
        )


def beat(db: sqlite3.Connection, holder_id: str, now_us: int) -> None:
    """Show that the holder lives. Raises HolderLost."""
    check(db, holder_id)
    db.execute("UPDATE holder SET beat_us = ? WHERE id = ?", (now_us, holder_id))


def release(db: sqlite3.Connection, holder_id: str, now_us: int) -> None:
    """A clean end: the next controller needs to ask nobody. Nothing happens when another holds the store."""
    db.execute("UPDATE holder SET released_us = ? WHERE id = ?", (now_us, holder_id))


def forget(db: sqlite3.Connection) -> None:
    """The file is a restored copy, on purpose: whoever held the original does not hold it. In a transaction."""
    if read(db) is not None:
        db.execute("DELETE FROM holder")
