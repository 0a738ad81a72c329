"""How each database lists its tables, their indexes and its own guess of their rows. For looking, never for reading.

PostgreSQL and MariaDB have met a real server in the tests, SQLite needs no query here (its pragmas stand in `survey`);
those of SQL Server, Oracle, Db2 and Firebird follow the vendors' manuals and have not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_LIMIT = "SELECT {columns} FROM {table} s{order} LIMIT {n}"
_FETCH_FIRST = "SELECT {columns} FROM {table} s{order} FETCH FIRST {n} ROWS ONLY"


@dataclass(frozen=True, slots=True)
class Catalog:
    tables: str = ""  # (schema, name, is_view, estimated rows or NULL) of what this login is there for
    indexes: str = ""  # ?, ? = schema, table; (index, is_unique, is_primary, column or NULL for an expression) in order
    first: str = _LIMIT  # {columns} of the first {n} rows of {table}, which is called s; {order} begins with a blank


_POSTGRESQL = Catalog(
    tables="""\
SELECT n.nspname, c.relname, CASE WHEN c.relkind IN ('v', 'm', 'f') THEN 1 ELSE 0 END,
 CASE WHEN c.relkind IN ('v', 'f') OR c.reltuples < 0 THEN NULL ELSE CAST(c.reltuples AS bigint) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
 AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
ORDER BY n.nspname, c.relname""",
    indexes="""\
SELECT x.relname, CASE WHEN i.indisunique THEN 1 ELSE 0 END, CASE WHEN i.indisprimary THEN 1 ELSE 0 END, a.attname
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 JOIN pg_class x ON x.oid = i.indexrelid
 JOIN LATERAL unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k(attnum, place) ON k.place <= i.indnkeyatts
 LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum AND k.attnum > 0
WHERE i.indisvalid AND i.indpred IS NULL AND n.nspname = CAST(? AS text) AND c.relname = CAST(? AS text)
ORDER BY x.relname, k.place""",
)

_MARIADB = Catalog(
    tables="""\
SELECT TABLE_SCHEMA, TABLE_NAME, CASE WHEN TABLE_TYPE LIKE '%VIEW' THEN 1 ELSE 0 END, TABLE_ROWS
FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME""",
    indexes="""\
SELECT INDEX_NAME, CASE WHEN NON_UNIQUE = 0 THEN 1 ELSE 0 END, CASE WHEN INDEX_NAME = 'PRIMARY' THEN 1 ELSE 0 END,
 COLUMN_NAME
FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY INDEX_NAME, SEQ_IN_INDEX""",
)

_SQLSERVER = Catalog(
    tables="""\
SELECT s.name, o.name, CASE WHEN o.type = 'V' THEN 1 ELSE 0 END,
 (SELECT SUM(p.rows) FROM sys.partitions p WHERE p.object_id = o.object_id AND p.index_id IN (0, 1))
FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id
WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 ORDER BY s.name, o.name""",
    indexes="""\
SELECT i.name, CAST(i.is_unique AS int), CAST(i.is_primary_key AS int), c.name
FROM sys.indexes i JOIN sys.objects o ON o.object_id = i.object_id JOIN sys.schemas s ON s.schema_id = o.schema_id
 JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id AND k.is_included_column = 0
 JOIN sys.columns c ON c.object_id = i.object_id AND c.column_id = k.column_id
WHERE i.has_filter = 0 AND i.is_disabled = 0 AND s.name = ? AND o.name = ? ORDER BY i.name, k.key_ordinal""",
    first="SELECT TOP {n} {columns} FROM {table} s{order}",
)

_ORACLE = Catalog(
    tables="""\
SELECT owner, table_name, 0, num_rows FROM all_tables WHERE owner = SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA')
UNION ALL
SELECT owner, view_name, 1, NULL FROM all_views WHERE owner = SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA')
ORDER BY 2""",
    indexes="""\
SELECT i.index_name, CASE WHEN i.uniqueness = 'UNIQUE' THEN 1 ELSE 0 END,
 CASE WHEN EXISTS (SELECT 1 FROM all_constraints p WHERE p.owner = i.table_owner AND p.table_name = i.table_name
  AND p.constraint_type = 'P' AND p.index_name = i.index_name) THEN 1 ELSE 0 END,
 CASE WHEN c.column_name LIKE 'SYS\\_NC%' ESCAPE '\\' THEN NULL ELSE c.column_name END
FROM all_indexes i JOIN all_ind_columns c ON c.index_owner = i.owner AND c.index_name = i.index_name
WHERE i.status <> 'UNUSABLE' AND i.table_owner = ? AND i.table_name = ? ORDER BY i.index_name, c.column_position""",
    first=_FETCH_FIRST,
)

_DB2 = Catalog(
    tables="""\
SELECT RTRIM(TABSCHEMA), TABNAME, CASE WHEN TYPE = 'V' THEN 1 ELSE 0 END, CASE WHEN CARD < 0 THEN NULL ELSE CARD END
FROM SYSCAT.TABLES WHERE TABSCHEMA = CURRENT SCHEMA AND TYPE IN ('T', 'V') ORDER BY TABNAME""",
    indexes="""\
SELECT i.INDNAME, CASE WHEN i.UNIQUERULE IN ('U', 'P') THEN 1 ELSE 0 END,
 CASE WHEN i.UNIQUERULE = 'P' THEN 1 ELSE 0 END, c.COLNAME
FROM SYSCAT.INDEXES i JOIN SYSCAT.INDEXCOLUSE c ON c.INDSCHEMA = i.INDSCHEMA AND c.INDNAME = i.INDNAME
WHERE c.COLORDER IN ('A', 'D') AND i.TABSCHEMA = ? AND i.TABNAME = ? ORDER BY i.INDNAME, c.COLSEQ""",
    first=_FETCH_FIRST,
)

_FIREBIRD = Catalog(
    tables="""\
SELECT '', TRIM(RDB$RELATION_NAME), CASE WHEN RDB$VIEW_BLR IS NULL THEN 0 ELSE 1 END, CAST(NULL AS bigint)
FROM RDB$RELATIONS WHERE COALESCE(RDB$SYSTEM_FLAG, 0) = 0 ORDER BY 2""",
    indexes="""\
SELECT TRIM(i.RDB$INDEX_NAME), COALESCE(i.RDB$UNIQUE_FLAG, 0),
 CASE WHEN EXISTS (SELECT 1 FROM RDB$RELATION_CONSTRAINTS p WHERE p.RDB$INDEX_NAME = i.RDB$INDEX_NAME
  AND p.RDB$CONSTRAINT_TYPE = 'PRIMARY KEY') THEN 1 ELSE 0 END, TRIM(c.RDB$FIELD_NAME)
FROM RDB$INDICES i LEFT JOIN RDB$INDEX_SEGMENTS c ON c.RDB$INDEX_NAME = i.RDB$INDEX_NAME
WHERE COALESCE(i.RDB$INDEX_INACTIVE, 0) = 0 AND CAST(? AS varchar(8)) IS NOT NULL
 AND i.RDB$RELATION_NAME = CAST(? AS varchar(63)) ORDER BY 1, c.RDB$FIELD_POSITION""",
    first="SELECT FIRST {n} {columns} FROM {table} s{order}",
)

CATALOGS: Mapping[str, Catalog] = MappingProxyType(
    {
        "sqlite": Catalog(), "postgresql": _POSTGRESQL, "mariadb": _MARIADB, "mysql": _MARIADB,
        "sqlserver": _SQLSERVER, "oracle": _ORACLE, "db2": _DB2, "firebird": _FIREBIRD,
    }
)  # fmt: skip
