"""`crossdock-agent changelog` as a person types it: it shows, changes only when told, and says what is next."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from crossdock import siteconfig
from crossdock.siteconfig import SourceConfig
from crossdock_agent.configuration import LastGood
from crossdock_agent.files import private_directory, write_atomic
from crossdock_agent.settings import Settings
from support.agents import site_config


@pytest.fixture
def state(tmp_path: Path) -> Path:
    settings = Settings(state=str(tmp_path / "state"))
    private_directory(settings.directory)
    table = {"connection": {"sqlite": str(tmp_path / "erp.db")}, "table": "t", "mode": "change_log", "key": ["id"]}
    data = site_config(4, SourceConfig(name="erp", kind="sql_table", settings=table))
    write_atomic(settings.config_path, msgspec.json.encode(LastGood(4, siteconfig.digest(data), data)))
    db = sqlite3.connect(tmp_path / "erp.db")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
    db.close()
    return settings.directory


def run(state: Path, *arguments: str, answer: str = "") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "crossdock_agent", "changelog", *arguments, "--state", str(state)],
        capture_output=True, encoding="utf-8", input=answer, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def execute(state: Path, sql: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(state.parent / "erp.db")
    try:
        with db:
            return db.execute(sql).fetchall()
    finally:
        db.close()


def triggers(state: Path) -> int:
    return len(execute(state, "SELECT 1 FROM sqlite_master WHERE type = 'trigger'"))


def test_it_shows_by_itself_changes_only_when_told_and_removes_what_it_made(state: Path) -> None:
    code, shown = run(state, "erp")
    assert code == 0
    assert "CREATE TABLE" in shown
    assert "CREATE TRIGGER" in shown
    assert triggers(state) == 0
    code, said = run(state, "erp", "--install", answer="n\n")
    assert code == 0
    assert "nothing was changed" in said
    assert triggers(state) == 0
    code, said = run(state, "erp", "--install", answer="y\n")
    assert code == 0, said
    assert triggers(state) == 3
    execute(state, "INSERT INTO t VALUES (1, 'a')")
    code, said = run(state, "erp", "--status")
    assert code == 0
    assert "crossdock_log_t, 1 rows" in said
    assert "FAIL" not in said
    code, said = run(state, "erp", "--remove", "--yes")
    assert code == 0
    assert "1 rows of it have not arrived yet" in said
    assert triggers(state) == 0
    assert execute(state, "SELECT COUNT(*) FROM crossdock_log_t") == [(1,)]
    code, said = run(state, "erp", "--remove", "--discard", "--yes")
    assert "is removed" in said
    assert execute(state, "SELECT name FROM sqlite_master WHERE name LIKE 'crossdock%'") == []


def test_status_shows_a_column_that_is_not_logged_and_the_sql_that_amends_it(state: Path) -> None:
    run(state, "erp", "--install", "--yes")
    execute(state, "ALTER TABLE t ADD COLUMN y TEXT")
    code, said = run(state, "erp", "--status")
    assert code == 0
    assert "FAIL  columns: not logged yet: y" in said
    assert 'ADD COLUMN "y" TEXT' in said


def test_a_source_that_has_no_change_log_is_named_with_those_that_have(state: Path) -> None:
    code, said = run(state, "wms")
    assert code == 1
    assert "no source wms of mode change_log" in said
    assert "there are: erp" in said
