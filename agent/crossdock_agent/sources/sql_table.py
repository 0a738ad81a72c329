"""A table or view of a database, read again and again for what is new. How it is found is the mode's: one file each in
`crossdock_agent.sql`.
"""

from __future__ import annotations

from crossdock_agent.sources.base import register
from crossdock_agent.sql.modes import reader
from crossdock_agent.sql.settings import SqlTableSettings

register("sql_table", SqlTableSettings, reader)
