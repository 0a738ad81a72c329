"""What the sinks for brokers share: a run in waves, names filled from a document, headers, logins.

A broker keeps a log: what is confirmed cannot be taken back, and what is not confirmed may be in it all the same. So a
wave holds no key twice, and the next version of a key leaves only once the one before is confirmed. Consumers know a
document sent again by its event id.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from pydantic import Field, field_validator, model_validator

from crossdock.errors import ConfigError, Rejected, SinkUnavailable
from crossdock_controller.sinks.base import DONE, Outgoing, SinkContext, SinkSettings, Verdict

RUN_SIZE = 1_000
RUN_SECONDS = 20.0  # no wave begins later than this: the rest is due again at once, and leases stay short
CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 5.0
MAX_KEY_BYTES = 8_192  # in a header, percent-encoded; brokers close the connection over headers that are too long
_PLACES = re.compile(r"\{(\w+)\}")
_HELD = Verdict("retry", "held", "an earlier version of this document is not done")
_LATE = Verdict("retry", "held", "not sent: the run took its full time", 0.0)


class BrokerSettings(SinkSettings):
    """What all brokers have in common. Logins are references; certificates are checked, and that cannot be put off."""

    user: str | None = None
    password: str | None = None  # a reference: secret:NAME
    tls: bool = False
    ca_file: str | None = None  # PEM; trusted besides nothing else
    certificate_file: str | None = None  # PEM, our own, for brokers that ask for one
    key_file: str | None = None
    create: bool = False  # make what is missing; without it a missing stream, exchange or topic is told of
    max_message_bytes: int = Field(default=1_000_000, ge=1_000, le=1_000_000_000)  # a larger document is rejected
    timeout_seconds: float = Field(default=30.0, gt=0, le=600)  # until everything sent is confirmed

    @field_validator("password")
    @classmethod
    def _password(cls, value: str | None) -> str | None:
        return reference("password", value)

    @model_validator(mode="after")
    def _files(self) -> BrokerSettings:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("'certificate_file' and 'key_file' go together")
        if not self.tls and (self.ca_file or self.certificate_file):
            raise ValueError("'ca_file' and 'certificate_file' mean nothing without 'tls: true'")
        return self


class Client(Protocol):
    """One connection. After SinkUnavailable, or once it is not `usable`, it is closed and another one made."""

    usable: bool

    def publish(self, wave: Sequence[Outgoing]) -> Sequence[Verdict]:
        """One verdict each; no key stands twice in *wave*. Raises SinkUnavailable when none has a verdict."""

    def check(self) -> str: ...

    def close(self) -> None: ...


class BrokerSink:
    """The contract of a sink over a Client, which knows its broker and nothing of order."""

    def __init__(self, connect: Callable[[], Client], clock: Callable[[], float] = time.monotonic) -> None:
        self._connect, self._clock = connect, clock
        self._client: Client | None = None

    def write(self, run: Sequence[Outgoing]) -> Sequence[Verdict]:
        progress, until = Progress(run), self._clock() + RUN_SECONDS
        while wave := progress.wave():
            if progress.begun and self._clock() > until:
                progress.end(_LATE)
                break
            try:
                client = self._opened()
                progress.took(wave, client.publish([run[position] for position in wave]))
            except SinkUnavailable as error:
                self.close()
                progress.end(Verdict("retry", "no_confirm", str(error), error.after_seconds))
                break
            if not client.usable:
                self.close()
                progress.end(Verdict("retry", "held", "not sent: the connection to the broker was lost", 0.0))
        return progress.verdicts()

    def check(self) -> str:
        try:
            return self._opened().check()
        except SinkUnavailable:
            self.close()
            raise

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _opened(self) -> Client:
        if self._client is not None and not self._client.usable:
            self.close()
        if self._client is None:
            self._client = self._connect()
        return self._client


class Progress:
    """The verdicts of a run as they come in. Pure."""

    def __init__(self, run: Sequence[Outgoing]) -> None:
        self._run = run
        self._verdicts: list[Verdict | None] = [None] * len(run)
        self._waves = iter(waves(run))
        self._blocked: set[tuple[str, str]] = set()
        self.begun = False

    def wave(self) -> list[int]:
        """Positions to send now; none when all is said."""
        for positions in self._waves:
            free = []
            for position in positions:
                if _key(self._run[position]) in self._blocked:
                    self._verdicts[position] = _HELD
                elif self._verdicts[position] is None:
                    free.append(position)
            if free:
                return free
        return []

    def took(self, positions: Sequence[int], verdicts: Sequence[Verdict]) -> None:
        self.begun = True
        for position, verdict in zip(positions, verdicts, strict=True):
            self._verdicts[position] = verdict
            if verdict is not DONE and verdict.outcome != "done":
                self._blocked.add(_key(self._run[position]))

    def end(self, verdict: Verdict) -> None:
        """Everything without a verdict gets *verdict*."""
        self._verdicts = [found or verdict for found in self._verdicts]

    def verdicts(self) -> list[Verdict]:
        """Raises SinkUnavailable when nothing was done and nothing refused: then it is the broker, not a document."""
        found = [verdict or _HELD for verdict in self._verdicts]
        if found and all(verdict.outcome == "retry" for verdict in found):
            first = next((v for v in found if v.code != "held"), found[0])
            raise SinkUnavailable(first.reason, after_seconds=first.after_seconds)
        return found


def waves(run: Sequence[Outgoing]) -> list[list[int]]:
    """Positions of *run*: the first versions of all keys, then their second ones, and so on."""
    seen: dict[tuple[str, str], int] = {}
    found: list[list[int]] = []
    for position, delivery in enumerate(run):
        key = _key(delivery)
        number = seen.get(key, 0)
        seen[key] = number + 1
        if number == len(found):
            found.append([])
        found[number].append(position)
    return found


def _key(delivery: Outgoing) -> tuple[str, str]:
    return delivery.document, delivery.key


class Name:
    """A subject, routing key or topic with {document}, {key} and {site}; each filled in as one word."""

    def __init__(self, template: str, *, limit: int) -> None:
        self._template, self._limit = template, limit
        self._places = frozenset(_PLACES.findall(template))

    def of(self, delivery: Outgoing) -> str:
        """Raises Rejected for a value that makes no word, and for a name longer than brokers take."""
        name = self._template
        for place in self._places:
            text = word(getattr(delivery, place))
            if not text:
                raise Rejected(
                    "bad_key", f"the document has no {place}, which stands in {self._template!r}", field=place
                )
            name = name.replace(f"{{{place}}}", text)
        if len(name) > self._limit:
            raise Rejected("bad_key", f"its name at the broker has {len(name)} characters, {self._limit} are the limit")
        return name


def word(text: str) -> str:
    """*text* percent-encoded, the dot too: it separates words, and `*`, `#`, `>` and blanks mean something else."""
    return quote(text, safe="").replace(".", "%2E").replace("~", "%7E")


def template(name: str, value: str, allowed: frozenset[str], plain: str) -> str:
    """*value* as it is, or ValueError. *plain* is a pattern for what may stand around the places."""
    odd = set(_PLACES.findall(value)) - allowed
    rest = _PLACES.sub("x", value)
    if odd or not re.fullmatch(plain, rest):
        places = ", ".join(f"{{{place}}}" for place in sorted(allowed))
        raise ValueError(f"'{name}' must be plain words separated by dots, and may hold {places}")
    return value


def reference(name: str, value: str | None) -> str | None:
    if value is not None and not value.startswith("secret:"):
        raise ValueError(f"'{name}' must be a reference such as secret:broker")
    return value


def headers(delivery: Outgoing) -> dict[str, str]:
    """What a consumer may want without reading the body; texts are percent-encoded. Raises Rejected."""
    key = quote(delivery.key, safe="")
    if len(key) > MAX_KEY_BYTES:
        raise Rejected("bad_key", f"the key has {len(key)} characters when encoded, {MAX_KEY_BYTES} are the limit")
    found = {
        "Crossdock-Event": delivery.event_id.hex(),
        "Crossdock-Document": quote(delivery.document, safe=""),
        "Crossdock-Key": key,
        "Crossdock-Sequence": str(delivery.sequence),
        "Crossdock-Version": str(delivery.version),
        "Crossdock-Site": delivery.site,
    }
    return found | {"Crossdock-Replay": str(delivery.replay)} if delivery.replay else found


def attempt_key(delivery: Outgoing, sink: str) -> str:
    """The same for every attempt of this delivery; a replay on purpose has another one."""
    return f"{delivery.event_id.hex()}-{sink}" + (f"-{delivery.replay}" if delivery.replay else "")


def too_large(size: int, limit: int) -> Verdict:
    return Verdict("rejected", "too_large", f"the document has {size} bytes, the broker takes {limit}")


def refusal(error: Rejected) -> Verdict:
    return Verdict("rejected", error.code, error.message)


def missing(sink: str, module: str, extra: str) -> ConfigError:
    return ConfigError(f"sink {sink}: {module} is not installed", hint=f"pip install 'crossdock[{extra}]'")


def secret(context: SinkContext, value: str | None) -> str | None:
    return None if value is None else context.secret(value)


def tls_context(settings: BrokerSettings, context: SinkContext) -> ssl.SSLContext | None:
    if not settings.tls:
        return None
    base = Path(context.base_directory)
    try:
        made = ssl.create_default_context(cafile=str(base / settings.ca_file) if settings.ca_file else None)
        if settings.certificate_file and settings.key_file:
            made.load_cert_chain(base / settings.certificate_file, base / settings.key_file)
    except OSError as error:  # ssl.SSLError, for a file that holds no certificate, is one
        raise ConfigError(f"sink {context.name}: a certificate file cannot be used: {error}") from error
    return made
