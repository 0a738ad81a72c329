"""Who calls: an API token or, where an issuer is configured, a signed token of it. Nobody is made a user by calling."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass

from loguru import logger

from crossdock.errors import CrossdockError
from crossdock_controller import apitokens, presence
from crossdock_controller.api.oidc import Issuer, Untrusted
from crossdock_controller.operations.carry import Caller
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import connection, people

USED_US = 600 * 1_000_000  # so coarsely the last use of a token is noted
MAX_TOKEN_CHARACTERS = 8192


class Unknown(CrossdockError):  # noqa: N818 - names the verdict
    """The caller has proved to be nobody. *reason* is for the audit log; the caller hears no more than "refused"."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "this token is refused",
            hint="it may be mistyped, expired or revoked: an admin makes one with crossdock users token create",
        )
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Identifier:
    """Blocking: asks the store, and perhaps the issuer."""

    data: DataDirectory
    issuer: Issuer | None = None

    def caller(self, authorization: str) -> Caller:
        """Of the header "Bearer TOKEN". Raises Unknown, and Retryable when the issuer cannot be asked."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unknown("no token")
        if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
            raise Unknown("no token of ours")
        if token.startswith(apitokens.PREFIX):
            return self._by_token(token, time.time_ns() // 1000)
        if self.issuer is None:
            raise Unknown("no token of ours")
        return self._by_issuer(self.issuer, token)

    def known_token(self, authorization: str) -> bool:
        """Whether it is an API token that works; asks nobody else."""
        token = authorization.partition(" ")[2].strip()
        if not token.startswith(apitokens.PREFIX) or len(token) > MAX_TOKEN_CHARACTERS:
            return False
        with closing(connection.connect(self.data.state)) as db:
            row = people.token_of(db, apitokens.digest_of(token))
        return row is not None and not row.revoked_us and row.expires_us > time.time_ns() // 1000

    def _by_token(self, token: str, now_us: int) -> Caller:
        with closing(connection.connect(self.data.state)) as db:
            row = people.token_of(db, apitokens.digest_of(token))
            if row is None:
                raise Unknown("unknown token")
            if row.revoked_us:
                raise Unknown(f"token {row.id} of {row.user} is revoked")
            if row.expires_us <= now_us:
                raise Unknown(f"token {row.id} of {row.user} expired")
            caller = _able(people.get(db, row.user))
            if now_us - row.last_used_us >= USED_US:
                self._used(db, row, now_us)
        return caller

    def _used(self, db: sqlite3.Connection, row: people.TokenRow, now_us: int) -> None:
        """On a full disk the call goes on: it is the use that is not noted."""
        try:
            with connection.transaction(db):
                people.touch_token(db, row.id, now_us)
        except (sqlite3.Error, CrossdockError) as error:
            logger.warning("the use of token {} is not noted: {}", row.id, error)
        if row.id == presence.first_token_id(db):
            self.data.first_token.unlink(missing_ok=True)

    def _by_issuer(self, issuer: Issuer, token: str) -> Caller:
        try:
            value = issuer.verified(token, time.time())
        except Untrusted as error:
            raise Unknown(str(error)) from error
        with closing(connection.connect(self.data.state)) as db:
            return _able(people.by_claim(db, issuer.settings.claim, value))


def _able(user: people.User | None) -> Caller:
    if user is None:
        raise Unknown("the token's owner is no user here")
    if user.disabled:
        raise Unknown(f"user {user.name} is disabled")
    return Caller(user.name, user.grants)
