"""What differs between databases behind ODBC: one entry each in `DIALECTS`. A further one is a further entry.

An upsert is one statement everywhere, because the versions of one key stand in one run and must act one after another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crossdock_controller.sinks.sql_statements import Style
from crossdock_controller.sinks.sql_values import double_quoted, text_of

# SQLSTATE classes by which a database refuses the data: cardinality, data exception, integrity constraint, unhandled
# SIGNAL, check option, limit exceeded, RAISE in a trigger or procedure (ISO 9075-2, and PostgreSQL's appendix A).
ROW_CLASSES = ("21", "22", "23", "44", "45", "54", "P0")


@dataclass(frozen=True, slots=True)
class Dialect:
    style: Style
    begin: str
    savepoint: tuple[str, str, str]  # make it, go back to it, forget it; the last may be empty
    connection: str  # added to the connection string
    session: Callable[[int], tuple[str, ...]]  # commands of a new connection, by the timeout in seconds
    version: str  # a query of one value
    explain: str = ""  # before a statement, to have it compiled; empty where nothing of the kind is safe
    row_codes: frozenset[int] = frozenset()  # native codes of refused data that come with a general SQLSTATE
    messages_refuse: bool = False  # a message beside "success" means that the row was refused
    sole_unique: bool = False  # an upsert takes any unique index for the key, so there may be no other


_STANDARD = ("SAVEPOINT part", "ROLLBACK TO SAVEPOINT part", "RELEASE SAVEPOINT part")


def _backticked(name: str) -> str:
    return ".".join("`" + part.replace("`", "``") + "`" for part in name.split("."))


def _bracketed(name: str) -> str:
    return ".".join("[" + part.replace("]", "]]") + "]" for part in name.split("."))


DIALECTS: dict[str, Dialect] = {
    "postgresql": Dialect(
        style=Style("?", "bigint", double_quoted, text_of, (str,)),
        begin="BEGIN",
        savepoint=_STANDARD,
        # The driver's own savepoints and rollbacks are switched off; parameters become untyped literals.
        connection="Protocol=7.4-0;UseServerSidePrepare=0;BoolsAsChar=0",
        session=lambda seconds: (f"SET statement_timeout = {seconds * 1000}",),
        version="SHOW server_version",
        explain="EXPLAIN ",
    ),
    "mariadb": Dialect(
        style=Style("?", "SIGNED", _backticked, text_of, (str,), form="on_duplicate", nowhere=" FROM DUAL"),
        begin="START TRANSACTION",
        savepoint=_STANDARD,
        connection="CHARSET=utf8mb4",
        # Without strict mode a value that does not fit is cut, and nobody is told.
        session=lambda seconds: (
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
            f"SET SESSION max_statement_time = {seconds}",
            f"SET SESSION innodb_lock_wait_timeout = {seconds}",
        ),
        version="SELECT VERSION()",
        explain="EXPLAIN ",
        row_codes=frozenset({1264, 1265, 1292, 1364, 1366, 1406, 1644, 4025}),
        # Error 1265 ("Data truncated", for "12abc" in a number) comes with the SQLSTATE of a warning, so the driver
        # reports success for a row that was not stored. Mere notes do not come as messages.
        messages_refuse=True,
        sole_unique=True,
    ),
    "sqlserver": Dialect(
        style=Style("?", "bigint", _bracketed, text_of, (str,), form="merge", call="EXEC {name} {marks}"),
        begin="BEGIN TRANSACTION",
        savepoint=("SAVE TRANSACTION part", "ROLLBACK TRANSACTION part", ""),
        connection="",
        session=lambda seconds: ("SET XACT_ABORT OFF", f"SET LOCK_TIMEOUT {seconds * 1000}"),
        version="SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128))",
        row_codes=frozenset({245, 8114, 8115, 8152, 2628, 547, 515, 2601, 2627, 50000}),
    ),
}
