"""Oracle, generated only: it has met no server. One row trigger.

An error while it runs is caught and becomes a row of operation X. A trigger that no longer compiles, because a column
it names was dropped, fails every write (ORA-04098), and no trigger can prevent that: a column is dropped only after
`changelog --install` was run without it. A row trigger here may not read its own table: a statement that moves keys
onto each other (`SET id = id + 1`), and triggers of the application that change the same row again, are logged in the
order they come, which may leave an older image last. TRUNCATE fires no trigger. The identity is ordered across the
nodes of a cluster, so that a later number is never given to an earlier change. LONG columns are left out.
"""

from __future__ import annotations

from crossdock_agent.sql.triggers.plan import NOTE, OPERATION, SEQUENCE, TIME, Plan

COLUMNS = """\
SELECT column_name, CASE WHEN data_type IN ('VARCHAR2', 'CHAR') THEN data_type || '(' || data_length || ' BYTE)'
 WHEN data_type IN ('NVARCHAR2', 'NCHAR') THEN data_type || '(' || char_length || ')'
 WHEN data_type = 'RAW' THEN 'RAW(' || data_length || ')'
 WHEN data_type = 'NUMBER' AND data_scale IS NOT NULL
  THEN 'NUMBER(' || NVL(TO_CHAR(data_precision), '38') || ',' || data_scale || ')'
 ELSE data_type END
FROM all_tab_columns WHERE owner = ? AND table_name = ? AND data_type NOT IN ('LONG', 'LONG RAW') ORDER BY column_id"""
INSTALLED = """\
SELECT t.trigger_name, s.text FROM all_triggers t
 JOIN all_source s ON s.owner = t.owner AND s.name = t.trigger_name AND s.type = 'TRIGGER'
WHERE s.text LIKE '%crossdock %' AND t.table_owner = ? AND t.table_name = ? AND t.status = 'ENABLED'"""
TRANSACTIONAL = False
TYPED = True


def install(plan: Plan) -> list[str]:
    statements = []
    if plan.present is None:
        columns = [
            f"{SEQUENCE} NUMBER(19) GENERATED ALWAYS AS IDENTITY (ORDER) PRIMARY KEY",
            f"{OPERATION} CHAR(1) NOT NULL",
            f"{TIME} TIMESTAMP(6) DEFAULT SYS_EXTRACT_UTC(SYSTIMESTAMP) NOT NULL",
            f"{NOTE} VARCHAR2(2000)",
            *plan.columns_of(plan.columns, "{name} {type}"),
        ]
        statements.append(f"CREATE TABLE {plan.target} (\n  " + ",\n  ".join(columns) + "\n)")
    else:
        for word, changed in (("ADD", plan.missing), ("MODIFY", plan.altered)):
            if changed:
                named = ", ".join(plan.columns_of(changed, "{name} {type}"))
                statements.append(f"ALTER TABLE {plan.target} {word} ({named})")
    moved = "\n    OR ".join(f":OLD.{plan.quote(k)} <> :NEW.{plan.quote(k)}" for k in plan.key)
    into = f"INSERT INTO {plan.target} ({OPERATION}, {plan.names})"
    statements.append(f"""\
CREATE OR REPLACE TRIGGER {plan.qualified(plan.trigger("all"))}
AFTER INSERT OR UPDATE OR DELETE ON {plan.base} FOR EACH ROW
DECLARE -- {plan.fingerprint}
  said VARCHAR2(2000);
BEGIN
  IF DELETING OR (UPDATING AND ({moved})) THEN
    {into}
    VALUES ('D', {plan.images(":OLD")});
  END IF;
  IF INSERTING OR UPDATING THEN
    {into}
    VALUES (CASE WHEN INSERTING THEN 'I' ELSE 'U' END, {plan.images(":NEW")});
  END IF;
EXCEPTION WHEN OTHERS THEN
  said := SUBSTR(SQLERRM, 1, 2000);
  INSERT INTO {plan.target} ({OPERATION}, {NOTE}) VALUES ('X', said);
END;""")
    if plan.reader is not None:
        statements.append(f"GRANT SELECT, DELETE ON {plan.target} TO {plan.reader}")
        statements.append(f"GRANT SELECT ON {plan.base} TO {plan.reader}")
    return statements


def detach(plan: Plan) -> list[str]:
    return [f"DROP TRIGGER {plan.qualified(plan.trigger('all'))}"]


def drop(plan: Plan) -> list[str]:
    return [f"DROP TABLE {plan.target}"]


def triggers(plan: Plan) -> list[str]:
    return [plan.trigger("all")]
