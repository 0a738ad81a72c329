"""What the store knows of itself: its id, and when it was restored. Each function is one statement on state.db."""

from __future__ import annotations

import os
import sqlite3

STORE_BYTES = 16

# What a running controller says to the commands, which are processes of their own; microseconds.
SERVER_ENDS = "server_certificate_us"  # when the certificate that it shows ends
AUTHORITIES = "authorities"  # which state of the certificate authorities it has taken up
AUTHORITY_ENDS = "authority_ends_us"  # when the first of the authorities that are trusted ends
GRACE = "grace_us"  # how long after its certificate ended an agent may come back by itself


def store_id(db: sqlite3.Connection) -> bytes:
    """16 random bytes, made with the store and anew by each restore of it."""
    return get(db, "store") or b""


def renew_store_id(db: sqlite3.Connection) -> bytes:
    """In a transaction."""
    new = os.urandom(STORE_BYTES)
    put(db, "store", new)
    return new


def restored(db: sqlite3.Connection) -> tuple[int, int] | None:
    """(when this store was restored, when its backup was made), microseconds UTC; None when it never was."""
    at, of = get(db, "restored_us"), get(db, "backup_us")
    return (int(at), int(of)) if at and of else None


def environment(db: sqlite3.Connection) -> str:
    """The environment that this controller serves, "" when none was set."""
    return (get(db, "environment") or b"").decode()


def set_environment(db: sqlite3.Connection, name: str) -> None:
    """In a transaction, with the revision that is for it."""
    put(db, "environment", name.encode())


def get(db: sqlite3.Connection, name: str) -> bytes | None:
    row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return bytes(row[0]) if row else None


def put(db: sqlite3.Connection, name: str, value: bytes) -> None:
    db.execute(
        "INSERT INTO facts(name, value) VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value = excluded.value",
        (name, value),
    )
