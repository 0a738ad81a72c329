"""PostgreSQL: one function, a row trigger, and a statement trigger for TRUNCATE that logs each row about to go.

The function runs with its owner's rights (SECURITY DEFINER, with a fixed search_path), so that no application needs a
grant on the log. An error inside it, such as a column that was dropped, is caught: the write goes on, and the log gets
a row of operation X; when even that fails, the server's log gets a warning. The identity column has no cache, so a
later number is never given to an earlier change.
"""

from __future__ import annotations

from crossdock_agent.sql.triggers.plan import NOTE, OPERATION, SEQUENCE, TIME, Plan

COLUMNS = """\
SELECT a.attname, CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod)
 ELSE format_type(a.atttypid, a.atttypmod) END
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = CAST(? AS text) AND c.relname = CAST(? AS text) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum"""
INSTALLED = """\
SELECT t.tgname, p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_class c ON c.oid = t.tgrelid
 JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = CAST(? AS text) AND c.relname = CAST(? AS text) AND t.tgenabled <> 'D'"""
TRANSACTIONAL = True


def install(plan: Plan) -> list[str]:
    statements = []
    if plan.present is None:
        columns = [
            f"{SEQUENCE} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            f"{OPERATION} text NOT NULL",
            f"{TIME} timestamptz NOT NULL DEFAULT clock_timestamp()",
            f"{NOTE} text",
            *plan.columns_of(plan.columns),
        ]
        statements.append(f"CREATE TABLE {plan.target} (\n  " + ",\n  ".join(columns) + "\n)")
    else:
        statements += [f"ALTER TABLE {plan.target} ADD COLUMN {column}" for column in plan.columns_of(plan.missing)]
    row, truncate = plan.quote(plan.trigger("row")), plan.quote(plan.trigger("truncate"))
    statements += [
        _function(plan),
        f"DROP TRIGGER IF EXISTS {row} ON {plan.base}",
        f"DROP TRIGGER IF EXISTS {truncate} ON {plan.base}",
        f"CREATE TRIGGER {row} AFTER INSERT OR UPDATE OR DELETE ON {plan.base}\n"
        f"FOR EACH ROW EXECUTE FUNCTION {_name(plan)}()",
        f"CREATE TRIGGER {truncate} BEFORE TRUNCATE ON {plan.base}\n"
        f"FOR EACH STATEMENT EXECUTE FUNCTION {_name(plan)}()",
    ]
    if plan.reader is not None:
        statements.append(f"GRANT SELECT, DELETE ON {plan.target} TO {plan.quote(plan.reader)}")
        statements.append(f"GRANT SELECT ON {plan.base} TO {plan.quote(plan.reader)}")
    return statements


def detach(plan: Plan) -> list[str]:
    return [
        f"DROP TRIGGER IF EXISTS {plan.quote(plan.trigger('row'))} ON {plan.base}",
        f"DROP TRIGGER IF EXISTS {plan.quote(plan.trigger('truncate'))} ON {plan.base}",
        f"DROP FUNCTION IF EXISTS {_name(plan)}()",
    ]


def drop(plan: Plan) -> list[str]:
    return [f"DROP TABLE IF EXISTS {plan.target}"]


def triggers(plan: Plan) -> list[str]:
    return [plan.trigger("row"), plan.trigger("truncate")]


def _name(plan: Plan) -> str:
    return plan.qualified(plan.trigger("log"))


def _function(plan: Plan) -> str:
    into = f"INSERT INTO {plan.target} ({OPERATION}, {plan.names})"
    moved = "\n      OR ".join(
        f"OLD.{plan.quote(k)}::text IS DISTINCT FROM NEW.{plan.quote(k)}::text" for k in plan.key
    )  # as text: citext and other types call values equal that read differently
    return f"""\
CREATE OR REPLACE FUNCTION {_name(plan)}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $crossdock$
BEGIN -- {plan.fingerprint}
  IF TG_OP = 'TRUNCATE' THEN
    {into}
    SELECT 'D', {plan.names} FROM {plan.base};
  ELSIF TG_OP = 'DELETE' THEN
    {into}
    VALUES ('D', {plan.images("OLD")});
  ELSIF TG_OP = 'INSERT' THEN
    {into}
    VALUES ('I', {plan.images("NEW")});
  ELSE
    IF {moved} THEN
      {into}
      VALUES ('D', {plan.images("OLD")});
    END IF;
    {into}
    VALUES ('U', {plan.images("NEW")});
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  BEGIN
    INSERT INTO {plan.target} ({OPERATION}, {NOTE}) VALUES ('X', TG_OP || ': ' || SQLERRM);
  EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'crossdock: % on % was not logged: %', TG_OP, TG_TABLE_NAME, SQLERRM;
  END;
  RETURN NULL;
END $crossdock$"""
