"""What every mode that only reads has in common: how a pass ends, and that nothing is ever done to the table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from crossdock.errors import CrossdockError
from crossdock_agent.sources.base import Draft, Finding, SourceContext
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.reading import connect
from crossdock_agent.sql.settings import SqlTableSettings


class TableReader(ABC):
    """A source of one connection. After any error the connection is discarded; a stop breaks a statement off."""

    def __init__(self, settings: SqlTableSettings, context: SourceContext) -> None:
        self._settings, self._context = settings, context

    def read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        self._context.stop.on_set(self._cancel)
        try:
            yield from self._read(checkpoint)
        except CrossdockError:
            self.close()
            if not self._context.stop.is_set():  # a statement broken off by the stop is no failure
                raise
        finally:
            self._context.stop.forget(self._cancel)

    def release(self, token: bytes) -> None:  # noqa: B027 - to do nothing is all of it
        """Nothing was promised: the table is never written to."""

    @abstractmethod
    def check(self) -> Iterator[Finding]: ...

    def watch(self) -> list[Path]:
        return []  # a database's own files change far more often than the one table

    def poll_seconds(self) -> float:
        return self._settings.poll_seconds

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        """One pass."""

    @abstractmethod
    def _cancel(self) -> None:
        """Break off the running statement, from any thread."""

    def _connect(self) -> Database:
        return connect(self._settings, self._context.secret, self._context.wall_us)
