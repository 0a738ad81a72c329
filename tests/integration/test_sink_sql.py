"""What the SQL sink promises beyond the battery: guards, children, types, and which errors speak of whom."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from crossdock.errors import ConfigError, SinkUnavailable
from crossdock_controller.sinks.base import Outgoing, Sink
from crossdock_controller.sinks.sql import SqlSettings
from support.postgres import Postgres, postgres, postgres_server  # noqa: F401 - fixtures
from support.sink_rigs import THING_TABLES, PostgresRig, SqliteRig, build, refused, thing


@pytest.fixture(params=["sqlite", "postgres"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> SqliteRig | PostgresRig:
    if request.param == "sqlite":
        return SqliteRig(tmp_path)
    return PostgresRig(tmp_path, request.getfixturevalue("postgres"))


def document(sequence: int, document: str, key: str, body: dict[str, Any]) -> Outgoing:
    return Outgoing(sequence.to_bytes(16, "big"), document, key, json.dumps(body).encode(), sequence, 1)


def sqlite_sink(base: Path, tables: dict[str, Any], *schema: str, **more: Any) -> Sink:
    with contextlib.closing(sqlite3.connect(base / "finance.db")) as db:
        for statement in schema:
            db.execute(statement)
    return build("sql", {"url": "sqlite:///finance.db", "tables": tables, **more}, base)


def rows(base: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(base / "finance.db")) as db:
        return db.execute(query).fetchall()


def test_an_older_event_overwrites_neither_row_nor_children_of_a_newer_one(rig: SqliteRig | PostgresRig) -> None:
    sink = rig.make()
    newer, older = thing(9, "T1", "new", lines=["n1", "n2"]), thing(3, "T1", "old", lines=["o1", "o2", "o3"])
    assert [v.outcome for v in sink.write([newer])] == ["done"]
    assert [v.outcome for v in sink.write([older])] == ["done"]
    sink.close()
    assert rig.state() == {"T1": ("new", ["n1", "n2"])}


def test_an_older_event_after_a_newer_one_in_the_same_run_changes_nothing(rig: SqliteRig | PostgresRig) -> None:
    sink = rig.make()
    sink.write([thing(9, "T1", "new", lines=["n1"]), thing(3, "T1", "old", lines=["o1", "o2"])])
    sink.close()
    assert rig.state()["T1"][0] == "new"


def test_children_are_replaced_as_a_set_when_no_sequence_is_kept(tmp_path: Path) -> None:
    tables = json.loads(json.dumps(THING_TABLES))
    del tables["Thing"]["columns"]["sequence"]
    rig = SqliteRig(tmp_path)
    sink = build("sql", {**rig.settings, "tables": tables}, tmp_path)
    sink.write([thing(1, "T1", lines=["a", "b", "c"]), thing(2, "T1", lines=["d"]), thing(3, "T2", lines=["e"])])
    sink.write([thing(4, "T2", lines=[])])
    sink.close()
    assert rig.state() == {"T1": ("", ["d"]), "T2": ("", [])}


def test_a_document_without_its_key_is_rejected_and_names_the_field(rig: SqliteRig | PostgresRig) -> None:
    sink = rig.make()
    verdicts = sink.write([document(1, "Thing", "T1", {"text": "x"}), thing(2, "T2")])
    sink.close()
    assert [(v.outcome, v.code) for v in verdicts] == [("rejected", "key_missing"), ("done", "")]
    assert "number" in verdicts[0].reason


def test_a_blank_key_field_has_the_default_that_the_settings_give_it(rig: SqliteRig | PostgresRig) -> None:
    table = {
        "table": "stock", "key": ["sku", "lot"], "defaults": {"lot": "", "bins": 0},
        "columns": {"sku": "sku", "lot": "lot", "bins": "bins"},
    }  # fmt: skip
    settings = {**rig.settings, "tables": {"Stock": table}, "create_tables": True}
    sink = build("sql", settings, rig.base)
    run = [
        document(i, "Stock", "S1", b) for i, b in enumerate([{"sku": "S1"}, {"sku": "S1"}, {"sku": "S1", "lot": "L"}])
    ]
    assert [v.outcome for v in sink.write(run)] == ["done"] * 3
    sink.close()
    query = "SELECT sku, lot, bins FROM stock ORDER BY lot"
    if isinstance(rig, PostgresRig):
        with contextlib.closing(rig.server.connect()) as db:
            found = [tuple(row) for row in db.execute(query).fetchall()]
    else:
        found = rows(rig.base, query)
    assert [(sku, lot, str(bins)) for sku, lot, bins in found] == [("S1", "", "0"), ("S1", "L", "0")]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"text"', b'{"number": "\xff"}'])
def test_a_body_that_is_no_json_object_is_rejected_alone(rig: SqliteRig | PostgresRig, body: bytes) -> None:
    sink = rig.make()
    bad = Outgoing(b"0" * 16, "Thing", "T0", body, 1, 1)
    verdicts = sink.write([bad, thing(2, "T2")])
    sink.close()
    assert [(v.outcome, v.code) for v in verdicts] == [("rejected", "bad_body"), ("done", "")]


def test_a_document_type_without_a_table_is_rejected_and_holds_only_itself(rig: SqliteRig | PostgresRig) -> None:
    sink = rig.make()
    verdicts = sink.write([document(1, "Other", "T1", {}), thing(2, "T1"), document(3, "Other", "T1", {})])
    sink.close()
    assert [(v.outcome, v.code) for v in verdicts] == [("rejected", "no_table"), ("done", ""), ("retry", "held")]


def test_a_missing_table_speaks_of_the_sink_and_rejects_nothing(rig: SqliteRig | PostgresRig) -> None:
    tables = {"Thing": {**THING_TABLES["Thing"], "table": "misspelt"}}
    sink = build("sql", {**rig.settings, "tables": tables}, rig.base)
    with pytest.raises(SinkUnavailable, match="misspelt"):
        sink.write([thing(1, "T1")])
    with pytest.raises(ConfigError, match="misspelt"):
        sink.check()


def test_check_finds_a_table_whose_key_is_not_unique(rig: SqliteRig | PostgresRig) -> None:
    tables = {"Thing": {**THING_TABLES["Thing"], "key": ["text"], "children": []}}
    sink = build("sql", {**rig.settings, "tables": tables}, rig.base)
    with pytest.raises(ConfigError, match="unique constraint"):
        sink.check()


def test_check_names_the_server_and_the_tables(rig: SqliteRig | PostgresRig) -> None:
    sink = rig.make()
    line = sink.check()
    sink.close()
    assert line.startswith(("SQLite 3.", "PostgreSQL 1"))
    assert line.endswith("found thing, thing_line")


def test_a_deferred_constraint_seen_only_by_the_commit_rejects_only_its_document(rig: SqliteRig | PostgresRig) -> None:
    part = (
        "CREATE TABLE part (id text PRIMARY KEY, whole text CONSTRAINT whole_known REFERENCES thing (number)"
        " DEFERRABLE INITIALLY DEFERRED)"
    )
    if isinstance(rig, PostgresRig):
        rig.server.execute(part)
    else:
        with contextlib.closing(sqlite3.connect(rig.path)) as db:
            db.execute(part)
    tables = {**THING_TABLES, "Part": {"table": "part", "key": ["id"], "columns": {"id": "id", "whole": "whole"}}}
    sink = build("sql", {**rig.settings, "tables": tables}, rig.base)
    verdicts = sink.write(
        [
            thing(1, "T1"),
            document(2, "Part", "P1", {"id": "P1", "whole": "T1"}),
            document(3, "Part", "P2", {"id": "P2", "whole": "nothing"}),
            document(4, "Part", "P3", {"id": "P3", "whole": "T1"}),
        ]
    )
    sink.close()
    assert [v.outcome for v in verdicts] == ["done", "done", "rejected", "done"]
    assert verdicts[2].code == "constraint"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_verdicts_agree_with_a_model_for_any_run(tmp_path_factory: pytest.TempPathFactory, plan: list[Any]) -> None:
    """The model: one document after the other, each later version of a refused key held."""
    rig = SqliteRig(tmp_path_factory.mktemp("model"))
    run = [(refused if bad else thing)(i, f"T{key}") for i, (key, bad) in enumerate(plan, start=1)]
    expected, blocked, last = [], set(), {}
    for delivery, (key, bad) in zip(run, plan, strict=True):
        expected.append("retry" if key in blocked else "rejected" if bad else "done")
        if expected[-1] == "done":
            last[f"T{key}"] = delivery.sequence
        else:
            blocked.add(key)
    sink = rig.make()
    assert [v.outcome for v in sink.write(run)] == expected
    sink.close()
    assert dict(rows(rig.base, "SELECT number, sequence FROM thing")) == last


def test_values_arrive_in_sqlite_as_they_are_and_no_decimal_becomes_a_float(tmp_path: Path) -> None:
    names = ["id", "text", "money", "fraction", "whole", "truth", "nested", "absent", "deep", "through"]
    columns = {n: n for n in names} | {"deep": "a.b.c", "through": "text.x", "event": "$event_id", "body": "$body"}
    sink = sqlite_sink(
        tmp_path, {"Any": {"table": "anything", "key": ["id"], "columns": columns}},
        f"CREATE TABLE anything (id PRIMARY KEY, {', '.join(n for n in columns if n != 'id')})",
    )  # fmt: skip
    body = (
        b'{"id": 1, "text": "x", "money": "12345678901234567890.10", "fraction": 0.1000, "whole": 42, "truth": true,'
        b' "nested": [1, {"a": "\xc3\xa4"}], "a": {"b": {"c": "deep"}}}'
    )
    delivery = Outgoing(b"\xab" * 16, "Any", "1", body, 1, 1)
    assert [v.outcome for v in sink.write([delivery])] == ["done"]
    sink.close()
    assert rows(tmp_path, "SELECT * FROM anything") == [
        (
            1,
            "x",
            "12345678901234567890.10",
            "0.1000",
            42,
            1,
            '[1,{"a":"ä"}]',
            None,
            "deep",
            None,
            "ab" * 16,
            body.decode(),
        )
    ]


def test_a_whole_number_over_64_bits_is_rejected_alone_in_sqlite(tmp_path: Path) -> None:
    tables = {"Any": {"table": "anything", "key": ["id"], "columns": {"id": "id", "n": "n"}}}
    sink = sqlite_sink(tmp_path, tables, "CREATE TABLE anything (id PRIMARY KEY, n)")
    run = [document(i, "Any", str(i), {"id": i, "n": n}) for i, n in enumerate([1, 2**63 - 1, 2**63, 2**200, 5])]
    verdicts = sink.write(run)
    sink.close()
    assert [v.outcome for v in verdicts] == ["done", "done", "rejected", "rejected", "done"]


def test_postgresql_parses_each_value_as_the_type_of_its_column(tmp_path: Path, postgres: Postgres) -> None:  # noqa: F811
    postgres.execute(
        "CREATE SCHEMA erp",
        'CREATE TABLE erp."Stock %" (id integer PRIMARY KEY, q numeric(20,3), at timestamptz, day date, ok boolean,'
        ' raw jsonb, event uuid, f double precision, note text, "per cent %" text)',
    )
    columns = {n: n for n in ("id", "q", "at", "day", "ok", "raw", "f", "note")}
    columns |= {"event": "$event_id", "per cent %": "note"}
    tables = {"Stock": {"table": "erp.Stock %", "key": ["id"], "columns": columns}}
    sink = build("sql", {"url": postgres.url(), "tables": tables}, tmp_path)
    body = {
        "id": 7, "q": "12345678901234567.125", "at": "2024-03-31T01:30:00+02:00", "day": "2024-02-29", "ok": True,
        "raw": {"a": [1, None]}, "f": 0.1, "note": 42,
    }  # fmt: skip
    bad = [{**body, "id": 8, "q": "twelve"}, {**body, "id": 9, "day": "2023-02-29"}, {**body, "id": 10, "note": "a\0b"}]
    verdicts = sink.write([document(i, "Stock", str(b["id"]), b) for i, b in enumerate([body, *bad], start=1)])
    assert [(v.outcome, v.code) for v in verdicts] == [("done", ""), *[("rejected", "bad_value")] * 3]
    assert "NUL" in verdicts[3].reason
    assert "twelve" in verdicts[1].reason
    assert "Stock %" in sink.check()
    sink.close()
    connection = postgres.connect()
    (found,) = connection.execute(
        "SELECT id, q::text, (at AT TIME ZONE 'UTC')::text, day::text, ok::text, raw::text, event::text, f::text, note,"
        ' "per cent %" FROM erp."Stock %"'
    ).fetchall()
    connection.close()
    event = "00000000-0000-0000-0000-000000000001"
    assert tuple(found) == (
        7, "12345678901234567.125", "2024-03-30 23:30:00", "2024-02-29", "true", '{"a": [1, null]}', event, "0.1",
        "42", "42",
    )  # fmt: skip


def test_tables_are_created_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(SinkUnavailable, match=r"no database file"):
        build("sql", {"url": "sqlite:///new.db", "tables": THING_TABLES}, tmp_path).write([thing(1, "T1")])
    assert not (tmp_path / "new.db").exists()
    sink = build("sql", {"url": "sqlite:///finance.db", "tables": THING_TABLES, "create_tables": True}, tmp_path)
    sink.write([thing(1, "T1", "x", lines=["a"])])
    sink.close()
    again = build("sql", {"url": "sqlite:///finance.db", "tables": THING_TABLES, "create_tables": True}, tmp_path)
    again.write([thing(2, "T1", "y", lines=["b"])])
    assert again.check().endswith("found thing, thing_line")
    again.close()
    assert rows(tmp_path, "SELECT text, sku, line FROM thing JOIN thing_line ON number = thing_number") == [
        ("y", "b", 1)
    ]


def test_tables_created_in_postgresql_work(tmp_path: Path, postgres: Postgres) -> None:  # noqa: F811
    sink = build("sql", {"url": postgres.url(), "tables": THING_TABLES, "create_tables": True}, tmp_path)
    assert [v.outcome for v in sink.write([thing(1, "T1", "x", lines=["a"])])] == ["done"]
    assert sink.check().endswith("found thing, thing_line")
    sink.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "postgresql://user:hunter2@host/db"}, "password: secret:NAME"),
        ({"url": "postgresql://host/db?password=hunter2"}, "password: secret:NAME"),
        ({"url": "mysql://host/db"}, "sqlite:///"),
        ({"url": "sqlite://file.db"}, "sqlite:///"),
        ({"password": "hunter2"}, "secret:finance-db"),
        ({"tables": {}}, "'tables' or 'procedures'"),
        ({"tables": {"T": {"table": "t", "key": ["a"], "columns": {"b": "b"}}}}, "'a' is not among"),
        ({"tables": {"T": {"table": "t", "key": ["a"], "columns": {"a": "x..y"}}}}, "empty part"),
        ({"tables": {"T": {"table": "t", "key": ["a"], "columns": {"a": "$when"}}}}, "known: "),
        ({"tables": {"T": {"table": "t", "key": ["a"], "columns": {"a": "$index"}}}}, "unknown path"),
        ({"tables": {"T": {"table": "t", "key": ["a"], "columns": {"a": "a"}, "defaults": {"b": ""}}}}, "names 'b'"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_are_wrong_are_refused_with_what_to_write_instead(change: dict[str, Any], words: str) -> None:
    good = {"url": "sqlite:///x.db", "tables": THING_TABLES}
    with pytest.raises(ValidationError) as caught:
        SqlSettings.model_validate({**good, **change})
    assert words in str(caught.value)


def test_children_must_repeat_the_whole_key_of_their_parent() -> None:
    child = {"each": "lines", "table": "line", "columns": {"n": "$index"}, "parent": {"number": "number"}}
    table = {"table": "t", "key": ["issuer", "number"], "columns": {"issuer": "i", "number": "n"}, "children": [child]}
    with pytest.raises(ValidationError, match="each key column of t once"):
        SqlSettings.model_validate({"url": "sqlite:///x.db", "tables": {"T": table}})


def test_the_password_comes_from_the_secret_and_never_shows(tmp_path: Path, postgres: Postgres) -> None:  # noqa: F811
    from crossdock_controller.sinks.base import SinkContext, kinds

    asked = []
    kind = kinds()["sql"]
    checked = kind.settings.model_validate(
        {"url": "postgresql://nobody@127.0.0.1:1/db", "password": "secret:finance-db", "tables": THING_TABLES}
    )
    sink = kind.create(checked, SinkContext("finance", lambda ref: asked.append(ref) or "hunter2", str(tmp_path)))
    with pytest.raises(SinkUnavailable) as caught:
        sink.write([thing(1, "T1")])
    assert asked == ["secret:finance-db"]
    assert "hunter2" not in str(caught.value)
