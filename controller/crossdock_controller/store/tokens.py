"""Join tokens: stored as a hash, for a number of uses within a time, each use for one key.

A token is named to people by the first characters of its hash, which tell nothing of its secret. Every function takes
an open connection to state.db; those that write are for a transaction of the caller. Times are microseconds since the
epoch, UTC.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

ID_CHARACTERS = 8

_SELECT = (
    "SELECT t.hash, t.site, t.agent, coalesce(s.uses, 1), t.uses_left, t.expires_us, t.created_us,"
    " coalesce(s.approve, 0), coalesce(s.made_by, ''), coalesce(s.revoked_us, 0)"
    " FROM tokens t LEFT JOIN token_terms s USING(hash)"
)


@dataclass(frozen=True, slots=True)
class Token:
    """*agent* is empty where each use makes an agent of its own; *uses_left* counts down to 0."""

    hash: str
    site: str
    agent: str
    uses: int
    uses_left: int
    expires_us: int
    created_us: int
    approve: bool
    made_by: str
    revoked_us: int

    @property
    def id(self) -> str:
        return self.hash[:ID_CHARACTERS]

    def state(self, now_us: int) -> str:
        """ "open", "used", "expired" or "revoked"."""
        if self.revoked_us:
            return "revoked"
        if self.uses_left <= 0:
            return "used"
        return "open" if self.expires_us > now_us else "expired"


def _token(row: tuple[object, ...]) -> Token:
    fields = list(row)
    fields[7] = bool(fields[7])
    return Token(*fields)  # type: ignore[arg-type]


def create(db: sqlite3.Connection, token: Token) -> None:
    db.execute(
        "INSERT INTO tokens(hash, site, agent, uses_left, expires_us, created_us) VALUES(?,?,?,?,?,?)",
        (token.hash, token.site, token.agent, token.uses_left, token.expires_us, token.created_us),
    )
    db.execute(
        "INSERT INTO token_terms(hash, uses, approve, made_by) VALUES(?,?,?,?)",
        (token.hash, token.uses, int(token.approve), token.made_by),
    )


def get(db: sqlite3.Connection, token_hash: str) -> Token | None:
    row = db.execute(f"{_SELECT} WHERE t.hash = ?", (token_hash,)).fetchone()
    return _token(row) if row else None


def list_all(db: sqlite3.Connection) -> list[Token]:
    """The newest first."""
    return [_token(row) for row in db.execute(f"{_SELECT} ORDER BY t.created_us DESC, t.hash")]


def named(db: sqlite3.Connection, token_id: str) -> list[Token]:
    """Those whose id begins with *token_id*."""
    return [token for token in list_all(db) if token_id and token.hash.startswith(token_id.lower())]


def take(db: sqlite3.Connection, token_hash: str, now_us: int) -> bool:
    """Count one use; False when none is left, or its time is over. Of two callers at once for the last use one wins."""
    return (
        db.execute(
            "UPDATE tokens SET uses_left = uses_left - 1 WHERE hash = ?1 AND uses_left > 0 AND expires_us > ?2"
            " AND NOT EXISTS (SELECT 1 FROM token_terms s WHERE s.hash = ?1 AND s.revoked_us > 0)",
            (token_hash, now_us),
        ).rowcount
        > 0
    )


def revoke(db: sqlite3.Connection, token_hash: str, now_us: int) -> None:
    """Nobody may use it any more. One of an older release gets its terms now."""
    db.execute(
        "INSERT INTO token_terms(hash, uses, approve, made_by, revoked_us) VALUES(?1,1,0,'',?2)"
        " ON CONFLICT(hash) DO UPDATE SET revoked_us = excluded.revoked_us",
        (token_hash, now_us),
    )


def void_all(db: sqlite3.Connection) -> None:
    """After a restore: some of them were used since the backup."""
    db.execute("UPDATE tokens SET uses_left = 0")
