"""What lies where in the controller's data directory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from crossdock.errors import ConfigError


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """*holder* is the id of the controller in whose name this process writes; empty for an operator's command."""

    root: Path
    holder: str = ""

    @property
    def state(self) -> Path:
        return self.root / "state.db"

    @property
    def intake(self) -> Path:
        return self.root / "intake.db"

    @property
    def authority(self) -> Path:
        return self.root / "authority"

    @property
    def addresses(self) -> Path:
        return self.root / "addresses.json"

    @property
    def lock(self) -> Path:
        return self.root / "controller.lock"

    @property
    def backup_lock(self) -> Path:
        """Held while a backup is taken: nothing is purged from the intake meanwhile."""
        return self.root / "backup.lock"

    @property
    def audit_heads(self) -> Path:
        """Signed heads of the audit log, outside of the store: what was cut off its end shows here."""
        return self.root / "audit-heads.log"

    @property
    def first_token(self) -> Path:
        """The first admin's token until it is used, where no terminal could show it."""
        return self.root / "first-admin-token"

    @property
    def api(self) -> Path:
        """Where the API listens, as its process last wrote it."""
        return self.root / "api.json"

    @property
    def restoring(self) -> Path:
        """Stands here while a restore changes names."""
        return self.root / "restore.unfinished"

    def prepare(self) -> None:
        """Make the directory, for its owner only (the CA's key and every document live in it)."""
        self.root.mkdir(parents=True, exist_ok=True)
        if os.name == "posix":
            self.root.chmod(0o700)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where agents reach a controller, "host:port" each."""

    link: str
    enrollment: str


def write_addresses(data: DataDirectory, addresses: Addresses) -> None:
    temporary = data.addresses.with_suffix(".new")
    temporary.write_text(json.dumps({"link": addresses.link, "enrollment": addresses.enrollment}), encoding="utf-8")
    temporary.replace(data.addresses)


def read_addresses(data: DataDirectory) -> Addresses:
    """Raises ConfigError when no controller has run on this directory yet."""
    try:
        found = json.loads(data.addresses.read_text(encoding="utf-8"))
        return Addresses(found["link"], found["enrollment"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{data.root} holds no controller's addresses",
            hint="start it once: crossdock controller run --data DIR",
        ) from error
