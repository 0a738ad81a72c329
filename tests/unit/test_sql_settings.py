"""Settings of a table that its mode would not look at are refused: whoever wrote them relies on them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from crossdock_agent.sql.settings import SqlQuerySettings, SqlTableSettings

SQLITE = {"sqlite": "erp.db"}
MODES: dict[str, dict[str, Any]] = {
    "incrementing": {"column": "id"},
    "timestamp": {"column": "at", "key": ["id"]},
    "rowversion": {"column": "v", "key": ["id"]},
    "outbox": {"column": "id"},
    "change_log": {"key": ["id"]},
    "snapshot": {"key": ["id"]},
}
LOOKS_BACK = {"incrementing", "timestamp"}
ONLY: dict[str, tuple[Any, set[str]]] = {
    "zone": ("Europe/Amsterdam", {"timestamp"}),
    "clock": ("utc", {"timestamp"}),
    "purged": (True, LOOKS_BACK),
    "look_back_seconds": (5.0, LOOKS_BACK),
    "look_back_ids": (5, {"incrementing"}),
    "reconcile": ({}, LOOKS_BACK),
    "initial_load": ("key", LOOKS_BACK),
    "snapshot": ({}, {"snapshot"}),
    "outbox": ({}, {"outbox"}),
    "change_log": ({}, {"change_log"}),
    "start": ("now", {*LOOKS_BACK, "rowversion", "change_log"}),
    "where": ("1 = 1", MODES.keys() - {"change_log"}),
    "max_lob_bytes": (1000, MODES.keys() - set()),
}


def made(kind: type[SqlTableSettings] = SqlTableSettings, **settings: Any) -> SqlTableSettings:
    given = {"connection": SQLITE, "table": "t", **settings}
    return msgspec.convert(given, type=kind)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ONLY)
def test_a_setting_is_taken_by_the_modes_that_use_it_and_refused_by_all_others(mode: str, name: str) -> None:
    value, used = ONLY[name]
    settings = {"mode": mode, **MODES[mode], name: value}
    if mode in used:
        made(**settings)
    else:
        with pytest.raises(msgspec.ValidationError, match=f"'{name}|mode {mode} (has|takes) no '{name}'"):
            made(**settings)


@pytest.mark.parametrize("mode", ["outbox", "change_log"])
def test_a_query_is_not_taken_from(mode: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="Invalid enum value"):
        made(SqlQuerySettings, query="SELECT 1", mode=mode, **MODES[mode])


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ({**SQLITE, "isolation": "snapshot"}, "'isolation'"),
        ({"odbc": "DSN=x", "dialect": "oracle", "encoding": "cp1252"}, "'encoding'"),
    ],
)
def test_a_connection_has_no_settings_of_the_other_kind(connection: dict[str, str], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        made(mode="incrementing", column="id", connection=connection)
