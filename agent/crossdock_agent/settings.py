"""Where the agent keeps its things and how it logs: known before it spoke to anyone. All else comes from the centre."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from crossdock.errors import UNREADABLE, ConfigError

SETTINGS_NAME = "agent.toml"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """*state* holds identity, outbox, last good configuration and secrets; one agent may use it at a time. *nice* is
    how far the agent steps back behind other programs: POSIX niceness, on Windows a lower priority class.
    *own_log_mb* is the size of each of five files of the log that it keeps for `logs` and `support-bundle`, 0
    for none; *policy_file* is where this site says what the centre may ask (default: `policy.toml` in *state*).
    *hold_seconds*: how long a new configuration is watched before it is the last good one, unless its offer says."""

    state: str
    log_level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_file: str | None = None
    log_json: bool = False
    nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 5
    own_log_mb: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 2
    policy_file: str | None = None
    hold_seconds: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 15.0

    @property
    def directory(self) -> Path:
        return Path(self.state)

    @property
    def outbox_path(self) -> Path:
        return self.directory / "outbox.db"

    @property
    def lock_path(self) -> Path:
        return self.directory / "agent.lock"

    @property
    def status_path(self) -> Path:
        return self.directory / "status.json"

    @property
    def rates_path(self) -> Path:
        return self.directory / "rates.json"

    @property
    def config_path(self) -> Path:
        return self.directory / "last-good.json"

    @property
    def policy_path(self) -> Path:
        return Path(self.policy_file) if self.policy_file else self.directory / "policy.toml"

    @property
    def pauses_path(self) -> Path:
        return self.directory / "paused.json"

    @property
    def inbox_path(self) -> Path:
        return self.directory / "inbox.db"

    @property
    def commands_path(self) -> Path:
        """Folder of the commands that were taken, and of their answers."""
        return self.directory / "commands"

    @property
    def commands_log_path(self) -> Path:
        return self.directory / "logs" / "commands.log"

    @property
    def own_log_path(self) -> Path | None:
        return self.directory / "logs" / "agent.log" if self.own_log_mb else None


def default_state() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", "C:/ProgramData")) / "crossdock-agent"
    return Path("/var/lib/crossdock-agent")


def load(state: Path | None = None, file: Path | None = None) -> Settings:
    """Settings from *file* (TOML, or JSON by its suffix), else from `agent.toml` in the state directory, else defaults.

    *state* wins over the file. Raises ConfigError naming the file and the setting at fault.
    """
    path = file or (state or default_state()) / SETTINGS_NAME
    values: dict[str, object] = {}
    if file is not None or path.is_file():
        values = _parse(path)
    values["state"] = str(state or values.get("state") or default_state())
    try:
        return msgspec.convert(values, type=Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error


def _parse(path: Path) -> dict[str, object]:
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        loaded = msgspec.json.decode(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"settings file {path} cannot be read: {error.strerror}", hint="name it with --config"
        ) from error
    except UNREADABLE as error:
        raise ConfigError(f"settings file {path} is not valid: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"settings file {path} is not a table of settings")
    return loaded
