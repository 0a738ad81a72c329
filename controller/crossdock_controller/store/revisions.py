"""Every revision of the configuration ever applied, whole. A number never changes its meaning: what is read must have
the hash that it was stored with.

The head is the revision in force: the newest one whose rollout is complete, or that had none (see `targets`).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from crossdock.errors import ConfigError, Corrupt
from crossdock_controller.store import rollouts, targets
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
    also: Callable[[int], object] = lambda _number: None,
) -> int:
    """Store *tree* ({path: text}) as the newest revision; its number, gapless from 1. It is in force at once, unless
    *also*, called with its number in the same transaction, begins a rollout of it.

    With *expected*, only while that number is the head. Raises ConfigError, and stores nothing, when it is not, and
    while a rollout runs.
    """
    with transaction(db):
        number = add(
            db, tree, hash_=hash_, author=author, message=message, now_us=now_us, expected=expected,
            environment=environment,
        )  # fmt: skip
        also(number)
    return number


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
    refuse_during_rollout(db)
    head = head_number(db)
    if expected is not None and head != expected:
        raise ConfigError(f"revision {head} was applied meanwhile", hint="look at the plan again, then apply")
    number: int = db.execute("SELECT coalesce(max(number), 0) + 1 FROM revisions").fetchone()[0]
    db.execute(
        "INSERT INTO revisions(number, hash, tree, author, message, created_us) VALUES(?,?,?,?,?,?)",
        (number, hash_, text, author, message, now_us),
    )
    if environment:
        db.execute("INSERT INTO revision_environments(revision, environment) VALUES(?,?)", (number, environment))
    return number


def refuse_during_rollout(db: sqlite3.Connection) -> None:
    """Raises ConfigError while a rollout runs: two at once could not be told apart at a site."""
    running = rollouts.live(db)
    if running is not None:
        raise ConfigError(
            f"revision {running.revision} is being rolled out ({running.state})",
            hint="'crossdock rollout' shows where it is; wait for it, or end it: crossdock rollout finish, or halt",
        )


def head_number(db: sqlite3.Connection) -> int:
    """The number of the revision in force, 0 when nothing was applied yet."""
    return targets.in_force(db)


def head(db: sqlite3.Connection) -> tuple[int, StoredTree] | None:
    """(number, tree) of the revision in force. Raises Corrupt when it is not what was stored."""
    number = head_number(db)
    found = tree(db, number) if number else None
    return None if found is None else (number, found)


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


def sound(db: sqlite3.Connection, numbers: Iterable[int]) -> tuple[dict[int, StoredTree], dict[int, Corrupt]]:
    """The trees of those that are what was stored, and why the others are not."""
    trees: dict[int, StoredTree] = {}
    damaged_: dict[int, Corrupt] = {}
    for number in numbers:
        try:
            found = tree(db, number)
        except Corrupt as error:
            damaged_[number] = error
        else:
            trees |= {number: found} if found is not None else {}
    return trees, damaged_


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
