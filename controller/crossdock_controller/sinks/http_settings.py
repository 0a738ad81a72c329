"""What may be said of an `http` sink, and what follows from it once secrets are in place."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlencode, urlsplit

from pydantic import Field, field_validator, model_validator

from crossdock import __version__
from crossdock.errors import ConfigError
from crossdock_controller.sinks.base import SinkContext, SinkSettings
from crossdock_controller.sinks.http_auth import OAuthSettings, SignSettings, Tokens
from crossdock_controller.sinks.http_batch import BatchSettings
from crossdock_controller.sinks.http_body import MAX_DEPTH, Body, depth
from crossdock_controller.sinks.http_exchange import Exchange

_OWN_HEADERS = (
    "idempotency-key",
    "crossdock-replay",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "connection",
)
_PLACES = re.compile(r"\{(?:key|document)\}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2


class HttpSettings(SinkSettings):
    url: str  # with {key} and {document} in path or query; both are percent-encoded
    method: Literal["POST", "PUT"] = "POST"
    headers: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it; values may be references: secret:NAME
    timeout_seconds: float = Field(default=30.0, gt=0, le=600)  # from the first byte sent to the last byte read
    concurrency: int = Field(default=1, ge=1, le=32)
    query: dict[str, str] = {}  # noqa: RUF012 - added to the URL; values may be references: secret:NAME
    oauth: OAuthSettings | None = None  # a token by client credentials, in Authorization
    sign: SignSettings | None = None  # a signature over the body
    body: Body | None = None  # what the receiver wants, made of the document; the document itself without it
    batch: BatchSettings | None = None  # several documents a request
    conflict_is_done: bool = False  # True where 409 means "I have it already"
    ca_file: str | None = None  # PEM; trusted besides nothing else. Verification cannot be switched off

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("'url' must be http://host/path or https://host/path")
        _ = parts.port  # raises ValueError for what is no port
        if parts.username is not None or parts.password is not None:
            raise ValueError("'url' holds a login; write a header with a reference, such as Authorization: secret:NAME")
        if parts.fragment or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("'url' must be plain ASCII without spaces or '#'; percent-encode the rest")
        if {"{", "}"} & set(parts.netloc) or re.search(r"[{}]", fill(parts.path + parts.query, "", "")):
            raise ValueError("'url' may hold {key} and {document}, in path or query, and no other braces")
        return value

    @field_validator("body")
    @classmethod
    def _body(cls, value: Body | None) -> Body | None:
        if value is not None and depth(value) > MAX_DEPTH:
            raise ValueError(f"a body has at most {MAX_DEPTH} objects inside one another")
        return value

    @model_validator(mode="after")
    def _fits(self) -> HttpSettings:
        if self.batch is not None and _PLACES.search(self.url):
            raise ValueError("'url' has {key} or {document}, which a batch of several documents cannot fill")
        if self.oauth is not None and any(name.lower() == "authorization" for name in self.headers):
            raise ValueError("'oauth' sets the header Authorization; leave it out of 'headers'")
        return self

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"header name {name!r} is not a token")
            if name.lower() in _OWN_HEADERS:
                raise ValueError(f"header {name} is set by the sink itself")
        return value


def fill(template: str, key: str, document: str) -> str:
    # A quoted value has no braces, so what one replacement puts in, the next does not touch.
    return template.replace("{key}", quote(key, safe="")).replace("{document}", quote(document, safe=""))


def resolved_headers(headers: dict[str, str], context: SinkContext) -> tuple[dict[str, str], tuple[str, ...]]:
    """Headers with their secrets in place, and those secrets. Raises ConfigError without showing a value."""
    resolved = {"User-Agent": f"crossdock/{__version__}"}
    secrets = []
    for name, text in headers.items():
        value = context.secret(text)
        if not value.isprintable() or not value.isascii():
            raise ConfigError(f"sink {context.name}: header {name} has a character that cannot travel in a header")
        resolved[name] = value
        if text.startswith("secret:") and value:
            secrets += [value, *(word for word in value.split() if len(word) >= 8)]  # "Bearer x": x alone is secret too
    return resolved, tuple(secrets)


def added_query(query: dict[str, str], context: SinkContext) -> tuple[str, tuple[str, ...]]:
    """What is added to the URL, and the secrets in it as they were and as they stand there."""
    values = {name: context.secret(text) for name, text in query.items()}
    hidden = [values[name] for name, text in query.items() if text.startswith("secret:") and values[name]]
    return urlencode(values, quote_via=quote), (*hidden, *(quote(value, safe="") for value in hidden))


def tokens_of(settings: HttpSettings, context: SinkContext) -> Tokens | None:
    if settings.oauth is None:
        return None
    parts = urlsplit(settings.oauth.token_url)
    tls = tls_of(settings, context) if parts.scheme == "https" else None
    port = parts.port or (443 if tls is not None else 80)
    exchange = Exchange(parts.scheme, parts.hostname or "", port, min(settings.timeout_seconds, 30.0), tls)
    return Tokens(settings.oauth, context, exchange)


def tls_of(settings: HttpSettings, context: SinkContext) -> ssl.SSLContext:
    if settings.ca_file is None:
        return ssl.create_default_context()
    path = Path(context.base_directory) / settings.ca_file
    try:
        return ssl.create_default_context(cafile=str(path))
    except OSError as error:  # ssl.SSLError, for a file that holds no certificate, is one
        raise ConfigError(f"sink {context.name}: ca_file {path} cannot be used: {error}") from error
