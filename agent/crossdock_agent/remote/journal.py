"""Which commands this agent has begun, and what it answered: on the disk before one is begun.

An id that is here is never run again. One that had begun when the process ended is answered as interrupted; a restart
has then done what it was for. Nothing from the centre is a file name: files are called by a digest of the id.
An entry may go once its command is past its end by a day: it would be refused as expired. Answers go earlier, by size.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from loguru import logger

from crossdock.errors import UNREADABLE
from crossdock_agent.files import private_directory, write_atomic

ENTRIES = 2000
OUTPUT_BYTES = 64 * 1024 * 1024  # of all answers kept
KEEP_US = 86_400_000_000
INTERRUPTED = "interrupted: the agent ended while it ran, what it had done by then is not known; it is not run again"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """*ended_us* is 0 while it runs; *process* tells the lives of this agent apart."""

    id: str
    name: str
    by: str
    begun_us: int
    expires_us: int
    process: str
    ended_us: int = 0
    ok: bool = False
    error: str = ""
    has_output: bool = False


class Journal:
    """One thread uses it at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, id_: str) -> Entry | None:
        """Raises OSError when the disk cannot be read: then nobody knows whether it was run."""
        return self._read(self._path(id_))

    def begin(self, entry: Entry) -> None:
        """Raises OSError, and the command must not be run then."""
        private_directory(self._directory)
        self._prune(entry.begun_us)
        self._write(entry)

    def end(self, entry: Entry, output: bytes) -> None:
        """Keep the end of a command with its output, or without when there is no room for it. Raises OSError."""
        if output:
            try:
                write_atomic(self._output_path(entry.id), output, private=True)
                entry = msgspec.structs.replace(entry, has_output=True)
            except OSError as error:
                logger.warning("an answer could not be kept: {}", error)
        self._write(entry)

    def output(self, entry: Entry) -> bytes | None:
        """What was answered; None when it is no longer kept."""
        if not entry.has_output:
            return b""
        try:
            return self._output_path(entry.id).read_bytes()
        except OSError:
            return None

    def begun(self) -> list[Entry]:
        """Those that had begun and have no end."""
        return [entry for path in self._entries() if (entry := self._read(path)) is not None and not entry.ended_us]

    def _prune(self, now_us: int) -> None:
        """Raises OSError when too many commands are kept and none may go."""
        found = sorted(
            (entry for path in self._entries() if (entry := self._read(path)) is not None), key=lambda e: -e.begun_us
        )
        held = 0
        for number, entry in enumerate(found):
            output = self._output_path(entry.id)
            if entry.has_output and output.exists():
                held += output.stat().st_size
                if held > OUTPUT_BYTES or now_us - entry.ended_us > KEEP_US:
                    output.unlink(missing_ok=True)
            if entry.ended_us and now_us > max(entry.expires_us, entry.ended_us) + KEEP_US:
                output.unlink(missing_ok=True)
                self._path(entry.id).unlink(missing_ok=True)
            elif number >= ENTRIES:
                raise OSError(f"{len(found)} commands are remembered already, and none of them may be forgotten yet")

    def _entries(self) -> list[Path]:
        return list(self._directory.glob("*.json")) if self._directory.is_dir() else []

    def _read(self, path: Path) -> Entry | None:
        """A damaged entry stands for a command that had begun."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=Entry)
        except FileNotFoundError:
            return None
        except UNREADABLE:
            return Entry(
                id="", name="", by="", begun_us=0, expires_us=0, process="", ended_us=1,
                error="what was kept of this command is damaged: whether it ran is not known; it is not run again",
            )  # fmt: skip

    def _write(self, entry: Entry) -> None:
        write_atomic(self._path(entry.id), msgspec.json.encode(entry), private=True)

    def _path(self, id_: str) -> Path:
        return self._directory / f"{_name(id_)}.json"

    def _output_path(self, id_: str) -> Path:
        return self._directory / f"{_name(id_)}.out"


def _name(id_: str) -> str:
    return hashlib.sha256(id_.encode("utf-8", "surrogatepass")).hexdigest()[:32]
