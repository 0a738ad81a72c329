"""Mode snapshot: a table that has no watermark is read as a whole, again and again, and compared with what was read.

It sees every row as it is at the moment of a scan, and that a row is gone; not what happened to it in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from loguru import logger

from crossdock.errors import UNREADABLE, ConfigError
from crossdock_agent.sources.base import Draft, Finding, SourceContext
from crossdock_agent.sql.brake import SnapshotSettings
from crossdock_agent.sql.doctor import examine_by_key
from crossdock_agent.sql.keychunks import Chunks, Kept, KeptLostError
from crossdock_agent.sql.keyreading import KeyReading
from crossdock_agent.sql.keyscan import KeyScan, Verdict
from crossdock_agent.sql.reader import TableReader
from crossdock_agent.sql.revision import Entry
from crossdock_agent.sql.settings import SqlTableSettings

CHECKPOINT_VERSION = 1
RENAME = "give the source a new name to read the table from its beginning, or put the old settings back"


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    version: int
    basis: str
    kept: Kept


class SnapshotTable(TableReader):
    def __init__(self, settings: SqlTableSettings, context: SourceContext) -> None:
        super().__init__(settings, context)
        self._log = logger.bind(source=context.name, table=settings.table)
        self._reading: KeyReading | None = None
        self._scan: KeyScan | None = None  # None: to be made from the checkpoint
        self._known: bytes | None = None  # the checkpoint for which it stands as it does
        self._quiet: object = None  # `Database.changes` as it was when a scan began that found nothing amiss

    # --- the contract

    def check(self) -> Iterator[Finding]:
        yield from examine_by_key(self._settings, self._connect)

    def close(self) -> None:
        if self._reading is not None:
            self._reading.database.close()
        self._reading, self._quiet = None, None

    # --- one scan

    def _read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        reading = self._open()
        scan = self._scan if self._scan is not None and checkpoint == self._known else self._load(checkpoint)
        changes = reading.database.changes() if reading.reading.detects_changes else None
        whole = not scan.under_way  # what is left of a broken-off scan says nothing of the ranges before
        if changes is not None and changes == self._quiet and whole:
            return
        self._scan, self._quiet = None, None  # until the scan has come to its end
        settings = self._settings
        try:
            yield from scan.run(reading, settings.table, settings.poll_seconds)
        except KeptLostError as lost:
            self._log.warning("what was known of the rows is lost ({}): all are read and sent anew", lost)
            self._context.counters.add("rows_forgotten")
            scan = self._anew(scan.chunks.kept)
            yield from scan.run(reading, settings.table, settings.poll_seconds)
        if not self._context.stop.is_set():
            self._scan, self._quiet = scan, changes if whole else None

    # --- the scan's host

    def judge(self, _row: Sequence[Any], _content: bytes, _kept: Entry | None) -> Verdict:
        return Verdict.SEND

    def vanished(self, _key: bytes) -> bool:
        return True

    def checkpoint(self) -> bytes:
        self._known = msgspec.msgpack.encode(Checkpoint(CHECKPOINT_VERSION, self._settings.key_basis, self._kept))
        return self._known

    # --- state

    def _open(self) -> KeyReading:
        if self._reading is not None and not self._reading.database.is_current():
            self.close()
        if self._reading is None:
            database = self._connect()
            try:
                self._reading = KeyReading(database, self._settings, self._context.stop)
            except BaseException:
                database.close()
                raise
        return self._reading

    def _load(self, checkpoint: bytes | None) -> KeyScan:
        """Of a pass whose commit failed, nothing holds that was known since."""
        self._known, self._scan, self._quiet = checkpoint, None, None
        return self._scan_from(Kept() if checkpoint is None else self._decoded(checkpoint).kept)

    def _anew(self, lost: Kept) -> KeyScan:
        return self._scan_from(Kept(accept=lost.accept))

    def _scan_from(self, kept: Kept) -> KeyScan:
        self._kept, context = kept, self._context
        return KeyScan(
            self, Chunks(kept, context.memory.recall), self._settings.snapshot or SnapshotSettings(),
            context.counters, context.stop, context.monotonic,
        )  # fmt: skip

    def _decoded(self, checkpoint: bytes) -> Checkpoint:
        try:
            stored = msgspec.msgpack.decode(checkpoint, type=Checkpoint)
        except UNREADABLE as error:
            raise ConfigError(
                f"source {self._context.name}: its checkpoint cannot be read: {error}", hint=RENAME
            ) from error
        if stored.version != CHECKPOINT_VERSION or stored.basis != self._settings.key_basis:
            raise ConfigError(
                f"source {self._context.name} knows the rows of another table, key or 'where' ({stored.basis})",
                hint=RENAME,
            )
        return stored

    def _cancel(self) -> None:
        reading = self._reading
        if reading is not None:
            reading.database.cancel()
