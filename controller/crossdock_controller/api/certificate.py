"""The TLS side of the API: a certificate of our own authority, made anew in time, or one from files, read anew.

Python loads keys from files only. Ours lies in one for a moment, for its owner only and encrypted with a password that
is nowhere else.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import ssl
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from crossdock.errors import ConfigError
from crossdock_controller.authority import SERVER_LIFE, Authority

Renew = Callable[[], bool]


def new_context() -> ssl.SSLContext:
    """TLS 1.2 and newer, with the ciphers that Python takes for secure."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


class FromAuthority:
    """Made anew at two thirds of its life, when the clock was set back, and with each phase of a new authority."""

    def __init__(
        self, context: ssl.SSLContext, directory: Path, names: Sequence[str], life: dt.timedelta = SERVER_LIFE
    ) -> None:
        self._context = context
        self._directory = directory
        self._names = list(names)
        self._life_us = life.total_seconds() * 1e6
        self._expires_us = 0
        self._version = ""
        self.renew()

    def renew(self) -> bool:
        """Whether there was a reason to. From the event loop only: a handshake must not meet half a pair."""
        authority = Authority.open(self._directory)
        left_us = self._expires_us - time.time_ns() / 1000
        due = left_us <= self._life_us / 3 and self._expires_us < authority.serves_until_us
        if self._version == authority.version and not due and left_us <= self._life_us:
            return False
        pair = authority.issue_server(self._names, dt.datetime.now(dt.UTC))
        _load(self._context, pair.certificate, pair.key, self._directory.parent)
        self._expires_us, self._version = pair.expires_us, authority.version
        return True


class FromFiles:
    """Read again when one of the files has changed."""

    def __init__(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        self._context = context
        self._certificate = certificate
        self._key = key
        self._seen: tuple[int, ...] = ()
        self.renew()

    def renew(self) -> bool:
        """Raises ConfigError when they cannot be used; the ones in use stay."""
        try:
            seen = tuple(number for path in (self._certificate, self._key) for number in _version(path))
            if seen == self._seen:
                return False
            self._context.load_cert_chain(self._certificate, self._key, password=lambda: "")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConfigError(
                f"the API's certificate {self._certificate} and key {self._key} cannot be used: {error}",
                hint="both are PEM, the key without a password, the certificate with its chain",
            ) from error
        self._seen = seen
        return True


def _version(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _load(context: ssl.SSLContext, certificate: bytes, key: bytes, directory: Path) -> None:
    password = secrets.token_bytes(32).hex()
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="api-", dir=directory) as place:
        file = Path(place) / "pair.pem"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(certificate + locked)
        context.load_cert_chain(file, password=password)
