"""How the private key lies on disk, by the best means that this machine has. The file itself says which.

plain       the key as PEM, readable by the owner of the file only
credential  AES-GCM under a systemd credential that only the service is given
dpapi       Windows' own: worth nothing on another machine

Plain is what a person's `enroll` writes; the service wraps it at its next start. Unwrapping by credential is done in
the short helper process, so that the agent never loads `cryptography`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from crossdock.errors import UNREADABLE, ConfigError
from crossdock_agent import helper

if TYPE_CHECKING:
    from crossdock_agent.dpapi import Dpapi

Scheme = Literal["plain", "credential", "dpapi"]
CREDENTIAL = "crossdock-agent-key"
MIN_CREDENTIAL_BYTES = 16

_PEM = b"-----BEGIN "
_AGAIN = "if it is lost for good, enrol again with a new token"


class Wrapped(msgspec.Struct, frozen=True, tag_field="crossdock_key", tag=1):
    scheme: Literal["credential", "dpapi"]
    data: bytes


def _dpapi() -> Dpapi:
    from crossdock_agent.dpapi import of_windows

    return of_windows()


class Keystore:
    """*dpapi* gives Windows' functions; on another system the scheme is never chosen."""

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        *,
        windows: bool = sys.platform == "win32",
        dpapi: Callable[[], Dpapi] = _dpapi,
    ) -> None:
        self._environ = environ
        self._windows = windows
        self._dpapi = dpapi

    def preferred(self) -> Scheme:
        """What a key is stored by here and now."""
        if self._windows:
            return "dpapi"
        return "credential" if self._credential_file() is not None else "plain"

    def seal(self, key: bytes) -> bytes:
        """What to store of *key* (PEM). Raises ConfigError, or Retryable when the helper process does not answer."""
        scheme = self.preferred()
        if scheme == "plain":
            return key
        data = self._dpapi().protect(key) if scheme == "dpapi" else helper.wrap_key(key, self._credential())
        return msgspec.json.encode(Wrapped(scheme, data))

    def open(self, stored: bytes, path: Path) -> bytes:
        """The key (PEM) in *stored*, as read from *path*. Raises ConfigError with the next step, or Retryable."""
        wrapped = _decoded(stored, path)
        if wrapped is None:
            return stored
        try:
            if wrapped.scheme == "dpapi":
                return self._dpapi().unprotect(wrapped.data)
            return helper.unwrap_key(wrapped.data, self._credential())
        except ConfigError as error:
            raise ConfigError(f"private key {path} cannot be opened: {error.message}", hint=error.hint) from error

    def _credential_file(self) -> Path | None:
        directory = self._environ.get("CREDENTIALS_DIRECTORY")
        path = Path(directory) / CREDENTIAL if directory else None
        return path if path is not None and path.is_file() else None

    def _credential(self) -> bytes:
        path = self._credential_file()
        if path is None:
            raise ConfigError(
                f"it is wrapped under the systemd credential {CREDENTIAL}, which this process was not given",
                hint="start it by its service ('systemctl start crossdock-agent'), whose unit must have "
                f"'LoadCredentialEncrypted={CREDENTIAL}' or 'LoadCredential={CREDENTIAL}:FILE'; {_AGAIN}",
            )
        try:
            secret = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"credential {path} cannot be read: {error.strerror}", hint="see the unit") from error
        if len(secret) < MIN_CREDENTIAL_BYTES:
            raise ConfigError(
                f"the systemd credential {CREDENTIAL} has {len(secret)} bytes, it needs {MIN_CREDENTIAL_BYTES} or more",
                hint="make it of 32 random bytes: see docs/guide/fleet/agent-identity.md",
            )
        return secret


def scheme_of(stored: bytes, path: Path) -> Scheme:
    """Raises ConfigError when *stored* is no key of ours."""
    wrapped = _decoded(stored, path)
    return "plain" if wrapped is None else wrapped.scheme


def _decoded(stored: bytes, path: Path) -> Wrapped | None:
    """None for a plain key."""
    if stored.startswith(_PEM):
        return None
    try:
        return msgspec.json.decode(stored, type=Wrapped)
    except UNREADABLE as error:
        raise ConfigError(
            f"private key {path} is damaged, or of a later release: {error}", hint="enrol again with a new token"
        ) from error
