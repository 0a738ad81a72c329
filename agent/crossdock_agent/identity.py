"""Who this agent is: one file that is whole or absent, naming a key that never leaves the machine.

How the key lies on disk is `keystore`'s business; it is opened once and then held in memory.

The key is written before the file that names it, and removed after the file names another, so a crash between any two
steps leaves the identity before or the identity after. Nothing here imports `cryptography`.
"""

from __future__ import annotations

import base64
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec
from loguru import logger

from crossdock.errors import UNREADABLE, ConfigError
from crossdock_agent.files import exposed, private_directory, protect, write_atomic
from crossdock_agent.keystore import Keystore, Scheme, scheme_of

TOKEN_PREFIX = "cd1_"  # noqa: S105 - how a join token begins
RENEW_AT = 2 / 3  # of a certificate's life


class Identity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What later releases add has a default here, and what they wrote is passed over by this one."""

    agent: str
    site: str
    link_address: str
    certificate: bytes
    ca_bundle: bytes
    key_file: str
    issued_us: int  # when it was stored here; not-before is back-dated and says nothing about age
    expires_us: int
    enrollment_address: str = ""  # empty: not told yet
    machine: str = ""  # digest of the machine it was made on; empty: it has none, or was not asked yet

    def renewal_due(self, now_us: int) -> bool:
        return now_us >= self.issued_us + int((self.expires_us - self.issued_us) * RENEW_AT)


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What an operator carries from the controller to the site: where to enrol, whom to trust, and a secret."""

    address: str
    ca_der: bytes
    secret: str


def parse_token(text: str) -> JoinToken:
    """Raises ConfigError when *text* is not a whole join token. The secret never appears in a message."""
    wrong = ConfigError(
        "this is not a join token", hint="copy all of what 'crossdock token create' printed, from 'cd1_' on"
    )
    text = text.strip()
    if not text.startswith(TOKEN_PREFIX):
        raise wrong
    body = text.removeprefix(TOKEN_PREFIX)
    try:
        fields = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=dict[str, str])
        token = JoinToken(fields["a"], base64.b64decode(fields["c"], validate=True), fields["t"])
    except (*UNREADABLE, KeyError):
        raise wrong from None
    if not token.address or not token.ca_der or not token.secret:
        raise wrong
    return token


class IdentityStore:
    """The identity file and the keys beside it, in `<state>/identity`."""

    def __init__(self, state: Path, keystore: Keystore | None = None) -> None:
        self._directory = state / "identity"
        self._path = self._directory / "identity.json"
        self._keystore = keystore or Keystore()
        self._lock = threading.RLock()
        self._current: Identity | None = None
        self._key: bytes | None = None

    def current(self) -> Identity:
        """Raises ConfigError when this agent is not enrolled, or its identity cannot be used."""
        with self._lock:
            if self._current is None:
                self._current = self._load()
            return self._current

    def key(self) -> bytes:
        """The private key, PEM. Raises ConfigError when it cannot be opened here."""
        with self._lock:
            if self._key is None:
                name = self.current().key_file
                self._key = self._keystore.open(self._read_key(name), self._directory / name)
            return self._key

    def pair(self) -> tuple[Identity, bytes]:
        """`current` and `key` of one moment: another thread may be about to store others. Raises ConfigError."""
        with self._lock:
            return self.current(), self.key()

    def scheme(self) -> Scheme:
        """How the private key lies on disk. Raises ConfigError when it is not there."""
        name = self.current().key_file
        return scheme_of(self._read_key(name), self._directory / name)

    def save(self, identity: Identity, key: bytes) -> None:
        """Make *identity* (its `key_file` is set here) the current one, with *key*."""
        stored = self._keystore.seal(key)
        with self._lock:
            private_directory(self._directory)
            name = f"key-{secrets.token_hex(8)}.pem"
            write_atomic(self._directory / name, stored, private=True)
            self._write(msgspec.structs.replace(identity, key_file=name))
            self._key = key
            for old in self._directory.glob("key-*.pem"):
                if old.name != name:
                    old.unlink(missing_ok=True)

    def update(self, **changes: object) -> None:
        """Change these fields of the current identity; its key stays."""
        with self._lock:
            changed = msgspec.structs.replace(self.current(), **changes)
            if changed != self._current:
                self._write(changed)

    def settle(self) -> None:
        """At start: open the key, and store it by the best means of this machine if it is not yet; where the disk does
        not take it, at a later start.

        Raises ConfigError when it cannot be opened.
        """
        key, identity = self.key(), self.current()
        now, wanted = self.scheme(), self._keystore.preferred()
        if now == wanted:
            return
        try:
            self.save(identity, key)
        except OSError as error:  # a full disk is emptied by the agent that runs
            logger.bind(now=now, wanted=wanted).warning("the private key cannot be stored anew: {}", error)
            return
        logger.bind(before=now, now=wanted).info("the private key is stored by another scheme from now on")

    def _write(self, identity: Identity) -> None:
        write_atomic(self._path, msgspec.json.encode(identity), private=True)
        self._current = identity

    def _load(self) -> Identity:
        try:
            identity = msgspec.json.decode(self._path.read_bytes(), type=Identity)
        except FileNotFoundError:
            raise ConfigError(
                f"no identity in {self._directory}",
                hint="crossdock-agent enroll --token TOKEN (from 'crossdock token create')",
            ) from None
        except (OSError, *UNREADABLE) as error:
            raise ConfigError(
                f"identity {self._path} cannot be read: {error}", hint="enrol again with a new token"
            ) from error
        self._read_key(identity.key_file)
        return identity

    def _read_key(self, name: str) -> bytes:
        path = self._directory / name
        try:
            if exposed(path):
                protect(path)
            return path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"private key {path} cannot be read: {error}", hint="enrol again with a new token"
            ) from error
