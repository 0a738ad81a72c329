"""A change log as it is in the database: looked at, shown as a script, installed, amended, removed.

Nothing here happens by itself: an agent that runs only looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from crossdock.errors import ConfigError
from crossdock_agent.sources.base import Finding, SourceContext
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.faults import table_missing
from crossdock_agent.sql.settings import ChangeLogSettings, SqlTableSettings
from crossdock_agent.sql.triggers import module_of
from crossdock_agent.sql.triggers.plan import NOTE, OPERATION, OWN, PREFIX, SEQUENCE, Logged, Plan, log_name
from crossdock_agent.sql.writing import Writable, connect_writable

INSTALL_SECONDS = 30.0  # a statement that creates a trigger waits for the writers of the table to end
_CLIENTS = {  # what their command line clients need before all statements, after each and at the end
    "sqlite": ("BEGIN IMMEDIATE;\n", ";\n", "COMMIT;\n"),
    "postgresql": ("BEGIN;\nSET LOCAL lock_timeout = '1s';\n", ";\n", "COMMIT;\n"),
    "mariadb": ("DELIMITER //\n", "\n//\n", "DELIMITER ;\n"),
    "mysql": ("DELIMITER //\n", "\n//\n", "DELIMITER ;\n"),
    "sqlserver": ("", "\nGO\n", ""),
    "oracle": ("", "\n/\n", ""),
}


@dataclass(frozen=True, slots=True)
class State:
    """*plan* is what should be; the rest is what is."""

    plan: Plan
    installed: dict[str, str]  # triggers by name, with their text
    dropped: tuple[str, ...]  # columns the log has and the table no longer has

    @property
    def exists(self) -> bool:
        return self.plan.present is not None

    @property
    def absent(self) -> list[str]:
        known = {name.lower() for name in self.installed}
        wanted: list[str] = module_of(self.plan.dialect).triggers(self.plan)
        return [name for name in wanted if name.lower() not in known]

    @property
    def is_whole(self) -> bool:
        """All changes are logged, though perhaps not all columns."""
        return self.exists and not self.absent

    @property
    def is_current(self) -> bool:
        """It is what `install` would make of the table as it is now."""
        wanted = {name.lower() for name in module_of(self.plan.dialect).triggers(self.plan)}
        texts = [text for name, text in self.installed.items() if name.lower() in wanted]
        if not self.is_whole or self.plan.missing or (self.plan.altered and module_of(self.plan.dialect).TYPED):
            return False
        return all(self.plan.fingerprint in text for text in texts)

    def script(self) -> str:
        """The statements of `install`, as the database's own client reads them."""
        return render(self.plan.dialect, self.statements())

    def statements(self) -> list[str]:
        """What makes of it what should be. Triggers that were gone for a time leave a gap, as changes they could not
        log do."""
        made: list[str] = module_of(self.plan.dialect).install(self.plan)
        if self.exists and self.absent:
            note = "changes before this were not logged: triggers were missing"
            made.append(f"INSERT INTO {self.plan.target} ({OPERATION}, {NOTE})\nVALUES ('X', '{note}')")
        return made

    def removal(self) -> str:
        templates = module_of(self.plan.dialect)
        return render(self.plan.dialect, [*templates.detach(self.plan), *templates.drop(self.plan)])


@dataclass(frozen=True, slots=True)
class Measure:
    """What is in a log: all rows, those that say a change was not logged, the last of them and what it says."""

    rows: int
    gaps: int
    last_gap: int
    said: str


def settings_of(settings: SqlTableSettings) -> ChangeLogSettings:
    return settings.change_log or ChangeLogSettings()


def inspect(database: Database, settings: SqlTableSettings) -> State:
    """Raises SourceUnavailable when the table is missing, ConfigError when it cannot have a change log."""
    how, dialect = settings_of(settings), database.dialect
    base = database.catalog(settings.table)
    if base is None:
        raise table_missing(settings.table)
    if base.is_view:
        raise ConfigError(f"{settings.table} is a view", hint="a change log is of a table")
    templates = module_of(dialect.name)
    found = [Logged(str(r[0]), str(r[1])) for r in database.rows(templates.COLUMNS, [base.schema, base.name])]
    key = tuple(_named(found, settings.table, name).name for name in settings.key)
    if settings.columns is not None:
        wanted = {_named(found, settings.table, name).name for name in settings.columns} | set(key)
        logged = tuple(column for column in found if column.name in wanted)
    else:
        logged = tuple(found)
    own = [column.name for column in logged if column.name.lower().startswith(PREFIX)]
    if own:
        raise ConfigError(
            f"table {settings.table} has a column {own[0]}", hint=f"names with {PREFIX} are the log's own"
        )
    log = how.log_table or log_name(base.name)
    columns = database.rows(templates.COLUMNS, [base.schema, log])
    present = {str(r[0]).lower(): str(r[1]) for r in columns} if columns else None
    plan = Plan(
        dialect.name, dialect.quoted, base.schema, base.name, log, logged, key, present, how.reader
    )  # fmt: skip
    installed = {str(r[0]): str(r[1]) for r in database.rows(templates.INSTALLED, [base.schema, base.name])}
    there = {column.name.lower() for column in found}
    dropped = tuple(str(r[0]) for r in columns if str(r[0]).lower() not in {*there, *OWN})
    return State(plan, installed, dropped)


def connect_installer(settings: SqlTableSettings, context: SourceContext) -> Writable:
    """With the rights of `change_log.connection`, where that is given."""
    to = settings_of(settings).connection or settings.connection
    timeout = max(INSTALL_SECONDS, settings.statement_timeout_seconds)
    return connect_writable(to, settings.table, timeout, context.secret, context.wall_us)


def install(database: Writable, settings: SqlTableSettings) -> State:
    """Create or amend; what it then is. Doing it again changes nothing. In one transaction where the dialect has
    transactions for this; elsewhere each step leaves the log no worse than before."""
    before = inspect(database, settings)
    if not before.is_current:
        _run(database, before.plan, before.statements())
    return inspect(database, settings)


def remove(database: Writable, settings: SqlTableSettings, *, discard: bool) -> int:
    """Drop the triggers, and the log when it is empty or *discard*; how many rows it kept the log for."""
    state = inspect(database, settings)
    templates = module_of(state.plan.dialect)
    if state.installed and len(state.absent) < len(templates.triggers(state.plan)):
        _run(database, state.plan, templates.detach(state.plan))
    if not state.exists:
        return 0
    left = measure(database, state.plan).rows
    if left and not discard:
        return left
    _run(database, state.plan, templates.drop(state.plan))
    return 0


def measure(database: Database, plan: Plan) -> Measure:
    """Reads the whole log, once."""
    rows, lost, last = database.rows(
        f"SELECT COUNT(*), SUM(CASE WHEN {OPERATION} = 'X' THEN 1 ELSE 0 END),"
        f" MAX(CASE WHEN {OPERATION} = 'X' THEN {SEQUENCE} END) FROM {plan.target}"
    )[0]
    if not lost:
        return Measure(int(rows), 0, 0, "")
    said = database.rows(f"SELECT {NOTE} FROM {plan.target} WHERE {SEQUENCE} = {int(last)}")
    return Measure(int(rows), int(lost), int(last), str(said[0][0]) if said else "")


def gaps(database: Database, plan: Plan, up_to: int) -> list[int]:
    """The sequences of changes that a trigger failed to log."""
    rows = database.rows(
        f"SELECT {SEQUENCE} FROM {plan.target} WHERE {OPERATION} = 'X' AND {SEQUENCE} <= {up_to} ORDER BY {SEQUENCE}"
    )
    return [int(r[0]) for r in rows]


def findings(database: Database, settings: SqlTableSettings) -> Iterator[Finding]:
    """How the change log is, one finding a thing; used by `check` and `changelog --status`."""
    state = inspect(database, settings)
    plan = state.plan
    found = measure(database, plan) if state.exists else Measure(0, 0, 0, "")
    install_it = "look at the SQL with 'crossdock-agent changelog SOURCE', then run it with --install"
    yield Finding(
        "log table", ok=state.exists, hint="" if state.exists else install_it,
        detail=f"{plan.log}, {found.rows} rows" if state.exists else f"{plan.log} is not there",
    )  # fmt: skip
    yield Finding(
        "triggers", ok=not state.absent, hint=install_it if state.absent else "",
        detail=f"missing: {', '.join(state.absent)}" if state.absent else "all are there",
    )  # fmt: skip
    base = database.catalog(settings.table)
    if base is not None and plan.key[0].lower() not in database.indexed(base):
        yield Finding(
            "key", ok=False,
            detail=f"no index of {settings.table} begins with {plan.key[0]}: each write would read all of it",
            hint="name the columns of the primary key in 'key', in its order",
        )  # fmt: skip
    if not state.exists:
        return
    if state.is_whole and not state.is_current:
        names = ", ".join(column.name for column in plan.missing)
        yield Finding(
            "columns", ok=False, hint=install_it,
            detail=f"not logged yet: {names}" if names else "the table changed since the triggers were made",
        )  # fmt: skip
    if state.dropped:
        names = ", ".join(state.dropped)
        yield Finding("dropped columns", ok=True, detail=f"{names}: kept in the log, no longer filled")
    if found.gaps:
        yield Finding(
            "gaps", ok=False, detail=f"{found.gaps} changes were not logged, the last one: {found.said}",
            hint=f"{install_it}; the source then reads the table anew, but does not see what was deleted meanwhile",
        )  # fmt: skip


def render(dialect: str, statements: list[str]) -> str:
    before, after, end = _CLIENTS[dialect]
    return before + "".join(f"{statement}{after}" for statement in statements) + end


def _run(database: Writable, plan: Plan, statements: list[str]) -> None:
    if not module_of(plan.dialect).TRANSACTIONAL:
        for statement in statements:
            database.execute(statement)
        return
    with database.transaction():
        for statement in statements:
            database.execute(statement)


def _named(columns: list[Logged], table: str, name: str) -> Logged:
    for column in columns:
        if column.name == name:
            return column
    folded = [column for column in columns if column.name.lower() == name.lower()]
    if len(folded) == 1:
        return folded[0]
    raise ConfigError(f"table {table} has no column {name}", hint=f"it has {', '.join(c.name for c in columns)}")


def look(settings: SqlTableSettings, context: SourceContext) -> State:
    """As the installing login sees it."""
    with closing(connect_installer(settings, context)) as database:
        return inspect(database, settings)
