"""Sink "file": one finished file a run, of JSON lines or in another format. A file that can be seen is complete, and no
document is in two.

The ledger decides (see `file_ledger`): a run's lines are written and synced under a temporary name, and the name is
synced, then the ledger entry with its number and event ids, then the file takes its final name. A crash before the
entry leaves nothing; after it, the next start finishes the renaming. So a resend is known by its event ids, even when
the consumer has already taken the file away. The last REMEMBERED event ids are known; an older one sent again is
written again, and whoever needs more than that compares the `event_id` of the lines. What a replay sends again on
purpose is written again, once for each replay.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from pydantic import field_validator

from crossdock.disk import sync_directory
from crossdock.errors import Refused, SinkUnavailable
from crossdock.lock import SingleInstance, is_held
from crossdock.names import is_device
from crossdock_controller.sinks.base import DONE, Outgoing, Sink, SinkContext, SinkSettings, Verdict, register
from crossdock_controller.sinks.file_formats import FileFormat, JsonLines, rendered, writer
from crossdock_controller.sinks.file_ledger import Ledger

RUN_SIZE = 2_000
REMEMBERED = 200_000  # event ids: a hundred full runs
_STATE_DIRECTORY = ".crossdock"  # inside the target directory, so that a rename never crosses file systems
_FORBIDDEN = set('<>:"/\\|?*')  # in a file name on Windows


class FileSettings(SinkSettings):
    directory: str
    name: str = "{sink}-{number}.jsonl"  # {number} counts runs, with leading zeros, so that names sort in order
    envelope: bool = True  # short for the `format` of JSON lines
    format: FileFormat | None = None  # JSON lines without it

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return checked_name(value)


def checked_name(value: str) -> str:
    """A template of file names. Raises ValueError."""
    plain = value.replace("{sink}", "").replace("{number}", "")
    odd = _FORBIDDEN & set(plain) or not plain.isprintable() or "{" in plain or value.startswith(".")
    if value.count("{number}") != 1 or odd or value != value.rstrip(" .") or is_device(value):
        raise ValueError(
            "'name' must hold {number} once, may hold {sink}, and is a plain file name: no leading dot, "
            "no dot or blank at the end, and none of Windows' devices"
        )
    return value


class FileSink:
    def __init__(self, settings: FileSettings, context: SinkContext) -> None:
        self._settings, self._sink = settings, context.name
        self._writer = writer(settings.format or JsonLines(envelope=settings.envelope))
        self._directory = Path(context.base_directory) / settings.directory
        self._name = settings.name.replace("{sink}", context.name)
        # Keyed by the names it makes: a second sink or process that would make the same ones finds it locked.
        self._state = self._directory / _STATE_DIRECTORY / self._name.replace("{number}", "#")
        self._lock: SingleInstance | None = None
        self._ledger: Ledger | None = None

    def write(self, run: Sequence[Outgoing]) -> Sequence[Verdict]:
        try:
            ledger = self._opened()
            fresh = list({d.event_id: d for d in run if d.identity not in ledger}.values())
            parts, verdicts = rendered(self._writer, fresh)
            if parts:
                self._publish(ledger, parts)
        except (OSError, Refused) as error:
            self.close()
            raise self._unavailable(error) from error
        return [verdicts.get(delivery.event_id, DONE) for delivery in run]

    def check(self) -> str:
        """Opens the ledger and writes, syncs and removes a file under a temporary name. While a controller writes here,
        the ledger is its own."""
        try:
            if self._lock is None and is_held(self._state / "lock"):
                self._probe(f".{uuid.uuid4().hex}.tmp")
                return f"{self._directory} writable, and in use: a controller writes there"
            ledger = self._opened()
            self._probe("check.tmp")
        except (OSError, Refused) as error:
            self.close()
            raise self._unavailable(error) from error
        return f"{self._directory} writable, next file {self._final(ledger.last + 1).name}"

    def _probe(self, name: str) -> None:
        write_synced(self._state / name, b"")
        (self._state / name).unlink(missing_ok=True)

    def close(self) -> None:
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def _publish(self, ledger: Ledger, parts: list[tuple[Outgoing, bytes]]) -> None:
        number = ledger.last + 1
        temporary = self._temporary(number)
        content = b"".join([self._writer.head, *(part for _, part in parts), self._writer.tail])
        write_synced(temporary, content)
        sync_directory(self._state)  # before the ledger says so: its entry must not outlive the file it stands for
        ledger.append(number, [delivery.identity for delivery, _ in parts])
        self._finish(number)

    def _finish(self, number: int) -> None:
        temporary, final = self._temporary(number), self._final(number)
        temporary.replace(final)
        sync_directory(self._directory)

    def _opened(self) -> Ledger:
        """The ledger, after finishing what a crash has left: an entry's file gets its name, any other is removed."""
        if self._ledger is not None:
            return self._ledger
        self._state.mkdir(parents=True, exist_ok=True)
        self._lock = SingleInstance(self._state / "lock")
        ledger = self._ledger = Ledger(self._state / "ledger", REMEMBERED)
        for left in self._state.glob("*.tmp"):
            if left == self._temporary(ledger.last):
                self._finish(ledger.last)
            else:
                left.unlink()
        ledger.last = max(ledger.last, self._last_name())
        return ledger

    def _last_name(self) -> int:
        """The largest number among the names there: a ledger that was lost must not lead to a name used twice."""
        before, _, after = self._name.partition("{number}")
        names = [p.name for p in self._directory.iterdir() if p.name.startswith(before) and p.name.endswith(after)]
        numbers = [name[len(before) : len(name) - len(after)] for name in names]
        return max((int(n) for n in numbers if n.isascii() and n.isdigit() and len(n) < 18), default=0)

    def _temporary(self, number: int) -> Path:
        return self._state / f"{number}.tmp"

    def _final(self, number: int) -> Path:
        return self._directory / self._name.replace("{number}", f"{number:012d}")

    def _unavailable(self, error: OSError | Refused) -> SinkUnavailable:
        hint = f"is {self._directory} there, writable, not full, and used by this sink alone?"
        return SinkUnavailable(f"sink {self._sink}: {error}", hint=hint)


def write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _create(settings: FileSettings, context: SinkContext) -> Sink:
    return FileSink(settings, context)


register("file", FileSettings, _create, run_size=RUN_SIZE)
