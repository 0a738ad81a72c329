"""A table or view of a database, read again and again for what is new. How it is found is the mode's: one file each in
`crossdock_agent.sql`, imported when a source asks for it.
"""

from __future__ import annotations

from crossdock_agent.sources.base import Source, SourceContext, register
from crossdock_agent.sql.settings import SqlTableSettings


def _create(settings: SqlTableSettings, context: SourceContext) -> Source:
    if settings.mode == "snapshot":
        from crossdock_agent.sql.snapshot import SnapshotTable

        return SnapshotTable(settings, context)
    if settings.reconcile is not None or settings.initial_load == "key":
        from crossdock_agent.sql.beside import BesideTable

        return BesideTable(settings, context)
    from crossdock_agent.sql.watermark import WatermarkTable

    return WatermarkTable(settings, context)


register("sql_table", SqlTableSettings, _create)
