"""Settings of sources against the exported schema: each finding as a path and a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from crossdock.yamlfile import dotted
from crossdock_controller.config.schema import setting_names, source_findings, source_kinds

FILES: dict[str, Any] = {"directory": "D:/out", "format": {"kind": "csv"}}
TABLE: dict[str, Any] = {"connection": {"sqlite": "erp.db"}, "table": "t", "mode": "incrementing", "column": "id"}


def findings(kind: str, settings: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(dotted(f.path), f.message, f.hint) for f in source_findings(kind, settings)]


def test_the_kinds_the_agent_exports_are_known() -> None:
    assert source_kinds() == ["file_drop", "file_tail", "sql_query", "sql_table"]
    assert {"directory", "format", "pattern"} <= set(setting_names("file_drop"))


def test_sound_settings_have_no_finding() -> None:
    assert findings("file_drop", FILES) == []
    assert findings("file_drop", {**FILES, "format": {"kind": "csv", "quote": None}}) == []
    assert findings("sql_table", TABLE) == []
    assert findings("sql_table", {**TABLE, "column": ["write_date", "create_date"], "columns": None}) == []


@pytest.mark.parametrize(
    ("kind", "settings", "finding"),
    [
        ("file_drop", {**FILES, "patern": "*"}, ("patern", "unknown key 'patern'", "did you mean 'pattern'?")),
        ("file_drop", {"directory": "x"}, ("", "'format' is missing", "")),
        ("file_drop", {"format": {"kind": "csv"}}, ("", "'directory' is missing", "where the files appear")),
        ("file_drop", {**FILES, "format": None}, ("format", "must be a mapping (key: value), not empty", "")),
        ("file_drop", {**FILES, "format": "csv"}, ("format", "must be a mapping (key: value), not text", "")),
        (
            "file_drop",
            {**FILES, "format": {}},
            ("format", "'kind' is missing", "one of binary, csv, edifact, fixed, json, jsonl, lines, x12, xml"),
        ),
        (
            "file_drop",
            {**FILES, "format": {"kind": "cvs"}},
            ("format.kind", "unknown kind 'cvs'", "did you mean 'csv'?"),
        ),
        (
            "file_drop",
            {**FILES, "format": {"kind": "csv", "delimeter": ";"}},
            ("format.delimeter", "unknown key 'delimeter'", "did you mean 'delimiter'?"),
        ),
        (
            "file_drop",
            {**FILES, "format": {"kind": "fixed", "fields": [{"name": "A", "start": 0, "length": 5}]}},
            ("format.fields[0].start", "must be at least 1", ""),
        ),
        ("file_drop", {**FILES, "poll_seconds": "5"}, ("poll_seconds", "must be a number, not text", "")),
        ("file_drop", {**FILES, "pattern": 5}, ("pattern", "must be text, not a number", "put it in quotes")),
        ("file_drop", {**FILES, "recursive": "NO"}, ("recursive", "must be true or false, not text", "")),
        (
            "file_drop",
            {**FILES, "afterwards": "archve"},
            ("afterwards", "'archve' is not one of archive, delete, leave, move", "did you mean 'archive'?"),
        ),
        ("sql_table", {**TABLE, "column": 5}, ("column", "must be a list or text, not a number", "")),
        ("sql_table", {**TABLE, "columns": "id"}, ("columns", "must be a list or empty, not text", "")),
        ("sql_table", {**TABLE, "column": ["a", 5]}, ("column[1]", "must be text, not a number", "put it in quotes")),
        ("sql_table", {**TABLE, "page_rows": 1}, ("page_rows", "must be at least 2", "")),
        ("sql_table", {**TABLE, "poll_seconds": 0}, ("poll_seconds", "must be more than 0", "")),
        (
            "sql_table",
            {**TABLE, "connection": {"odbc": "DSN=x", "dialect": "informix"}},
            (
                "connection.dialect",
                "'informix' is not one of db2, firebird, mariadb, mysql, oracle, postgresql, sqlserver",
                "",
            ),
        ),
    ],
)
def test_a_finding_names_the_path_what_is_wrong_and_the_next_step(
    kind: str, settings: dict[str, Any], finding: tuple[str, str, str]
) -> None:
    (found,) = findings(kind, settings)
    assert found[:2] == finding[:2]
    assert found[2].startswith(finding[2])


def test_all_findings_come_at_once() -> None:
    settings = {"patern": "*", "format": {"kind": "csv", "header": "yes"}, "poll_seconds": 0}
    assert [path for path, _, _ in findings("file_drop", settings)] == ["", "format.header", "patern", "poll_seconds"]
