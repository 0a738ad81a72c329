"""Users, what they may do, and their API tokens (hashed: what is stored recognises a token and cannot be used as one).

Functions that write are called in a transaction, beside the entry of the audit log. Times are microseconds UTC.
"""

from __future__ import annotations

import hmac
import sqlite3
from dataclasses import dataclass, field

from crossdock_controller.access import ALL, Grant, Role, role_of

ID_CHARACTERS = 12  # of the hash, hex: by this people name a token
CALLS_KEPT_US = 86_400 * 1_000_000  # so long the same call made again is known


@dataclass(frozen=True, slots=True)
class User:
    name: str
    email: str
    oidc_subject: str
    disabled: bool
    created_us: int
    created_by: str
    grants: list[Grant] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TokenRow:
    """*last_used_us* is coarse: it is noted once in ten minutes. 0: never."""

    id: str
    user: str
    name: str
    created_us: int
    created_by: str
    expires_us: int
    last_used_us: int
    revoked_us: int


_USER = "name, email, oidc_subject, disabled, created_us, created_by"
_TOKEN = "id, user, name, created_us, created_by, expires_us, last_used_us, revoked_us"  # noqa: S105 - columns


def add(db: sqlite3.Connection, user: User) -> bool:
    """False when the name, the e-mail address or the subject is another's already."""
    try:
        db.execute(
            f"INSERT INTO users({_USER}) VALUES(?,?,?,?,?,?)",
            (user.name, user.email, user.oidc_subject, int(user.disabled), user.created_us, user.created_by),
        )
    except sqlite3.IntegrityError:
        return False
    for held in user.grants:
        grant(db, user.name, held, user.created_us, user.created_by)
    return True


def grant(db: sqlite3.Connection, user: str, held: Grant, now_us: int, by: str) -> bool:
    """False when the user has it already."""
    return bool(
        db.execute(
            "INSERT OR IGNORE INTO grants(user, role, selector, created_us, created_by) VALUES(?,?,?,?,?)",
            (user, held.role, held.selector, now_us, by),
        ).rowcount
    )


def ungrant(db: sqlite3.Connection, user: str, role: Role, selector: str | None) -> list[str]:
    """Take *role* away, on *selector* or (None) wherever the user has it; the selectors it was taken from."""
    rows = db.execute(
        "DELETE FROM grants WHERE user = ?1 AND role = ?2 AND (?3 IS NULL OR selector = ?3) RETURNING selector",
        (user, role, selector),
    ).fetchall()
    return sorted(text for (text,) in rows)


def set_disabled(db: sqlite3.Connection, user: str, disabled: bool) -> bool:
    """False when there is no such user, or nothing to change."""
    changed = db.execute("UPDATE users SET disabled = ?1 WHERE name = ?2 AND disabled != ?1", (int(disabled), user))
    return bool(changed.rowcount)


def link(db: sqlite3.Connection, user: str, email: str | None, oidc_subject: str | None) -> bool:
    """By what an issuer may name *user*; None leaves it as it is. False when one of them is another's."""
    try:
        db.execute(
            "UPDATE users SET email = coalesce(?, email), oidc_subject = coalesce(?, oidc_subject) WHERE name = ?",
            (email, oidc_subject, user),
        )
    except sqlite3.IntegrityError:
        return False
    return True


def remove(db: sqlite3.Connection, user: str) -> bool:
    """With roles and tokens. False when there is no such user."""
    db.execute("DELETE FROM grants WHERE user = ?", (user,))
    db.execute("DELETE FROM api_tokens WHERE user = ?", (user,))
    return bool(db.execute("DELETE FROM users WHERE name = ?", (user,)).rowcount)


def get(db: sqlite3.Connection, name: str) -> User | None:
    return _one(db, "name", name)


def by_claim(db: sqlite3.Connection, claim: str, value: str) -> User | None:
    """Who carries this *value* of a claim: "email" (in any case of letters) or another, which is the subject."""
    if not value:
        return None
    return _one(db, "email", value.lower()) if claim == "email" else _one(db, "oidc_subject", value)


def _one(db: sqlite3.Connection, column: str, value: str) -> User | None:
    row = db.execute(f"SELECT {_USER} FROM users WHERE {column} = ?", (value,)).fetchone()
    return _user(db, row) if row else None


def list_all(db: sqlite3.Connection) -> list[User]:
    """By name."""
    return [_user(db, row) for row in db.execute(f"SELECT {_USER} FROM users ORDER BY name").fetchall()]


def _user(db: sqlite3.Connection, row: tuple[str, str, str, int, int, str]) -> User:
    held = db.execute("SELECT role, selector FROM grants WHERE user = ? ORDER BY role, selector", (row[0],))
    return User(*row[:3], bool(row[3]), *row[4:], [Grant(role_of(role), selector) for role, selector in held])


def admins(db: sqlite3.Connection) -> list[str]:
    """Users who may do everything everywhere now, by name."""
    rows = db.execute(
        "SELECT DISTINCT u.name FROM users u JOIN grants g ON g.user = u.name"
        " WHERE u.disabled = 0 AND g.role = 'admin' AND g.selector = ? ORDER BY 1",
        (ALL,),
    )
    return [name for (name,) in rows]


def add_token(db: sqlite3.Connection, digest: bytes, token: TokenRow) -> None:
    db.execute(
        f"INSERT INTO api_tokens(hash, {_TOKEN}) VALUES(?,?,?,?,?,?,?,?,?)",
        (
            digest, token.id, token.user, token.name, token.created_us, token.created_by, token.expires_us,
            token.last_used_us, token.revoked_us,
        ),
    )  # fmt: skip


def token_id(digest: bytes) -> str:
    return digest.hex()[:ID_CHARACTERS]


def token_of(db: sqlite3.Connection, digest: bytes) -> TokenRow | None:
    """The token with this SHA-256. It is found by the beginning and compared, in constant time, as a whole."""
    row = db.execute(f"SELECT hash, {_TOKEN} FROM api_tokens WHERE id = ?", (token_id(digest),)).fetchone()
    if row is None or not hmac.compare_digest(bytes(row[0]), digest):
        return None
    return TokenRow(*row[1:])


def tokens(db: sqlite3.Connection, user: str | None = None) -> list[TokenRow]:
    """Newest first."""
    rows = db.execute(
        f"SELECT {_TOKEN} FROM api_tokens WHERE ?1 IS NULL OR user = ?1 ORDER BY created_us DESC, id", (user,)
    )
    return [TokenRow(*row) for row in rows]


def token(db: sqlite3.Connection, id_: str) -> TokenRow | None:
    row = db.execute(f"SELECT {_TOKEN} FROM api_tokens WHERE id = ?", (id_,)).fetchone()
    return TokenRow(*row) if row else None


def revoke_token(db: sqlite3.Connection, id_: str, now_us: int) -> bool:
    """False when it was revoked before."""
    changed = db.execute("UPDATE api_tokens SET revoked_us = ? WHERE id = ? AND revoked_us = 0", (now_us, id_))
    return bool(changed.rowcount)


def touch_token(db: sqlite3.Connection, id_: str, now_us: int) -> None:
    db.execute("UPDATE api_tokens SET last_used_us = ? WHERE id = ?", (now_us, id_))


def note_call(db: sqlite3.Connection, user: str, key: str, operation: str, now_us: int) -> bool:
    """Remember a call that changes something, by the key its caller gave it; False when it was made before."""
    db.execute("DELETE FROM api_calls WHERE at_us < ?", (now_us - CALLS_KEPT_US,))
    return bool(
        db.execute(
            "INSERT OR IGNORE INTO api_calls(user, key, operation, at_us) VALUES(?,?,?,?)",
            (user, key, operation, now_us),
        ).rowcount
    )
