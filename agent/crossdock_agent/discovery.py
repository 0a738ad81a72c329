"""`discover`: the tables of a connection, and a source file to start from. Reads only, and not for long."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from crossdock.errors import ConfigError, CrossdockError, SourceUnavailable
from crossdock_agent import plain
from crossdock_agent.sql import survey
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.suggest import suggest, watermarks
from crossdock_agent.sql.survey import Listed, TableSurvey
from crossdock_agent.trial import TableTrial

STATEMENT_SECONDS = 5.0


class Discovered(msgspec.Struct, frozen=True):
    """*skipped* says which questions were given up, and why."""

    tables: list[Listed]
    details: dict[str, TableSurvey]
    skipped: list[str]


class Discovery:
    """One look at a database. *connection* is as in a source's settings, secrets as references."""

    def __init__(
        self, connection: Mapping[str, Any], secret: Callable[[str], str], wall_us: Callable[[], int], seconds: float
    ) -> None:
        self._connection = dict(connection)
        self._settings = survey.connection_of(self._connection)
        self._secret, self._wall_us = secret, wall_us
        self._seconds = min(STATEMENT_SECONDS, seconds)
        self._until = time.monotonic() + seconds
        self._database: Database | None = None

    def __enter__(self) -> Discovery:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def all(self) -> Discovered:
        """Every table with rows and keys, as far as the time goes."""
        listed = survey.tables(self._open())
        found: list[Listed] = []
        details: dict[str, TableSurvey] = {}
        skipped: list[str] = []
        for table in listed:
            if time.monotonic() > self._until:
                skipped.append(f"{table.full_name} and those after it were not looked at closely: the time is up")
                found += listed[len(found) :]
                break
            found.append(self._asked(lambda table=table: survey.counted(self._open(), table), table, skipped, table))  # type: ignore[misc]
            seen = self._asked(lambda table=table: survey.survey(self._open(), table.full_name), table, skipped, None)  # type: ignore[misc]
            if seen is not None:
                details[table.full_name] = seen
        return Discovered(found, details, skipped)

    def one(self, name: str) -> TableTrial:
        """Raises ConfigError when there is no such table."""
        found = survey.survey(self._open(), name)
        try:
            found = msgspec.structs.replace(found, table=survey.counted(self._open(), self._estimate(found.table)))
        except SourceUnavailable:
            self._close()  # counting took too long; it is not needed
        return TableTrial(found, watermarks(found), suggest(found, self._connection))

    def _estimate(self, table: Listed) -> Listed:
        return next((t for t in survey.tables(self._open()) if t.full_name == table.full_name), table)

    def _asked(self, ask: Callable[[], Any], table: Listed, skipped: list[str], otherwise: Any) -> Any:
        """What *ask* finds; a table that cannot be asked does not keep the others from being listed."""
        try:
            return ask()
        except CrossdockError as error:
            self._close()  # by the contract of a connection it is gone
            skipped.append(f"{table.full_name}: {error.message}")
            return otherwise

    def _open(self) -> Database:
        if self._database is None:
            self._database = survey.opened(self._settings, self._secret, self._wall_us, self._seconds)
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = None


def source_file(trial: TableTrial, connection: Mapping[str, Any]) -> str:
    """A source file for the table, commented. Raises ConfigError when there is nothing to read it by."""
    table, suggestion = trial.survey, trial.suggestion
    if suggestion.settings is None:
        raise ConfigError(f"no source file for {table.table.full_name}: {suggestion.reasons[0]}")
    return "\n".join([*_lines(trial, connection, suggestion.settings), ""])


def _lines(trial: TableTrial, connection: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    table = trial.survey
    kind = "view" if table.table.is_view else "table"
    yield f"# {table.table.full_name}: {kind}, {table.table.rows_text} rows when this was written."
    for reason in trial.suggestion.reasons:
        yield f"# - {reason}"
    others = [m for m in trial.watermarks if m.column not in _columns_of(settings)]
    for mark in others[:5]:
        yield f"# Not taken: {mark.column} ({mark.mode}): {', '.join(mark.remarks)}"
    yield "# Look at its records with: crossdock-agent try --from-file THIS_FILE"
    yield f"source: {source_name(table.table)}"
    yield "on: {}  # every site; name labels of those that have this database, such as {site: atl1}"
    yield "kind: sql_table"
    yield f"connection: {plain.flow(connection)}"
    yield f"table: {plain.flow(table.table.full_name)}"
    for key, value in settings.items():
        yield f"{key}: {plain.flow(value)}"
    yield "# columns: [...]  # all of them, unless listed: " + ", ".join(column.name for column in table.columns)
    yield "poll_seconds: 30"
    yield '# schedule: {cron: "*/15 6-20 * * mon-fri"}  # instead of poll_seconds, in the zone of the site'
    yield "# budget: {max_mb_per_second: 5, cpu_percent: 25}"


def source_name(table: Listed) -> str:
    """The table's name as sources are called: small letters, digits, `-`, `_` and `.`."""
    name = re.sub(r"[^a-z0-9._-]+", "-", table.name.lower()).strip("-._")[:63]
    return name or "table"


def _columns_of(settings: Mapping[str, Any]) -> list[str]:
    column = settings.get("column", [])
    return [column] if isinstance(column, str) else list(column)
