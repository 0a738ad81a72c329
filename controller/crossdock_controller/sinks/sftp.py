"""Sink "sftp": finished files on an SSH server, one a run. A file that can be seen there is complete.

What decides stands at home, in the data directory (`file_ledger`): a run is written and synced as a spool file, then
the ledger has its number and event ids, and nothing later is sent before it is there. It goes up under a temporary
name; then the spool file is marked as sent, and the remote file takes its name. After a crash a spool file that is not
marked goes up again; of a marked one only the renaming is made up for, and when its temporary name is gone, it was
made: a consumer that takes files away at once never sees one twice.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from crossdock.disk import sync_directory
from crossdock.errors import ConfigError, Refused, SinkUnavailable
from crossdock.lock import SingleInstance, is_held
from crossdock_controller.sinks.base import DONE, Outgoing, Sink, SinkContext, SinkSettings, Verdict, register
from crossdock_controller.sinks.broker import reference
from crossdock_controller.sinks.file import REMEMBERED, RUN_SIZE, checked_name, write_synced
from crossdock_controller.sinks.file_formats import FileFormat, JsonLines, rendered, writer
from crossdock_controller.sinks.file_ledger import Ledger
from crossdock_controller.sinks.sftp_remote import Remote

_SENT = ".sent"


class SftpSettings(SinkSettings):
    host: str = Field(min_length=1)
    port: int = Field(default=22, ge=1, le=65535)
    user: str
    password: str | None = None  # a reference: secret:NAME
    key: str | None = None  # a reference to a private key in OpenSSH's or PEM form
    host_key: str  # the server's, as `ssh-keygen -lf` shows it (SHA256:...): who answers with another is not spoken to
    directory: str = "."
    name: str = "{sink}-{number}.jsonl"
    format: FileFormat | None = None  # JSON lines without it
    marker: str | None = Field(default=None, pattern=r"^\.[A-Za-z0-9]{1,16}$")  # an empty file NAME.done after NAME
    timeout_seconds: float = Field(default=60.0, gt=0, le=600)

    @field_validator("password", "key")
    @classmethod
    def _reference(cls, value: str | None) -> str | None:
        return reference("password' or 'key", value)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return checked_name(value)

    @field_validator("host_key")
    @classmethod
    def _fingerprint(cls, value: str) -> str:
        if not value.startswith("SHA256:") or len(value) != len("SHA256:") + 43:
            raise ValueError("'host_key' must be SHA256: and 43 characters, as `ssh-keygen -lf` shows it")
        return value

    @model_validator(mode="after")
    def _login(self) -> SftpSettings:
        if self.password is None and self.key is None:
            raise ValueError("give 'password' or 'key', a reference: secret:NAME")
        return self


class SftpSink:
    def __init__(self, settings: SftpSettings, context: SinkContext) -> None:
        self._settings, self._sink = settings, context.name
        self._writer = writer(settings.format or JsonLines())
        self._state = Path(context.base_directory) / "sinks" / context.name
        self._remote = Remote(
            settings.host, settings.port, settings.user, settings.host_key,
            password=context.secret(settings.password) if settings.password else None,
            key=context.secret(settings.key) if settings.key else None,
            seconds=settings.timeout_seconds, name=context.name,
        )  # fmt: skip
        self._lock: SingleInstance | None = None
        self._ledger: Ledger | None = None

    def write(self, run: Sequence[Outgoing]) -> Sequence[Verdict]:
        try:
            ledger = self._opened()
            self._make_up()
            fresh = list({d.event_id: d for d in run if d.identity not in ledger}.values())
            parts, verdicts = rendered(self._writer, fresh)
            if parts:
                self._spool(ledger, parts)
                self._make_up()
        except (OSError, Refused) as error:
            self.close()
            hint = f"is {self._state} writable, not full, and used by this sink alone?"
            raise SinkUnavailable(f"sink {self._sink}: {error}", hint=hint) from error
        except SinkUnavailable:
            self._remote.close()
            raise
        return [verdicts.get(delivery.event_id, DONE) for delivery in run]

    def check(self) -> str:
        try:
            said = self._remote.check(self._settings.directory)
            if self._lock is None and is_held(self._state / "lock"):
                return f"{said}, and in use: a controller writes there"
            return f"{said}, next file {self._name(self._opened().last + 1)}"
        except (OSError, Refused) as error:
            raise SinkUnavailable(f"sink {self._sink}: {error}") from error
        finally:
            self.close()

    def close(self) -> None:
        self._remote.close()
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def _opened(self) -> Ledger:
        """Spool files without a ledger entry are what a crash has left of a run that was not decided."""
        if self._ledger is not None:
            return self._ledger
        self._state.mkdir(parents=True, exist_ok=True)
        self._lock = SingleInstance(self._state / "lock")
        ledger = self._ledger = Ledger(self._state / "ledger", REMEMBERED)
        for left in self._state.glob("*.spool"):
            if int(left.stem) > ledger.last:
                left.unlink()
        for mark in self._state.glob("*" + _SENT):
            if not mark.with_suffix(".spool").exists():
                mark.unlink()
        return ledger

    def _spool(self, ledger: Ledger, parts: Sequence[tuple[Outgoing, bytes]]) -> None:
        number = max(ledger.last, self._last_there()) + 1
        content = b"".join([self._writer.head, *(part for _, part in parts), self._writer.tail])
        write_synced(self._state / f"{number}.spool", content)
        sync_directory(self._state)  # before the ledger says so
        ledger.append(number, [delivery.identity for delivery, _ in parts])

    def _last_there(self) -> int:
        """The largest number among the names there: a ledger that was lost must not lead to a name used twice."""
        before, _, after = self._template().partition("{number}")
        names = self._remote.names(self._settings.directory)
        numbers = [n[len(before) : len(n) - len(after)] for n in names if n.startswith(before) and n.endswith(after)]
        return max((int(n) for n in numbers if n.isascii() and n.isdigit() and len(n) < 18), default=0)

    def _make_up(self) -> None:
        """Everything spooled goes up, in order; nothing is left of it here."""
        for spooled in sorted(self._state.glob("*.spool"), key=lambda path: int(path.stem)):
            sent, final = spooled.with_suffix(_SENT), self._path(self._name(int(spooled.stem)))
            temporary = self._path(f".{self._name(int(spooled.stem))}.part")
            if not sent.exists():
                self._remote.put(temporary, spooled.read_bytes())
                write_synced(sent, b"")
                sync_directory(self._state)
            self._remote.rename(temporary, final)
            if self._settings.marker:
                self._remote.put(final + self._settings.marker, b"")
            spooled.unlink()
            sync_directory(self._state)  # a mark without its spool file means nothing, the reverse is sent again
            sent.unlink()

    def _template(self) -> str:
        return self._settings.name.replace("{sink}", self._sink)

    def _name(self, number: int) -> str:
        return self._template().replace("{number}", f"{number:012d}")

    def _path(self, name: str) -> str:
        return posixpath.join(self._settings.directory, name)


def _create(settings: SftpSettings, context: SinkContext) -> Sink:
    try:
        import asyncssh  # an extra: said now, not at the first delivery
    except ImportError as error:
        raise ConfigError(
            f"sink {context.name}: this controller was installed without SFTP", hint="pip install 'crossdock[sftp]'"
        ) from error
    try:
        return SftpSink(settings, context)
    except asyncssh.KeyImportError as error:
        raise ConfigError(
            f"sink {context.name}: {settings.key} is no private key that can be read: {error}",
            hint="put an OpenSSH or PEM private key without a passphrase into the secret",
        ) from error


register("sftp", SftpSettings, _create, run_size=RUN_SIZE)
