"""`crossdock-agent discover`, the same on every database: what it lists, what it suggests, what it writes.

A database is an entry in `DATABASES`; most tests ask nowhere which it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from crossdock.siteconfig import SourceConfig
from crossdock_agent import discovery, sourcefile, trial
from crossdock_agent.commands import main
from crossdock_agent.pump import wall_us
from crossdock_agent.sql import survey
from crossdock_controller.config.load import inspect
from support.memory import allocated_at_most
from support.table_site import Server, Sqlite
from support.trees import small_tree

DATABASES = {"sqlite": None, "postgresql": "postgres", "mariadb": "mariadb"}  # with the fixture of its server

TABLES = (
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, order_no VARCHAR(20) NOT NULL UNIQUE, customer VARCHAR(40),"
    " total NUMERIC(12,2), create_date TIMESTAMP NOT NULL, write_date TIMESTAMP NULL)",
    "CREATE INDEX orders_write ON orders (write_date)",
    "CREATE TABLE order_lines (order_id INTEGER NOT NULL, line INTEGER NOT NULL, sku VARCHAR(20),"
    " PRIMARY KEY (order_id, line))",
    "CREATE TABLE movements (no INTEGER NOT NULL UNIQUE, sku VARCHAR(20))",
    "CREATE TABLE notes (txt VARCHAR(40))",
    "CREATE VIEW open_orders AS SELECT order_no, total FROM orders WHERE total > 0",
)
AT = "2026-11-25 10:00:00"


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    fixture = DATABASES[request.param]
    found: Any = Sqlite(tmp_path / "erp.db") if fixture is None else Server(request.getfixturevalue(fixture))
    for statement in TABLES:
        found.execute(statement)
    rows = [(i, f"SO{i:05d}", "ACME", i * 1.5, AT, AT if i % 2 else None) for i in range(1, 201)]
    found.executemany(
        "INSERT INTO orders (id, order_no, customer, total, create_date, write_date) VALUES (?,?,?,?,?,?)", rows
    )
    found.executemany(
        "INSERT INTO order_lines VALUES (?,?,?)", [(i, line, "000123") for i in range(1, 51) for line in (1, 2)]
    )
    found.executemany("INSERT INTO movements VALUES (?,?)", [(i, "A-1") for i in range(1, 31)])
    yield found
    found.close()


def looking(database: Any, seconds: float = 30.0) -> discovery.Discovery:
    return discovery.Discovery(database.connection, lambda text: text, wall_us, seconds)


def arguments(database: Any) -> list[str]:
    connection = database.connection
    if "sqlite" in connection:
        return ["--sqlite", connection["sqlite"]]
    return ["--odbc", connection["odbc"], "--dialect", connection["dialect"]]


def run(*arguments: str | Path, code: int = 0) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def test_every_table_and_view_is_listed_with_its_rows_and_keys(database: Any) -> None:
    with looking(database) as found:
        everything = found.all()
    by_name = {table.name: table for table in everything.tables}
    assert set(by_name) == {"orders", "order_lines", "movements", "notes", "open_orders"}
    assert {name: table.rows for name, table in by_name.items() if not table.is_view} == {
        "orders": 200, "order_lines": 100, "movements": 30, "notes": 0,
    }  # fmt: skip
    assert all(table.rows_are == "exact" for table in by_name.values() if not table.is_view)
    assert by_name["open_orders"].is_view
    keys = {name: everything.details[table.full_name].keys for name, table in by_name.items()}
    assert keys == {
        "orders": [["id"], ["order_no"]], "order_lines": [["order_id", "line"]], "movements": [["no"]], "notes": [],
        "open_orders": [],
    }  # fmt: skip
    assert everything.skipped == []


def test_columns_are_looked_at_in_a_sample(database: Any) -> None:
    with looking(database) as found:
        columns = {c.name: c for c in found.one("orders").survey.columns}
    assert columns["write_date"].nulls == 0.5
    assert columns["write_date"].is_time
    assert columns["write_date"].indexed
    assert not columns["create_date"].indexed
    assert columns["id"].rises
    assert not columns["order_no"].is_time


@pytest.mark.parametrize(
    ("table", "settings"),
    [
        ("orders", {"mode": "timestamp", "column": ["write_date", "create_date"], "key": ["id"]}),
        ("movements", {"mode": "incrementing", "column": "no", "key": ["no"]}),
    ],
)
def test_the_written_file_is_accepted_by_plan_tried_and_read(
    database: Any, tmp_path: Path, table: str, settings: dict[str, Any]
) -> None:
    path = tmp_path / "new.yaml"
    said = run("discover", *arguments(database), "--table", table, "--write", path, "--state", tmp_path / "state")
    assert f"next: crossdock-agent try --from-file {path}" in said
    config = sourcefile.read(path, {})
    assert {key: config.settings[key] for key in settings} == settings
    assert config.settings["connection"] == database.connection

    tree = small_tree()
    tree["sources/new.yaml"] = path.read_text("utf-8")
    loaded, problems = inspect(tree)
    assert loaded is not None, [p.text() for p in problems]
    assert loaded.sources[config.name].settings == config.settings

    found = trial.attempt(config, lambda text: text, wall_us, records=1_000, seconds=30)
    assert found.records == {"orders": 200, "movements": 30}[table]
    assert found.table is not None
    assert found.table.suggestion.settings == settings


def test_reasons_and_warnings_are_in_the_file(database: Any, tmp_path: Path) -> None:
    run("discover", *arguments(database), "--table", "orders", "--write", tmp_path / "o.yaml")
    text = (tmp_path / "o.yaml").read_text("utf-8")
    assert "200 rows when this was written" in text
    assert "# - write_date: named like a time of change, begins an index, 50% of the sample is NULL" in text
    assert "# - create_date stands in where write_date is NULL" in text
    assert "# Not taken: id (incrementing)" in text


def test_a_file_that_is_there_is_not_written_over(database: Any, tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text("mine", encoding="utf-8")
    said = run("discover", *arguments(database), "--table", "orders", "--write", tmp_path / "o.yaml", code=1)
    assert "is there already" in said
    assert (tmp_path / "o.yaml").read_text("utf-8") == "mine"


def test_a_table_without_anything_to_go_by_is_not_written_for(database: Any, tmp_path: Path) -> None:
    said = run("discover", *arguments(database), "--table", "notes", "--write", tmp_path / "n.yaml", code=1)
    assert "no key and no column that says what is new" in said
    assert not (tmp_path / "n.yaml").exists()


def test_a_table_that_is_not_there_is_named_with_the_next_step(database: Any) -> None:
    said = run("discover", *arguments(database), "--table", "order", code=1)
    assert "there is no table or view order" in said
    assert "discover" in said


def test_the_list_for_people_and_for_programs_say_the_same(database: Any) -> None:
    lines = [line.split() for line in run("discover", *arguments(database)).splitlines()]
    orders = next(line for line in lines if line[0].endswith("orders") and line[1] == "table")
    assert orders[2:4] == ["200", "id"]
    listed = json.loads(run("discover", *arguments(database), "--json"))
    assert {"orders", "notes"} <= {table["name"] for table in listed["tables"]}


def test_nothing_can_be_written_through_the_connection(database: Any) -> None:
    connection = survey.opened(survey.connection_of(database.connection), lambda text: text, wall_us, 5.0)
    try:
        with pytest.raises(Exception, match=r"read|READ|only"):
            connection.rows("DELETE FROM notes")
    finally:
        connection.close()


def test_when_the_time_is_up_the_rest_is_still_listed(database: Any) -> None:
    with looking(database, seconds=1e-9) as found:
        found._seconds = 5.0
        everything = found.all()
    assert len(everything.tables) == 5
    assert everything.details == {}
    assert "the time is up" in everything.skipped[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "name one"), (["--sqlite", "x.db", "--source", "erp"], "name one"),
        (["--sqlite", "x", "--write", "y"], "--table"),
        (["--odbc", "DSN=x"], "needs a 'dialect'"), (["--odbc", "DSN=x", "--dialect", "dbase"], "dbase"),
        (["--sqlite", "none.db"], "cannot be opened"), (["--source", "erp"], "no configuration here yet"),
    ],
)  # fmt: skip
def test_wrong_options_say_what_to_do(tmp_path: Path, options: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["discover", "--state", str(tmp_path), *options])
    assert done.exit_code in {1, 2}
    assert said in done.output


def test_what_postgresql_has_of_its_own_is_told_apart(postgres: Any) -> None:
    """Estimates, partial and expression indexes, other schemas, partitions, columns that a unique index includes."""
    server = Server(postgres)
    try:
        for statement in (
            "CREATE SCHEMA wms", "CREATE TABLE wms.stock (bin text, sku text, qty numeric)",
            "CREATE UNIQUE INDEX stock_partial ON wms.stock (bin) WHERE qty > 0",
            "CREATE UNIQUE INDEX stock_lower ON wms.stock (lower(sku))",
            "CREATE TABLE moves (id bigint PRIMARY KEY, at timestamptz) PARTITION BY RANGE (id)",
            "CREATE TABLE moves_1 PARTITION OF moves FOR VALUES FROM (0) TO (1000000)",
            "CREATE TABLE big (id int NOT NULL, x text); CREATE UNIQUE INDEX big_id ON big (id) INCLUDE (x)",
            f"INSERT INTO big SELECT i, 'x' FROM generate_series(1, {survey.COUNTED_ROWS + 10}) i", "ANALYZE big",
            "CREATE TABLE never (id int PRIMARY KEY)",
        ):  # fmt: skip
            server.execute(statement)
        with looking(server) as found:
            everything = found.all()
        by_name = {table.full_name: table for table in everything.tables}
        assert set(by_name) == {"wms.stock", "public.moves", "public.big", "public.never"}
        assert by_name["public.big"].rows_are == "estimate"
        assert by_name["public.never"].rows_text == "0"
        assert everything.details["wms.stock"].keys == []
        assert [i.name for i in everything.details["wms.stock"].indexes] == ["stock_lower"]
        assert everything.details["public.big"].keys == [["id"]]
        assert everything.details["public.moves"].keys == [["id"]]
        with looking(server) as found:
            assert found.one("wms.stock").survey.table.full_name == "wms.stock"
    finally:
        server.close()


def test_text_that_holds_times_is_a_watermark_in_sqlite_and_numbers_like_text_are_not(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "x.db")
    try:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, changed TEXT, phone TEXT, part TEXT)")
        rows = [(i, f"2026-11-{i:02d}T10:00:00", "0301234567", f"2026{i:06d}") for i in range(1, 20)]
        database.executemany("INSERT INTO t VALUES (?,?,?,?)", rows)
        with looking(database) as found:
            one = found.one("t")
        assert [c.name for c in one.survey.columns if c.is_time] == ["changed"]
        assert one.suggestion.settings == {"mode": "timestamp", "column": "changed", "key": ["id"]}
    finally:
        database.close()


def test_a_table_whose_ids_are_no_order_is_not_read_by_them(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "x.db")
    try:
        database.execute("CREATE TABLE t (a TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL UNIQUE)")
        database.executemany("INSERT INTO t VALUES (?,?)", [(f"{i:03d}", 1_000 - i) for i in range(100)])
        with looking(database) as found:
            assert [mark.column for mark in found.one("t").watermarks] == []
    finally:
        database.close()


def test_names_that_need_quotes_stay_what_they_are(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "x.db")
    try:
        database.execute(
            'CREATE TABLE "Auftrags Kopf: 2" ("Nr #" INTEGER PRIMARY KEY, "Geändert am" TEXT, "null" TEXT)'
        )
        database.execute("INSERT INTO \"Auftrags Kopf: 2\" VALUES (1, '2026-11-25 10:00:00', 'x')")
        path = tmp_path / "x.yaml"
        run("discover", *arguments(database), "--table", "Auftrags Kopf: 2", "--write", path)
        config: SourceConfig = sourcefile.read(path, {})
        assert config.name == "auftrags-kopf-2"
        assert config.settings["table"] == "Auftrags Kopf: 2"
        tree = {**small_tree(), "sources/x.yaml": path.read_text("utf-8")}
        assert inspect(tree)[0] is not None
        assert trial.attempt(config, lambda text: text, wall_us, records=5, seconds=30).records == 1
    finally:
        database.close()


def test_a_view_that_takes_too_long_to_count_is_listed_all_the_same_and_so_are_those_after_it(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "x.db")
    try:
        database.execute("CREATE TABLE large (id INTEGER PRIMARY KEY, x TEXT)")
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 30000)"
            " INSERT INTO large (x) SELECT 'x' FROM n"
        )
        database.execute("CREATE VIEW slow AS SELECT a.x FROM large a JOIN large b ON a.x < b.x")
        database.execute("CREATE TABLE small (id INTEGER PRIMARY KEY)")
        with looking(database) as found:
            found._seconds = 1e-6  # what takes more than a moment is broken off
            everything = found.all()
            assert {t.name: t.rows_text for t in everything.tables} == {"large": "30,000", "slow": "?", "small": "0"}
            assert any(said.startswith("slow: ") for said in everything.skipped)
            assert everything.details["large"].keys == [["id"]]
            assert found.one("large").suggestion.settings == {"mode": "incrementing", "column": "id", "key": ["id"]}
    finally:
        database.close()


def test_a_secret_stays_a_reference_in_the_written_file(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "x.db")
    try:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        with looking(database) as found:
            one = found.one("t")
    finally:
        database.close()
    connection = {"odbc": "DSN=erp;UID=x;PWD={secret:erp-db}", "dialect": "postgresql"}
    text = discovery.source_file(one, connection)
    (tmp_path / "t.yaml").write_text(text, encoding="utf-8")
    assert sourcefile.read(tmp_path / "t.yaml", {}).settings["connection"] == connection
    assert inspect({**small_tree(), "sources/t.yaml": text})[0] is not None


def test_large_values_are_looked_at_by_their_beginning(database: Any) -> None:
    binary = {"postgresql": "bytea", "mariadb": "LONGBLOB"}.get(getattr(database, "dialect", ""), "BLOB")
    database.execute(f"CREATE TABLE scans (id INTEGER PRIMARY KEY, image {binary})")
    for number in range(40):
        database.execute("INSERT INTO scans VALUES (?, ?)", [number, bytes(200_000)])
    with looking(database) as look, allocated_at_most(3_000_000):
        found = look.one("scans")
    assert found.survey.sampled == 40
    assert found.survey.columns[1].nulls == 0
