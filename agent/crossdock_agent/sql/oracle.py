"""Oracle Database 12.1 and later, through Oracle's own ODBC driver.

A read never waits for a writer nor a writer for it, and every statement is one snapshot of committed rows. Names that
were made without quotes are stored in capitals: the catalog is asked for the name as it stands and in capitals.
`''` is NULL here: that is the database's doing, and what is read is NULL.
"""

from __future__ import annotations

from types import MappingProxyType

from crossdock_agent.sql.dialect import Dialect, TypeRule, rules

_SECONDS = "SYYYY-MM-DD HH24:MI:SS"  # S: a minus before a year BC, a blank before all others
_NINTHS = f"{_SECONDS}.FF9"

_TYPES = rules(
    {
        "number|float": TypeRule("decimal", "TO_CHAR({c}, 'TM9')", "TO_NUMBER(?)"),
        "binary_float|binary_double": TypeRule("float"),
        "date": TypeRule(
            "datetime", f"LTRIM(TO_CHAR({{c}}, '{_SECONDS}'))",
            f"TO_DATE(REGEXP_SUBSTR(?, '^[^.]+'), '{_SECONDS}')",
        ),
        "timestamp": TypeRule("datetime", f"LTRIM(TO_CHAR({{c}}, '{_NINTHS}'))", f"TO_TIMESTAMP(?, '{_SECONDS}.FF')"),
        "timestamp with time zone|timestamp with local time zone": TypeRule(
            "datetimetz", f"LTRIM(TO_CHAR(SYS_EXTRACT_UTC({{c}}), '{_NINTHS}')) || '+00:00'",
            f"FROM_TZ(TO_TIMESTAMP(REGEXP_SUBSTR(?, '^[^+]+'), '{_SECONDS}.FF'), 'UTC')",
        ),
        "interval year to month|interval day to second": TypeRule("text", "TO_CHAR({c})"),
        "char|nchar|varchar2|nvarchar2|varchar": TypeRule("text"),
        "clob|nclob": TypeRule("text", cap="SUBSTR({c}, 1, {n})", size="DBMS_LOB.GETLENGTH({c})"),
        "long": TypeRule("text"),
        "raw|long raw": TypeRule("binary"),
        "blob": TypeRule("binary", size="DBMS_LOB.GETLENGTH({c})"),
        "rowid|urowid": TypeRule("text", "ROWIDTOCHAR({c})", "CHARTOROWID(?)"),
        "xmltype": TypeRule("text", "XMLSERIALIZE(CONTENT {c} AS CLOB)"),
    }
)  # fmt: skip

_SCHEMA = (
    "CASE WHEN INSTR(?, '.') > 0 THEN UPPER(SUBSTR(?, 1, INSTR(?, '.') - 1))"
    " ELSE SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA') END"
)

_CATALOG = f"""\
SELECT c.OWNER, c.TABLE_NAME, CASE WHEN v.VIEW_NAME IS NULL THEN 0 ELSE 1 END, c.COLUMN_NAME,
 REGEXP_REPLACE(c.DATA_TYPE, '\\([0-9]+\\)', ''), CASE WHEN c.NULLABLE = 'Y' THEN 1 ELSE 0 END
FROM ALL_TAB_COLUMNS c LEFT JOIN ALL_VIEWS v ON v.OWNER = c.OWNER AND v.VIEW_NAME = c.TABLE_NAME
WHERE c.OWNER = {_SCHEMA}
 AND c.TABLE_NAME IN (SUBSTR(?, INSTR(?, '.') + 1), UPPER(SUBSTR(?, INSTR(?, '.') + 1)))
ORDER BY c.TABLE_NAME, c.COLUMN_ID"""

ORACLE = Dialect(
    name="oracle",
    quote='"',
    nulls="last",
    row_values=False,
    types=_TYPES,
    other=TypeRule("text", "TO_CHAR({c})"),
    session=(
        "ALTER SESSION SET NLS_NUMERIC_CHARACTERS = '.,'",
        "ALTER SESSION SET NLS_CALENDAR = 'GREGORIAN'",
        "ALTER SESSION SET NLS_SORT = BINARY",
        "ALTER SESSION SET NLS_COMP = BINARY",
        "ALTER SESSION SET TIME_ZONE = '+00:00'",
    ),
    clock=f"SELECT LTRIM(TO_CHAR(SYS_EXTRACT_UTC(SYSTIMESTAMP), '{_NINTHS}')),\n"
    f" LTRIM(TO_CHAR(SYSTIMESTAMP, '{_NINTHS}')) FROM DUAL",
    version="SELECT BANNER FROM V$VERSION WHERE ROWNUM = 1",
    catalog=_CATALOG,
    indexed="SELECT COLUMN_NAME FROM ALL_IND_COLUMNS WHERE COLUMN_POSITION = 1 AND TABLE_OWNER = ? AND TABLE_NAME = ?",
    alias=" s",
    page="SELECT {select}\nFROM {source}\nWHERE {where}\nORDER BY {order}\nFETCH FIRST {limit} ROWS ONLY",
    driver_timeout=True,
    described=MappingProxyType(
        {
            "int": "number",
            "Decimal": "number",
            "float": "number",
            "datetime": "timestamp",
            "date": "date",
            "bytearray": "blob",
            "str": "varchar2",
        }
    ),
)
