"""MariaDB and MySQL: three row triggers. TRUNCATE, and what a foreign key cascades to, fire no trigger.

An error inside a trigger, such as a column that was dropped, is handled: the write goes on and the log gets a row of
operation X. Deadlocks and lock timeouts are not handled there; the server passes them on whatever a trigger declares.
The fingerprint is a variable, because the server does not keep comments. Triggers keep the sql_mode they were made
under, so it is set: strict, because a value cut to fit would be logged wrong, but with dates such as 0000-00-00.
"""

from __future__ import annotations

from crossdock_agent.sql.triggers.plan import NOTE, OPERATION, SEQUENCE, TIME, Plan

COLUMNS = """\
SELECT COLUMN_NAME, CONCAT(COLUMN_TYPE, CASE WHEN COLLATION_NAME IS NULL THEN '' ELSE
 CONCAT(' CHARACTER SET ', CHARACTER_SET_NAME, ' COLLATE ', COLLATION_NAME) END)
FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION"""
INSTALLED = """\
SELECT TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS
WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ?"""
TRANSACTIONAL = False
TYPED = True


def install(plan: Plan) -> list[str]:
    statements = []
    if plan.present is None:
        columns = [
            f"{SEQUENCE} bigint NOT NULL AUTO_INCREMENT PRIMARY KEY",
            f"{OPERATION} char(1) CHARACTER SET ascii NOT NULL",
            f"{TIME} timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)",
            f"{NOTE} text CHARACTER SET utf8mb4 NULL",
            *plan.columns_of(plan.columns),
        ]
        statements.append(f"CREATE TABLE {plan.target} (\n  " + ",\n  ".join(columns) + "\n) ENGINE=InnoDB")
    elif plan.missing or plan.altered:
        changes = plan.columns_of(plan.missing, "ADD COLUMN {name} {type} NULL")
        changes += plan.columns_of(plan.altered, "MODIFY COLUMN {name} {type} NULL")
        statements.append(f"ALTER TABLE {plan.target} {', '.join(changes)}")
    statements.append("SET SESSION sql_mode = 'STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'")
    moved = "\n    OR ".join(f"NOT (BINARY OLD.{plan.quote(k)} <=> BINARY NEW.{plan.quote(k)})" for k in plan.key)
    into = f"INSERT INTO {plan.target} ({OPERATION}, {plan.names})"
    old, new = f"{into}\n    VALUES ('D', {plan.images('OLD')});", f"{into}\n    VALUES ('{{}}', {plan.images('NEW')});"
    statements += _trigger(plan, "ins", "INSERT", new.format("I"))
    statements += _trigger(plan, "upd", "UPDATE", f"IF {moved} THEN\n    {old}\n  END IF;\n  {new.format('U')}")
    statements += _trigger(plan, "del", "DELETE", old)
    if plan.reader is not None:
        statements.append(f"GRANT SELECT, DELETE ON {plan.target} TO {plan.reader}")
        statements.append(f"GRANT SELECT, TRIGGER ON {plan.base} TO {plan.reader}")
    return statements


def detach(plan: Plan) -> list[str]:
    return [f"DROP TRIGGER IF EXISTS {plan.qualified(name)}" for name in triggers(plan)]


def drop(plan: Plan) -> list[str]:
    return [f"DROP TABLE IF EXISTS {plan.target}"]


def triggers(plan: Plan) -> list[str]:
    return [plan.trigger(suffix) for suffix in ("ins", "upd", "del")]


def _trigger(plan: Plan, suffix: str, event: str, body: str) -> list[str]:
    """MariaDB replaces a trigger in one step; MySQL cannot, and logs nothing between the two statements."""
    name = plan.qualified(plan.trigger(suffix))
    create = "CREATE OR REPLACE TRIGGER" if plan.dialect == "mariadb" else "CREATE TRIGGER"
    made = f"""\
{create} {name} AFTER {event} ON {plan.base} FOR EACH ROW
BEGIN
  DECLARE crossdock_plan char(30) DEFAULT '{plan.fingerprint}';
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    DECLARE said text;
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    GET DIAGNOSTICS CONDITION 1 said = MESSAGE_TEXT;
    INSERT INTO {plan.target} ({OPERATION}, {NOTE})
    VALUES ('X', CONCAT('{event}: ', COALESCE(said, '?')));
  END;
  {body}
END"""
    return [made] if plan.dialect == "mariadb" else [f"DROP TRIGGER IF EXISTS {name}", made]
