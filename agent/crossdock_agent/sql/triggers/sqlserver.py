"""SQL Server, generated only: it has met no server. One trigger for all rows of a statement.

Numbers come from a sequence, not from IDENTITY, so that an application that asks for @@IDENTITY still gets its own. An
error in a trigger undoes the application's transaction whatever the trigger does; so a column is dropped only after
`changelog --install` was run without it. TRUNCATE TABLE fires no trigger. Columns of type text, ntext and image cannot
be seen by a trigger and are left out.
"""

from __future__ import annotations

from crossdock_agent.sql.triggers.plan import NOTE, OPERATION, SEQUENCE, TIME, Logged, Plan

COLUMNS = """\
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
WHERE s.name = ? AND o.name = ? AND t.name NOT IN ('text', 'ntext', 'image') ORDER BY c.column_id"""
INSTALLED = """\
SELECT t.name, m.definition FROM sys.triggers t JOIN sys.sql_modules m ON m.object_id = t.object_id
 JOIN sys.objects o ON o.object_id = t.parent_id JOIN sys.schemas s ON s.schema_id = o.schema_id
WHERE s.name = ? AND o.name = ? AND t.is_disabled = 0"""
TRANSACTIONAL = True
TYPED = True
_BINARY = "COLLATE Latin1_General_BIN2"


def install(plan: Plan) -> list[str]:
    statements = []
    if plan.present is None:
        columns = [
            f"{SEQUENCE} bigint NOT NULL CONSTRAINT {plan.quote(plan.trigger('number'))}\n"
            f"    DEFAULT (NEXT VALUE FOR {_sequence(plan)}) PRIMARY KEY",
            f"{OPERATION} char(1) NOT NULL",
            f"{TIME} datetime2(6) NOT NULL DEFAULT (SYSUTCDATETIME())",
            f"{NOTE} nvarchar(2000) NULL",
            *plan.columns_of(plan.columns),
        ]
        statements.append(f"CREATE SEQUENCE {_sequence(plan)} AS bigint START WITH 1 INCREMENT BY 1")
        statements.append(f"CREATE TABLE {plan.target} (\n  " + ",\n  ".join(columns) + "\n)")
    else:
        statements += [f"ALTER TABLE {plan.target} ADD {column}" for column in plan.columns_of(plan.missing)]
        statements += [f"ALTER TABLE {plan.target} ALTER COLUMN {column}" for column in plan.columns_of(plan.altered)]
    key = [column for column in plan.columns if column.name in plan.key]
    was, now = (" AND ".join(_equal(plan, column, row) for column in key) for row in "di")
    into = f"INSERT INTO {plan.target} ({OPERATION}, {plan.names})"
    statements.append(f"""\
CREATE OR ALTER TRIGGER {plan.qualified(plan.trigger("all"))} ON {plan.base}
AFTER INSERT, UPDATE, DELETE AS
BEGIN /* {plan.fingerprint} */
  SET NOCOUNT ON;
  {into}
  SELECT 'D', {plan.images("d")} FROM deleted d
  WHERE NOT EXISTS (SELECT 1 FROM {plan.base} s
    WHERE {was});
  {into}
  SELECT CASE WHEN EXISTS (SELECT 1 FROM deleted) THEN 'U' ELSE 'I' END,
    {plan.images("s")}
  FROM inserted i JOIN {plan.base} s
    ON {now};
END""")
    if plan.reader is not None:
        statements.append(f"GRANT SELECT, DELETE ON {plan.target} TO {plan.quote(plan.reader)}")
        statements.append(f"GRANT SELECT, VIEW DEFINITION ON {plan.base} TO {plan.quote(plan.reader)}")
    return statements


def detach(plan: Plan) -> list[str]:
    return [f"DROP TRIGGER IF EXISTS {plan.qualified(plan.trigger('all'))}"]


def drop(plan: Plan) -> list[str]:
    return [f"DROP TABLE IF EXISTS {plan.target}", f"DROP SEQUENCE IF EXISTS {_sequence(plan)}"]


def triggers(plan: Plan) -> list[str]:
    return [plan.trigger("all")]


def _sequence(plan: Plan) -> str:
    return plan.qualified(plan.trigger("seq"))


def _equal(plan: Plan, column: Logged, row: str) -> str:
    """By the index, and text to the letter: most databases here compare without regard to case, but a key that changes
    its case is another."""
    name = plan.quote(column.name)
    exact = f" AND s.{name} {_BINARY} = {row}.{name} {_BINARY}" if "char" in column.type else ""
    return f"s.{name} = {row}.{name}{exact}"
