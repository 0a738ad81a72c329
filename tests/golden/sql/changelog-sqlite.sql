-- install
BEGIN IMMEDIATE;
DROP TRIGGER IF EXISTS "crossdock_order_lines_ins";
DROP TRIGGER IF EXISTS "crossdock_order_lines_upd";
DROP TRIGGER IF EXISTS "crossdock_order_lines_del";
CREATE TABLE "crossdock_log_order_lines" (
  crossdock_seq INTEGER PRIMARY KEY AUTOINCREMENT,
  crossdock_op TEXT NOT NULL,
  crossdock_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
  crossdock_note TEXT,
  "order no" INTEGER,
  "sku" VARCHAR(12),
  "quantity" NUMERIC,
  "changed_at" 
);
CREATE TRIGGER "crossdock_order_lines_ins" AFTER INSERT ON "order_lines" FOR EACH ROW
BEGIN /* crossdock 6c72702e7bb0 */
  INSERT INTO "crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
  SELECT 'I', s."order no", s."sku", s."quantity", s."changed_at" FROM "order_lines" s
  WHERE s."order no" = NEW."order no" AND s."order no" = NEW."order no" COLLATE BINARY AND s."sku" = NEW."sku" AND s."sku" = NEW."sku" COLLATE BINARY;
END;
CREATE TRIGGER "crossdock_order_lines_upd" AFTER UPDATE ON "order_lines" FOR EACH ROW
BEGIN /* crossdock 6c72702e7bb0 */
  INSERT INTO "crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
  SELECT 'D', OLD."order no", OLD."sku", OLD."quantity", OLD."changed_at"
  WHERE NOT EXISTS (SELECT 1 FROM "order_lines" s WHERE s."order no" = OLD."order no" AND s."order no" = OLD."order no" COLLATE BINARY AND s."sku" = OLD."sku" AND s."sku" = OLD."sku" COLLATE BINARY);
  INSERT INTO "crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
  SELECT 'U', s."order no", s."sku", s."quantity", s."changed_at" FROM "order_lines" s
  WHERE s."order no" = NEW."order no" AND s."order no" = NEW."order no" COLLATE BINARY AND s."sku" = NEW."sku" AND s."sku" = NEW."sku" COLLATE BINARY;
END;
CREATE TRIGGER "crossdock_order_lines_del" AFTER DELETE ON "order_lines" FOR EACH ROW
BEGIN /* crossdock 6c72702e7bb0 */
  INSERT INTO "crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
  SELECT 'D', OLD."order no", OLD."sku", OLD."quantity", OLD."changed_at"
  WHERE NOT EXISTS (SELECT 1 FROM "order_lines" s WHERE s."order no" = OLD."order no" AND s."order no" = OLD."order no" COLLATE BINARY AND s."sku" = OLD."sku" AND s."sku" = OLD."sku" COLLATE BINARY);
END;
COMMIT;

-- amend: changed_at was added, sku has another type, a column was dropped
BEGIN IMMEDIATE;
DROP TRIGGER IF EXISTS "crossdock_order_lines_ins";
DROP TRIGGER IF EXISTS "crossdock_order_lines_upd";
DROP TRIGGER IF EXISTS "crossdock_order_lines_del";
ALTER TABLE "crossdock_log_order_lines" ADD COLUMN "changed_at" ;
CREATE TRIGGER "crossdock_order_lines_ins" AFTER INSERT ON "order_lines" FOR EACH ROW
BEGIN /* crossdock 6c72702e7bb0 */
  INSERT INTO "crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
  SELECT 'I', s."order no", s."sku", s."quantity", s."changed_at" FROM "order_lines" s
  WHERE s."order no" = NEW."order no" AND s."order no" = NEW."order no" COLLATE BINARY AND s."sku" = NEW."sku" AND s."sku" = NEW."sku" COLLATE BINARY;
END;
CREATE TRIGGER "crossdock_order_lines_upd" AFTER UPDATE ON "order_lines" FOR EACH ROW
BEGIN /* crossdock 6c72702e7bb0 */
  INSERT INTO "crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
  SELECT 'D', OLD."order no", OLD."sku", OLD."quantity", OLD."changed_at"
  WHERE NOT EXISTS (SELECT 1 FROM "order_lines" s WHERE s."order no" = OLD."order no" AND s."order no" = OLD."order no" COLLATE BINARY AND s."sku" = OLD."sku" AND s."sku" = OLD."sku" COLLATE BINARY);
  INSERT INTO "crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
  SELECT 'U', s."order no", s."sku", s."quantity", s."changed_at" FROM "order_lines" s
  WHERE s."order no" = NEW."order no" AND s."order no" = NEW."order no" COLLATE BINARY AND s."sku" = NEW."sku" AND s."sku" = NEW."sku" COLLATE BINARY;
END;
CREATE TRIGGER "crossdock_order_lines_del" AFTER DELETE ON "order_lines" FOR EACH ROW
BEGIN /* crossdock 6c72702e7bb0 */
  INSERT INTO "crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
  SELECT 'D', OLD."order no", OLD."sku", OLD."quantity", OLD."changed_at"
  WHERE NOT EXISTS (SELECT 1 FROM "order_lines" s WHERE s."order no" = OLD."order no" AND s."order no" = OLD."order no" COLLATE BINARY AND s."sku" = OLD."sku" AND s."sku" = OLD."sku" COLLATE BINARY);
END;
COMMIT;

-- remove
BEGIN IMMEDIATE;
DROP TRIGGER IF EXISTS "crossdock_order_lines_ins";
DROP TRIGGER IF EXISTS "crossdock_order_lines_upd";
DROP TRIGGER IF EXISTS "crossdock_order_lines_del";
DROP TABLE IF EXISTS "crossdock_log_order_lines";
COMMIT;

-- look: columns, triggers
BEGIN IMMEDIATE;
SELECT name, type FROM pragma_table_xinfo(?2) WHERE hidden <> 1 AND ?1 = '' ORDER BY cid;
SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?2 COLLATE NOCASE AND ?1 = '';
COMMIT;

