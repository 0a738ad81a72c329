"""Which mode reads a table or a query. Each is one file in this folder, imported when a source asks for it."""

from __future__ import annotations

from crossdock_agent.sources.base import Source, SourceContext
from crossdock_agent.sql.settings import SqlTableSettings


def reader(settings: SqlTableSettings, context: SourceContext) -> Source:
    if settings.aggregate is not None:
        from crossdock_agent.sql.aggregate import AggregateTable

        return AggregateTable(settings, context)
    if settings.mode == "rowversion":
        from crossdock_agent.sql.rowversion import RowversionTable

        return RowversionTable(settings, context)
    if settings.mode == "outbox":
        from crossdock_agent.sql.outboxes import OutboxTable

        return OutboxTable(settings, context)
    if settings.mode == "change_log":
        from crossdock_agent.sql.changelog import ChangeLogTable

        return ChangeLogTable(settings, context)
    if settings.mode == "snapshot":
        from crossdock_agent.sql.snapshot import SnapshotTable

        return SnapshotTable(settings, context)
    if settings.reconcile is not None or settings.initial_load == "key":
        from crossdock_agent.sql.beside import BesideTable

        return BesideTable(settings, context)
    from crossdock_agent.sql.watermark import WatermarkTable

    return WatermarkTable(settings, context)
