"""Who we are to a receiver: a token by OAuth 2.0 client credentials (RFC 6749 section 4.4), a signature over the body.

A token is fetched when it is needed, used until shortly before its end, and fetched anew once when it is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec
from pydantic import Field, field_validator

from crossdock.errors import UNREADABLE, SinkUnavailable
from crossdock_controller.sinks.base import SinkContext, SinkSettings
from crossdock_controller.sinks.http_exchange import Exchange, NoAnswer, Unreachable
from crossdock_controller.sinks.http_verdicts import Answer, excerpt

EARLY_SECONDS = 30.0  # a token is not used for the last of its life, nor for the last tenth of it
DEFAULT_LIFE_SECONDS = 300.0  # where the server does not tell
MAX_TOKEN_CHARACTERS = 16_384


def a_reference(name: str, value: str) -> str:
    if not value.startswith("secret:"):
        raise ValueError(f"'{name}' must be a reference: secret:NAME")
    return value


class OAuthSettings(SinkSettings):
    token_url: str
    client_id: str
    client_secret: str  # a reference: secret:NAME
    scope: str | None = None
    audience: str | None = None
    send: Literal["header", "body"] = "header"  # how the server wants id and secret

    @field_validator("token_url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
            raise ValueError("'token_url' must be https://host/path")
        _ = parts.port
        return value

    @field_validator("client_secret")
    @classmethod
    def _secret(cls, value: str) -> str:
        return a_reference("client_secret", value)


class SignSettings(SinkSettings):
    """HMAC-SHA256 over "TIMESTAMP.BODY", so that neither can be changed nor an old request sent again for long."""

    secret: str  # a reference: secret:NAME
    header: str = Field(default="X-Signature", pattern=r"^[A-Za-z0-9-]+$")
    timestamp_header: str = Field(default="X-Timestamp", pattern=r"^[A-Za-z0-9-]+$")
    prefix: str = Field(default="sha256=", pattern=r"^[!-~]*$")  # before the signature
    encoding: Literal["hex", "base64"] = "hex"

    @field_validator("secret")
    @classmethod
    def _secret(cls, value: str) -> str:
        return a_reference("secret", value)


class NoToken(SinkUnavailable):
    """The token server gave none, so nothing was sent."""


class Signer:
    def __init__(self, settings: SignSettings, context: SinkContext, wall: Callable[[], float]) -> None:
        self._settings, self._wall = settings, wall
        self.secret = context.secret(settings.secret)

    def headers(self, body: bytes) -> dict[str, str]:
        """What goes with *body*, signed now."""
        settings, moment = self._settings, str(int(self._wall()))
        digest = hmac.new(self.secret.encode(), moment.encode() + b"." + body, hashlib.sha256).digest()
        text = digest.hex() if settings.encoding == "hex" else base64.b64encode(digest).decode()
        return {settings.timestamp_header: moment, settings.header: settings.prefix + text}


class Tokens:
    """The token in use, for the several threads of one sink."""

    def __init__(
        self, settings: OAuthSettings, context: SinkContext, exchange: Exchange,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._settings, self._exchange, self._clock = settings, exchange, clock
        self._secret = context.secret(settings.client_secret)
        parts = urlsplit(settings.token_url)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(text for text in (self._secret, self._token) if text)

    def token(self) -> str:
        """Raises NoToken."""
        with self._lock:
            if self._clock() >= self._until:
                self._token, self._until = "", 0.0
                self._token, life = self._fetch()
                self._until = self._clock() + life - max(min(EARLY_SECONDS, life / 2), life / 10)
            return self._token

    def refused(self, token: str) -> None:
        """*token* is not taken any more; the next call fetches another, unless someone did already."""
        with self._lock:
            if token == self._token:
                self._until = 0.0

    def close(self) -> None:
        self._exchange.close()

    def _fetch(self) -> tuple[str, float]:
        headers, body = self._request()
        try:
            answer = self._exchange.send("POST", self._target, headers, body)
        except (Unreachable, NoAnswer) as error:
            raise NoToken(f"no token: {error}", hint="is 'token_url' right, and the server up?") from error
        return self._read(answer)

    def _request(self) -> tuple[dict[str, str], bytes]:
        settings = self._settings
        form = {"grant_type": "client_credentials"}
        form |= {n: v for n, v in (("scope", settings.scope), ("audience", settings.audience)) if v}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if settings.send == "body":
            form |= {"client_id": settings.client_id, "client_secret": self._secret}
        else:  # RFC 6749 section 2.3.1: encoded as a form first
            login = f"{quote_plus(settings.client_id)}:{quote_plus(self._secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
        return headers, urlencode(form).encode()

    def _read(self, answer: Answer) -> tuple[str, float]:
        if answer.status != 200:
            said = excerpt(answer.body, self.secrets)
            raise NoToken(
                f"no token: the token server answered {answer.status}: {said}",
                hint="check client_id, scope and the secret of the sink's oauth",
            )
        try:
            found = msgspec.json.decode(answer.body, type=dict[str, object])
        except UNREADABLE as error:
            raise NoToken("no token: the answer of the token server is no JSON object") from error
        token, life = found.get("access_token"), _seconds(found)
        if not (isinstance(token, str) and token.isascii() and token.isprintable() and " " not in token):
            raise NoToken("no token: the answer of the token server has no access_token that fits into a header")
        if not 0 < len(token) <= MAX_TOKEN_CHARACTERS:
            raise NoToken(f"no token: it has {len(token)} characters, at most {MAX_TOKEN_CHARACTERS} are taken")
        return token, life


def _seconds(found: Mapping[str, object]) -> float:
    """`expires_in`, which some servers send as text."""
    told = found.get("expires_in")
    if isinstance(told, str) and told.isascii() and told.isdigit():
        told = int(told[:9])
    if isinstance(told, int | float) and not isinstance(told, bool) and told > 0:
        return min(float(told), 86_400.0)
    return DEFAULT_LIFE_SECONDS
