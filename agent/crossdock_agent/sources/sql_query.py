"""The result of a SELECT, read again and again for what is new, by the same modes as a table."""

from __future__ import annotations

from crossdock_agent.sources.base import register
from crossdock_agent.sql.modes import reader
from crossdock_agent.sql.settings import SqlQuerySettings

register("sql_query", SqlQuerySettings, reader)
