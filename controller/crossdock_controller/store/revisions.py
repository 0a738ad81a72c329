"""Every revision of the configuration ever applied, whole. A number never changes its meaning.

The head is the revision in force: the newest one whose rollout is complete, or that had none (see `targets`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from crossdock.errors import ConfigError, Corrupt
from crossdock_controller.store import rollouts, targets
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
    also: Callable[[int], object] = lambda _number: None,
) -> int:
    """Store *tree* ({path: text}) as the newest revision; its number, gapless from 1. It is in force at once, unless
    *also*, called with its number in the same transaction, begins a rollout of it.

    With *expected*, only while that number is the head. Raises ConfigError, and stores nothing, when it is not, and
    while a rollout runs.
    """
    text = json.dumps(dict(tree), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    with transaction(db):
        refuse_during_rollout(db)
        head = head_number(db)
        if expected is not None and head != expected:
            raise ConfigError(f"revision {head} was applied meanwhile", hint="look at the plan again, then apply")
        number: int = db.execute("SELECT coalesce(max(number), 0) + 1 FROM revisions").fetchone()[0]
        db.execute(
            "INSERT INTO revisions(number, hash, tree, author, message, created_us) VALUES(?,?,?,?,?,?)",
            (number, hash_, text, author, message, now_us),
        )
        also(number)
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


def head(db: sqlite3.Connection) -> tuple[int, dict[str, str]] | None:
    """(number, tree) of the revision in force."""
    number = head_number(db)
    found = tree(db, number) if number else None
    return None if found is None else (number, found)


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
