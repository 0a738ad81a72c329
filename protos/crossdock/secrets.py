"""Resolves `secret:NAME`: the environment first, then a file only the owner reads. Never logged: what was resolved is
known to `redaction`, which takes it out of every log line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from loguru import logger

from crossdock.errors import ConfigError
from crossdock.names import PLAIN, is_device
from crossdock.redaction import KNOWN

PREFIX = "secret:"
VARIABLE = "CROSSDOCK_SECRET_"


class Secrets:
    """Looks in CROSSDOCK_SECRET_<NAME> and in the folder `secrets` of a state or data *directory*."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "secrets"

    def resolve(self, value: str) -> str:
        """The secret that *value* refers to; other text as it is. Raises ConfigError with both places to put it."""
        if not value.startswith(PREFIX):
            return value
        secret = self._find(value.removeprefix(PREFIX))
        KNOWN.learn(secret)
        return secret

    def know_all(self) -> None:
        """Make every secret of this machine known to `redaction`, used or not, as far as it can be read."""
        for name, value in os.environ.items():
            if name.startswith(VARIABLE):
                KNOWN.learn(value)
        for path in self._directory.glob("*") if self._directory.is_dir() else ():
            try:
                KNOWN.learn(path.read_text(encoding="utf-8").rstrip("\r\n"))
            except (OSError, UnicodeDecodeError) as error:  # nothing of it can be shown by us either
                logger.bind(file=path.name).debug("a secret cannot be read: {}", type(error).__name__)

    def _find(self, name: str) -> str:
        if not PLAIN.fullmatch(name):
            raise ConfigError(f"secret name {name!r} is not valid", hint="use letters, digits, '-', '_' and '.'")
        if is_device(name):
            raise ConfigError(f"secret name {name!r} is a device on Windows", hint="choose another name")
        variable = VARIABLE + name.upper().replace("-", "_").replace(".", "_")
        if variable in os.environ:
            return os.environ[variable]
        path = self._directory / name
        try:
            if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(f"secret file {path} can be read by others", hint=f"chmod 600 {path}")
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except FileNotFoundError:
            raise ConfigError(
                f"secret {name!r} is not known here",
                hint=f"set {variable} or write it to {path} (owner only)",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"secret file {path} cannot be read: {error}", hint="check its owner and encoding"
            ) from error
