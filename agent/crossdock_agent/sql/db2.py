"""IBM Db2 for Linux, UNIX and Windows 9.7 and later, through IBM's own ODBC driver.

Cursor stability with currently committed semantics (the default since 9.7): a reader sees the last committed row and
does not wait for a writer. Db2 for i has another catalog (QSYS2) and is not this dialect.
"""

from __future__ import annotations

from types import MappingProxyType

from crossdock_agent.sql.dialect import Dialect, TypeRule, rules

_SHOWN = "VARCHAR_FORMAT({c}, 'YYYY-MM-DD HH24:MI:SS.FF9')"
_TEXT = "CAST(? AS VARCHAR(4000))"

_TYPES = rules(
    {
        "smallint|integer|bigint": TypeRule("integer", bind="CAST(? AS BIGINT)"),
        # a cursor value is bound with the widest number there is: the catalog does not name precision
        "decimal|decfloat": TypeRule("decimal", "VARCHAR({c})", "CAST(CAST(? AS VARCHAR(42)) AS DECFLOAT(34))"),
        "real|double": TypeRule("float", bind="CAST(? AS DOUBLE)"),
        "boolean": TypeRule("boolean", bind="CAST(? AS BOOLEAN)"),
        "date": TypeRule("date", "CHAR({c}, ISO)", "CAST(CAST(? AS VARCHAR(10)) AS DATE)"),
        "time": TypeRule("time", "CHAR({c}, JIS)", "CAST(CAST(? AS VARCHAR(8)) AS TIME)"),
        "timestamp": TypeRule("datetime", _SHOWN, "CAST(CAST(? AS VARCHAR(32)) AS TIMESTAMP(9))"),
        "character|varchar|graphic|vargraphic": TypeRule("text", bind=_TEXT),
        "clob|dbclob|long varchar": TypeRule(
            "text", cap="SUBSTRING({c}, 1, {n}, CODEUNITS32)", size="LENGTH({c}, OCTETS)"
        ),
        "xml": TypeRule("text", "XMLSERIALIZE({c} AS CLOB(64M))"),
        "character for bit data|varchar for bit data|binary|varbinary": TypeRule("binary"),
        "blob": TypeRule("binary", cap="SUBSTRING({c}, 1, {n}, OCTETS)", size="LENGTH({c})"),
    }
)

_CATALOG = """\
SELECT RTRIM(c.TABSCHEMA), c.TABNAME, CASE WHEN t.TYPE = 'V' THEN 1 ELSE 0 END, c.COLNAME,
 CASE WHEN c.CODEPAGE = 0 AND c.TYPENAME IN ('CHARACTER', 'VARCHAR') THEN c.TYPENAME || ' FOR BIT DATA'
  ELSE c.TYPENAME END,
 CASE WHEN c.NULLS = 'Y' THEN 1 ELSE 0 END
FROM SYSCAT.COLUMNS c JOIN SYSCAT.TABLES t ON t.TABSCHEMA = c.TABSCHEMA AND t.TABNAME = c.TABNAME,
 (VALUES CAST(? AS VARCHAR(257))) AS a (name)
WHERE c.TABSCHEMA = CASE WHEN LOCATE('.', a.name) > 0 THEN UPPER(LEFT(a.name, LOCATE('.', a.name) - 1))
  ELSE CURRENT SCHEMA END
 AND c.TABNAME IN (SUBSTR(a.name, LOCATE('.', a.name) + 1), UPPER(SUBSTR(a.name, LOCATE('.', a.name) + 1)))
ORDER BY c.TABNAME, c.COLNO"""

_INDEXED = """\
SELECT k.COLNAME FROM SYSCAT.INDEXES i
 JOIN SYSCAT.INDEXCOLUSE k ON k.INDSCHEMA = i.INDSCHEMA AND k.INDNAME = i.INDNAME AND k.COLSEQ = 1
WHERE i.TABSCHEMA = CAST(? AS VARCHAR(128)) AND i.TABNAME = CAST(? AS VARCHAR(128))"""

DB2 = Dialect(
    name="db2",
    quote='"',
    nulls="last",
    row_values=False,
    types=_TYPES,
    other=TypeRule("text", "VARCHAR({c})", _TEXT),
    session=("SET CURRENT LOCK TIMEOUT {lock_seconds}", "SET CURRENT ISOLATION = CS"),
    clock=f"SELECT {_SHOWN.format(c='CURRENT TIMESTAMP - CURRENT TIMEZONE')},\n"
    f" {_SHOWN.format(c='CURRENT TIMESTAMP')} FROM SYSIBM.SYSDUMMY1",
    version="SELECT SERVICE_LEVEL FROM SYSIBMADM.ENV_INST_INFO",
    catalog=_CATALOG,
    indexed=_INDEXED,
    page="SELECT {select}\nFROM {source}\nWHERE {where}\nORDER BY {order}\nFETCH FIRST {limit} ROWS ONLY",
    suffix="\nFOR READ ONLY",
    isolations=MappingProxyType(
        {"read_committed": "SET CURRENT ISOLATION = CS", "read_uncommitted": "SET CURRENT ISOLATION = UR"}
    ),
    driver_timeout=True,
    nested_with=False,
    described=MappingProxyType(
        {
            "int": "bigint",
            "Decimal": "decimal",
            "float": "double",
            "bool": "boolean",
            "datetime": "timestamp",
            "date": "date",
            "time": "time",
            "bytearray": "blob",
            "str": "varchar",
        }
    ),
)
