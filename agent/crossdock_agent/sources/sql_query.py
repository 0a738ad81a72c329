"""The result of a SELECT, read again and again for what is new, by the same modes as a table."""

from __future__ import annotations

from crossdock_agent.sources.base import Source, SourceContext, register
from crossdock_agent.sql.rowversion import RowversionTable
from crossdock_agent.sql.settings import SqlQuerySettings
from crossdock_agent.sql.watermark import WatermarkTable


def _create(settings: SqlQuerySettings, context: SourceContext) -> Source:
    return RowversionTable(settings, context) if settings.mode == "rowversion" else WatermarkTable(settings, context)


register("sql_query", SqlQuerySettings, _create)
