-- install
CREATE TABLE "SALES"."crossdock_log_order_lines" (
  crossdock_seq NUMBER(19) GENERATED ALWAYS AS IDENTITY (ORDER) PRIMARY KEY,
  crossdock_op CHAR(1) NOT NULL,
  crossdock_at TIMESTAMP(6) DEFAULT SYS_EXTRACT_UTC(SYSTIMESTAMP) NOT NULL,
  crossdock_note VARCHAR2(2000),
  "order no" NUMBER(19,0),
  "sku" VARCHAR2(12 BYTE),
  "quantity" NUMBER(12,3),
  "changed_at" DATE
)
/
CREATE OR REPLACE TRIGGER "SALES"."crossdock_order_lines_all"
AFTER INSERT OR UPDATE OR DELETE ON "SALES"."order_lines" FOR EACH ROW
DECLARE -- crossdock b113870f7d36
  said VARCHAR2(2000);
BEGIN
  IF DELETING OR (UPDATING AND (:OLD."order no" <> :NEW."order no"
    OR :OLD."sku" <> :NEW."sku")) THEN
    INSERT INTO "SALES"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
    VALUES ('D', :OLD."order no", :OLD."sku", :OLD."quantity", :OLD."changed_at");
  END IF;
  IF INSERTING OR UPDATING THEN
    INSERT INTO "SALES"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
    VALUES (CASE WHEN INSERTING THEN 'I' ELSE 'U' END, :NEW."order no", :NEW."sku", :NEW."quantity", :NEW."changed_at");
  END IF;
EXCEPTION WHEN OTHERS THEN
  said := SUBSTR(SQLERRM, 1, 2000);
  INSERT INTO "SALES"."crossdock_log_order_lines" (crossdock_op, crossdock_note) VALUES ('X', said);
END;
/
GRANT SELECT, DELETE ON "SALES"."crossdock_log_order_lines" TO reader
/
GRANT SELECT ON "SALES"."order_lines" TO reader
/

-- amend: changed_at was added, sku has another type, a column was dropped
ALTER TABLE "SALES"."crossdock_log_order_lines" ADD ("changed_at" DATE)
/
ALTER TABLE "SALES"."crossdock_log_order_lines" MODIFY ("sku" VARCHAR2(12 BYTE))
/
CREATE OR REPLACE TRIGGER "SALES"."crossdock_order_lines_all"
AFTER INSERT OR UPDATE OR DELETE ON "SALES"."order_lines" FOR EACH ROW
DECLARE -- crossdock b113870f7d36
  said VARCHAR2(2000);
BEGIN
  IF DELETING OR (UPDATING AND (:OLD."order no" <> :NEW."order no"
    OR :OLD."sku" <> :NEW."sku")) THEN
    INSERT INTO "SALES"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
    VALUES ('D', :OLD."order no", :OLD."sku", :OLD."quantity", :OLD."changed_at");
  END IF;
  IF INSERTING OR UPDATING THEN
    INSERT INTO "SALES"."crossdock_log_order_lines" (crossdock_op, "order no", "sku", "quantity", "changed_at")
    VALUES (CASE WHEN INSERTING THEN 'I' ELSE 'U' END, :NEW."order no", :NEW."sku", :NEW."quantity", :NEW."changed_at");
  END IF;
EXCEPTION WHEN OTHERS THEN
  said := SUBSTR(SQLERRM, 1, 2000);
  INSERT INTO "SALES"."crossdock_log_order_lines" (crossdock_op, crossdock_note) VALUES ('X', said);
END;
/
GRANT SELECT, DELETE ON "SALES"."crossdock_log_order_lines" TO reader
/
GRANT SELECT ON "SALES"."order_lines" TO reader
/

-- remove
DROP TRIGGER "SALES"."crossdock_order_lines_all"
/
DROP TABLE "SALES"."crossdock_log_order_lines"
/

-- look: columns, triggers
SELECT column_name, CASE WHEN data_type IN ('VARCHAR2', 'CHAR') THEN data_type || '(' || data_length || ' BYTE)'
 WHEN data_type IN ('NVARCHAR2', 'NCHAR') THEN data_type || '(' || char_length || ')'
 WHEN data_type = 'RAW' THEN 'RAW(' || data_length || ')'
 WHEN data_type = 'NUMBER' AND data_scale IS NOT NULL
  THEN 'NUMBER(' || NVL(TO_CHAR(data_precision), '38') || ',' || data_scale || ')'
 ELSE data_type END
FROM all_tab_columns WHERE owner = ? AND table_name = ? AND data_type NOT IN ('LONG', 'LONG RAW') ORDER BY column_id
/
SELECT t.trigger_name, s.text FROM all_triggers t
 JOIN all_source s ON s.owner = t.owner AND s.name = t.trigger_name AND s.type = 'TRIGGER'
WHERE s.text LIKE '%crossdock %' AND t.table_owner = ? AND t.table_name = ? AND t.status = 'ENABLED'
/

