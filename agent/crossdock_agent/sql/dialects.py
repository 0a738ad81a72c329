"""Everything in which databases differ stands in these tables; no other module asks which database it talks to.

To add one: a `Dialect` with its catalog query, its types and its quirks, and a name in `DIALECTS`. Values that a driver
would bend (decimals, dates, times) are cast to text by the server, and watermarks are bound as text and cast back:
psqlodbc turns 44 BC into 0044 AD, MariaDB's driver drops the microseconds of a bound datetime.

SQLite, PostgreSQL and MariaDB are tested against real ones. MySQL, SQL Server, Oracle, Db2 and Firebird are tested by
the SQL they would be sent (tests/golden/sql); SQL Server's driver also by logging in to a server of its protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from crossdock_agent.sql.db2 import DB2
from crossdock_agent.sql.dialect import Dialect, TypeRule, rules
from crossdock_agent.sql.firebird import FIREBIRD
from crossdock_agent.sql.oracle import ORACLE
from crossdock_agent.sql.sqlserver import SQLSERVER

__all__ = ["DIALECTS", "MARIADB", "MYSQL", "POSTGRESQL", "SQLITE", "Dialect", "TypeRule", "sqlite_kind"]

# --- SQLite: cells keep their own type, whatever the column says (sqlite.org/datatype3.html); nothing is cast.

_SQLITE_KINDS = (  # the first that occurs in the declared type, as SQLite's own affinity rules search it
    ("BOOL", "boolean"), ("INT", "integer"), ("DATETIME", "datetime"), ("TIMESTAMP", "datetime"), ("DATE", "date"),
    ("TIME", "time"), ("CHAR", "text"), ("CLOB", "text"), ("TEXT", "text"), ("BLOB", "binary"), ("REAL", "float"),
    ("FLOA", "float"), ("DOUB", "float"), ("DEC", "decimal"), ("NUM", "decimal"), ("MONEY", "decimal"),
)  # fmt: skip


def sqlite_kind(declared: str) -> str:
    """The header's type for a declared type; "text" for a view's expression, which declares none."""
    upper = declared.upper()
    return next((kind for word, kind in _SQLITE_KINDS if word in upper), "text")


SQLITE = Dialect(
    name="sqlite",
    quote='"',
    nulls="first",
    row_values=True,
    types=MappingProxyType({}),
    other=TypeRule("text"),
    min_active="SELECT NULL",  # one writer at a time: what is committed later is higher
    version="SELECT 'SQLite ' || sqlite_version()",
    changes="PRAGMA data_version",
    snapshot=("BEGIN",),  # a read transaction keeps the state its first statement saw (sqlite.org/isolation.html)
)

# --- PostgreSQL

_POSTGRESQL_TYPES = rules(
    {
        "smallint|integer|bigint|oid": TypeRule("integer", bind="CAST(? AS bigint)"),
        "numeric": TypeRule("decimal", "CAST({c} AS text)", "CAST(? AS numeric)"),
        "money": TypeRule("decimal", "CAST(CAST({c} AS numeric) AS text)", "CAST(CAST(? AS numeric) AS money)"),
        "real|double precision": TypeRule("float", bind="CAST(? AS {t})"),
        "boolean": TypeRule("boolean", bind="CAST(? AS boolean)", position="CAST({c} AS text)"),
        "date": TypeRule("date", "CAST({c} AS text)", "CAST(? AS date)"),
        "time without time zone": TypeRule("time", "CAST({c} AS text)", "CAST(? AS time)"),
        "timestamp without time zone": TypeRule("datetime", "CAST({c} AS text)", "CAST(? AS timestamp)"),
        "timestamp with time zone": TypeRule("datetimetz", "CAST({c} AS text)", "CAST(? AS timestamptz)"),
        "bytea": TypeRule("binary", cap="SUBSTRING({c} FROM 1 FOR {n})", size="octet_length({c})"),
        "text|character varying": TypeRule("text", bind="CAST(? AS text)", cap="LEFT({c}, {n})"),
        "name": TypeRule("text", bind="CAST(? AS text)"),
        "json|jsonb|xml": TypeRule(
            "text", "CAST({c} AS text)", cap="LEFT(CAST({c} AS text), {n})", size="octet_length(CAST({c} AS text))"
        ),
        "character": TypeRule("text", bind="CAST(? AS bpchar)"),
    }
)

_POSTGRESQL_CATALOG = """\
SELECT n.nspname, c.relname, CASE WHEN c.relkind IN ('v', 'm', 'f') THEN 1 ELSE 0 END, a.attname,
 format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE a.atttypid END, NULL),
 CASE WHEN a.attnotnull OR t.typnotnull THEN 0 ELSE 1 END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
 JOIN pg_type t ON t.oid = a.atttypid
WHERE c.oid = to_regclass(CAST(? AS text)) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""

_POSTGRESQL_INDEXED = """\
SELECT a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE i.indisvalid AND n.nspname = CAST(? AS text) AND c.relname = CAST(? AS text)"""

_POSTGRESQL_CLOCK = """\
SELECT CAST(now() AT TIME ZONE 'UTC' AS text),
 CAST(now() AT TIME ZONE current_setting('crossdock.server_zone') AS text)"""

_POSTGRESQL_TYPEOF = """\
(SELECT format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, NULL)
 FROM pg_type t WHERE t.oid = pg_typeof({c}))"""

POSTGRESQL = Dialect(
    name="postgresql",
    quote='"',
    nulls="last",
    row_values=True,
    types=_POSTGRESQL_TYPES,
    other=TypeRule("text", "CAST({c} AS text)", "CAST(? AS {t})"),
    session=(
        "SET statement_timeout = {ms}",
        "SET lock_timeout = {lock_ms}",
        "SET default_transaction_read_only = on",
        "SET DateStyle = 'ISO, YMD'",
        "SET IntervalStyle = 'postgres'",
        "SELECT set_config('crossdock.server_zone', current_setting('TimeZone'), false)",
        "SET TimeZone = 'UTC'",
        "SET extra_float_digits = 3",
        "SET application_name = 'crossdock-agent'",
    ),
    options="BoolsAsChar=0;KeepaliveTime=30;KeepaliveInterval=10",
    clock=_POSTGRESQL_CLOCK,
    version="SELECT version()",
    catalog=_POSTGRESQL_CATALOG,
    indexed=_POSTGRESQL_INDEXED,
    changes="SELECT CAST(txid_current_snapshot() AS text)",
    min_active="SELECT txid_snapshot_xmin(txid_current_snapshot())",
    typeof=_POSTGRESQL_TYPEOF,
    isolations=MappingProxyType({"read_committed": "SET default_transaction_isolation = 'read committed'"}),
    snapshot=("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",),
)

# --- MariaDB and MySQL

_MARIADB_TYPES = rules(
    {
        "tinyint|smallint|mediumint|int|bigint|year": TypeRule("integer"),
        "bit": TypeRule("integer", "CAST({c} AS UNSIGNED)"),
        "decimal": TypeRule("decimal", "CAST({c} AS CHAR)", "CAST(? AS DECIMAL(65,30))"),
        "float|double": TypeRule("float"),
        "date": TypeRule("date", "CAST({c} AS CHAR)", "CAST(? AS DATE)"),
        "time": TypeRule("time", "CAST({c} AS CHAR)", "CAST(? AS TIME(6))"),
        "datetime": TypeRule("datetime", "CAST({c} AS CHAR)", "CAST(? AS DATETIME(6))"),
        # the session runs at +00:00, so the text is UTC; it is compared without the zone
        "timestamp": TypeRule(
            "datetimetz", "CONCAT(CAST({c} AS CHAR), '+00:00')", "CAST(SUBSTRING_INDEX(?, '+', 1) AS DATETIME(6))"
        ),
        "binary|varbinary|tinyblob|blob": TypeRule("binary"),
        "mediumblob|longblob": TypeRule("binary", cap="LEFT({c}, {n})", size="OCTET_LENGTH({c})"),
        "char|varchar|tinytext|text": TypeRule("text"),
        "mediumtext|longtext": TypeRule("text", cap="LEFT({c}, {n})", size="OCTET_LENGTH({c})"),
        "geometry|point|linestring|polygon|multipoint|multilinestring|multipolygon|geometrycollection": TypeRule(
            "text", "ST_AsText({c})"
        ),
    }
)

_MARIADB_CATALOG = """\
SELECT c.TABLE_SCHEMA, c.TABLE_NAME, CASE WHEN t.TABLE_TYPE = 'VIEW' THEN 1 ELSE 0 END, c.COLUMN_NAME, c.DATA_TYPE,
 CASE WHEN c.IS_NULLABLE = 'YES' THEN 1 ELSE 0 END
FROM information_schema.COLUMNS c
 JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME
WHERE c.TABLE_SCHEMA = CASE WHEN LOCATE('.', ?) > 0 THEN SUBSTRING_INDEX(?, '.', 1) ELSE DATABASE() END
 AND c.TABLE_NAME = SUBSTRING_INDEX(?, '.', -1)
ORDER BY c.ORDINAL_POSITION"""

_MARIADB_INDEXED = """\
SELECT COLUMN_NAME FROM information_schema.STATISTICS
WHERE SEQ_IN_INDEX = 1 AND TABLE_SCHEMA = ? AND TABLE_NAME = ?"""

_MARIADB_SESSION = (
    "SET SESSION TRANSACTION READ ONLY",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION time_zone = '+00:00'",
    "SET SESSION lock_wait_timeout = {lock_seconds}",  # of ALTER TABLE and LOCK TABLES; its default is a day
    "SET SESSION innodb_lock_wait_timeout = {lock_seconds}",
)

_MARIADB_SNAPSHOT = (  # the session reads committed; the level holds for the next transaction only
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION READ ONLY",
)

MARIADB = Dialect(
    name="mariadb",
    quote="`",
    nulls="first",
    row_values=False,
    types=_MARIADB_TYPES,
    other=TypeRule("text", "CAST({c} AS CHAR)"),
    session=("SET SESSION max_statement_time = {limit}", *_MARIADB_SESSION),
    options="CHARSET=utf8mb4",
    folds=True,
    text_as_bytes=True,
    clock="SELECT CAST(UTC_TIMESTAMP(6) AS CHAR),\n"
    " CAST(CONVERT_TZ(UTC_TIMESTAMP(6), '+00:00', @@GLOBAL.time_zone) AS CHAR)",
    version="SELECT VERSION()",
    catalog=_MARIADB_CATALOG,
    indexed=_MARIADB_INDEXED,
    snapshot=_MARIADB_SNAPSHOT,
    isolations=MappingProxyType(
        {
            "snapshot": "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "read_committed": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "read_uncommitted": "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
        }
    ),
    described=MappingProxyType(
        {
            "int": "bigint", "bool": "bit", "float": "double", "Decimal": "decimal", "date": "date", "time": "time",
            "datetime": "datetime", "bytearray": "longblob", "str": "longtext",
        }
    ),
    backslashes=True,
)  # fmt: skip

MYSQL = replace(MARIADB, name="mysql", session=("SET SESSION max_execution_time = {ms}", *_MARIADB_SESSION))

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {d.name: d for d in (SQLITE, POSTGRESQL, MARIADB, MYSQL, SQLSERVER, ORACLE, DB2, FIREBIRD)}
)
