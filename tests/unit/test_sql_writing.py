"""The connection that writes: nothing of what keeps the reading one from writing is left on it."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pyodbc
import pytest

from crossdock_agent.sql.dialects import DIALECTS
from crossdock_agent.sql.reading import connect
from crossdock_agent.sql.settings import Connection, SqlTableSettings
from crossdock_agent.sql.writing import connect_writable


@pytest.mark.parametrize("dialect", sorted(DIALECTS.keys() - {"sqlite"}))
def test_only_the_connection_that_reads_asks_for_a_read_only_one(monkeypatch: pytest.MonkeyPatch, dialect: str) -> None:
    asked: list[str] = []

    def login(text: str, **_options: Any) -> MagicMock:
        asked.append(text)
        return MagicMock()

    monkeypatch.setattr(pyodbc, "connect", login)
    to = Connection(odbc="DSN=erp;", dialect=dialect)  # type: ignore[arg-type]
    settings = SqlTableSettings(connection=to, table="t", mode="outbox", column="id")
    connect(settings, lambda text: text, lambda: 0).close()
    connect_writable(to, "t", 1.0, lambda text: text, lambda: 0).close()
    reads, writes = asked
    assert reads.startswith("DSN=erp;")
    assert writes.startswith("DSN=erp;")
    assert "READONLY" not in writes.upper()
    assert writes == reads or "READONLY" in reads
