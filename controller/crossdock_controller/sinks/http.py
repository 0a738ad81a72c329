"""Sink "http": one request a document. A 2xx answer, read to its end, is the only "done"; no answer is no verdict.

Every attempt of a document carries the same Idempotency-Key. Versions of one key go over one connection, one after the
other; `concurrency` spreads different keys over several.
"""

from __future__ import annotations

import re
import ssl
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, field_validator

from crossdock import __version__
from crossdock.errors import ConfigError, Rejected, SinkUnavailable
from crossdock_controller.sinks.base import Outgoing, Sink, SinkContext, SinkSettings, Verdict, register
from crossdock_controller.sinks.http_exchange import Exchange, NoAnswer, Unreachable
from crossdock_controller.sinks.http_verdicts import stops_the_rest, verdict

RUN_SIZE = 200
RUN_SECONDS = 20.0  # a run that takes longer is cut: the rest is due again at once, and leases stay short
SILENCES = 3  # so many requests in a row without an answer, and the rest of the run waits

_OWN_HEADERS = (
    "idempotency-key",
    "crossdock-replay",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "connection",
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2


class HttpSettings(SinkSettings):
    url: str  # with {key} and {document} in path or query; both are percent-encoded
    method: Literal["POST", "PUT"] = "POST"
    headers: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it; values may be references: secret:NAME
    timeout_seconds: float = Field(default=30.0, gt=0, le=600)  # from the first byte sent to the last byte read
    concurrency: int = Field(default=1, ge=1, le=32)
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
        if {"{", "}"} & set(parts.netloc) or re.search(r"[{}]", _fill(parts.path + parts.query, "", "")):
            raise ValueError("'url' may hold {key} and {document}, in path or query, and no other braces")
        return value

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"header name {name!r} is not a token")
            if name.lower() in _OWN_HEADERS:
                raise ValueError(f"header {name} is set by the sink itself")
        return value


class HttpSink:
    def __init__(self, settings: HttpSettings, context: SinkContext, wall: Callable[[], float] = time.time) -> None:
        self._settings, self._wall = settings, wall
        self._headers, self._secrets = _resolve(settings.headers, context)
        self._key_suffix = "-" + quote(context.name, safe="")
        parts = urlsplit(settings.url)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        tls = _tls(settings, context) if parts.scheme == "https" else None
        port = parts.port or (443 if tls is not None else 80)
        host = parts.hostname or ""
        self._exchanges = [
            Exchange(parts.scheme, host, port, settings.timeout_seconds, tls) for _ in range(settings.concurrency)
        ]
        self._pool: ThreadPoolExecutor | None = None

    def write(self, run: Sequence[Outgoing]) -> Sequence[Verdict]:
        until = time.monotonic() + RUN_SECONDS
        shares: list[list[int]] = [[] for _ in self._exchanges]
        for position, delivery in enumerate(run):
            shares[_share(delivery, len(shares))].append(position)
        verdicts: dict[int, Verdict] = {}
        if len(shares) == 1:
            verdicts = self._deliver(self._exchanges[0], run, shares[0], until)
        else:
            pool = self._pool = self._pool or ThreadPoolExecutor(len(shares), "http-sink")
            for part in pool.map(self._deliver, self._exchanges, [run] * len(shares), shares, [until] * len(shares)):
                verdicts.update(part)
        unreachable = [v for v in verdicts.values() if v.code == "unreachable"]
        if unreachable and all(v.code in ("unreachable", "held") for v in verdicts.values()):
            raise SinkUnavailable(unreachable[0].reason)
        return [verdicts[position] for position in range(len(run))]

    def check(self) -> str:
        """Connects, and over TLS verifies the certificate; sends no request, which could have an effect."""
        exchange = self._exchanges[0]
        try:
            return exchange.connect()
        finally:
            exchange.close()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        for exchange in self._exchanges:
            exchange.close()

    def _deliver(
        self, exchange: Exchange, run: Sequence[Outgoing], share: list[int], until: float
    ) -> dict[int, Verdict]:
        """Verdicts of the deliveries at the positions in *share*, sent one after the other."""
        verdicts: dict[int, Verdict] = {}
        blocked: set[tuple[str, str]] = set()
        rest: Verdict | None = None
        silences = 0
        for position in share:
            delivery = run[position]
            if rest is None and time.monotonic() > until:
                rest = Verdict("retry", "held", "not sent: the run took its full time", 0.0)
            if rest is not None or (delivery.document, delivery.key) in blocked:
                verdicts[position] = rest or Verdict("retry", "held", "an earlier version of this document is not done")
                continue
            found = verdicts[position] = self._one(exchange, delivery)
            if found.outcome != "done":
                blocked.add((delivery.document, delivery.key))
            silences = silences + 1 if found.code in ("timeout", "half_answer", "closed", "bad_answer") else 0
            if stops_the_rest(found) or silences == SILENCES:
                rest = Verdict("retry", "held", f"not sent: {found.reason}", found.after_seconds)
        return verdicts

    def _one(self, exchange: Exchange, delivery: Outgoing) -> Verdict:
        try:
            target = self._filled(delivery)
            headers = self._headers | {
                "Content-Type": "application/json",
                "Idempotency-Key": delivery.event_id.hex() + self._key_suffix + _again(delivery),
                "Crossdock-Document": quote(delivery.document),
                "Crossdock-Sequence": str(delivery.sequence),
            }
            if delivery.replay:
                headers["Crossdock-Replay"] = str(delivery.replay)
            answer = exchange.send(self._settings.method, target, headers, delivery.body)
        except Rejected as error:
            return Verdict("rejected", error.code, str(error))
        except Unreachable as error:
            return Verdict("retry", "unreachable", str(error))
        except NoAnswer as error:
            return Verdict("retry", error.code, error.message)
        return verdict(
            answer, conflict_is_done=self._settings.conflict_is_done, now=self._wall(), secrets=self._secrets
        )

    def _filled(self, delivery: Outgoing) -> str:
        """Raises Rejected for a key that would name another path: ".." survives percent-encoding on many servers."""
        if delivery.key.strip(".") == "" and "{key}" in self._target:
            raise Rejected("bad_key", f"key {delivery.key!r} cannot stand in a URL", field="key")
        return _fill(self._target, delivery.key, delivery.document)


def _again(delivery: Outgoing) -> str:
    """What was done before and is sent again on purpose has a key of its own, or the receiver would leave it out."""
    return f"-r{delivery.replay}" if delivery.replay else ""


def _fill(template: str, key: str, document: str) -> str:
    # A quoted value has no braces, so what one replacement puts in, the next does not touch.
    return template.replace("{key}", quote(key, safe="")).replace("{document}", quote(document, safe=""))


def _share(delivery: Outgoing, shares: int) -> int:
    return zlib.crc32(f"{delivery.document}\0{delivery.key}".encode()) % shares


def _resolve(headers: dict[str, str], context: SinkContext) -> tuple[dict[str, str], tuple[str, ...]]:
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


def _tls(settings: HttpSettings, context: SinkContext) -> ssl.SSLContext:
    if settings.ca_file is None:
        return ssl.create_default_context()
    path = Path(context.base_directory) / settings.ca_file
    try:
        return ssl.create_default_context(cafile=str(path))
    except OSError as error:  # ssl.SSLError, for a file that holds no certificate, is one
        raise ConfigError(f"sink {context.name}: ca_file {path} cannot be used: {error}") from error


def _create(settings: HttpSettings, context: SinkContext) -> Sink:
    return HttpSink(settings, context)


register("http", HttpSettings, _create, run_size=RUN_SIZE)
