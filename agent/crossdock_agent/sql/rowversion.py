"""Mode rowversion: values the database hands out when a row is written, of which it knows the lowest still uncommitted.

Everything below that one is settled: no later commit can appear there. So a pass reads, in pages, strictly behind the
last row taken and strictly below what the database called open when the pass began. There is no look-back window,
nothing is read twice and nothing is remembered but the position.

SQL Server: a `rowversion` column, below `MIN_ACTIVE_ROWVERSION()`. PostgreSQL: a bigint column that a trigger sets to
`txid_current()`, below `txid_snapshot_xmin`; a long transaction anywhere in that cluster then holds the reading up.
SQLite: any value that grows with each change, as there is one writer at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from crossdock.errors import UNREADABLE, ConfigError, CrossdockError
from crossdock_agent.sources.base import Draft, Finding, SourceContext
from crossdock_agent.sql.cursor import Position
from crossdock_agent.sql.doctor import examine
from crossdock_agent.sql.paging import Pager
from crossdock_agent.sql.reader import TableReader
from crossdock_agent.sql.reading import Reading, prepare
from crossdock_agent.sql.rows import Batch
from crossdock_agent.sql.settings import SqlTableSettings

VERSION = 1
_RENAME = "give the source a new name to read the table from its beginning"


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    version: int
    basis: str
    at: list[object]  # the cursor's columns of the last row taken
    is_open: bool  # its pass had not come to an end


class RowversionTable(TableReader):
    def __init__(self, settings: SqlTableSettings, context: SourceContext) -> None:
        super().__init__(settings, context)
        self._reading: Reading | None = None
        self._pager = Pager(settings, context.stop)
        self._quiet: object = None  # `Database.changes` when everything below the lowest open version had been read ...
        self._known: bytes | None = None  # ... if the checkpoint is this one: the commit of a pass may fail

    # --- the contract

    def check(self) -> Iterator[Finding]:
        yield from examine(
            self._settings,
            self._connect,
            self._context.wall_us,
        )

    def close(self) -> None:
        if self._reading is not None:
            self._reading.database.close()
        self._reading = self._quiet = None

    # --- one pass

    def _read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        stored, reading = self._decoded(checkpoint), self._open()
        changes = reading.database.changes() if reading.detects_changes else None
        if changes is not None and changes == self._quiet and checkpoint == self._known:
            return
        after: Position | None = stored.at if stored else None
        below = _lowest_open(reading)
        self._refuse_a_step_back(after, below)
        if stored is None and self._settings.start == "now":
            newest = reading.database.rows(reading.statements.newest())[0][0]
            yield self._draft(reading, Batch(), self._start(newest, below), is_open=False)
            return
        last: Position | None = None
        held: Draft | None = None
        batch = Batch()
        for page in self._pager.pages(reading, None, after, below):
            at, end = 0, page.ends[-1]
            while at < end:
                at = batch.take(page, at, end)
                if at < end or batch.rejects:  # full
                    if held is not None:
                        yield held
                    held, batch = self._draft(reading, batch, batch.position, is_open=True), Batch()
            last = page.position(end)
            del page  # before the next one is fetched
        if self._context.stop.is_set():
            return
        if not batch.is_empty:
            if held is not None:
                yield held
            held = self._draft(reading, batch, batch.position, is_open=True)
        if held is None and stored is not None and stored.is_open:  # what was left of a broken-off pass has vanished
            held = self._draft(reading, Batch(), stored.at, is_open=True)
        if held is not None:
            held.header.closes = True
            held.header.checkpoint = checkpoint = self._encoded(list(last or after or ()), is_open=False)
        self._quiet, self._known = changes, checkpoint
        if held is not None:
            yield held

    def _start(self, newest: object, below: int | None) -> Position:
        """Behind every row that is there; a row of an open transaction is still to come."""
        top = int(str(newest)) if newest is not None else 0
        return [top if below is None else min(top, below - 1)]

    def _refuse_a_step_back(self, after: Position | None, below: int | None) -> None:
        """Raises CrossdockError when the position is not under *below*. Nothing is lost by stopping: there is then
        nothing behind it to read."""
        if below is None or after is None or int(str(after[0])) < below:
            return
        self._context.counters.add("steps_back")
        raise CrossdockError(
            f"{self._settings.subject} was read up to version {after[0]}, but the database now hands out {below}",
            hint="if it was restored, give the source a new name to read it anew",
        )

    def _draft(self, reading: Reading, batch: Batch, at: Position, *, is_open: bool) -> Draft:
        header = reading.header(self._settings.table)
        header.records = len(batch.rows)
        header.rejects.extend(batch.rejects)
        header.checkpoint = self._encoded(list(at), is_open=is_open)
        header.closes = not is_open
        return Draft(header, b"".join(batch.rows))

    # --- state

    def _open(self) -> Reading:
        if self._reading is not None and not self._reading.database.is_current():
            self.close()
        if self._reading is None:
            database = self._connect()
            try:
                self._reading = prepare(database, self._settings)
            except BaseException:
                database.close()
                raise
        return self._reading

    def _encoded(self, at: list[object], *, is_open: bool) -> bytes:
        return msgspec.msgpack.encode(Checkpoint(VERSION, self._settings.basis, at, is_open))

    def _decoded(self, checkpoint: bytes | None) -> Checkpoint | None:
        if checkpoint is None:
            return None
        try:
            stored = msgspec.msgpack.decode(checkpoint, type=Checkpoint)
        except UNREADABLE as error:
            raise ConfigError(
                f"source {self._context.name}: its checkpoint cannot be read: {error}", hint=_RENAME
            ) from error
        if stored.version != VERSION or stored.basis != self._settings.basis:
            raise ConfigError(
                f"source {self._context.name} stands at a position of another reading ({stored.basis})", hint=_RENAME
            )
        return stored

    def _cancel(self) -> None:
        reading = self._reading
        if reading is not None:
            reading.database.cancel()


def _lowest_open(reading: Reading) -> int | None:
    """The lowest version that an open transaction may still write; None when there is no such transaction."""
    value = reading.database.rows(reading.database.dialect.min_active or "")[0][0]
    return None if value is None else int(value)
