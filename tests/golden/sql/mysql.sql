-- == session

SET SESSION max_execution_time = 30000;
SET SESSION TRANSACTION READ ONLY;
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET SESSION time_zone = '+00:00';
SET SESSION lock_wait_timeout = 2;
SET SESSION innodb_lock_wait_timeout = 2

-- == isolations

-- snapshot
SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ
-- read_committed
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED
-- read_uncommitted
SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED

-- == connection options

CHARSET=utf8mb4

-- == version

SELECT VERSION()

-- == clock

SELECT CAST(UTC_TIMESTAMP(6) AS CHAR),
 CAST(CONVERT_TZ(UTC_TIMESTAMP(6), '+00:00', @@GLOBAL.time_zone) AS CHAR)

-- == catalog

SELECT c.TABLE_SCHEMA, c.TABLE_NAME, CASE WHEN t.TABLE_TYPE = 'VIEW' THEN 1 ELSE 0 END, c.COLUMN_NAME, c.DATA_TYPE,
 CASE WHEN c.IS_NULLABLE = 'YES' THEN 1 ELSE 0 END
FROM information_schema.COLUMNS c
 JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME
WHERE c.TABLE_SCHEMA = CASE WHEN LOCATE('.', ?) > 0 THEN SUBSTRING_INDEX(?, '.', 1) ELSE DATABASE() END
 AND c.TABLE_NAME = SUBSTRING_INDEX(?, '.', -1)
ORDER BY c.ORDINAL_POSITION

-- == first columns of indexes

SELECT COLUMN_NAME FROM information_schema.STATISTICS
WHERE SEQ_IN_INDEX = 1 AND TABLE_SCHEMA = ? AND TABLE_NAME = ?

-- == lowest open version

-- (none)

-- == columns of a query

-- (none)

-- == first page by time

SELECT s.`ID`, s.`ORDER_NO`, s.`LINE`, CAST(s.`CHANGED` AS CHAR), CAST(s.`QTY` AS CHAR), s.`VERSION`, LEFT(s.`SCAN`, 4097), LEFT(s.`NOTE`, 4097)
FROM `ERP`.`ORDER_LINES` AS s
WHERE (
s.LINE > 0
) AND s.`CHANGED` IS NOT NULL
ORDER BY s.`CHANGED`, s.`ORDER_NO`, s.`LINE`
LIMIT 500

-- == next page by time

SELECT s.`ID`, s.`ORDER_NO`, s.`LINE`, CAST(s.`CHANGED` AS CHAR), CAST(s.`QTY` AS CHAR), s.`VERSION`, LEFT(s.`SCAN`, 4097), LEFT(s.`NOTE`, 4097)
FROM `ERP`.`ORDER_LINES` AS s
WHERE (
s.LINE > 0
) AND s.`CHANGED` > CAST(? AS DATETIME(6))
ORDER BY s.`CHANGED`, s.`ORDER_NO`, s.`LINE`
LIMIT 500

-- == next page by time and key

SELECT s.`ID`, s.`ORDER_NO`, s.`LINE`, CAST(s.`CHANGED` AS CHAR), CAST(s.`QTY` AS CHAR), s.`VERSION`, LEFT(s.`SCAN`, 4097), LEFT(s.`NOTE`, 4097)
FROM `ERP`.`ORDER_LINES` AS s
WHERE (
s.LINE > 0
) AND s.`CHANGED` >= CAST(? AS DATETIME(6)) AND (s.`CHANGED` > CAST(? AS DATETIME(6)) OR (s.`CHANGED` = CAST(? AS DATETIME(6)) AND (s.`ORDER_NO` > ? OR (s.`ORDER_NO` = ? AND s.`LINE` > ?))))
ORDER BY s.`CHANGED`, s.`ORDER_NO`, s.`LINE`
LIMIT 500

-- == next page by id

SELECT s.`ID`, s.`ORDER_NO`, s.`LINE`, CAST(s.`CHANGED` AS CHAR), CAST(s.`QTY` AS CHAR), s.`VERSION`, LEFT(s.`SCAN`, 4097), LEFT(s.`NOTE`, 4097)
FROM `ERP`.`ORDER_LINES` AS s
WHERE (
s.LINE > 0
) AND s.`ID` > ?
ORDER BY s.`ID`
LIMIT 500

-- == sizes before a page

SELECT COALESCE(OCTET_LENGTH(s.`SCAN`), 0) + COALESCE(OCTET_LENGTH(s.`NOTE`), 0)
FROM `ERP`.`ORDER_LINES` AS s
WHERE (
s.LINE > 0
) AND s.`ID` > ?
ORDER BY s.`ID`
LIMIT 500

-- == next page by version, below the lowest open one

SELECT s.`ID`, s.`ORDER_NO`, s.`LINE`, CAST(s.`CHANGED` AS CHAR), CAST(s.`QTY` AS CHAR), s.`VERSION`, LEFT(s.`SCAN`, 4097), LEFT(s.`NOTE`, 4097)
FROM `ERP`.`ORDER_LINES` AS s
WHERE (
s.LINE > 0
) AND s.`VERSION` >= ? AND (s.`VERSION` > ? OR (s.`VERSION` = ? AND (s.`ORDER_NO` > ? OR (s.`ORDER_NO` = ? AND s.`LINE` > ?)))) AND s.`VERSION` < ?
ORDER BY s.`VERSION`, s.`ORDER_NO`, s.`LINE`
LIMIT 500

-- == next page of a query

SELECT s.`ID`, s.`ORDER_NO`, s.`LINE`, CAST(s.`CHANGED` AS CHAR), CAST(s.`QTY` AS CHAR), s.`VERSION`, LEFT(s.`SCAN`, 4097), LEFT(s.`NOTE`, 4097)
FROM (
SELECT * FROM ERP.ORDER_LINES -- all
) AS s
WHERE (
s.LINE > 0
) AND s.`ID` > ?
ORDER BY s.`ID`
LIMIT 500

-- == ranges by key, and rows by their exact keys

SELECT s.`ID`, s.`ORDER_NO`, s.`LINE`, CAST(s.`CHANGED` AS CHAR), CAST(s.`QTY` AS CHAR), s.`VERSION`, LEFT(s.`SCAN`, 4097), LEFT(s.`NOTE`, 4097)
FROM `ERP`.`ORDER_LINES` AS s
WHERE (
s.LINE > 0
) AND 1 = 1
ORDER BY s.`ORDER_NO`, s.`LINE`
LIMIT 500
;
SELECT s.`ID`, s.`ORDER_NO`, s.`LINE`, CAST(s.`CHANGED` AS CHAR), CAST(s.`QTY` AS CHAR), s.`VERSION`, LEFT(s.`SCAN`, 4097), LEFT(s.`NOTE`, 4097)
FROM `ERP`.`ORDER_LINES` AS s
WHERE (
s.LINE > 0
) AND s.`ORDER_NO` >= ? AND (s.`ORDER_NO` > ? OR (s.`ORDER_NO` = ? AND s.`LINE` > ?)) AND s.`ORDER_NO` <= ? AND (s.`ORDER_NO` < ? OR (s.`ORDER_NO` = ? AND (s.`LINE` < ? OR s.`LINE` = ?)))
ORDER BY s.`ORDER_NO`, s.`LINE`
LIMIT 500
;
SELECT s.`ORDER_NO`, s.`LINE`
FROM `ERP`.`ORDER_LINES` AS s
WHERE (
s.LINE > 0
) AND ((s.`ORDER_NO` = ? AND s.`LINE` = ?) OR (s.`ORDER_NO` = ? AND s.`LINE` = ?))

-- == newest

SELECT CAST(MAX(s.`CHANGED`) AS CHAR)
FROM `ERP`.`ORDER_LINES` AS s
WHERE (
s.LINE > 0
) AND s.`CHANGED` IS NOT NULL

-- == unmarked

SELECT COUNT(*)
FROM `ERP`.`ORDER_LINES` AS s
WHERE (
s.LINE > 0
) AND 1 = 0

-- == types: kind, read, bound

-- tinyint: integer
--   s.`C`
--   ?
-- smallint: integer
--   s.`C`
--   ?
-- mediumint: integer
--   s.`C`
--   ?
-- int: integer
--   s.`C`
--   ?
-- bigint: integer
--   s.`C`
--   ?
-- year: integer
--   s.`C`
--   ?
-- bit: integer
--   CAST(s.`C` AS UNSIGNED)
--   ?
-- decimal: decimal
--   CAST(s.`C` AS CHAR)
--   CAST(? AS DECIMAL(65,30))
-- float: float
--   s.`C`
--   ?
-- double: float
--   s.`C`
--   ?
-- date: date
--   CAST(s.`C` AS CHAR)
--   CAST(? AS DATE)
-- time: time
--   CAST(s.`C` AS CHAR)
--   CAST(? AS TIME(6))
-- datetime: datetime
--   CAST(s.`C` AS CHAR)
--   CAST(? AS DATETIME(6))
-- timestamp: datetimetz
--   CONCAT(CAST(s.`C` AS CHAR), '+00:00')
--   CAST(SUBSTRING_INDEX(?, '+', 1) AS DATETIME(6))
-- binary: binary
--   s.`C`
--   ?
-- varbinary: binary
--   s.`C`
--   ?
-- tinyblob: binary
--   s.`C`
--   ?
-- blob: binary
--   s.`C`
--   ?
-- mediumblob: binary
--   LEFT(s.`C`, 4097)
--   ?
-- longblob: binary
--   LEFT(s.`C`, 4097)
--   ?
-- char: text
--   s.`C`
--   ?
-- varchar: text
--   s.`C`
--   ?
-- tinytext: text
--   s.`C`
--   ?
-- text: text
--   s.`C`
--   ?
-- mediumtext: text
--   LEFT(s.`C`, 4097)
--   ?
-- longtext: text
--   LEFT(s.`C`, 4097)
--   ?
-- geometry: text
--   ST_AsText(s.`C`)
--   ?
-- point: text
--   ST_AsText(s.`C`)
--   ?
-- linestring: text
--   ST_AsText(s.`C`)
--   ?
-- polygon: text
--   ST_AsText(s.`C`)
--   ?
-- multipoint: text
--   ST_AsText(s.`C`)
--   ?
-- multilinestring: text
--   ST_AsText(s.`C`)
--   ?
-- multipolygon: text
--   ST_AsText(s.`C`)
--   ?
-- geometrycollection: text
--   ST_AsText(s.`C`)
--   ?
