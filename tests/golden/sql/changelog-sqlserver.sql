-- install
CREATE SEQUENCE "dbo"."crossdock_order_lines_seq" AS bigint START WITH 1 INCREMENT BY 1
GO
CREATE TABLE "dbo"."crossdock_log_order_lines" (
  crossdock_seq bigint NOT NULL CONSTRAINT "crossdock_order_lines_number"
    DEFAULT (NEXT VALUE FOR "dbo"."crossdock_order_lines_seq") PRIMARY KEY,
  crossdock_op char(1) NOT NULL,
  crossdock_at datetime2(6) NOT NULL DEFAULT (SYSUTCDATETIME()),
  crossdock_note nvarchar(2000) NULL,
  "order no" bigint NULL,
  "sku" nvarchar(12) COLLATE Latin1_General_CI_AS NULL,
  "quantity" decimal(12,3) NULL,
  "changed_at" datetime2(7) NULL
)
GO
CREATE OR ALTER TRIGGER "dbo"."crossdock_order_lines_all" ON "dbo"."order_lines"
AFTER INSERT, UPDATE, DELETE AS
BEGIN /* crossdock 2476f0d9470f */
  SET NOCOUNT ON;
  INSERT INTO "dbo"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
  SELECT 'D', d."order no", d."sku", d."quantity", d."changed_at" FROM deleted d
  WHERE NOT EXISTS (SELECT 1 FROM "dbo"."order_lines" s
    WHERE s."order no" = d."order no" AND s."sku" = d."sku" AND s."sku" COLLATE Latin1_General_BIN2 = d."sku" COLLATE Latin1_General_BIN2);
  INSERT INTO "dbo"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
  SELECT CASE WHEN EXISTS (SELECT 1 FROM deleted) THEN 'U' ELSE 'I' END,
    s."order no", s."sku", s."quantity", s."changed_at"
  FROM inserted i JOIN "dbo"."order_lines" s
    ON s."order no" = i."order no" AND s."sku" = i."sku" AND s."sku" COLLATE Latin1_General_BIN2 = i."sku" COLLATE Latin1_General_BIN2;
END
GO
GRANT SELECT, DELETE ON "dbo"."crossdock_log_order_lines" TO "reader"
GO
GRANT SELECT, VIEW DEFINITION ON "dbo"."order_lines" TO "reader"
GO

-- amend: changed_at was added, sku has another type, a column was dropped
ALTER TABLE "dbo"."crossdock_log_order_lines" ADD "changed_at" datetime2(7) NULL
GO
ALTER TABLE "dbo"."crossdock_log_order_lines" ALTER COLUMN "sku" nvarchar(12) COLLATE Latin1_General_CI_AS NULL
GO
CREATE OR ALTER TRIGGER "dbo"."crossdock_order_lines_all" ON "dbo"."order_lines"
AFTER INSERT, UPDATE, DELETE AS
BEGIN /* crossdock 2476f0d9470f */
  SET NOCOUNT ON;
  INSERT INTO "dbo"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
  SELECT 'D', d."order no", d."sku", d."quantity", d."changed_at" FROM deleted d
  WHERE NOT EXISTS (SELECT 1 FROM "dbo"."order_lines" s
    WHERE s."order no" = d."order no" AND s."sku" = d."sku" AND s."sku" COLLATE Latin1_General_BIN2 = d."sku" COLLATE Latin1_General_BIN2);
  INSERT INTO "dbo"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
  SELECT CASE WHEN EXISTS (SELECT 1 FROM deleted) THEN 'U' ELSE 'I' END,
    s."order no", s."sku", s."quantity", s."changed_at"
  FROM inserted i JOIN "dbo"."order_lines" s
    ON s."order no" = i."order no" AND s."sku" = i."sku" AND s."sku" COLLATE Latin1_General_BIN2 = i."sku" COLLATE Latin1_General_BIN2;
END
GO
GRANT SELECT, DELETE ON "dbo"."crossdock_log_order_lines" TO "reader"
GO
GRANT SELECT, VIEW DEFINITION ON "dbo"."order_lines" TO "reader"
GO

-- remove
DROP TRIGGER IF EXISTS "dbo"."crossdock_order_lines_all"
GO
DROP TABLE IF EXISTS "dbo"."crossdock_log_order_lines"
GO
DROP SEQUENCE IF EXISTS "dbo"."crossdock_order_lines_seq"
GO

-- look: columns, triggers
SELECT c.name, CASE WHEN t.name IN ('timestamp', 'rowversion') THEN 'binary(8)'
 WHEN t.name IN ('nvarchar', 'nchar') THEN t.name + '(' + CASE c.max_length WHEN -1 THEN 'max'
  ELSE CAST(c.max_length / 2 AS varchar(5)) END + ') COLLATE ' + c.collation_name
 WHEN t.name IN ('varchar', 'char') THEN t.name + '(' + CASE c.max_length WHEN -1 THEN 'max'
  ELSE CAST(c.max_length AS varchar(5)) END + ') COLLATE ' + c.collation_name
 WHEN t.name IN ('varbinary', 'binary') THEN t.name + '(' + CASE c.max_length WHEN -1 THEN 'max'
  ELSE CAST(c.max_length AS varchar(5)) END + ')'
 WHEN t.name IN ('decimal', 'numeric') THEN t.name + '(' + CAST(c.precision AS varchar(3)) + ','
  + CAST(c.scale AS varchar(3)) + ')'
 WHEN t.name IN ('datetime2', 'datetimeoffset', 'time') THEN t.name + '(' + CAST(c.scale AS varchar(3)) + ')'
 ELSE t.name END
FROM sys.columns c JOIN sys.objects o ON o.object_id = c.object_id JOIN sys.schemas s ON s.schema_id = o.schema_id
 JOIN sys.types t ON t.user_type_id = c.system_type_id
WHERE s.name = ? AND o.name = ? AND t.name NOT IN ('text', 'ntext', 'image') ORDER BY c.column_id
GO
SELECT t.name, m.definition FROM sys.triggers t JOIN sys.sql_modules m ON m.object_id = t.object_id
 JOIN sys.objects o ON o.object_id = t.parent_id JOIN sys.schemas s ON s.schema_id = o.schema_id
WHERE s.name = ? AND o.name = ? AND t.is_disabled = 0
GO

