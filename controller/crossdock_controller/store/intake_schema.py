"""intake.db has exactly the schema of this release before anyone appends to it.

Each version is a text of statements that is never edited; the next one is appended. A version and its number
(`user_version`) are one transaction: an upgrade that is interrupted begins again with the version it was at.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from crossdock.errors import ConfigError
from crossdock_controller.store import holder

PAGE_BYTES = 16384  # fixed when the file is made

# Its first release made it statement by statement: one that was interrupted has some of it under version 0.
_VERSION_1 = """
CREATE TABLE IF NOT EXISTS streams(
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL, site TEXT NOT NULL, source TEXT NOT NULL, epoch BLOB NOT NULL,
    last_sequence INTEGER NOT NULL DEFAULT 0,
    checkpoint BLOB NOT NULL DEFAULT x'',
    records INTEGER NOT NULL DEFAULT 0,
    purged_records INTEGER NOT NULL DEFAULT 0,
    created_us INTEGER NOT NULL,
    UNIQUE(agent, source, epoch)
);
CREATE TABLE IF NOT EXISTS batches(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    stream_id INTEGER NOT NULL REFERENCES streams(id),
    sequence INTEGER NOT NULL,
    lane TEXT NOT NULL, records INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    UNIQUE(stream_id, sequence)
);
CREATE INDEX IF NOT EXISTS batches_received ON batches(received_us);
"""
_VERSION_2 = holder.TABLE
VERSIONS = (_VERSION_1, _VERSION_2)


def version(db: sqlite3.Connection) -> int:
    """0 before the first."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def require_known(db: sqlite3.Connection, path: Path) -> int:
    """The version of the file. Raises ConfigError when a newer release wrote it: nothing is ever taken back."""
    at = version(db)
    if at > len(VERSIONS):
        raise ConfigError(
            f"{path} has schema {at}, this release knows {len(VERSIONS)}",
            hint="run the release that wrote it, or a newer one; an older one needs a backup from before the upgrade",
        )
    return at


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Make or upgrade the file behind *db* (in autocommit mode), which nobody else writes to."""
    at = require_known(db, path)
    if at == 0 and db.execute("PRAGMA page_count").fetchone()[0] == 0:
        db.execute(f"PRAGMA page_size={PAGE_BYTES}")
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
    db.execute("PRAGMA journal_mode=WAL")
    for number, statements in list(enumerate(VERSIONS, 1))[at:]:
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements.split(";\n"):
                if statement.strip():
                    db.execute(statement)
            db.execute(f"PRAGMA user_version={number}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
