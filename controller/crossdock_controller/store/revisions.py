"""Every revision of the configuration ever applied, whole. A number never changes its meaning."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from crossdock.errors import ConfigError, Corrupt
from crossdock_controller.store.connection import transaction


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """A revision without its tree."""

    number: int
    hash: str
    author: str
    message: str
    created_us: int


def append(
    db: sqlite3.Connection,
    tree: Mapping[str, str],
    *,
    hash_: str,
    author: str,
    message: str,
    now_us: int,
    expected: int | None = None,
) -> int:
    """Store *tree* ({path: text}) as the new head; its number, gapless from 1.

    With *expected*, only while that number is the head: raises ConfigError, and stores nothing, when it is not.
    """
    with transaction(db):
        return add(db, tree, hash_=hash_, author=author, message=message, now_us=now_us, expected=expected)


def add(
    db: sqlite3.Connection,
    tree: Mapping[str, str],
    *,
    hash_: str,
    author: str,
    message: str,
    now_us: int,
    expected: int | None = None,
) -> int:
    """`append`, in a transaction of the caller."""
    text = json.dumps(dict(tree), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    number = head_number(db) + 1
    if expected is not None and number != expected + 1:
        raise ConfigError(f"revision {number - 1} was applied meanwhile", hint="look at the plan again, then apply")
    db.execute(
        "INSERT INTO revisions(number, hash, tree, author, message, created_us) VALUES(?,?,?,?,?,?)",
        (number, hash_, text, author, message, now_us),
    )
    return number


def head_number(db: sqlite3.Connection) -> int:
    """The newest revision's number, 0 when nothing was applied yet. Cheap: asked several times a second."""
    number: int = db.execute("SELECT coalesce(max(number), 0) FROM revisions").fetchone()[0]
    return number


def head(db: sqlite3.Connection) -> tuple[int, dict[str, str]] | None:
    """(number, tree) of the newest revision."""
    row = db.execute("SELECT number, tree FROM revisions ORDER BY number DESC LIMIT 1").fetchone()
    return (row[0], _tree(row[1], row[0])) if row else None


def tree(db: sqlite3.Connection, number: int) -> dict[str, str] | None:
    row = db.execute("SELECT tree FROM revisions WHERE number = ?", (number,)).fetchone()
    return _tree(row[0], number) if row else None


def list_all(db: sqlite3.Connection) -> list[RevisionRow]:
    """All revisions, newest first."""
    rows = db.execute("SELECT number, hash, author, message, created_us FROM revisions ORDER BY number DESC")
    return [RevisionRow(*row) for row in rows]


def _tree(text: str, number: int) -> dict[str, str]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Corrupt(
            f"revision {number} cannot be read: {error}", hint="restore the state database from its backup"
        ) from error
    return {str(name): str(content) for name, content in value.items()}
