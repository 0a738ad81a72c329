"""Microsoft SQL Server 2012 and later, through its own ODBC driver.

Reads are READ COMMITTED, or SNAPSHOT where the database allows it; never NOLOCK, which skips and repeats *committed*
rows, unless `connection.isolation` says so. We are the deadlock's victim, wait for a
lock two seconds at most and use one core. `datetime` is bound as `datetime`: it counts in 1/300 s, and compared with a
finer type every value would lie behind itself. Text is bound in the column's own kind: a `varchar` compared with an
`nvarchar` is converted row by row, and no index helps.
"""

from __future__ import annotations

from types import MappingProxyType

from crossdock_agent.sql.dialect import Dialect, TypeRule, rules

_TYPES = rules(
    {
        "tinyint|smallint|int|bigint": TypeRule("integer", bind="CAST(? AS bigint)"),
        "bit": TypeRule("boolean", bind="CAST(? AS bit)"),
        "decimal|numeric": TypeRule("decimal", "CONVERT(varchar(41), {c})", "CAST(? AS {t})"),
        "money|smallmoney": TypeRule("decimal", "CONVERT(varchar(24), {c}, 2)", "CONVERT({t}, ?)"),
        "float|real": TypeRule("float"),
        "date": TypeRule("date", "CONVERT(char(10), {c}, 23)", "CONVERT(date, ?, 23)"),
        "time": TypeRule("time", "CONVERT(varchar(16), {c}, 121)", "CONVERT({t}, ?, 121)"),
        "datetime": TypeRule("datetime", "CONVERT(char(23), {c}, 121)", "CONVERT(datetime, LEFT(?, 23), 121)"),
        "smalldatetime": TypeRule(
            "datetime", "CONVERT(char(19), {c}, 120)", "CONVERT(smalldatetime, LEFT(?, 19), 120)"
        ),
        "datetime2": TypeRule("datetime", "CONVERT(varchar(27), {c}, 121)", "CONVERT({t}, ?, 121)"),
        "datetimeoffset": TypeRule(
            "datetimetz", "CONVERT(varchar(34), {c}, 121)", "CONVERT(datetimeoffset, ?, 121)",
            "CONVERT(varchar(34), SWITCHOFFSET({c}, '+00:00'), 121)",
        ),
        "timestamp|rowversion": TypeRule(
            "integer", "CONVERT(bigint, {c})", "CONVERT(binary(8), CAST(? AS bigint))"
        ),
        "uniqueidentifier": TypeRule("text", "CONVERT(char(36), {c})", "CONVERT(uniqueidentifier, ?)"),
        "char|varchar": TypeRule("text", bind="CAST(? AS varchar(8000))"),
        "nchar|nvarchar|sysname": TypeRule("text", bind="CAST(? AS nvarchar(4000))"),
        "varchar(max)|nvarchar(max)": TypeRule(
            "text", cap="SUBSTRING({c}, 1, {n})", size="DATALENGTH({c})"
        ),
        "text": TypeRule(
            "text", "CONVERT(varchar(max), {c})", cap="SUBSTRING(CONVERT(varchar(max), {c}), 1, {n})",
            size="DATALENGTH({c})",
        ),
        "ntext|xml|xml(max)": TypeRule(
            "text", "CONVERT(nvarchar(max), {c})", cap="SUBSTRING(CONVERT(nvarchar(max), {c}), 1, {n})",
            size="DATALENGTH({c})",
        ),
        "binary|varbinary": TypeRule("binary"),
        "varbinary(max)": TypeRule("binary", cap="SUBSTRING({c}, 1, {n})", size="DATALENGTH({c})"),
        "image": TypeRule(
            "binary", "CONVERT(varbinary(max), {c})", cap="SUBSTRING(CONVERT(varbinary(max), {c}), 1, {n})",
            size="DATALENGTH({c})",
        ),
        "geometry|geography|hierarchyid|geometry(max)|geography(max)": TypeRule("text", "{c}.ToString()"),
    }
)  # fmt: skip

_CATALOG = """\
SELECT SCHEMA_NAME(o.schema_id), o.name, CASE WHEN o.type = 'V' THEN 1 ELSE 0 END, c.name,
 CASE WHEN c.max_length = -1 THEN COALESCE(t.name, u.name) + '(max)'
  WHEN t.name IN ('decimal', 'numeric')
   THEN t.name + '(' + CONVERT(varchar(3), c.precision) + ',' + CONVERT(varchar(3), c.scale) + ')'
  WHEN t.name IN ('time', 'datetime2', 'datetimeoffset') THEN t.name + '(' + CONVERT(varchar(3), c.scale) + ')'
  ELSE COALESCE(t.name, u.name) END,
 CONVERT(int, c.is_nullable)
FROM sys.objects o JOIN sys.columns c ON c.object_id = o.object_id
 JOIN sys.types u ON u.user_type_id = c.user_type_id
 LEFT JOIN sys.types t ON t.user_type_id = c.system_type_id
WHERE o.object_id = OBJECT_ID(?) ORDER BY c.column_id"""

_INDEXED = """\
SELECT c.name FROM sys.indexes i
 JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id AND k.key_ordinal = 1
 JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id
WHERE i.is_disabled = 0 AND i.object_id = OBJECT_ID(QUOTENAME(?) + '.' + QUOTENAME(?))"""

_DESCRIBE = """\
SELECT name, system_type_name, CONVERT(int, is_nullable)
FROM sys.dm_exec_describe_first_result_set(?, NULL, 0) WHERE is_hidden = 0 ORDER BY column_ordinal"""

_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL SNAPSHOT"
_READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

SQLSERVER = Dialect(
    name="sqlserver",
    quote="[",
    closing="]",
    nulls="first",
    row_values=False,
    types=_TYPES,
    other=TypeRule("text", "CONVERT(nvarchar(4000), {c})", "CONVERT(nvarchar(4000), ?)"),
    session=(
        "SET LOCK_TIMEOUT {lock_ms}",
        "SET DEADLOCK_PRIORITY LOW",
        "SET DATEFORMAT ymd",
        "IF EXISTS (SELECT 1 FROM sys.databases WHERE database_id = DB_ID() AND snapshot_isolation_state = 1)\n"
        f" {_SNAPSHOT}\nELSE {_READ_COMMITTED}",
    ),
    options="APP=crossdock-agent",
    clock="SELECT CONVERT(varchar(27), SYSUTCDATETIME(), 121), CONVERT(varchar(27), SYSDATETIME(), 121)",
    version="SELECT @@VERSION",
    catalog=_CATALOG,
    indexed=_INDEXED,
    page="SELECT TOP ({limit}) {select}\nFROM {source}\nWHERE {where}\nORDER BY {order}",
    suffix="\nOPTION (MAXDOP 1)",
    isolations=MappingProxyType(
        {
            "snapshot": _SNAPSHOT,
            "read_committed": _READ_COMMITTED,
            "read_uncommitted": "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
        }
    ),
    folds=True,
    driver_timeout=True,
    min_active="SELECT CONVERT(bigint, MIN_ACTIVE_ROWVERSION())",
    describe=_DESCRIBE,
    nested_with=False,
)
