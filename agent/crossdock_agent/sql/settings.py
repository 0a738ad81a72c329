"""The settings of an `sql_table` source. They are complete and consistent before anything is opened."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec

from crossdock_agent.sql.brake import ReconcileSettings, SnapshotSettings
from crossdock_agent.sql.children import Aggregate

MAX_LOB_BYTES = 8 * 1024 * 1024  # a row may not be larger either

_USED_BY = {  # settings that other modes would not look at
    "look_back_seconds": ("incrementing", "timestamp"),
    "look_back_ids": ("incrementing",),
    "purged": ("incrementing", "timestamp"),
    "clock": ("timestamp",),
    "zone": ("timestamp",),
}

_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Connection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the table is: a SQLite file, or a server by its ODBC connection string and dialect."""

    sqlite: str | None = None  # path of the file; it is opened read-only
    encoding: str = "utf-8"  # of text in a SQLite file; what does not decode travels as it is
    odbc: str | None = None  # may contain {secret:NAME}
    dialect: Literal["postgresql", "mariadb", "mysql", "sqlserver", "oracle", "db2", "firebird"] | None = None
    isolation: Literal["snapshot", "read_committed", "read_uncommitted"] | None = None  # None: the dialect's own

    def __post_init__(self) -> None:
        if (self.sqlite is None) == (self.odbc is None):
            raise ValueError("connection needs either 'sqlite' or 'odbc'")
        if (self.odbc is None) != (self.dialect is None):
            raise ValueError("'odbc' needs a 'dialect' such as postgresql or sqlserver, 'sqlite' has none")
        if self.sqlite is not None and self.isolation is not None:
            raise ValueError("'isolation' is for 'odbc': SQLite shows one state and nothing uncommitted")
        if self.odbc is not None and self.encoding != "utf-8":
            raise ValueError("'encoding' is for 'sqlite': a driver has its own setting for it")


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a row that was taken gets. A row is unread while *column* is NULL or holds anything but *value*."""

    column: Annotated[str, msgspec.Meta(min_length=1, description="the column that is set")]
    value: Annotated[
        str,
        msgspec.Meta(pattern=r"^[\w .:-]+$", description="now: the database's time in UTC; else this text"),
    ] = "now"


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mode outbox: what becomes of a row once the controller has it, and how many may be on their way."""

    after: Annotated[Literal["delete", "mark"], msgspec.Meta(description="what is done to a row once it arrived")] = (
        "delete"
    )
    mark: Mark | None = None
    max_in_flight: Annotated[
        int, msgspec.Meta(ge=1, description="rows taken and not yet deleted or marked; at this many reading pauses")
    ] = 1_000_000
    rescan_seconds: Annotated[
        float, msgspec.Meta(gt=0, description="with many rows in flight: how often all of the table is looked through")
    ] = 30.0

    def __post_init__(self) -> None:
        if (self.after == "mark") != (self.mark is not None):
            raise ValueError("'after: mark' needs 'mark: {column: ...}', and 'mark' needs 'after: mark'")


class ChangeLogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mode change_log: the log table that triggers fill, see `crossdock-agent changelog`."""

    log_table: (
        Annotated[
            str,
            msgspec.Meta(min_length=1, description="its name; default crossdock_log_<table>, beside the table"),
        ]
        | None
    ) = None
    connection: (
        Annotated[
            Connection,
            msgspec.Meta(description="with the rights to create tables and triggers; used by 'changelog' only"),
        ]
        | None
    ) = None
    reader: (
        Annotated[
            str,
            msgspec.Meta(min_length=1, description="the login that reads: it gets its grants at --install"),
        ]
        | None
    ) = None
    alarm_rows: Annotated[int, msgspec.Meta(ge=1, description="more rows in the log are an alarm")] = 1_000_000
    max_in_flight: Annotated[
        int, msgspec.Meta(ge=1, description="rows taken and not yet deleted; at this many reading pauses")
    ] = 1_000_000
    rescan_seconds: Annotated[
        float, msgspec.Meta(gt=0, description="with many gaps among the rows in flight: pause between two passes")
    ] = 30.0


class SqlTableSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table or view that is read again and again for what is new.

    `mode: incrementing` reads rows by a growing whole-number `column`, each as it first appears: right for tables that
    are only added to. `mode: timestamp` reads rows whose time in `column` is later than before: right for rows that
    change; several columns count as the first of them that is not NULL (`[write_date, create_date]`).
    `mode: rowversion` reads rows whose `column` is set anew with each change by the database (SQL Server's rowversion)
    or a trigger (`txid_current()` in PostgreSQL), and only below what a transaction still open may hold.

    `mode: outbox` takes the rows of a table that is written for us and, once the controller has them, deletes or marks
    exactly those; `column` is its id. `mode: change_log` does so with a log that triggers on the table fill, and so
    sees every version and every delete; it needs `key`, and no `column`.

    `mode: snapshot` reads the whole table by `key` on every poll and compares it with what was read before: for tables
    that have no watermark; it sees deletes too. `reconcile` does that beside the other two modes, on a schedule of its
    own, for the rows that they cannot see. `initial_load: key` reads what is there at first in the order of the key,
    while changes are read beside it.

    `key` names the columns that tell rows apart. Rows that agree in time and all but the last of them (the lines of an
    order) travel together. Watermark and key columns are always read, listed or not.
    """

    connection: Connection
    table: str  # or a view; may be `schema.table`
    mode: Literal["incrementing", "timestamp", "rowversion", "outbox", "change_log", "snapshot"]
    column: str | list[str] = []
    key: list[str] = []
    columns: list[str] | None = None  # None: all
    where: str | None = (
        None  # SQL put into the query as it stands, the table being `s`: whoever configures it is trusted
    )
    start: Literal["beginning", "now"] = "beginning"
    look_back_seconds: Annotated[float, msgspec.Meta(ge=0)] = 60.0  # the longest transaction of a writer
    look_back_ids: Annotated[int, msgspec.Meta(ge=0)] = 10_000  # the same in ids, for a first read
    clock: Literal["server", "utc"] | None = None  # the zone of timestamps without one; None: server, in SQLite utc
    zone: str | None = None  # instead of `clock`: the IANA zone those timestamps are written in
    purged: bool = False  # the newest rows may be deleted in normal operation; otherwise that stops the source
    page_rows: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = 5_000
    poll_seconds: _Seconds = 5.0
    statement_timeout_seconds: _Seconds = 30.0
    max_lob_bytes: Annotated[int, msgspec.Meta(ge=256, le=MAX_LOB_BYTES)] = MAX_LOB_BYTES  # longer: set aside
    aggregate: Aggregate | None = None  # rows of child tables that are read as part of the parent's record
    outbox: OutboxSettings | None = None  # of mode outbox
    change_log: ChangeLogSettings | None = None  # of mode change_log
    snapshot: SnapshotSettings | None = None  # of mode snapshot
    reconcile: ReconcileSettings | None = None  # of modes incrementing and timestamp
    initial_load: Literal["watermark", "key"] = "watermark"  # in which order the rows already there are read

    def __post_init__(self) -> None:
        if not self.watermark and self.mode not in ("change_log", "snapshot"):
            raise ValueError("'column' is empty")
        self._check_taking()
        self._check_by_key()
        self._check_used()
        if self.mode == "incrementing" and len(self.watermark) != 1:
            raise ValueError("mode incrementing takes one 'column'")
        if self.mode == "timestamp" and not self.key:
            raise ValueError("mode timestamp needs 'key': the columns that tell rows with equal timestamps apart")
        if self.mode == "rowversion" and not (self.key and len(self.watermark) == 1):
            raise ValueError("mode rowversion takes one 'column' and needs 'key': the columns that tell rows apart")
        if self.zone is not None:
            _require_zone(self.zone, self.clock)
        if self.columns is not None and not self.columns:
            raise ValueError("'columns' is empty; leave it out to read all")
        if self.aggregate is not None and self.mode not in ("incrementing", "timestamp"):
            raise ValueError(f"mode {self.mode} reads no 'aggregate'; modes timestamp and incrementing do")
        if self.aggregate is not None and (self.reconcile is not None or self.initial_load == "key"):
            raise ValueError("'aggregate' goes with neither 'reconcile' nor 'initial_load: key'")
        if self.aggregate is not None:
            self.aggregate.check(self.key, incrementing=self.mode == "incrementing")

    def _check_taking(self) -> None:
        if self.outbox is not None and self.mode != "outbox":
            raise ValueError("'outbox' is for mode outbox")
        if self.change_log is not None and self.mode != "change_log":
            raise ValueError("'change_log' is for mode change_log")
        if self.mode == "outbox" and len(self.watermark) != 1:
            raise ValueError("mode outbox takes one 'column': the id")
        if self.mode == "outbox" and self.start == "now":
            raise ValueError("mode outbox has no 'start': whatever is in the table is taken")
        if self.mode == "change_log" and (not self.key or self.watermark):
            raise ValueError("mode change_log needs 'key', and takes no 'column'")
        if self.mode == "change_log" and self.where is not None:
            raise ValueError("mode change_log takes no 'where': a row that leaves the condition would never be deleted")

    def _check_by_key(self) -> None:
        if self.mode == "snapshot":
            if not self.key or self.watermark:
                raise ValueError("mode snapshot needs 'key', and takes no 'column'")
            if self.start == "now":
                raise ValueError("mode snapshot has no 'start': what is not sent cannot be compared")
        by_watermark = self.mode in ("incrementing", "timestamp")
        if self.snapshot is not None and self.mode != "snapshot":
            raise ValueError("'snapshot' is for mode snapshot")
        if self.reconcile is not None and not by_watermark:
            raise ValueError("'reconcile' is for modes incrementing and timestamp")
        if self.initial_load == "key" and (not by_watermark or self.start == "now"):
            raise ValueError("'initial_load: key' is for modes incrementing and timestamp, with 'start: beginning'")

    def _check_used(self) -> None:
        for field in msgspec.structs.fields(type(self)):
            modes = _USED_BY.get(field.name, (self.mode,))
            if self.mode not in modes and getattr(self, field.name) != field.default:
                raise ValueError(f"'{field.name}' is for mode {' and '.join(modes)}: {self.mode} makes no use of it")

    @property
    def watermark(self) -> list[str]:
        return [self.column] if isinstance(self.column, str) else self.column

    @property
    def subject(self) -> str:
        """How messages call it."""
        return f"table {self.table}"

    @property
    def filter(self) -> str:
        """What decides which rows there are."""
        return self.where or ""

    @property
    def basis(self) -> str:
        """What a position is a position in; it changes when a stored one no longer applies."""
        return f"{self.mode} {self.table} {','.join(self.watermark)} {','.join(self.key)}"

    @property
    def key_basis(self) -> str:
        """What rows kept by key are rows of. Rows that another filter leaves out have not vanished."""
        where = hashlib.blake2b(self.filter.encode(), digest_size=4).hexdigest()
        return f"{self.mode} {self.table} {','.join(self.key)} {where}"


class SqlQuerySettings(SqlTableSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A SELECT whose result is read as `sql_table` reads a table: `column` and `key` are columns of the result.

    The query is put into FROM as it stands, so it is run again for every page, with the condition and order of the page
    around it: whoever configures it is trusted, and its watermark should be an indexed column.
    """

    query: str
    table: str = "query"  # the name under which its rows come
    mode: Literal["incrementing", "timestamp", "rowversion", "snapshot"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.aggregate is not None:
            raise ValueError("'aggregate' is for sql_table: a query joins what it needs itself")

    @property
    def subject(self) -> str:
        return f"query {self.table}"

    @property
    def filter(self) -> str:
        return f"{self.query} {self.where or ''}"


def _require_zone(zone: str, clock: str | None) -> None:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if clock is not None:
        raise ValueError("'zone' stands in place of 'clock': name one of them")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"zone {zone!r} is not known; name one such as Europe/Amsterdam") from error
