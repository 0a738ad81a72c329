"""PostgreSQL: one function, called once a statement for all rows it changed, and by TRUNCATE for all it will remove.

The function runs with its owner's rights (SECURITY DEFINER, with a fixed search_path), so that no application needs a
grant on the log. An error inside it, such as a column that was dropped, is caught: the write goes on, and the log gets
a row of operation X; when even that fails, the server's log gets a warning. The identity column has no cache, so a
later number is never given to an earlier change.

Its plans are made once a session, perhaps for a statement of a million rows: hash and merge joins are off, so that they
always go by the key's index and cost what the statement itself changed.
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
TYPED = True
_TRIGGERS = (
    ("ins", "AFTER INSERT", "\nREFERENCING NEW TABLE AS crossdock_new"),
    ("upd", "AFTER UPDATE", "\nREFERENCING OLD TABLE AS crossdock_old NEW TABLE AS crossdock_new"),
    ("del", "AFTER DELETE", "\nREFERENCING OLD TABLE AS crossdock_old"),
    ("truncate", "BEFORE TRUNCATE", ""),
)


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
        form = "ALTER COLUMN {name} TYPE {type} USING {name}::{type}"
        statements += [f"ALTER TABLE {plan.target} {change}" for change in plan.columns_of(plan.altered, form)]
    statements.append(_function(plan))
    statements.append(f"REVOKE ALL ON FUNCTION {_name(plan)}() FROM PUBLIC")  # else anyone could make it write the log
    for suffix, event, tables in _TRIGGERS:
        name = plan.quote(plan.trigger(suffix))
        statements.append(f"DROP TRIGGER IF EXISTS {name} ON {plan.base}")
        statements.append(
            f"CREATE TRIGGER {name} {event} ON {plan.base}{tables}\nFOR EACH STATEMENT EXECUTE FUNCTION {_name(plan)}()"
        )
    if plan.reader is not None:
        statements.append(f"GRANT SELECT, DELETE ON {plan.target} TO {plan.quote(plan.reader)}")
        statements.append(f"GRANT SELECT ON {plan.base} TO {plan.quote(plan.reader)}")
    return statements


def detach(plan: Plan) -> list[str]:
    dropped = [f"DROP TRIGGER IF EXISTS {plan.quote(name)} ON {plan.base}" for name in triggers(plan)]
    return [*dropped, f"DROP FUNCTION IF EXISTS {_name(plan)}()"]


def drop(plan: Plan) -> list[str]:
    return [f"DROP TABLE IF EXISTS {plan.target}"]


def triggers(plan: Plan) -> list[str]:
    return [plan.trigger(suffix) for suffix, _, _ in _TRIGGERS]


def _name(plan: Plan) -> str:
    return plan.qualified(plan.trigger("log"))


def _function(plan: Plan) -> str:
    into = f"INSERT INTO {plan.target} ({OPERATION}, {plan.names})"
    names = [plan.quote(name) for name in plan.key]
    # as text besides: citext and other types call values equal that read differently
    was, now = (
        "\n      AND ".join(f"s.{name} = {row}.{name} AND s.{name}::text = {row}.{name}::text" for name in names)
        for row in ("o", "n")
    )
    return f"""\
CREATE OR REPLACE FUNCTION {_name(plan)}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $crossdock$
BEGIN -- {plan.fingerprint}
  IF TG_OP = 'TRUNCATE' THEN
    {into}
    SELECT 'D', {plan.images("s")} FROM {plan.base} s;
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    {into}
    SELECT 'D', {plan.images("o")} FROM crossdock_old o
    WHERE NOT EXISTS (SELECT 1 FROM {plan.base} s
      WHERE {was});
  END IF;
  IF TG_OP <> 'DELETE' THEN
    {into}
    SELECT left(TG_OP, 1), {plan.images("s")} FROM crossdock_new n JOIN {plan.base} s
      ON {now};
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  BEGIN
    INSERT INTO {plan.target} ({OPERATION}, {NOTE})
    VALUES ('X', TG_OP || ': ' || SQLERRM);
  EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'crossdock: % on % was not logged: %', TG_OP, TG_TABLE_NAME, SQLERRM;
  END;
  RETURN NULL;
END $crossdock$"""
