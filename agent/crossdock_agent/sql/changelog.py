"""Mode change_log: every committed version of a row and every delete with its last image, from a log triggers fill.

The log is read and emptied as an outbox table is (`sql.taking`); its sequence is `$version`, its operation `$op`.

The first time, the table itself is read once in key order, a chunk at a time between two passes over the log, with
`$version` 0. A chunk is read after the log entries emitted before it were committed, so it brings no version older than
theirs; whatever changes after it appears in the log later. So each row ends in its last version.

A change that a trigger failed to log left a row of operation X (a gap). Once the triggers are right again the table is
read anew, under the number of the last gap, because a row may stand again as it once did and must not look like a
repetition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
from loguru import logger

from crossdock.errors import ConfigError, CrossdockError, SourceUnavailable
from crossdock_agent.sources.base import Draft, Finding, SourceContext
from crossdock_agent.sql import installing, outboxes, taken
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.dialects import TypeRule
from crossdock_agent.sql.paging import PAGE_BYTES, SMALLEST_PAGE_ROWS, fitting
from crossdock_agent.sql.reading import connect
from crossdock_agent.sql.releasing import Deed, Taking
from crossdock_agent.sql.rows import Batch, Page
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.statements import CatalogColumn, CatalogTable, TableColumn, resolve
from crossdock_agent.sql.taking import Plan, Taker, guarded
from crossdock_agent.sql.triggers.plan import OPERATION, SEQUENCE

LOOK_SECONDS = 60.0  # how often triggers are looked at, and the rows of the log counted ...
SLOW_SECONDS = 600.0  # ... if there are not so many that counting is felt
MANY_ROWS = 200_000
MAX_GAPS = 100_000  # that one batch can carry away
OP, VERSION = "$op", "$version"
_OP = TypeRule("text", "CASE WHEN {c} = 'D' THEN 'delete' ELSE 'upsert' END")


class NotInstalledError(ConfigError):
    """The log or its triggers are not there."""


class Load(msgspec.Struct, frozen=True, array_like=True):
    """How far the table itself was read; None for *after*: from its beginning."""

    done: bool = False
    after: list[object] | None = None
    version: int = 0


class ChangeLogTable:
    def __init__(self, settings: SqlTableSettings, context: SourceContext) -> None:
        self._settings, self._context = settings, context
        how = installing.settings_of(settings)
        self._alarm_rows = how.alarm_rows
        self._basis = f"{settings.basis} {how.log_table or ''}".strip()
        plan = Plan(
            settings.table, self._basis, self._prepare_log, Deed(exempt=f"{OPERATION} = 'X'"), True, how.max_in_flight,
            how.rescan_seconds,
        )  # fmt: skip
        self._taker = Taker(settings, context, plan)
        self._looked = self._measure_at = float("-inf")
        self._base: tuple[Database, Taking] | None = None
        self._rows = min(50, settings.page_rows)
        self._log = logger.bind(source=context.name, table=settings.table)

    # --- the contract

    def read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        try:
            yield from guarded(self._taker, self._context, self._read(checkpoint))
        except NotInstalledError as error:
            # not a fault of the settings, for which a revision is refused: they must run so that 'changelog' finds them
            raise SourceUnavailable(error.message, hint=error.hint) from error

    def release(self, token: bytes) -> None:
        """Delete the log's rows that the token names. Raises SourceUnavailable."""
        self._taker.release(token)

    def check(self) -> Iterator[Finding]:
        stage = "login"
        try:
            with closing(connect(self._settings, self._context.secret, self._context.wall_us)) as database:
                yield Finding("login", ok=True, detail=str(database.rows(database.dialect.version)[0][0]))
                stage = "change log"
                yield from installing.findings(database, self._settings)
        except CrossdockError as error:
            yield Finding(stage, ok=False, detail=error.message, hint=error.hint)
            return
        yield from self._taker.check()

    def watch(self) -> list[Path]:
        return []

    def poll_seconds(self) -> float:
        return self._settings.poll_seconds

    def close(self) -> None:
        self._taker.close()
        self._base, self._looked = None, float("-inf")

    # --- one pass

    def _read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        database = self._taker.open().reading.database
        if self._base is None or self._base[0] is not database:
            self._base, self._looked = None, float("-inf")
        self._taker.load(checkpoint)
        yield from self._taker.passing()
        if not self._look(database):
            self.close()
            return
        while not (load := self._load()).done and not self._context.stop.is_set():
            yield from self._chunk(database, load)
            yield from self._taker.passing()

    def _load(self) -> Load:
        if self._taker.extra:
            return msgspec.msgpack.decode(self._taker.extra, type=Load)
        return Load(done=self._settings.start == "now")

    def _chunk(self, database: Database, load: Load) -> Iterator[Draft]:
        """One page of the table itself. The last draft closes, so that releases have their turn."""
        taking = self._table(database)
        reading = taking.reading
        asked = fitting(reading, load.after, self._rows, SMALLEST_PAGE_ROWS, self._settings.max_lob_bytes)
        rows = database.rows(*reading.statements.page(load.after, asked))
        full = len(rows) >= asked
        page = Page(reading.shape, rows, full=full, may_split=True)
        end, at = page.ends[-1] if page.ends else 0, 0
        if full and not end:
            raise ConfigError(
                f"table {self._settings.table}: {asked} rows share one key",
                hint="name the columns of the primary key in 'key'",
            )
        while at < end:
            batch = Batch()
            at = batch.take(page, at, end)
            last = at >= end and not full
            after = Load(done=last, after=list(page.position(at)), version=load.version)
            yield self._draft(database, taking, batch, after, closes=at >= end)
        if not end:
            yield self._draft(database, taking, Batch(), Load(True, load.after, load.version), closes=True)
        limit = self._settings.page_rows
        self._rows = max(SMALLEST_PAGE_ROWS, asked // 4) if page.bytes > PAGE_BYTES else min(limit, asked * 10)

    def _draft(self, database: Database, taking: Taking, batch: Batch, load: Load, *, closes: bool) -> Draft:
        """The last one of a reading after a gap takes the gap's rows out of the log, once it arrived."""
        header = taking.reading.header(self._settings.table)
        header.records, header.closes = len(batch.rows), closes
        header.rejects.extend(batch.rejects)
        self._taker.extra = msgspec.msgpack.encode(load)
        header.checkpoint = self._taker.checkpoint()
        self._taker.committed(header.checkpoint)
        gaps: list[int] = []
        if load.done and load.version:
            gaps = installing.gaps(database, installing.inspect(database, self._settings).plan, load.version)[:MAX_GAPS]
        token = taken.encode(self._basis, [], [(number,) for number in gaps], ()) if gaps else None
        return Draft(header, b"".join(batch.rows), (), token)

    def _look(self, database: Database) -> bool:
        """Set the counters, and begin to read anew after a gap. Raises NotInstalledError when changes are not logged.

        False when the connection is to be made anew: it broke, or the log has other columns than when it was made.
        """
        now = self._context.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return True
        state = installing.inspect(database, self._settings)
        if not state.is_whole:
            names = ", ".join(state.absent)
            raise NotInstalledError(
                f"table {self._settings.table}: changes are not logged, the triggers {names} are missing",
                hint=f"run 'crossdock-agent changelog {self._context.name} --install'",
            )
        self._looked = now
        self._context.counters.set("columns_not_logged", len(state.plan.missing))
        if not state.is_current:
            self._log.warning("the table changed since its triggers were made; see 'crossdock-agent changelog'")
        same_columns = sorted([OP, VERSION, *_shared(state, self._settings)]) == sorted(self._taker.open().names)
        return self._measure(database, state) and same_columns

    def _measure(self, database: Database, state: installing.State) -> bool:
        """False when counting broke the connection."""
        if self._context.monotonic() < self._measure_at:
            return True
        try:
            found = installing.measure(database, state.plan)
        except SourceUnavailable as error:  # a count too slow for the timeout must not stop the reading
            self._measure_at = self._context.monotonic() + SLOW_SECONDS
            self._log.warning("the rows of the change log were not counted: {}", error.message)
            return False
        self._measure_at = self._context.monotonic() + (SLOW_SECONDS if found.rows > MANY_ROWS else 0)
        counters, over, load = self._context.counters, found.rows > self._alarm_rows, self._load()
        counters.set("log_rows", found.rows)
        counters.set("log_rows_alarm", int(over))
        counters.set("log_gaps", found.gaps)
        if over:
            self._log.warning("the change log holds {} rows, over the {} of 'alarm_rows'", found.rows, self._alarm_rows)
        if found.last_gap > load.version and state.is_current and load.done:
            self._log.warning("{} changes were not logged ({}); the table is read anew", found.gaps, found.said)
            self._taker.extra, self._base = msgspec.msgpack.encode(Load(version=found.last_gap)), None
        return True

    # --- the two tables

    def _prepare_log(self, database: Database, columns: Sequence[str] | None) -> Taking:
        """With *columns*, those a batch was read with, though the table may have others by now."""
        _, log, shared = self._catalog(database)
        if columns is not None:
            shared = [name for name in columns if name not in (OP, VERSION)]
        sequence = _own(database, log, SEQUENCE)
        operation = _own(database, log, OPERATION)
        payload = [
            *(outboxes.find(database, log, log.name, name) for name in shared),
            TableColumn(OP, operation.quoted, operation.declared, "text", nullable=False, rule=_OP),
            TableColumn(VERSION, sequence.quoted, sequence.declared, "integer", nullable=False, rule=sequence.rule),
        ]
        where, cap = f"{operation.quoted} <> 'X'", self._settings.max_lob_bytes
        return outboxes.assemble(database, log, payload, [sequence], self._settings.key, where, cap)

    def _table(self, database: Database) -> Taking:
        """The table itself, with the log's columns."""
        version = self._load().version
        if self._base is None or self._base[0] is not database:
            base, _, shared = self._catalog(database)
            payload = [
                *(outboxes.find(database, base, self._settings.table, name) for name in shared),
                TableColumn(OP, "", "", "text", nullable=False, rule=TypeRule("text", "'upsert'")),
                TableColumn(VERSION, "", "", "integer", nullable=False, rule=TypeRule("integer", str(version))),
            ]
            cursor = [outboxes.find(database, base, self._settings.table, name) for name in self._settings.key]
            cap = self._settings.max_lob_bytes
            self._base = database, outboxes.assemble(database, base, payload, cursor, self._settings.key, "", cap)
        return self._base[1]

    def _catalog(self, database: Database) -> tuple[CatalogTable, CatalogTable, list[str]]:
        """The table, its log, and the columns both have, in the table's order. Raises ConfigError without a log."""
        state = installing.inspect(database, self._settings)
        plan = state.plan
        base = database.catalog(self._settings.table)
        name = (
            plan.target if database.dialect.name == "postgresql" else ".".join(n for n in (plan.schema, plan.log) if n)
        )
        log = database.catalog(name) if state.exists else None
        if base is None or log is None:
            raise NotInstalledError(
                f"table {self._settings.table} has no change log {plan.log}",
                hint=f"look at its SQL with 'crossdock-agent changelog {self._context.name}', then use --install",
            )
        return base, log, _shared(state, self._settings)


def _shared(state: installing.State, settings: SqlTableSettings) -> list[str]:
    """The columns both the table and its log have, in the table's order, spelled as in 'columns' if that is given."""
    missing = {column.name for column in state.plan.missing}
    names = [column.name for column in state.plan.columns]
    listed = [*settings.key, *settings.columns] if settings.columns is not None else []
    spelled = {name.lower(): name for name in listed if name not in names}
    return [spelled.get(name.lower(), name) for name in names if name not in missing]


def _own(database: Database, log: CatalogTable, name: str) -> TableColumn:
    found = log.find(name)
    if found is None:
        raise ConfigError(f"{log.name} has no column {name}", hint="it is no change log: name another 'log_table'")
    return resolve(database.dialect, CatalogColumn(found.name, found.declared, nullable=False), name)
