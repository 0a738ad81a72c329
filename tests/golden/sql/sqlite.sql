-- == session

-- (none)

-- == isolations

-- (none)

-- == connection options

-- (none)

-- == version

SELECT 'SQLite ' || sqlite_version()

-- == clock

-- (none)

-- == catalog

-- (none)

-- == first columns of indexes

-- (none)

-- == lowest open version

SELECT NULL

-- == columns of a query

-- (none)

-- == first page by time

SELECT s."ID", s."ORDER_NO", s."LINE", s."CHANGED", s."QTY", s."VERSION", CASE WHEN length(s."SCAN") > 4097 - 1 THEN substr(s."SCAN", 1, 4097) ELSE s."SCAN" END, CASE WHEN length(s."NOTE") > 4097 - 1 THEN substr(s."NOTE", 1, 4097) ELSE s."NOTE" END
FROM "ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND s."CHANGED" IS NOT NULL
ORDER BY s."CHANGED", s."ORDER_NO", s."LINE"
LIMIT 500

-- == next page by time

SELECT s."ID", s."ORDER_NO", s."LINE", s."CHANGED", s."QTY", s."VERSION", CASE WHEN length(s."SCAN") > 4097 - 1 THEN substr(s."SCAN", 1, 4097) ELSE s."SCAN" END, CASE WHEN length(s."NOTE") > 4097 - 1 THEN substr(s."NOTE", 1, 4097) ELSE s."NOTE" END
FROM "ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND s."CHANGED" > ?
ORDER BY s."CHANGED", s."ORDER_NO", s."LINE"
LIMIT 500

-- == next page by time and key

SELECT s."ID", s."ORDER_NO", s."LINE", s."CHANGED", s."QTY", s."VERSION", CASE WHEN length(s."SCAN") > 4097 - 1 THEN substr(s."SCAN", 1, 4097) ELSE s."SCAN" END, CASE WHEN length(s."NOTE") > 4097 - 1 THEN substr(s."NOTE", 1, 4097) ELSE s."NOTE" END
FROM "ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND (s."CHANGED", s."ORDER_NO", s."LINE") > (?, ?, ?)
ORDER BY s."CHANGED", s."ORDER_NO", s."LINE"
LIMIT 500

-- == next page by id

SELECT s."ID", CASE WHEN length(s."ORDER_NO") > 4097 - 1 THEN substr(s."ORDER_NO", 1, 4097) ELSE s."ORDER_NO" END, s."LINE", s."CHANGED", s."QTY", s."VERSION", CASE WHEN length(s."SCAN") > 4097 - 1 THEN substr(s."SCAN", 1, 4097) ELSE s."SCAN" END, CASE WHEN length(s."NOTE") > 4097 - 1 THEN substr(s."NOTE", 1, 4097) ELSE s."NOTE" END
FROM "ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND s."ID" > ?
ORDER BY s."ID"
LIMIT 500

-- == sizes before a page

SELECT COALESCE(length(s."SCAN"), 0) + COALESCE(length(s."NOTE"), 0)
FROM "ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND s."ID" > ?
ORDER BY s."ID"
LIMIT 500

-- == next page by version, below the lowest open one

SELECT s."ID", s."ORDER_NO", s."LINE", s."CHANGED", s."QTY", s."VERSION", CASE WHEN length(s."SCAN") > 4097 - 1 THEN substr(s."SCAN", 1, 4097) ELSE s."SCAN" END, CASE WHEN length(s."NOTE") > 4097 - 1 THEN substr(s."NOTE", 1, 4097) ELSE s."NOTE" END
FROM "ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND (s."VERSION", s."ORDER_NO", s."LINE") > (?, ?, ?) AND s."VERSION" < ?
ORDER BY s."VERSION", s."ORDER_NO", s."LINE"
LIMIT 500

-- == next page of a query

SELECT s."ID", CASE WHEN length(s."ORDER_NO") > 4097 - 1 THEN substr(s."ORDER_NO", 1, 4097) ELSE s."ORDER_NO" END, s."LINE", s."CHANGED", s."QTY", s."VERSION", CASE WHEN length(s."SCAN") > 4097 - 1 THEN substr(s."SCAN", 1, 4097) ELSE s."SCAN" END, CASE WHEN length(s."NOTE") > 4097 - 1 THEN substr(s."NOTE", 1, 4097) ELSE s."NOTE" END
FROM (
SELECT * FROM ERP.ORDER_LINES -- all
) AS s
WHERE (
s.LINE > 0
) AND s."ID" > ?
ORDER BY s."ID"
LIMIT 500

-- == ranges by key, and rows by their exact keys

SELECT s."ID", s."ORDER_NO", s."LINE", s."CHANGED", s."QTY", s."VERSION", CASE WHEN length(s."SCAN") > 4097 - 1 THEN substr(s."SCAN", 1, 4097) ELSE s."SCAN" END, CASE WHEN length(s."NOTE") > 4097 - 1 THEN substr(s."NOTE", 1, 4097) ELSE s."NOTE" END
FROM "ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND 1 = 1
ORDER BY s."ORDER_NO", s."LINE"
LIMIT 500
;
SELECT s."ID", s."ORDER_NO", s."LINE", s."CHANGED", s."QTY", s."VERSION", CASE WHEN length(s."SCAN") > 4097 - 1 THEN substr(s."SCAN", 1, 4097) ELSE s."SCAN" END, CASE WHEN length(s."NOTE") > 4097 - 1 THEN substr(s."NOTE", 1, 4097) ELSE s."NOTE" END
FROM "ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND (s."ORDER_NO", s."LINE") > (?, ?) AND (s."ORDER_NO", s."LINE") <= (?, ?)
ORDER BY s."ORDER_NO", s."LINE"
LIMIT 500
;
SELECT s."ORDER_NO", s."LINE"
FROM "ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND ((s."ORDER_NO" = ? AND s."LINE" = ?) OR (s."ORDER_NO" = ? AND s."LINE" = ?))

-- == newest

SELECT MAX(s."CHANGED")
FROM "ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND s."CHANGED" IS NOT NULL

-- == unmarked

SELECT COUNT(*)
FROM "ORDER_LINES" AS s
WHERE (
s.LINE > 0
) AND (s."CHANGED" IS NULL OR typeof(s."CHANGED") NOT IN ('text'))

-- == types: kind, read, bound

-- (none)
