-- == session

ALTER SESSION SET NLS_NUMERIC_CHARACTERS = '.,';
ALTER SESSION SET NLS_CALENDAR = 'GREGORIAN';
ALTER SESSION SET NLS_SORT = BINARY;
ALTER SESSION SET NLS_COMP = BINARY;
ALTER SESSION SET TIME_ZONE = '+00:00'

-- == isolations

-- (none)

-- == connection options

-- (none)

-- == version

SELECT BANNER FROM V$VERSION WHERE ROWNUM = 1

-- == clock

SELECT LTRIM(TO_CHAR(SYS_EXTRACT_UTC(SYSTIMESTAMP), 'SYYYY-MM-DD HH24:MI:SS.FF9')),
 LTRIM(TO_CHAR(SYSTIMESTAMP, 'SYYYY-MM-DD HH24:MI:SS.FF9')) FROM DUAL

-- == catalog

SELECT c.OWNER, c.TABLE_NAME, CASE WHEN v.VIEW_NAME IS NULL THEN 0 ELSE 1 END, c.COLUMN_NAME,
 REGEXP_REPLACE(c.DATA_TYPE, '\([0-9]+\)', ''), CASE WHEN c.NULLABLE = 'Y' THEN 1 ELSE 0 END
FROM ALL_TAB_COLUMNS c LEFT JOIN ALL_VIEWS v ON v.OWNER = c.OWNER AND v.VIEW_NAME = c.TABLE_NAME
WHERE c.OWNER = CASE WHEN INSTR(?, '.') > 0 THEN UPPER(SUBSTR(?, 1, INSTR(?, '.') - 1)) ELSE SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA') END
 AND c.TABLE_NAME IN (SUBSTR(?, INSTR(?, '.') + 1), UPPER(SUBSTR(?, INSTR(?, '.') + 1)))
ORDER BY c.TABLE_NAME, c.COLUMN_ID

-- == first columns of indexes

SELECT COLUMN_NAME FROM ALL_IND_COLUMNS WHERE COLUMN_POSITION = 1 AND TABLE_OWNER = ? AND TABLE_NAME = ?

-- == lowest open version

-- (none)

-- == columns of a query

-- (none)

-- == first page by time

SELECT TO_CHAR(s."ID", 'TM9'), s."ORDER_NO", TO_CHAR(s."LINE", 'TM9'), LTRIM(TO_CHAR(s."CHANGED", 'SYYYY-MM-DD HH24:MI:SS')), TO_CHAR(s."QTY", 'TM9'), TO_CHAR(s."VERSION", 'TM9'), s."SCAN", SUBSTR(s."NOTE", 1, 4097)
FROM "ERP"."ORDER_LINES" s
WHERE (
s.LINE > 0
) AND s."CHANGED" IS NOT NULL
ORDER BY s."CHANGED", s."ORDER_NO", s."LINE"
FETCH FIRST 500 ROWS ONLY

-- == next page by time

SELECT TO_CHAR(s."ID", 'TM9'), s."ORDER_NO", TO_CHAR(s."LINE", 'TM9'), LTRIM(TO_CHAR(s."CHANGED", 'SYYYY-MM-DD HH24:MI:SS')), TO_CHAR(s."QTY", 'TM9'), TO_CHAR(s."VERSION", 'TM9'), s."SCAN", SUBSTR(s."NOTE", 1, 4097)
FROM "ERP"."ORDER_LINES" s
WHERE (
s.LINE > 0
) AND s."CHANGED" > TO_DATE(REGEXP_SUBSTR(?, '^[^.]+'), 'SYYYY-MM-DD HH24:MI:SS')
ORDER BY s."CHANGED", s."ORDER_NO", s."LINE"
FETCH FIRST 500 ROWS ONLY

-- == next page by time and key

SELECT TO_CHAR(s."ID", 'TM9'), s."ORDER_NO", TO_CHAR(s."LINE", 'TM9'), LTRIM(TO_CHAR(s."CHANGED", 'SYYYY-MM-DD HH24:MI:SS')), TO_CHAR(s."QTY", 'TM9'), TO_CHAR(s."VERSION", 'TM9'), s."SCAN", SUBSTR(s."NOTE", 1, 4097)
FROM "ERP"."ORDER_LINES" s
WHERE (
s.LINE > 0
) AND s."CHANGED" >= TO_DATE(REGEXP_SUBSTR(?, '^[^.]+'), 'SYYYY-MM-DD HH24:MI:SS') AND (s."CHANGED" > TO_DATE(REGEXP_SUBSTR(?, '^[^.]+'), 'SYYYY-MM-DD HH24:MI:SS') OR (s."CHANGED" = TO_DATE(REGEXP_SUBSTR(?, '^[^.]+'), 'SYYYY-MM-DD HH24:MI:SS') AND (s."ORDER_NO" > ? OR (s."ORDER_NO" = ? AND s."LINE" > TO_NUMBER(?)))))
ORDER BY s."CHANGED", s."ORDER_NO", s."LINE"
FETCH FIRST 500 ROWS ONLY

-- == next page by id

SELECT TO_CHAR(s."ID", 'TM9'), s."ORDER_NO", TO_CHAR(s."LINE", 'TM9'), LTRIM(TO_CHAR(s."CHANGED", 'SYYYY-MM-DD HH24:MI:SS')), TO_CHAR(s."QTY", 'TM9'), TO_CHAR(s."VERSION", 'TM9'), s."SCAN", SUBSTR(s."NOTE", 1, 4097)
FROM "ERP"."ORDER_LINES" s
WHERE (
s.LINE > 0
) AND s."ID" > TO_NUMBER(?)
ORDER BY s."ID"
FETCH FIRST 500 ROWS ONLY

-- == sizes before a page

SELECT COALESCE(DBMS_LOB.GETLENGTH(s."SCAN"), 0) + COALESCE(DBMS_LOB.GETLENGTH(s."NOTE"), 0)
FROM "ERP"."ORDER_LINES" s
WHERE (
s.LINE > 0
) AND s."ID" > TO_NUMBER(?)
ORDER BY s."ID"
FETCH FIRST 500 ROWS ONLY

-- == next page by version, below the lowest open one

SELECT TO_CHAR(s."ID", 'TM9'), s."ORDER_NO", TO_CHAR(s."LINE", 'TM9'), LTRIM(TO_CHAR(s."CHANGED", 'SYYYY-MM-DD HH24:MI:SS')), TO_CHAR(s."QTY", 'TM9'), TO_CHAR(s."VERSION", 'TM9'), s."SCAN", SUBSTR(s."NOTE", 1, 4097)
FROM "ERP"."ORDER_LINES" s
WHERE (
s.LINE > 0
) AND s."VERSION" >= TO_NUMBER(?) AND (s."VERSION" > TO_NUMBER(?) OR (s."VERSION" = TO_NUMBER(?) AND (s."ORDER_NO" > ? OR (s."ORDER_NO" = ? AND s."LINE" > TO_NUMBER(?))))) AND s."VERSION" < TO_NUMBER(?)
ORDER BY s."VERSION", s."ORDER_NO", s."LINE"
FETCH FIRST 500 ROWS ONLY

-- == next page of a query

SELECT TO_CHAR(s."ID", 'TM9'), s."ORDER_NO", TO_CHAR(s."LINE", 'TM9'), LTRIM(TO_CHAR(s."CHANGED", 'SYYYY-MM-DD HH24:MI:SS')), TO_CHAR(s."QTY", 'TM9'), TO_CHAR(s."VERSION", 'TM9'), s."SCAN", SUBSTR(s."NOTE", 1, 4097)
FROM (
SELECT * FROM ERP.ORDER_LINES -- all
) s
WHERE (
s.LINE > 0
) AND s."ID" > TO_NUMBER(?)
ORDER BY s."ID"
FETCH FIRST 500 ROWS ONLY

-- == ranges by key, and rows by their exact keys

SELECT TO_CHAR(s."ID", 'TM9'), s."ORDER_NO", TO_CHAR(s."LINE", 'TM9'), LTRIM(TO_CHAR(s."CHANGED", 'SYYYY-MM-DD HH24:MI:SS')), TO_CHAR(s."QTY", 'TM9'), TO_CHAR(s."VERSION", 'TM9'), s."SCAN", SUBSTR(s."NOTE", 1, 4097)
FROM "ERP"."ORDER_LINES" s
WHERE (
s.LINE > 0
) AND 1 = 1
ORDER BY s."ORDER_NO", s."LINE"
FETCH FIRST 500 ROWS ONLY
;
SELECT TO_CHAR(s."ID", 'TM9'), s."ORDER_NO", TO_CHAR(s."LINE", 'TM9'), LTRIM(TO_CHAR(s."CHANGED", 'SYYYY-MM-DD HH24:MI:SS')), TO_CHAR(s."QTY", 'TM9'), TO_CHAR(s."VERSION", 'TM9'), s."SCAN", SUBSTR(s."NOTE", 1, 4097)
FROM "ERP"."ORDER_LINES" s
WHERE (
s.LINE > 0
) AND s."ORDER_NO" >= ? AND (s."ORDER_NO" > ? OR (s."ORDER_NO" = ? AND s."LINE" > TO_NUMBER(?))) AND s."ORDER_NO" <= ? AND (s."ORDER_NO" < ? OR (s."ORDER_NO" = ? AND (s."LINE" < TO_NUMBER(?) OR s."LINE" = TO_NUMBER(?))))
ORDER BY s."ORDER_NO", s."LINE"
FETCH FIRST 500 ROWS ONLY
;
SELECT s."ORDER_NO", TO_CHAR(s."LINE", 'TM9')
FROM "ERP"."ORDER_LINES" s
WHERE (
s.LINE > 0
) AND ((s."ORDER_NO" = ? AND s."LINE" = TO_NUMBER(?)) OR (s."ORDER_NO" = ? AND s."LINE" = TO_NUMBER(?)))

-- == newest

SELECT LTRIM(TO_CHAR(MAX(s."CHANGED"), 'SYYYY-MM-DD HH24:MI:SS'))
FROM "ERP"."ORDER_LINES" s
WHERE (
s.LINE > 0
) AND s."CHANGED" IS NOT NULL

-- == unmarked

SELECT COUNT(*)
FROM "ERP"."ORDER_LINES" s
WHERE (
s.LINE > 0
) AND 1 = 0

-- == types: kind, read, bound

-- number: decimal
--   TO_CHAR(s."C", 'TM9')
--   TO_NUMBER(?)
-- float: decimal
--   TO_CHAR(s."C", 'TM9')
--   TO_NUMBER(?)
-- binary_float: float
--   s."C"
--   ?
-- binary_double: float
--   s."C"
--   ?
-- date: datetime
--   LTRIM(TO_CHAR(s."C", 'SYYYY-MM-DD HH24:MI:SS'))
--   TO_DATE(REGEXP_SUBSTR(?, '^[^.]+'), 'SYYYY-MM-DD HH24:MI:SS')
-- timestamp: datetime
--   LTRIM(TO_CHAR(s."C", 'SYYYY-MM-DD HH24:MI:SS.FF9'))
--   TO_TIMESTAMP(?, 'SYYYY-MM-DD HH24:MI:SS.FF')
-- timestamp with time zone: datetimetz
--   LTRIM(TO_CHAR(SYS_EXTRACT_UTC(s."C"), 'SYYYY-MM-DD HH24:MI:SS.FF9')) || '+00:00'
--   FROM_TZ(TO_TIMESTAMP(REGEXP_SUBSTR(?, '^[^+]+'), 'SYYYY-MM-DD HH24:MI:SS.FF'), 'UTC')
-- timestamp with local time zone: datetimetz
--   LTRIM(TO_CHAR(SYS_EXTRACT_UTC(s."C"), 'SYYYY-MM-DD HH24:MI:SS.FF9')) || '+00:00'
--   FROM_TZ(TO_TIMESTAMP(REGEXP_SUBSTR(?, '^[^+]+'), 'SYYYY-MM-DD HH24:MI:SS.FF'), 'UTC')
-- interval year to month: text
--   TO_CHAR(s."C")
--   ?
-- interval day to second: text
--   TO_CHAR(s."C")
--   ?
-- char: text
--   s."C"
--   ?
-- nchar: text
--   s."C"
--   ?
-- varchar2: text
--   s."C"
--   ?
-- nvarchar2: text
--   s."C"
--   ?
-- varchar: text
--   s."C"
--   ?
-- clob: text
--   SUBSTR(s."C", 1, 4097)
--   ?
-- nclob: text
--   SUBSTR(s."C", 1, 4097)
--   ?
-- long: text
--   s."C"
--   ?
-- raw: binary
--   s."C"
--   ?
-- long raw: binary
--   s."C"
--   ?
-- blob: binary
--   s."C"
--   ?
-- rowid: text
--   ROWIDTOCHAR(s."C")
--   CHARTOROWID(?)
-- urowid: text
--   ROWIDTOCHAR(s."C")
--   CHARTOROWID(?)
-- xmltype: text
--   XMLSERIALIZE(CONTENT s."C" AS CLOB)
--   ?
