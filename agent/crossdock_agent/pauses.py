"""Sources that a person has paused: a small file, so that a pause outlives restarts and changes of configuration.

A pause belongs to the name: a source that is taken out of the configuration and put back is paused still, until someone
resumes it. A file that cannot be read pauses nothing and is reported: data that waits unnoticed is worse than data that
is read.
"""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec

from crossdock.errors import UNREADABLE
from crossdock_agent.files import write_atomic
from crossdock_agent.problems import Problems

PROBLEM = "pauses"


class Pause(msgspec.Struct, frozen=True):
    """*since_us* by this machine's clock."""

    since_us: int
    by: str


class Pauses:
    """By name of source. Any thread may ask; without *path* nothing is ever paused."""

    def __init__(self, path: Path | None = None, problems: Problems | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._pauses: dict[str, Pause] = {}
        if path is None:
            return
        try:
            self._pauses = msgspec.json.decode(path.read_bytes(), type=dict[str, Pause])
        except FileNotFoundError:
            return
        except (OSError, *UNREADABLE) as error:
            if problems is not None:
                problems.report(PROBLEM, f"{path} cannot be read, so no source is paused: {error}")

    def of(self, source: str) -> Pause | None:
        return self._pauses.get(source)

    def all(self) -> dict[str, Pause]:
        return dict(self._pauses)

    def pause(self, source: str, by: str, now_us: int) -> Pause:
        """Pause *source*; one that is paused keeps its time and author. Raises OSError; nothing changed then."""
        with self._lock:
            found = self._pauses.get(source)
            if found is None:
                found = Pause(now_us, by)
                self._store({**self._pauses, source: found})
            return found

    def resume(self, source: str) -> Pause | None:
        """Its pause, which is over; None when there was none. Raises OSError."""
        with self._lock:
            found = self._pauses.get(source)
            if found is not None:
                self._store({name: pause for name, pause in self._pauses.items() if name != source})
            return found

    def _store(self, pauses: dict[str, Pause]) -> None:
        if self._path is not None:
            write_atomic(self._path, msgspec.json.encode(pauses))
        self._pauses = pauses
