-- == session

SET LOCK_TIMEOUT 2000;
SET DEADLOCK_PRIORITY LOW;
SET DATEFORMAT ymd;
IF EXISTS (SELECT 1 FROM sys.databases WHERE database_id = DB_ID() AND snapshot_isolation_state = 1)
 SET TRANSACTION ISOLATION LEVEL SNAPSHOT
ELSE SET TRANSACTION ISOLATION LEVEL READ COMMITTED

-- == isolations

-- snapshot
SET TRANSACTION ISOLATION LEVEL SNAPSHOT
-- read_committed
SET TRANSACTION ISOLATION LEVEL READ COMMITTED
-- read_uncommitted
SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED

-- == connection options

APP=crossdock-agent

-- == version

SELECT @@VERSION

-- == clock

SELECT CONVERT(varchar(27), SYSUTCDATETIME(), 121), CONVERT(varchar(27), SYSDATETIME(), 121)

-- == catalog

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
WHERE o.object_id = OBJECT_ID(?) ORDER BY c.column_id

-- == first columns of indexes

SELECT c.name FROM sys.indexes i
 JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id AND k.key_ordinal = 1
 JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id
WHERE i.is_disabled = 0 AND i.object_id = OBJECT_ID(QUOTENAME(?) + '.' + QUOTENAME(?))

-- == lowest open version

SELECT CONVERT(bigint, MIN_ACTIVE_ROWVERSION())

-- == columns of a query

SELECT name, system_type_name, CONVERT(int, is_nullable)
FROM sys.dm_exec_describe_first_result_set(?, NULL, 0) WHERE is_hidden = 0 ORDER BY column_ordinal

-- == first page by time

SELECT TOP (500) s.[ID], s.[ORDER_NO], s.[LINE], CONVERT(char(23), s.[CHANGED], 121), CONVERT(varchar(41), s.[QTY]), CONVERT(bigint, s.[VERSION]), SUBSTRING(s.[SCAN], 1, 4097), SUBSTRING(s.[NOTE], 1, 4097)
FROM [ERP].[ORDER_LINES] AS s
WHERE (
s.LINE > 0
) AND s.[CHANGED] IS NOT NULL
ORDER BY s.[CHANGED], s.[ORDER_NO], s.[LINE]
OPTION (MAXDOP 1)

-- == next page by time

SELECT TOP (500) s.[ID], s.[ORDER_NO], s.[LINE], CONVERT(char(23), s.[CHANGED], 121), CONVERT(varchar(41), s.[QTY]), CONVERT(bigint, s.[VERSION]), SUBSTRING(s.[SCAN], 1, 4097), SUBSTRING(s.[NOTE], 1, 4097)
FROM [ERP].[ORDER_LINES] AS s
WHERE (
s.LINE > 0
) AND s.[CHANGED] > CONVERT(datetime, LEFT(?, 23), 121)
ORDER BY s.[CHANGED], s.[ORDER_NO], s.[LINE]
OPTION (MAXDOP 1)

-- == next page by time and key

SELECT TOP (500) s.[ID], s.[ORDER_NO], s.[LINE], CONVERT(char(23), s.[CHANGED], 121), CONVERT(varchar(41), s.[QTY]), CONVERT(bigint, s.[VERSION]), SUBSTRING(s.[SCAN], 1, 4097), SUBSTRING(s.[NOTE], 1, 4097)
FROM [ERP].[ORDER_LINES] AS s
WHERE (
s.LINE > 0
) AND s.[CHANGED] >= CONVERT(datetime, LEFT(?, 23), 121) AND (s.[CHANGED] > CONVERT(datetime, LEFT(?, 23), 121) OR (s.[CHANGED] = CONVERT(datetime, LEFT(?, 23), 121) AND (s.[ORDER_NO] > CAST(? AS varchar(8000)) OR (s.[ORDER_NO] = CAST(? AS varchar(8000)) AND s.[LINE] > CAST(? AS bigint)))))
ORDER BY s.[CHANGED], s.[ORDER_NO], s.[LINE]
OPTION (MAXDOP 1)

-- == next page by id

SELECT TOP (500) s.[ID], s.[ORDER_NO], s.[LINE], CONVERT(char(23), s.[CHANGED], 121), CONVERT(varchar(41), s.[QTY]), CONVERT(bigint, s.[VERSION]), SUBSTRING(s.[SCAN], 1, 4097), SUBSTRING(s.[NOTE], 1, 4097)
FROM [ERP].[ORDER_LINES] AS s
WHERE (
s.LINE > 0
) AND s.[ID] > CAST(? AS bigint)
ORDER BY s.[ID]
OPTION (MAXDOP 1)

-- == sizes before a page

SELECT TOP (500) COALESCE(DATALENGTH(s.[SCAN]), 0) + COALESCE(DATALENGTH(s.[NOTE]), 0)
FROM [ERP].[ORDER_LINES] AS s
WHERE (
s.LINE > 0
) AND s.[ID] > CAST(? AS bigint)
ORDER BY s.[ID]
OPTION (MAXDOP 1)

-- == next page by version, below the lowest open one

SELECT TOP (500) s.[ID], s.[ORDER_NO], s.[LINE], CONVERT(char(23), s.[CHANGED], 121), CONVERT(varchar(41), s.[QTY]), CONVERT(bigint, s.[VERSION]), SUBSTRING(s.[SCAN], 1, 4097), SUBSTRING(s.[NOTE], 1, 4097)
FROM [ERP].[ORDER_LINES] AS s
WHERE (
s.LINE > 0
) AND s.[VERSION] >= CONVERT(binary(8), CAST(? AS bigint)) AND (s.[VERSION] > CONVERT(binary(8), CAST(? AS bigint)) OR (s.[VERSION] = CONVERT(binary(8), CAST(? AS bigint)) AND (s.[ORDER_NO] > CAST(? AS varchar(8000)) OR (s.[ORDER_NO] = CAST(? AS varchar(8000)) AND s.[LINE] > CAST(? AS bigint))))) AND s.[VERSION] < CONVERT(binary(8), CAST(? AS bigint))
ORDER BY s.[VERSION], s.[ORDER_NO], s.[LINE]
OPTION (MAXDOP 1)

-- == next page of a query

SELECT TOP (500) s.[ID], s.[ORDER_NO], s.[LINE], CONVERT(char(23), s.[CHANGED], 121), CONVERT(varchar(41), s.[QTY]), CONVERT(bigint, s.[VERSION]), SUBSTRING(s.[SCAN], 1, 4097), SUBSTRING(s.[NOTE], 1, 4097)
FROM (
SELECT * FROM ERP.ORDER_LINES -- all
) AS s
WHERE (
s.LINE > 0
) AND s.[ID] > CAST(? AS bigint)
ORDER BY s.[ID]
OPTION (MAXDOP 1)

-- == ranges by key, and rows by their exact keys

SELECT TOP (500) s.[ID], s.[ORDER_NO], s.[LINE], CONVERT(char(23), s.[CHANGED], 121), CONVERT(varchar(41), s.[QTY]), CONVERT(bigint, s.[VERSION]), SUBSTRING(s.[SCAN], 1, 4097), SUBSTRING(s.[NOTE], 1, 4097)
FROM [ERP].[ORDER_LINES] AS s
WHERE (
s.LINE > 0
) AND 1 = 1
ORDER BY s.[ORDER_NO], s.[LINE]
OPTION (MAXDOP 1)
;
SELECT TOP (500) s.[ID], s.[ORDER_NO], s.[LINE], CONVERT(char(23), s.[CHANGED], 121), CONVERT(varchar(41), s.[QTY]), CONVERT(bigint, s.[VERSION]), SUBSTRING(s.[SCAN], 1, 4097), SUBSTRING(s.[NOTE], 1, 4097)
FROM [ERP].[ORDER_LINES] AS s
WHERE (
s.LINE > 0
) AND s.[ORDER_NO] >= CAST(? AS varchar(8000)) AND (s.[ORDER_NO] > CAST(? AS varchar(8000)) OR (s.[ORDER_NO] = CAST(? AS varchar(8000)) AND s.[LINE] > CAST(? AS bigint))) AND s.[ORDER_NO] <= CAST(? AS varchar(8000)) AND (s.[ORDER_NO] < CAST(? AS varchar(8000)) OR (s.[ORDER_NO] = CAST(? AS varchar(8000)) AND (s.[LINE] < CAST(? AS bigint) OR s.[LINE] = CAST(? AS bigint))))
ORDER BY s.[ORDER_NO], s.[LINE]
OPTION (MAXDOP 1)
;
SELECT s.[ORDER_NO], s.[LINE]
FROM [ERP].[ORDER_LINES] AS s
WHERE (
s.LINE > 0
) AND ((s.[ORDER_NO] = CAST(? AS varchar(8000)) AND s.[LINE] = CAST(? AS bigint)) OR (s.[ORDER_NO] = CAST(? AS varchar(8000)) AND s.[LINE] = CAST(? AS bigint)))
OPTION (MAXDOP 1)

-- == newest

SELECT CONVERT(char(23), MAX(s.[CHANGED]), 121)
FROM [ERP].[ORDER_LINES] AS s
WHERE (
s.LINE > 0
) AND s.[CHANGED] IS NOT NULL
OPTION (MAXDOP 1)

-- == unmarked

SELECT COUNT(*)
FROM [ERP].[ORDER_LINES] AS s
WHERE (
s.LINE > 0
) AND 1 = 0
OPTION (MAXDOP 1)

-- == types: kind, read, bound

-- tinyint: integer
--   s.[C]
--   CAST(? AS bigint)
-- smallint: integer
--   s.[C]
--   CAST(? AS bigint)
-- int: integer
--   s.[C]
--   CAST(? AS bigint)
-- bigint: integer
--   s.[C]
--   CAST(? AS bigint)
-- bit: boolean
--   s.[C]
--   CAST(? AS bit)
-- decimal: decimal
--   CONVERT(varchar(41), s.[C])
--   CAST(? AS decimal)
-- numeric: decimal
--   CONVERT(varchar(41), s.[C])
--   CAST(? AS numeric)
-- money: decimal
--   CONVERT(varchar(24), s.[C], 2)
--   CONVERT(money, ?)
-- smallmoney: decimal
--   CONVERT(varchar(24), s.[C], 2)
--   CONVERT(smallmoney, ?)
-- float: float
--   s.[C]
--   ?
-- real: float
--   s.[C]
--   ?
-- date: date
--   CONVERT(char(10), s.[C], 23)
--   CONVERT(date, ?, 23)
-- time: time
--   CONVERT(varchar(16), s.[C], 121)
--   CONVERT(time, ?, 121)
-- datetime: datetime
--   CONVERT(char(23), s.[C], 121)
--   CONVERT(datetime, LEFT(?, 23), 121)
-- smalldatetime: datetime
--   CONVERT(char(19), s.[C], 120)
--   CONVERT(smalldatetime, LEFT(?, 19), 120)
-- datetime2: datetime
--   CONVERT(varchar(27), s.[C], 121)
--   CONVERT(datetime2, ?, 121)
-- datetimeoffset: datetimetz
--   CONVERT(varchar(34), s.[C], 121)
--   CONVERT(datetimeoffset, ?, 121)
-- timestamp: integer
--   CONVERT(bigint, s.[C])
--   CONVERT(binary(8), CAST(? AS bigint))
-- rowversion: integer
--   CONVERT(bigint, s.[C])
--   CONVERT(binary(8), CAST(? AS bigint))
-- uniqueidentifier: text
--   CONVERT(char(36), s.[C])
--   CONVERT(uniqueidentifier, ?)
-- char: text
--   s.[C]
--   CAST(? AS varchar(8000))
-- varchar: text
--   s.[C]
--   CAST(? AS varchar(8000))
-- nchar: text
--   s.[C]
--   CAST(? AS nvarchar(4000))
-- nvarchar: text
--   s.[C]
--   CAST(? AS nvarchar(4000))
-- sysname: text
--   s.[C]
--   CAST(? AS nvarchar(4000))
-- varchar(max): text
--   SUBSTRING(s.[C], 1, 4097)
--   ?
-- nvarchar(max): text
--   SUBSTRING(s.[C], 1, 4097)
--   ?
-- text: text
--   SUBSTRING(CONVERT(varchar(max), s.[C]), 1, 4097)
--   ?
-- ntext: text
--   SUBSTRING(CONVERT(nvarchar(max), s.[C]), 1, 4097)
--   ?
-- xml: text
--   SUBSTRING(CONVERT(nvarchar(max), s.[C]), 1, 4097)
--   ?
-- xml(max): text
--   SUBSTRING(CONVERT(nvarchar(max), s.[C]), 1, 4097)
--   ?
-- binary: binary
--   s.[C]
--   ?
-- varbinary: binary
--   s.[C]
--   ?
-- varbinary(max): binary
--   SUBSTRING(s.[C], 1, 4097)
--   ?
-- image: binary
--   SUBSTRING(CONVERT(varbinary(max), s.[C]), 1, 4097)
--   ?
-- geometry: text
--   s.[C].ToString()
--   ?
-- geography: text
--   s.[C].ToString()
--   ?
-- hierarchyid: text
--   s.[C].ToString()
--   ?
-- geometry(max): text
--   s.[C].ToString()
--   ?
-- geography(max): text
--   s.[C].ToString()
--   ?
