"""The SQL sink through ODBC, and by stored procedures: guards, refusals, lost connections, on real servers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from crossdock.errors import ConfigError, SinkUnavailable
from crossdock_controller.sinks.base import SinkContext, kinds
from crossdock_controller.sinks.sql import SqlSettings
from support.mariadb import Mariadb, mariadb, mariadb_server  # noqa: F401 - fixtures
from support.postgres import Postgres, postgres, postgres_server  # noqa: F401 - fixtures
from support.sink_rigs import THING_TABLES, MariadbRig, OdbcPostgresRig, build, thing

PARAMETERS = ["number", "quantity.value", "$sequence", "$event_id"]
POSTGRES_PROCEDURE = (
    "CREATE TABLE posted (number text, quantity numeric CHECK (quantity < 100), sequence bigint, event_id text)",
    "CREATE PROCEDURE post(n text, q numeric, s bigint, e text) LANGUAGE plpgsql AS $$ BEGIN"
    " IF q < 0 THEN RAISE EXCEPTION 'negative: %', q; END IF;"
    " INSERT INTO posted VALUES (n, q, s, e); END $$",
)
MARIADB_PROCEDURE = (
    "CREATE TABLE posted (number varchar(200), quantity decimal(20, 6) CHECK (quantity < 100), sequence bigint,"
    " event_id varchar(64))",
    "CREATE PROCEDURE post(n varchar(200), q decimal(20, 6), s bigint, e varchar(64)) BEGIN"
    " IF q < 0 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'negative quantity'; END IF;"
    " SELECT 'a result that nobody asked for';"
    " INSERT INTO posted VALUES (n, q, s, e); END",
)


@pytest.fixture(params=["odbc_postgres", "mariadb"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> OdbcPostgresRig | MariadbRig:
    if request.param == "mariadb":
        return MariadbRig(tmp_path, request.getfixturevalue("mariadb"))
    return OdbcPostgresRig(tmp_path, request.getfixturevalue("postgres"))


@pytest.fixture(params=["native", "odbc", "mariadb"])
def poster(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Postgres | Mariadb]:
    """Settings of a sink that calls `post`, and the server that has it."""
    server: Any = request.getfixturevalue("mariadb" if request.param == "mariadb" else "postgres")
    server.execute(*(MARIADB_PROCEDURE if request.param == "mariadb" else POSTGRES_PROCEDURE))
    odbc = {"odbc": server.odbc(), "dialect": server.dialect}
    where = {"url": server.url()} if request.param == "native" else odbc
    return {**where, "procedures": {"Thing": {"procedure": "post", "parameters": PARAMETERS}}}, server


def posted(server: Postgres | Mariadb) -> list[tuple[Any, ...]]:
    with contextlib.closing(server.connect()) as db:
        found = db.execute("SELECT number, sequence FROM posted ORDER BY sequence").fetchall()
        return [tuple(row) for row in found]


def test_an_older_event_overwrites_neither_row_nor_children(rig: OdbcPostgresRig | MariadbRig) -> None:
    sink = rig.make()
    newer, older = thing(9, "T1", "new", lines=["n1", "n2"]), thing(3, "T1", "old", lines=["o1", "o2", "o3"])
    assert [v.outcome for v in sink.write([newer])] == ["done"]
    assert [v.outcome for v in sink.write([older, thing(4, "T2", "other")])] == ["done", "done"]
    sink.close()
    assert rig.state() == {"T1": ("new", ["n1", "n2"]), "T2": ("other", [])}


@pytest.mark.parametrize("quantity", ["abc", "1;2", "12abc", ""])
def test_a_value_that_its_column_cannot_hold_is_rejected_alone(
    rig: OdbcPostgresRig | MariadbRig, quantity: str
) -> None:
    sink = rig.make()
    verdicts = sink.write([thing(1, "A"), thing(2, "B", quantity=quantity), thing(3, "C")])
    sink.close()
    assert [v.outcome for v in verdicts] == ["done", "rejected", "done"]
    assert set(rig.state()) == {"A", "C"}


def test_a_text_that_is_too_long_is_rejected_and_never_cut(tmp_path: Path, mariadb: Mariadb) -> None:  # noqa: F811
    rig = MariadbRig(tmp_path, mariadb)
    sink = rig.make()
    verdicts = sink.write([thing(1, "x" * 201), thing(2, "x" * 200)])
    sink.close()
    assert [v.outcome for v in verdicts] == ["rejected", "done"]
    assert set(rig.state()) == {"x" * 200}


def test_a_cut_connection_gives_no_verdict_and_the_next_run_makes_another(
    tmp_path: Path,
    mariadb: Mariadb,  # noqa: F811
) -> None:
    rig = MariadbRig(tmp_path, mariadb)
    sink = rig.make()
    sink.write([thing(1, "A")])
    with contextlib.closing(mariadb.connect()) as db:
        query = "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = ? AND ID <> CONNECTION_ID()"
        (number,) = db.execute(query, mariadb.database).fetchone()
        db.execute(f"KILL {int(number)}")
    with pytest.raises(SinkUnavailable):
        sink.write([thing(2, "B")])
    assert [v.outcome for v in sink.write([thing(2, "B")])] == ["done"]
    sink.close()
    assert set(rig.state()) == {"A", "B"}


def test_check_refuses_a_second_unique_index_by_which_a_document_could_overwrite_another(
    tmp_path: Path,
    mariadb: Mariadb,  # noqa: F811
) -> None:
    sink = MariadbRig(tmp_path, mariadb).make()
    assert "mariadb" in sink.check()
    mariadb.execute("CREATE UNIQUE INDEX by_event ON thing (event_id)")
    with pytest.raises(ConfigError, match="by_event"):
        sink.check()
    mariadb.execute("DROP INDEX by_event ON thing", "ALTER TABLE thing DROP PRIMARY KEY")
    with pytest.raises(ConfigError, match="no unique index"):
        sink.check()
    sink.close()


def test_check_names_a_missing_column(rig: OdbcPostgresRig | MariadbRig) -> None:
    rig.server.execute("ALTER TABLE thing_line DROP COLUMN sku")
    sink = rig.make()
    with pytest.raises(ConfigError, match="sku"):
        sink.check()
    sink.close()


def test_what_a_procedure_raises_is_the_verdict_of_that_document_alone(
    poster: tuple[dict[str, Any], Postgres | Mariadb], tmp_path: Path
) -> None:
    settings, server = poster
    sink = build("sql", settings, tmp_path)
    run = [thing(1, "A"), thing(2, "B", quantity="-1"), thing(3, "C", quantity="100"), thing(4, "B"), thing(5, "D")]
    verdicts = sink.write(run)
    sink.close()
    assert [v.outcome for v in verdicts] == ["done", "rejected", "rejected", "retry", "done"]
    assert "negative" in verdicts[1].reason
    assert verdicts[2].code == "constraint"
    assert verdicts[3].code == "held"
    assert posted(server) == [("A", 1), ("D", 5)]


def test_a_procedure_that_is_missing_rejects_nothing(
    poster: tuple[dict[str, Any], Postgres | Mariadb], tmp_path: Path
) -> None:
    settings, server = poster
    server.execute("DROP PROCEDURE post")
    sink = build("sql", settings, tmp_path)
    with pytest.raises(SinkUnavailable):
        sink.write([thing(1, "A")])
    sink.close()


@pytest.mark.parametrize("password", ["semi;colon", "br}ace", "{x}", "e=q"])
def test_a_password_ends_no_connection_string_and_is_never_shown(
    tmp_path: Path,
    mariadb: Mariadb,  # noqa: F811
    password: str,
) -> None:
    user = f"login_{len(password)}_{ord(password[0])}"
    mariadb.execute(f"CREATE USER {user}@'%' IDENTIFIED BY '{password}'", f"GRANT ALL ON *.* TO {user}@'%'")
    try:
        rig = MariadbRig(tmp_path, mariadb)
        for given, reached in ((password, True), (password + "x", False)):
            secret = SinkContext("finance", {"secret:db": given}.__getitem__, str(tmp_path))
            made = {**rig.settings, "odbc": mariadb.odbc(user), "password": "secret:db"}
            sink = kinds()["sql"].create(SqlSettings.model_validate(made), secret)
            if reached:
                assert "mariadb" in sink.check()
            else:
                with pytest.raises(SinkUnavailable) as caught:
                    sink.check()
                assert password not in str(caught.value)
            sink.close()
    finally:
        mariadb.execute(f"DROP USER {user}@'%'")


ODBC = {"odbc": "DRIVER={X};SERVER=db;UID=me", "dialect": "mariadb", "tables": THING_TABLES}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"odbc": "DRIVER={X}; Pwd = open"}, "password"),
        ({"odbc": "DRIVER={X};PASSWORD=open"}, "password"),
        ({"odbc": "DRIVER={X}\nUID=me"}, "one line"),
        ({"dialect": None}, "dialect"),
        ({"url": "sqlite:///a.db"}, "one of the two"),
        ({"odbc": "", "dialect": None}, "one of the two"),
        ({"tables": {}}, "'procedures'"),
        ({"procedures": {"Thing": {"procedure": "p", "parameters": ["a"]}}}, "in 'tables' and in"),
        ({"create_tables": True}, "create_tables"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, Any], word: str) -> None:
    assert SqlSettings.model_validate(ODBC).dialect == "mariadb"
    with pytest.raises(ValidationError, match=word):
        SqlSettings.model_validate(ODBC | change)
