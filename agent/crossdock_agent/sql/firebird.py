"""Firebird 4 and later, through its ODBC driver. Readers and writers never wait for one another.

The driver's transactions are read only and do not wait for locks. Older versions cannot say what time it is in UTC.
"""

from __future__ import annotations

from types import MappingProxyType

from crossdock_agent.sql.dialect import Dialect, TypeRule, rules

_TYPES = rules(
    {
        "smallint|integer|bigint": TypeRule("integer", bind="CAST(? AS BIGINT)"),
        "numeric|int128": TypeRule("decimal", "CAST({c} AS VARCHAR(60))", "CAST(? AS DECFLOAT(34))"),
        "decfloat": TypeRule("decimal", "CAST({c} AS VARCHAR(60))", "CAST(? AS DECFLOAT(34))"),
        "float|double precision": TypeRule("float", bind="CAST(? AS DOUBLE PRECISION)"),
        "boolean": TypeRule("boolean", bind="CAST(? AS BOOLEAN)"),
        "date": TypeRule("date", "CAST({c} AS VARCHAR(10))", "CAST(? AS DATE)"),
        "time": TypeRule("time", "CAST({c} AS VARCHAR(13))", "CAST(? AS TIME)"),
        "timestamp": TypeRule("datetime", "CAST({c} AS VARCHAR(24))", "CAST(? AS TIMESTAMP)"),
        "timestamp with time zone": TypeRule(
            "datetimetz", "CAST(CAST({c} AT TIME ZONE 'UTC' AS TIMESTAMP) AS VARCHAR(24)) || '+00:00'",
            "CAST(? AS TIMESTAMP WITH TIME ZONE)",
        ),
        "char|varchar": TypeRule("text", bind="CAST(? AS VARCHAR(8000))"),
        "blob text": TypeRule("text", cap="SUBSTRING({c} FROM 1 FOR {n})", size="OCTET_LENGTH({c})"),
        "char octets|varchar octets": TypeRule("binary"),
        "blob": TypeRule("binary", cap="SUBSTRING({c} FROM 1 FOR {n})", size="OCTET_LENGTH({c})"),
    }
)  # fmt: skip

# numbers of types: RDB$FIELDS in the Firebird Language Reference, appendix "System Tables"
_CATALOG = """\
SELECT '', TRIM(r.RDB$RELATION_NAME), CASE WHEN r.RDB$VIEW_BLR IS NULL THEN 0 ELSE 1 END, TRIM(c.RDB$FIELD_NAME),
 CASE WHEN f.RDB$FIELD_TYPE IN (7, 8, 16, 26, 27) AND f.RDB$FIELD_SCALE < 0 THEN 'numeric'
  ELSE CASE f.RDB$FIELD_TYPE WHEN 7 THEN 'smallint' WHEN 8 THEN 'integer' WHEN 10 THEN 'float' WHEN 12 THEN 'date'
   WHEN 13 THEN 'time' WHEN 16 THEN 'bigint' WHEN 23 THEN 'boolean' WHEN 24 THEN 'decfloat' WHEN 25 THEN 'decfloat'
   WHEN 26 THEN 'int128' WHEN 27 THEN 'double precision' WHEN 28 THEN 'time with time zone'
   WHEN 29 THEN 'timestamp with time zone' WHEN 35 THEN 'timestamp'
   WHEN 14 THEN CASE WHEN f.RDB$CHARACTER_SET_ID = 1 THEN 'char octets' ELSE 'char' END
   WHEN 37 THEN CASE WHEN f.RDB$CHARACTER_SET_ID = 1 THEN 'varchar octets' ELSE 'varchar' END
   WHEN 261 THEN CASE WHEN f.RDB$FIELD_SUB_TYPE = 1 THEN 'blob text' ELSE 'blob' END ELSE 'other' END END,
 CASE WHEN COALESCE(c.RDB$NULL_FLAG, f.RDB$NULL_FLAG, 0) = 1 THEN 0 ELSE 1 END
FROM RDB$RELATIONS r JOIN RDB$RELATION_FIELDS c ON c.RDB$RELATION_NAME = r.RDB$RELATION_NAME
 JOIN RDB$FIELDS f ON f.RDB$FIELD_NAME = c.RDB$FIELD_SOURCE
WHERE r.RDB$RELATION_NAME IN (CAST(? AS VARCHAR(63)), UPPER(CAST(? AS VARCHAR(63))))
ORDER BY r.RDB$RELATION_NAME, c.RDB$FIELD_POSITION"""

_INDEXED = """\
SELECT TRIM(k.RDB$FIELD_NAME) FROM RDB$INDICES i
 JOIN RDB$INDEX_SEGMENTS k ON k.RDB$INDEX_NAME = i.RDB$INDEX_NAME AND k.RDB$FIELD_POSITION = 0
WHERE COALESCE(i.RDB$INDEX_INACTIVE, 0) = 0 AND CAST(? AS VARCHAR(63)) = ''
 AND i.RDB$RELATION_NAME = CAST(? AS VARCHAR(63))"""

FIREBIRD = Dialect(
    name="firebird",
    quote='"',
    nulls="first",
    row_values=False,
    types=_TYPES,
    other=TypeRule("text", "CAST({c} AS VARCHAR(8000))"),
    session=("SET STATEMENT TIMEOUT {ms} MILLISECOND",),
    options="READONLY=Y;NOWAIT=Y",
    clock="SELECT CAST(CAST(CURRENT_TIMESTAMP AT TIME ZONE 'UTC' AS TIMESTAMP) AS VARCHAR(24)),\n"
    " CAST(LOCALTIMESTAMP AS VARCHAR(24)) FROM RDB$DATABASE",
    version="SELECT 'Firebird ' || RDB$GET_CONTEXT('SYSTEM', 'ENGINE_VERSION') FROM RDB$DATABASE",
    catalog=_CATALOG,
    indexed=_INDEXED,
    alias=" s",
    page="SELECT {select}\nFROM {source}\nWHERE {where}\nORDER BY {order}\nROWS {limit}",
    described=MappingProxyType(
        {
            "int": "bigint",
            "Decimal": "numeric",
            "float": "double precision",
            "bool": "boolean",
            "datetime": "timestamp",
            "date": "date",
            "time": "time",
            "bytearray": "blob",
            "str": "varchar",
        }
    ),
)
