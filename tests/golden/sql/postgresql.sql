-- == session

SET statement_timeout = 30000;
SET lock_timeout = 2000;
SET default_transaction_read_only = on;
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
SELECT set_config('crossdock.server_zone', current_setting('TimeZone'), false);
SET TimeZone = 'UTC';
SET extra_float_digits = 3;
SET application_name = 'crossdock-agent'

-- == isolations

-- read_committed
SET default_transaction_isolation = 'read committed'

-- == connection options

BoolsAsChar=0;KeepaliveTime=30;KeepaliveInterval=10

-- == version

SELECT version()

-- == clock

SELECT CAST(now() AT TIME ZONE 'UTC' AS text),
 CAST(now() AT TIME ZONE current_setting('crossdock.server_zone') AS text)

-- == catalog

SELECT n.nspname, c.relname, CASE WHEN c.relkind IN ('v', 'm', 'f') THEN 1 ELSE 0 END, a.attname,
 format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE a.atttypid END, NULL),
 CASE WHEN a.attnotnull OR t.typnotnull THEN 0 ELSE 1 END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
 JOIN pg_type t ON t.oid = a.atttypid
WHERE c.oid = to_regclass(CAST(? AS text)) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum

-- == first columns of indexes

SELECT a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE i.indisvalid AND n.nspname = CAST(? AS text) AND c.relname = CAST(? AS text)

-- == lowest open version

SELECT txid_snapshot_xmin(txid_current_snapshot())

-- == columns of a query

(SELECT format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, NULL)
 FROM pg_type t WHERE t.oid = pg_typeof({c}))

-- == first page by time

SELECT s."ID", s."ORDER_NO", s."LINE", CAST(s."CHANGED" AS text), CAST(s."QTY" AS text), s."VERSION", SUBSTRING(s."SCAN" FROM 1 FOR 4097), LEFT(CAST(s."NOTE" AS text), 4097)
FROM "ERP"."ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND s."CHANGED" IS NOT NULL
ORDER BY s."CHANGED", s."ORDER_NO", s."LINE"
LIMIT 500

-- == next page by time

SELECT s."ID", s."ORDER_NO", s."LINE", CAST(s."CHANGED" AS text), CAST(s."QTY" AS text), s."VERSION", SUBSTRING(s."SCAN" FROM 1 FOR 4097), LEFT(CAST(s."NOTE" AS text), 4097)
FROM "ERP"."ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND s."CHANGED" > CAST(? AS timestamptz)
ORDER BY s."CHANGED", s."ORDER_NO", s."LINE"
LIMIT 500

-- == next page by time and key

SELECT s."ID", s."ORDER_NO", s."LINE", CAST(s."CHANGED" AS text), CAST(s."QTY" AS text), s."VERSION", SUBSTRING(s."SCAN" FROM 1 FOR 4097), LEFT(CAST(s."NOTE" AS text), 4097)
FROM "ERP"."ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND (s."CHANGED", s."ORDER_NO", s."LINE") > (CAST(? AS timestamptz), CAST(? AS text), CAST(? AS bigint))
ORDER BY s."CHANGED", s."ORDER_NO", s."LINE"
LIMIT 500

-- == next page by id

SELECT s."ID", LEFT(s."ORDER_NO", 4097), s."LINE", CAST(s."CHANGED" AS text), CAST(s."QTY" AS text), s."VERSION", SUBSTRING(s."SCAN" FROM 1 FOR 4097), LEFT(CAST(s."NOTE" AS text), 4097)
FROM "ERP"."ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND s."ID" > CAST(? AS bigint)
ORDER BY s."ID"
LIMIT 500

-- == sizes before a page

SELECT COALESCE(octet_length(s."SCAN"), 0) + COALESCE(octet_length(CAST(s."NOTE" AS text)), 0)
FROM "ERP"."ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND s."ID" > CAST(? AS bigint)
ORDER BY s."ID"
LIMIT 500

-- == next page by version, below the lowest open one

SELECT s."ID", s."ORDER_NO", s."LINE", CAST(s."CHANGED" AS text), CAST(s."QTY" AS text), s."VERSION", SUBSTRING(s."SCAN" FROM 1 FOR 4097), LEFT(CAST(s."NOTE" AS text), 4097)
FROM "ERP"."ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND (s."VERSION", s."ORDER_NO", s."LINE") > (CAST(? AS bigint), CAST(? AS text), CAST(? AS bigint)) AND s."VERSION" < CAST(? AS bigint)
ORDER BY s."VERSION", s."ORDER_NO", s."LINE"
LIMIT 500

-- == next page of a query

SELECT s."ID", LEFT(s."ORDER_NO", 4097), s."LINE", CAST(s."CHANGED" AS text), CAST(s."QTY" AS text), s."VERSION", SUBSTRING(s."SCAN" FROM 1 FOR 4097), LEFT(CAST(s."NOTE" AS text), 4097)
FROM (
SELECT * FROM ERP.ORDER_LINES -- all
) AS s
WHERE (
s.LINE > 0
) AND s."ID" > CAST(? AS bigint)
ORDER BY s."ID"
LIMIT 500

-- == ranges by key, and rows by their exact keys

SELECT s."ID", s."ORDER_NO", s."LINE", CAST(s."CHANGED" AS text), CAST(s."QTY" AS text), s."VERSION", SUBSTRING(s."SCAN" FROM 1 FOR 4097), LEFT(CAST(s."NOTE" AS text), 4097)
FROM "ERP"."ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND 1 = 1
ORDER BY s."ORDER_NO", s."LINE"
LIMIT 500
;
SELECT s."ID", s."ORDER_NO", s."LINE", CAST(s."CHANGED" AS text), CAST(s."QTY" AS text), s."VERSION", SUBSTRING(s."SCAN" FROM 1 FOR 4097), LEFT(CAST(s."NOTE" AS text), 4097)
FROM "ERP"."ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND (s."ORDER_NO", s."LINE") > (CAST(? AS text), CAST(? AS bigint)) AND (s."ORDER_NO", s."LINE") <= (CAST(? AS text), CAST(? AS bigint))
ORDER BY s."ORDER_NO", s."LINE"
LIMIT 500
;
SELECT s."ORDER_NO", s."LINE"
FROM "ERP"."ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND ((s."ORDER_NO" = CAST(? AS text) AND s."LINE" = CAST(? AS bigint)) OR (s."ORDER_NO" = CAST(? AS text) AND s."LINE" = CAST(? AS bigint)))

-- == newest

SELECT CAST(MAX(s."CHANGED") AS text)
FROM "ERP"."ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND s."CHANGED" IS NOT NULL

-- == unmarked

SELECT COUNT(*)
FROM "ERP"."ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND 1 = 0

-- == types: kind, read, bound

-- smallint: integer
--   s."C"
--   CAST(? AS bigint)
-- integer: integer
--   s."C"
--   CAST(? AS bigint)
-- bigint: integer
--   s."C"
--   CAST(? AS bigint)
-- oid: integer
--   s."C"
--   CAST(? AS bigint)
-- numeric: decimal
--   CAST(s."C" AS text)
--   CAST(? AS numeric)
-- money: decimal
--   CAST(CAST(s."C" AS numeric) AS text)
--   CAST(CAST(? AS numeric) AS money)
-- real: float
--   s."C"
--   CAST(? AS real)
-- double precision: float
--   s."C"
--   CAST(? AS double precision)
-- boolean: boolean
--   s."C"
--   CAST(? AS boolean)
-- date: date
--   CAST(s."C" AS text)
--   CAST(? AS date)
-- time without time zone: time
--   CAST(s."C" AS text)
--   CAST(? AS time)
-- timestamp without time zone: datetime
--   CAST(s."C" AS text)
--   CAST(? AS timestamp)
-- timestamp with time zone: datetimetz
--   CAST(s."C" AS text)
--   CAST(? AS timestamptz)
-- bytea: binary
--   SUBSTRING(s."C" FROM 1 FOR 4097)
--   ?
-- text: text
--   LEFT(s."C", 4097)
--   CAST(? AS text)
-- character varying: text
--   LEFT(s."C", 4097)
--   CAST(? AS text)
-- name: text
--   s."C"
--   CAST(? AS text)
-- json: text
--   LEFT(CAST(s."C" AS text), 4097)
--   ?
-- jsonb: text
--   LEFT(CAST(s."C" AS text), 4097)
--   ?
-- xml: text
--   LEFT(CAST(s."C" AS text), 4097)
--   ?
-- character: text
--   s."C"
--   CAST(? AS bpchar)
