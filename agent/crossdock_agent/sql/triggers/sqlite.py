"""SQLite. A trigger that names a column keeps that column from being dropped: ALTER TABLE is refused, no write fails.

AUTOINCREMENT, because the log is emptied by deletes and plain rowids begin anew (sqlite.org/autoinc.html). What REPLACE
removes for the sake of another unique index fires no delete trigger unless the application has set recursive_triggers.
"""

from __future__ import annotations

from crossdock_agent.sql.triggers.plan import NOTE, OPERATION, SEQUENCE, TIME, Plan

COLUMNS = "SELECT name, type FROM pragma_table_xinfo(?2) WHERE hidden <> 1 AND ?1 = '' ORDER BY cid"
INSTALLED = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?2 COLLATE NOCASE AND ?1 = ''"
TRANSACTIONAL = True
TYPED = False  # a column takes values of any type


def install(plan: Plan) -> list[str]:
    statements = [f"DROP TRIGGER IF EXISTS {plan.quote(plan.trigger(suffix))}" for suffix in ("ins", "upd", "del")]
    if plan.present is None:
        columns = [
            f"{SEQUENCE} INTEGER PRIMARY KEY AUTOINCREMENT",
            f"{OPERATION} TEXT NOT NULL",
            f"{TIME} TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))",
            f"{NOTE} TEXT",
            *plan.columns_of(plan.columns, "{name} {type}"),
        ]
        statements.append(f"CREATE TABLE {plan.target} (\n  " + ",\n  ".join(columns) + "\n)")
    else:
        statements += [
            f"ALTER TABLE {plan.target} ADD COLUMN {column}"
            for column in plan.columns_of(plan.missing, "{name} {type}")
        ]
    into = f"INSERT INTO {plan.target} ({OPERATION}, {plan.names})"
    gone = f"NOT EXISTS (SELECT 1 FROM {plan.base} s WHERE {_same(plan, 'OLD')})"
    old = f"{into}\n  SELECT 'D', {plan.images('OLD')}\n  WHERE {gone}"
    new = f"{into}\n  SELECT '{{}}', {plan.images('s')} FROM {plan.base} s\n  WHERE {_same(plan, 'NEW')}"
    bodies = {
        ("ins", "INSERT"): [new.format("I")],
        ("upd", "UPDATE"): [old, new.format("U")],
        ("del", "DELETE"): [old],
    }
    for (suffix, event), body in bodies.items():
        lines = ";\n  ".join(body)
        statements.append(
            f"CREATE TRIGGER {plan.quote(plan.trigger(suffix))} AFTER {event} ON {plan.base} FOR EACH ROW\n"
            f"BEGIN /* {plan.fingerprint} */\n  {lines};\nEND"
        )
    return statements


def detach(plan: Plan) -> list[str]:
    return [f"DROP TRIGGER IF EXISTS {plan.quote(plan.trigger(suffix))}" for suffix in ("ins", "upd", "del")]


def drop(plan: Plan) -> list[str]:
    return [f"DROP TABLE IF EXISTS {plan.target}"]


def triggers(plan: Plan) -> list[str]:
    return [plan.trigger(suffix) for suffix in ("ins", "upd", "del")]


def _same(plan: Plan, row: str) -> str:
    """By the index, whatever collation it has, and to the letter."""
    names = [plan.quote(name) for name in plan.key]
    return " AND ".join(f"s.{name} = {row}.{name} AND s.{name} = {row}.{name} COLLATE BINARY" for name in names)
