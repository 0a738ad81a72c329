"""Every revision of the configuration ever applied, whole. A number never changes its meaning: what is read must have
the hash that it was stored with.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from crossdock.errors import ConfigError, Corrupt
from crossdock_controller.store.connection import transaction


class StoredTree(dict[str, str]):
    """A tree of a revision, and the environment that it was put in force for ("" when the tree has none)."""

    environment: str = ""


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """A revision without its tree."""

    number: int
    hash: str
    author: str
    message: str
    created_us: int
    environment: str = ""


def append(
    db: sqlite3.Connection,
    tree: Mapping[str, str],
    *,
    hash_: str,
    author: str,
    message: str,
    now_us: int,
    expected: int | None = None,
    environment: str = "",
) -> int:
    """Store *tree* ({path: text}) as the new head; its number, gapless from 1.

    With *expected*, only while that number is the head: raises ConfigError, and stores nothing, when it is not.
    """
    with transaction(db):
        return add(
            db, tree, hash_=hash_, author=author, message=message, now_us=now_us, expected=expected,
            environment=environment,
        )  # fmt: skip


def add(
    db: sqlite3.Connection,
    tree: Mapping[str, str],
    *,
    hash_: str,
    author: str,
    message: str,
    now_us: int,
    expected: int | None = None,
    environment: str = "",
) -> int:
    """`append`, in a transaction of the caller."""
    text = dumps(tree)
    _refuse_other(hash_, text)
    number = head_number(db) + 1
    if expected is not None and number != expected + 1:
        raise ConfigError(f"revision {number - 1} was applied meanwhile", hint="look at the plan again, then apply")
    db.execute(
        "INSERT INTO revisions(number, hash, tree, author, message, created_us) VALUES(?,?,?,?,?,?)",
        (number, hash_, text, author, message, now_us),
    )
    if environment:
        db.execute("INSERT INTO revision_environments(revision, environment) VALUES(?,?)", (number, environment))
    return number


def head_number(db: sqlite3.Connection) -> int:
    """The newest revision's number, 0 when nothing was applied yet. Cheap: asked several times a second."""
    number: int = db.execute("SELECT coalesce(max(number), 0) FROM revisions").fetchone()[0]
    return number


def head(db: sqlite3.Connection) -> tuple[int, StoredTree] | None:
    """(number, tree) of the newest revision. Raises Corrupt when it is not what was stored."""
    number = head_number(db)
    found = tree(db, number) if number else None
    return (number, found) if found is not None else None


def tree(db: sqlite3.Connection, number: int) -> StoredTree | None:
    """The tree of revision *number*, None when there is none. Raises Corrupt when it is not what was stored."""
    row = db.execute(
        "SELECT r.tree, r.hash, coalesce(e.environment, '') FROM revisions r"
        " LEFT JOIN revision_environments e ON e.revision = r.number WHERE r.number = ?",
        (number,),
    ).fetchone()
    if row is None:
        return None
    found = verified(row[0], row[1], f"revision {number}")
    found.environment = row[2]
    return found


def list_all(db: sqlite3.Connection) -> list[RevisionRow]:
    """All revisions, newest first."""
    rows = db.execute(
        "SELECT r.number, r.hash, r.author, r.message, r.created_us, coalesce(e.environment, '') FROM revisions r"
        " LEFT JOIN revision_environments e ON e.revision = r.number ORDER BY r.number DESC"
    )
    return [RevisionRow(*row) for row in rows]


def damaged(db: sqlite3.Connection) -> list[int]:
    """Numbers of revisions that are not what was stored, newest first."""
    rows = db.execute("SELECT number, hash, tree FROM revisions ORDER BY number DESC")
    return [number for number, hash_, text in rows if digest(text) != hash_]


def dumps(tree: Mapping[str, str]) -> str:
    """A tree as it is stored: the text that its hash is of."""
    return json.dumps(dict(tree), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def digest(text: str) -> str:
    """SHA-256 of a stored tree, hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def verified(text: str, hash_: str, what: str) -> StoredTree:
    """The tree of a stored *text*. Raises Corrupt when its hash is not *hash_*: nobody must use it."""
    if not isinstance(text, str) or digest(text) != hash_:
        raise Corrupt(
            f"{what} is damaged: its tree does not have the hash it was stored with", hint="restore the state database "
            "from its backup, or apply the tree again from where it is kept: crossdock apply DIR",
        )  # fmt: skip
    return StoredTree({str(name): str(content) for name, content in json.loads(text).items()})


def _refuse_other(hash_: str, text: str) -> None:
    if digest(text) != hash_:
        raise ValueError("the hash of a revision is not that of its tree")
