"""Users, their roles and their API tokens. There are no passwords: a person has tokens, or signs in by OIDC."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from crossdock.errors import ConfigError, Refused
from crossdock_controller import apitokens
from crossdock_controller.access import ALL, Grant, role_of, selector_of
from crossdock_controller.hints import did_you_mean
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit, connection, proposals
from crossdock_controller.store import people as store
from crossdock_controller.store.people import TokenRow

MAX_TTL_SECONDS = 366 * 86_400.0
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")
Seconds = Annotated[float, Meta(gt=0, le=MAX_TTL_SECONDS)]
Text = Annotated[str, Meta(max_length=200)]


@dataclass(frozen=True, slots=True)
class GrantView:
    """*on*: "all", or the labels of the sites."""

    role: str
    on: str


@dataclass(frozen=True, slots=True)
class UserView:
    """*tokens* that work at this moment; *last_used_us* is of the one used last, within ten minutes. 0: never."""

    name: str
    email: str
    oidc_subject: str
    disabled: bool
    created_us: int
    created_by: str
    grants: list[GrantView]
    tokens: int
    last_used_us: int


@dataclass(frozen=True, slots=True)
class TokenView:
    """*state*: "valid", "expired", "revoked", or "idle" while its user is disabled."""

    id: str
    user: str
    name: str
    state: str
    created_us: int
    created_by: str
    expires_us: int
    last_used_us: int


@dataclass(frozen=True, slots=True)
class NewToken:
    """*token* is shown once and stored nowhere."""

    token: str
    id: str
    user: str
    name: str
    expires_us: int


@served
def add_user(
    data: DataDirectory,
    name: Text,
    role: Text,
    on: Sequence[Text],
    email: Text = "",
    oidc_subject: Text = "",
    *,
    by: str,
    now_us: int,
) -> UserView:
    """A user with *role* at the sites that each selector of *on* names. Raises ConfigError; Refused when there is."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot be a user's name", hint="use small letters, digits, dots and dashes")
    if email and not _EMAIL.fullmatch(email):
        raise ConfigError(f"{email!r} is not an e-mail address")
    grants = _grants(role, on)
    user = store.User(
        name, email.lower(), oidc_subject, disabled=False, created_us=now_us, created_by=by, grants=grants
    )
    details = {"grants": [f"{g.role} on {g.selector}" for g in grants], "email": email, "oidc_subject": oidc_subject}
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        if not store.add(db, user):
            raise Refused(
                f"user {name!r}, its e-mail address or its OIDC subject is there already",
                hint="'crossdock users list' shows all; more roles: crossdock users grant NAME --role ROLE --on LABELS",
            )
        audit.append(db, actor=by, action="users.add", target=name, details=details, now_us=now_us)
        return _view(db, user, now_us)


@served
def list_users(data: DataDirectory, now_us: int) -> list[UserView]:
    """By name."""
    with closing(connection.connect(data.state)) as db:
        return [_view(db, user, now_us) for user in store.list_all(db)]


@served
def grant_role(data: DataDirectory, name: Text, role: Text, on: Sequence[Text], *, by: str, now_us: int) -> UserView:
    """One more role, at the sites that each selector of *on* names; what the user has already changes nothing."""
    grants = _grants(role, on)
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        user = _known(db, name)
        new = [g for g in grants if store.grant(db, name, g, now_us, by)]
        details = {"grants": [f"{g.role} on {g.selector}" for g in new]}
        audit.append(db, actor=by, action="users.grant", target=name, details=details, now_us=now_us)
        return _view(db, _known(db, user.name), now_us)


@served
def link_user(
    data: DataDirectory,
    name: Text,
    email: Text | None = None,
    oidc_subject: Text | None = None,
    *,
    by: str,
    now_us: int,
) -> UserView:
    """By what an OIDC issuer names user *name*; None leaves it as it is, "" takes it away. Raises Refused when it is
    another's."""
    if email and not _EMAIL.fullmatch(email):
        raise ConfigError(f"{email!r} is not an e-mail address")
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        _known(db, name)
        if not store.link(db, name, email.lower() if email is not None else None, oidc_subject):
            raise Refused("this e-mail address or OIDC subject is another user's", hint="crossdock users list --json")
        details = {k: v for k, v in (("email", email), ("oidc_subject", oidc_subject)) if v is not None}
        audit.append(db, actor=by, action="users.link", target=name, details=details, now_us=now_us)
        return _view(db, _known(db, name), now_us)


@served
def revoke_role(
    data: DataDirectory, name: Text, role: Text, on: Text | None = None, *, by: str, now_us: int
) -> UserView:
    """Take *role* away, at *on* or (None) everywhere. Raises Refused when the user has no such role, or when nobody
    would be left who may do everything."""
    selector = selector_of(on) if on is not None else None
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        _known(db, name)
        with _an_admin_is_left(db):
            taken = store.ungrant(db, name, role_of(role), selector)
        if not taken:
            raise Refused(f"user {name!r} has no role {role}{f' on {on}' if on else ''}", hint="crossdock users list")
        audit.append(
            db, actor=by, action="users.revoke-role", target=name, details={"role": role, "on": taken}, now_us=now_us
        )
        return _view(db, _known(db, name), now_us)


@served
def disable_user(data: DataDirectory, name: Text, *, enable: bool = False, by: str, now_us: int) -> UserView:
    """Tokens of a disabled user are refused from the next call on; `enable` lets them in again. Twice is as once."""
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        _known(db, name)
        with _an_admin_is_left(db):
            changed = store.set_disabled(db, name, not enable)
        if changed:
            action = "users.enable" if enable else "users.disable"
            audit.append(db, actor=by, action=action, target=name, now_us=now_us)
            if not enable:
                _unapproved(db, name, by, now_us)
        return _view(db, _known(db, name), now_us)


@served
def remove_user(data: DataDirectory, name: Text, *, by: str, now_us: int) -> None:
    """With roles and tokens; the audit log keeps the name. Raises ConfigError, and Refused for the last admin."""
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        _known(db, name)
        with _an_admin_is_left(db):
            store.remove(db, name)
        audit.append(db, actor=by, action="users.remove", target=name, now_us=now_us)
        _unapproved(db, name, by, now_us)


@served
def create_token(
    data: DataDirectory, user: Text, ttl_seconds: Seconds, name: Text = "", *, by: str, now_us: int
) -> NewToken:
    """An API token for *user*; it is shown once. Raises ConfigError for a user that is not, or no time to live."""
    if not 0 < ttl_seconds <= MAX_TTL_SECONDS:
        raise ConfigError("a token lives for a year at most", hint="--ttl 90d is a good measure")
    token, digest = apitokens.make()
    expires_us = now_us + int(ttl_seconds * 1_000_000)
    row = TokenRow(store.token_id(digest), user, name, now_us, by, expires_us, 0, 0)
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        _known(db, user)
        store.add_token(db, digest, row)
        details = {"id": row.id, "name": name, "expires_us": expires_us}
        audit.append(db, actor=by, action="users.token.create", target=user, details=details, now_us=now_us)
    return NewToken(token, row.id, user, name, expires_us)


@served
def list_tokens(data: DataDirectory, now_us: int, user: Text | None = None) -> list[TokenView]:
    """Newest first, of *user* or of all."""
    with closing(connection.connect(data.state)) as db:
        if user is not None:
            _known(db, user)
        idle = {u.name for u in store.list_all(db) if u.disabled}
        return [_token_view(row, idle, now_us) for row in store.tokens(db, user)]


@served
def revoke_token(data: DataDirectory, token: Text, *, by: str, now_us: int) -> TokenView:
    """End the token with this id, now. Twice is as once. Raises ConfigError when there is none."""
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        row = store.token(db, token)
        if row is None:
            raise ConfigError(f"there is no API token {token!r}", hint="crossdock users token list")
        if store.revoke_token(db, token, now_us):
            audit.append(
                db, actor=by, action="users.token.revoke", target=row.user, details={"id": token}, now_us=now_us
            )
        found = store.token(db, token)
        return _token_view(found or row, set(), now_us)


def _unapproved(db: sqlite3.Connection, name: str, by: str, now_us: int) -> None:
    """The word of a user who is shut out does not count for what still waits: it may not have been theirs."""
    for number in proposals.withdraw(db, f"user:{name}"):
        audit.append(
            db, actor=by, action="proposal.unapprove", target=f"p{number}", details={"user": name}, now_us=now_us
        )


def _grants(role: str, on: Sequence[str]) -> list[Grant]:
    if not on:
        raise ConfigError(f"on which sites is the role {role}?", hint="--on region=us, or --on all")
    return [Grant(role_of(role), selector) for selector in dict.fromkeys(selector_of(text) for text in on)]


def _known(db: sqlite3.Connection, name: str) -> store.User:
    found = store.get(db, name)
    if found is None:
        names = [user.name for user in store.list_all(db)]
        raise ConfigError(f"there is no user {name!r}", hint=did_you_mean(name, names) or "crossdock users list")
    return found


@contextmanager
def _an_admin_is_left(db: sqlite3.Connection) -> Iterator[None]:
    """Around a change. Raises Refused, so that it is undone, when it leaves nobody who may do everything."""
    before = store.admins(db)
    yield
    if before and not store.admins(db):
        raise Refused(
            "nobody would be left who may do everything",
            hint=f"first make another: crossdock users add NAME --role admin --on {ALL}",
        )


def _view(db: sqlite3.Connection, user: store.User, now_us: int) -> UserView:
    rows = store.tokens(db, user.name)
    works = sum(1 for row in rows if _state(row, now_us) == "valid") if not user.disabled else 0
    grants = [GrantView(g.role, g.selector) for g in user.grants]
    return UserView(
        user.name, user.email, user.oidc_subject, user.disabled, user.created_us, user.created_by, grants, works,
        max((row.last_used_us for row in rows), default=0),
    )  # fmt: skip


def _token_view(row: TokenRow, idle: set[str], now_us: int) -> TokenView:
    state = _state(row, now_us)
    return TokenView(
        row.id, row.user, row.name, "idle" if state == "valid" and row.user in idle else state, row.created_us,
        row.created_by, row.expires_us, row.last_used_us,
    )  # fmt: skip


def _state(row: TokenRow, now_us: int) -> str:
    if row.revoked_us:
        return "revoked"
    return "expired" if row.expires_us <= now_us else "valid"
