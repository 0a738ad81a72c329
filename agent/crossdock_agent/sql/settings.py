"""The settings of an `sql_table` source. They are complete and consistent before anything is opened."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec

from crossdock_agent.sql.brake import ReconcileSettings, SnapshotSettings

_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Connection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the table is: a SQLite file, or a server by its ODBC connection string and dialect."""

    sqlite: str | None = None  # path of the file; it is opened read-only
    encoding: str = "utf-8"  # of text in a SQLite file; what does not decode travels as it is
    odbc: str | None = None  # may contain {secret:NAME}
    dialect: Literal["postgresql", "mariadb", "mysql"] | None = None

    def __post_init__(self) -> None:
        if (self.sqlite is None) == (self.odbc is None):
            raise ValueError("connection needs either 'sqlite' or 'odbc'")
        if (self.odbc is None) != (self.dialect is None):
            raise ValueError("'odbc' needs a 'dialect' (postgresql, mariadb, mysql), 'sqlite' has none")


class SqlTableSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table or view that is read again and again for what is new.

    `mode: incrementing` reads rows by a growing whole-number `column`, each as it first appears: right for tables that
    are only added to. `mode: timestamp` reads rows whose time in `column` is later than before: right for rows that
    change; several columns count as the first of them that is not NULL (`[write_date, create_date]`).

    `mode: snapshot` reads the whole table by `key` on every poll and compares it with what was read before: for tables
    that have no watermark; it sees deletes too. `reconcile` does that beside the other two modes, on a schedule of its
    own, for the rows that they cannot see. `initial_load: key` reads what is there at first in the order of the key,
    while changes are read beside it.

    `key` names the columns that tell rows apart. Rows that agree in time and all but the last of them (the lines of an
    order) travel together. Watermark and key columns are always read, listed or not.
    """

    connection: Connection
    table: str  # or a view; may be `schema.table`
    mode: Literal["incrementing", "timestamp", "snapshot"]
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
    purged: bool = False  # the newest rows may be deleted in normal operation; otherwise that stops the source
    page_rows: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = 5_000
    poll_seconds: _Seconds = 5.0
    statement_timeout_seconds: _Seconds = 30.0
    snapshot: SnapshotSettings | None = None  # of mode snapshot
    reconcile: ReconcileSettings | None = None  # of modes incrementing and timestamp
    initial_load: Literal["watermark", "key"] = "watermark"  # in which order the rows already there are read

    def __post_init__(self) -> None:
        if not self.watermark and self.mode != "snapshot":
            raise ValueError("'column' is empty")
        self._check_by_key()
        if self.mode == "incrementing" and len(self.watermark) != 1:
            raise ValueError("mode incrementing takes one 'column'")
        if self.mode == "timestamp" and not self.key:
            raise ValueError("mode timestamp needs 'key': the columns that tell rows with equal timestamps apart")
        if self.columns is not None and not self.columns:
            raise ValueError("'columns' is empty; leave it out to read all")

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

    @property
    def watermark(self) -> list[str]:
        return [self.column] if isinstance(self.column, str) else self.column

    @property
    def basis(self) -> str:
        """What a position is a position in; it changes when a stored one no longer applies."""
        return f"{self.mode} {self.table} {','.join(self.watermark)} {','.join(self.key)}"

    @property
    def key_basis(self) -> str:
        """What rows kept by key are rows of. Rows that another filter leaves out have not vanished."""
        where = hashlib.blake2b((self.where or "").encode(), digest_size=4).hexdigest()
        return f"{self.mode} {self.table} {','.join(self.key)} {where}"
