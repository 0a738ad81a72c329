"""The SQL of a change log, one file a dialect: pure functions from a `Plan` to statements that a person can review.

What all of them keep to: a trigger names its columns, so that a column added later does not disturb it; it writes the
new image of an insert or update and the old one of a delete; a changed key is a delete of the old and an update of the
new one, written by the same trigger; and wherever the dialect lets it, an error in a trigger becomes a row of its own
(operation X, a gap) and never an error of the application.

Where a table may be changed by triggers of its own while ours are still to come (SQLite, PostgreSQL, SQL Server), ours
write what stands in the table when they run, not the image they are handed: with a trigger that sets `updated_at`, the
image of the outer statement comes last and is the older one.
"""

from __future__ import annotations

from types import ModuleType

from crossdock.errors import ConfigError


def module_of(dialect: str) -> ModuleType:
    """Raises ConfigError for a dialect without templates."""
    from crossdock_agent.sql.triggers import mariadb, oracle, postgresql, sqlite, sqlserver

    known = {
        "sqlite": sqlite, "postgresql": postgresql, "mariadb": mariadb, "mysql": mariadb, "sqlserver": sqlserver,
        "oracle": oracle,
    }  # fmt: skip
    if dialect not in known:
        raise ConfigError(
            f"there are no change logs for {dialect}", hint=f"use another mode; change logs know {', '.join(known)}"
        )
    return known[dialect]
