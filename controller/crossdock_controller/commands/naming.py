"""A revision as a person names it: its number, the beginning of its hash, or `p3` for a proposal."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from crossdock.errors import ConfigError
from crossdock_controller.store import proposals, revisions

MIN_PREFIX = 6  # characters of a hash
_HASH = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}")
_PROPOSAL = re.compile(r"p([0-9]{1,9})")
_LISTED = "'crossdock history' lists them, 'crossdock approvals --all' the proposals"


@dataclass(frozen=True, slots=True)
class Named:
    """One of both is 0."""

    revision: int
    proposal: int = 0

    @property
    def text(self) -> str:
        return f"revision {self.revision}" if self.revision else f"proposal p{self.proposal}"


def named(db: sqlite3.Connection, text: str) -> Named:
    """What *text* names; of several revisions with one tree, the newest. Raises ConfigError."""
    word = text.strip().lower()
    proposal = _PROPOSAL.fullmatch(word)
    if proposal:
        if proposals.get(db, int(proposal[1])) is None:
            raise ConfigError(f"there is no proposal {word}", hint="'crossdock approvals --all' lists them")
        return Named(0, int(proposal[1]))
    rows = revisions.list_all(db)
    if word.isdigit() and any(row.number == int(word) for row in rows):
        return Named(int(word))
    if not _HASH.fullmatch(word):
        if word.isdigit():
            raise ConfigError(f"there is no revision {word}", hint="'crossdock history' lists them")
        hint = f"write its number, at least {MIN_PREFIX} characters of its hash, or p3 for a proposal; {_LISTED}"
        raise ConfigError(f"{text!r} names no revision", hint=hint)
    return _by_hash(db, word, rows)


def revision_named(db: sqlite3.Connection, text: str) -> int:
    """The revision that *text* names. Raises ConfigError, also for a proposal."""
    found = named(db, text)
    if not found.revision:
        raise ConfigError(f"{text} is a proposal and was never in force", hint="name a revision: 'crossdock history'")
    return found.revision


def _by_hash(db: sqlite3.Connection, prefix: str, rows: list[revisions.RevisionRow]) -> Named:
    fitting = [row for row in rows if row.hash.startswith(prefix)]
    waiting = [p for p in proposals.list_all(db, (proposals.OPEN,)) if p.hash.startswith(prefix)]
    hashes = {row.hash for row in fitting} | {p.hash for p in waiting}
    if not hashes:
        raise ConfigError(f"no revision has a hash that begins with {prefix}", hint=_LISTED)
    if len(hashes) > 1:
        raise ConfigError(f"{len(hashes)} trees have a hash that begins with {prefix}", hint="write more of it")
    return Named(fitting[0].number) if fitting else Named(0, waiting[0].number)
