"""What this site lets the centre do: `policy.toml`, written here by hand, read anew for each command.

    remote_commands = "all"            # or "none", or names: ["check", "logs"]
    sources = ["wms-shipments"]        # only these may be tried, rescanned, paused and resumed; without it: every one
    payloads = false                   # true: `try` may show the values of records, not only what they look like
    write_back = true                  # false: nothing that comes from the centre is written here
    writers = ["erp-orders"]           # only by these; without it: by every writer of the configuration

Without a file everything is allowed but the values of records. A file that cannot be read or understood refuses
everything, and the refusal says why. Nothing that comes from the centre writes it, or says where it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from crossdock.errors import UNREADABLE, ConfigError
from crossdock.sitecommands import KINDS

MAX_BYTES = 64 * 1024


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    remote_commands: Literal["all", "none"] | list[str] = "all"
    sources: list[str] | None = None
    payloads: bool = False
    write_back: bool = True
    writers: list[str] | None = None

    def refusal(self, name: str, source: str = "") -> str:
        """Why command *name*, about *source* if it names one, is refused; "" when it is allowed."""
        if self.remote_commands == "none":
            return "this site takes no remote commands"
        if self.remote_commands != "all" and name not in self.remote_commands:
            return f"this site does not take {name!r}, only {', '.join(self.remote_commands) or 'none'}"
        if source and not self.covers(source):
            return f"this site does not take commands about source {source!r}"
        return ""

    def refusal_to_write(self, writer: str) -> str:
        """Why nothing is written by *writer*; "" when it may write."""
        if not self.write_back:
            return "this site lets nothing be written back (write_back in its policy.toml)"
        if self.writers is not None and writer not in self.writers:
            return f"this site lets nothing be written by {writer!r} (writers in its policy.toml)"
        return ""

    @property
    def words(self) -> str:
        """ "remote commands: check, logs; about sources: wms; values of records are not shown"."""
        commands = self.remote_commands if isinstance(self.remote_commands, str) else ", ".join(self.remote_commands)
        about = f"; about sources: {', '.join(self.sources) or 'none'}" if self.sources is not None else ""
        values = "may be shown" if self.payloads else "are not shown"
        return f"remote commands: {commands or 'none'}{about}; values of records {values}"

    def covers(self, source: str) -> bool:
        return self.sources is None or source in self.sources


def read(path: Path) -> Policy:
    """What holds now. Raises ConfigError when there is a file that says nothing that can be kept to."""
    try:
        if not path.exists() and not path.is_symlink():
            return Policy()
        import tomllib  # where there is a file

        found = msgspec.convert(tomllib.loads(_text(path)), type=Policy)
        _check(found)
    except (OSError, *UNREADABLE, ConfigError) as error:  # TOML, UTF-8 and msgspec raise kinds of ValueError
        said = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"policy file {path} cannot be used, so every command is refused: {said}") from error
    return found


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:  # a part of it could allow what the rest forbids
        raise ConfigError(f"it is larger than {MAX_BYTES} bytes")
    return data.decode("utf-8-sig")


def _check(policy: Policy) -> None:
    if isinstance(policy.remote_commands, list):
        unknown = [name for name in policy.remote_commands if name not in KINDS]
        if unknown:
            raise ConfigError(f"remote_commands names {', '.join(unknown)}; there are {', '.join(KINDS)}")
