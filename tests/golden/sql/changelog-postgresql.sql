-- install
BEGIN;
SET LOCAL lock_timeout = '1s';
CREATE TABLE "sales"."crossdock_log_order_lines" (
  crossdock_seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  crossdock_op text NOT NULL,
  crossdock_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  crossdock_note text,
  "order no" bigint NULL,
  "sku" character(12) NULL,
  "quantity" numeric(12,3) NULL,
  "changed_at" timestamp without time zone NULL
);
CREATE OR REPLACE FUNCTION "sales"."crossdock_order_lines_log"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $crossdock$
BEGIN -- crossdock 90e4dbf6ffb6
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO "sales"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
    SELECT 'D', s."order no", s."sku", s."quantity", s."changed_at" FROM "sales"."order_lines" s;
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO "sales"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
    SELECT 'D', o."order no", o."sku", o."quantity", o."changed_at" FROM crossdock_old o
    WHERE NOT EXISTS (SELECT 1 FROM "sales"."order_lines" s
      WHERE s."order no" = o."order no" AND s."order no"::text = o."order no"::text
      AND s."sku" = o."sku" AND s."sku"::text = o."sku"::text);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO "sales"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
    SELECT left(TG_OP, 1), s."order no", s."sku", s."quantity", s."changed_at" FROM crossdock_new n JOIN "sales"."order_lines" s
      ON s."order no" = n."order no" AND s."order no"::text = n."order no"::text
      AND s."sku" = n."sku" AND s."sku"::text = n."sku"::text;
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  BEGIN
    INSERT INTO "sales"."crossdock_log_order_lines" (crossdock_op, crossdock_note)
    VALUES ('X', TG_OP || ': ' || SQLERRM);
  EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'crossdock: % on % was not logged: %', TG_OP, TG_TABLE_NAME, SQLERRM;
  END;
  RETURN NULL;
END $crossdock$;
REVOKE ALL ON FUNCTION "sales"."crossdock_order_lines_log"() FROM PUBLIC;
DROP TRIGGER IF EXISTS "crossdock_order_lines_ins" ON "sales"."order_lines";
CREATE TRIGGER "crossdock_order_lines_ins" AFTER INSERT ON "sales"."order_lines"
REFERENCING NEW TABLE AS crossdock_new
FOR EACH STATEMENT EXECUTE FUNCTION "sales"."crossdock_order_lines_log"();
DROP TRIGGER IF EXISTS "crossdock_order_lines_upd" ON "sales"."order_lines";
CREATE TRIGGER "crossdock_order_lines_upd" AFTER UPDATE ON "sales"."order_lines"
REFERENCING OLD TABLE AS crossdock_old NEW TABLE AS crossdock_new
FOR EACH STATEMENT EXECUTE FUNCTION "sales"."crossdock_order_lines_log"();
DROP TRIGGER IF EXISTS "crossdock_order_lines_del" ON "sales"."order_lines";
CREATE TRIGGER "crossdock_order_lines_del" AFTER DELETE ON "sales"."order_lines"
REFERENCING OLD TABLE AS crossdock_old
FOR EACH STATEMENT EXECUTE FUNCTION "sales"."crossdock_order_lines_log"();
DROP TRIGGER IF EXISTS "crossdock_order_lines_truncate" ON "sales"."order_lines";
CREATE TRIGGER "crossdock_order_lines_truncate" BEFORE TRUNCATE ON "sales"."order_lines"
FOR EACH STATEMENT EXECUTE FUNCTION "sales"."crossdock_order_lines_log"();
GRANT SELECT, DELETE ON "sales"."crossdock_log_order_lines" TO "reader";
GRANT SELECT ON "sales"."order_lines" TO "reader";
COMMIT;

-- amend: changed_at was added, sku has another type, a column was dropped
BEGIN;
SET LOCAL lock_timeout = '1s';
ALTER TABLE "sales"."crossdock_log_order_lines" ADD COLUMN "changed_at" timestamp without time zone NULL;
ALTER TABLE "sales"."crossdock_log_order_lines" ALTER COLUMN "sku" TYPE character(12) USING "sku"::character(12);
CREATE OR REPLACE FUNCTION "sales"."crossdock_order_lines_log"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $crossdock$
BEGIN -- crossdock 90e4dbf6ffb6
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO "sales"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
    SELECT 'D', s."order no", s."sku", s."quantity", s."changed_at" FROM "sales"."order_lines" s;
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO "sales"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
    SELECT 'D', o."order no", o."sku", o."quantity", o."changed_at" FROM crossdock_old o
    WHERE NOT EXISTS (SELECT 1 FROM "sales"."order_lines" s
      WHERE s."order no" = o."order no" AND s."order no"::text = o."order no"::text
      AND s."sku" = o."sku" AND s."sku"::text = o."sku"::text);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO "sales"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
    SELECT left(TG_OP, 1), s."order no", s."sku", s."quantity", s."changed_at" FROM crossdock_new n JOIN "sales"."order_lines" s
      ON s."order no" = n."order no" AND s."order no"::text = n."order no"::text
      AND s."sku" = n."sku" AND s."sku"::text = n."sku"::text;
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  BEGIN
    INSERT INTO "sales"."crossdock_log_order_lines" (crossdock_op, crossdock_note)
    VALUES ('X', TG_OP || ': ' || SQLERRM);
  EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'crossdock: % on % was not logged: %', TG_OP, TG_TABLE_NAME, SQLERRM;
  END;
  RETURN NULL;
END $crossdock$;
REVOKE ALL ON FUNCTION "sales"."crossdock_order_lines_log"() FROM PUBLIC;
DROP TRIGGER IF EXISTS "crossdock_order_lines_ins" ON "sales"."order_lines";
CREATE TRIGGER "crossdock_order_lines_ins" AFTER INSERT ON "sales"."order_lines"
REFERENCING NEW TABLE AS crossdock_new
FOR EACH STATEMENT EXECUTE FUNCTION "sales"."crossdock_order_lines_log"();
DROP TRIGGER IF EXISTS "crossdock_order_lines_upd" ON "sales"."order_lines";
CREATE TRIGGER "crossdock_order_lines_upd" AFTER UPDATE ON "sales"."order_lines"
REFERENCING OLD TABLE AS crossdock_old NEW TABLE AS crossdock_new
FOR EACH STATEMENT EXECUTE FUNCTION "sales"."crossdock_order_lines_log"();
DROP TRIGGER IF EXISTS "crossdock_order_lines_del" ON "sales"."order_lines";
CREATE TRIGGER "crossdock_order_lines_del" AFTER DELETE ON "sales"."order_lines"
REFERENCING OLD TABLE AS crossdock_old
FOR EACH STATEMENT EXECUTE FUNCTION "sales"."crossdock_order_lines_log"();
DROP TRIGGER IF EXISTS "crossdock_order_lines_truncate" ON "sales"."order_lines";
CREATE TRIGGER "crossdock_order_lines_truncate" BEFORE TRUNCATE ON "sales"."order_lines"
FOR EACH STATEMENT EXECUTE FUNCTION "sales"."crossdock_order_lines_log"();
GRANT SELECT, DELETE ON "sales"."crossdock_log_order_lines" TO "reader";
GRANT SELECT ON "sales"."order_lines" TO "reader";
COMMIT;

-- remove
BEGIN;
SET LOCAL lock_timeout = '1s';
DROP TRIGGER IF EXISTS "crossdock_order_lines_ins" ON "sales"."order_lines";
DROP TRIGGER IF EXISTS "crossdock_order_lines_upd" ON "sales"."order_lines";
DROP TRIGGER IF EXISTS "crossdock_order_lines_del" ON "sales"."order_lines";
DROP TRIGGER IF EXISTS "crossdock_order_lines_truncate" ON "sales"."order_lines";
DROP FUNCTION IF EXISTS "sales"."crossdock_order_lines_log"();
DROP TABLE IF EXISTS "sales"."crossdock_log_order_lines";
COMMIT;

-- look: columns, triggers
BEGIN;
SET LOCAL lock_timeout = '1s';
SELECT a.attname, CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod)
 ELSE format_type(a.atttypid, a.atttypmod) END
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = CAST(? AS text) AND c.relname = CAST(? AS text) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;
SELECT t.tgname, p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_class c ON c.oid = t.tgrelid
 JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = CAST(? AS text) AND c.relname = CAST(? AS text) AND t.tgenabled <> 'D';
COMMIT;

