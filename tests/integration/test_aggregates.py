"""Parents with their children as one record, on real databases: whichever side changes, the whole order comes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError, SourceUnavailable
from crossdock_agent.sql import aggregate
from crossdock_agent.sql.connections import OdbcDatabase, SqliteDatabase
from support.aggregate_site import LINES, OrderSite, create, order_site, with_aggregate
from support.table_site import Server, Sqlite

Database = Sqlite | Server


FIXTURES = {"postgresql": "postgres", "mariadb": "mariadb"}


@pytest.fixture(params=["sqlite", *FIXTURES])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    opened: Database
    if request.param == "sqlite":
        opened = Sqlite(tmp_path / "erp.db")
    else:
        opened = Server(request.getfixturevalue(FIXTURES[request.param]))
    create(opened)
    yield opened
    opened.close()


def asks_for_keys(sql: str) -> bool:
    return re.search(r"order_no. IN \(", sql) is not None


def filled(site: OrderSite, orders: int = 3, lines: int = 2) -> None:
    for i in range(orders):
        site.put(f"A{i}")
        for line in range(1, lines + 1):
            site.line(f"A{i}", line, f"item{line}")


def test_an_order_comes_once_with_all_its_lines_although_both_tables_changed(database: Database) -> None:
    with order_site(database) as site:
        filled(site)
        expected = [(f"A{i}", "c", {1: "item1", 2: "item2"}) for i in range(3)]
        assert sorted(site.orders()) == expected
        assert site.all_orders() == []
        header = site.committed[0].header
        assert header.columns[-1].name == "lines"
        assert header.columns[-1].type == "rows"
        assert [c.name for c in header.columns[-1].columns] == [
            "order_no", "line_no", "item", "changed_at", "created_at",
        ]  # fmt: skip
        assert list(header.key_columns) == ["order_no"]


def test_a_line_changed_without_its_header_brings_the_whole_order(database: Database) -> None:
    with order_site(database) as site:
        filled(site)
        site.orders()
        site.seconds += 1
        site.line("A1", 2, "changed")
        assert site.orders(advance=1) == [("A1", "c", {1: "item1", 2: "changed"})]
        assert site.all_orders() == []


def test_a_line_removed_with_only_its_header_touched_is_gone_from_the_order(database: Database) -> None:
    with order_site(database) as site:
        filled(site)
        site.orders()
        site.remove_line("A1", 1)
        site.put("A1", "c2")
        assert site.orders(advance=1) == [("A1", "c2", {2: "item2"})]
        site.remove_line("A1", 2)
        site.put("A1", "c3")
        assert site.orders(advance=1) == [("A1", "c3", {})]


def test_a_header_visible_before_its_lines_is_read_once_it_has_settled(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "erp.db")
    create(database)
    with order_site(database, **with_aggregate(settle_seconds=5)) as site:
        site.put("A")
        assert site.orders() == []
        assert site.counters.values["aggregates_waiting"] == 1
        site.seconds += 3
        site.line("A", 1)
        assert site.orders() == []
        assert site.orders(advance=2.5) == []  # the header is old enough now, the line is not
        assert site.orders(advance=2.6) == [("A", "c", {1: "a"})]
        assert site.all_orders() == []
        assert site.counters.values["aggregates_waiting"] == 0
    database.close()


def test_settled_is_said_by_the_clock_of_the_database(database: Database) -> None:
    with order_site(database, **with_aggregate(settle_seconds=3600)) as site:
        site.put("young")
        site.put("old", at="2024-06-01 10:00:00")
        assert site.orders() == [("old", "c", {})]
        site.line("old", 1)
        assert site.orders() == []
        assert site.counters.values["aggregates_waiting"] == 2


def test_what_waits_is_found_again_after_a_crash_however_far_the_others_have_come(tmp_path: Path) -> None:
    """Its header is long behind the look-back, its line announces nothing: only the floor that was kept finds it."""
    database = Sqlite(tmp_path / "erp.db")
    create(database)
    wholeness = with_aggregate({**LINES, "column": None}, expect={"lines": "line_count"}, incomplete_seconds=900)
    with order_site(database, look_back_seconds=2, **wholeness) as site:
        site.put("A", count=1)
        for i in range(12):
            site.put(f"B{i}", count=0)
            assert site.orders() == [(f"B{i}", "c", {})]
            site.seconds += 4
            if i in (5, 8):
                site.restart()
        for i in range(3):  # a batch each; the pass is broken off after the first
            site.put(f"C{i}", "x" * 200_000, count=0)
        assert len(site.orders(crash_after=1)) == 1
        site.seconds += 4
        assert len(site.orders()) == 2  # what was left of the pass, which raises the floor at its end
        site.restart()
        site.line("A", 1)
        assert site.orders() == [("A", "c", {1: "a"})]
        assert site.all_orders() == []
    database.close()


def test_an_incomplete_order_waits_for_its_lines_and_is_sent_anyway_in_the_end(database: Database) -> None:
    settings = with_aggregate({**LINES, "column": None}, expect={"lines": "line_count"}, incomplete_seconds=60)
    with order_site(database, **settings) as site:
        site.put("A", count=2, at="NULL")
        database.execute(f"UPDATE orders SET changed_at = {database.now(site)}")
        site.put("B", count=1, at="NULL")
        database.execute(f"UPDATE orders SET changed_at = {database.now(site)} WHERE order_no = 'B'")
        site.line("A", 1)
        assert site.orders() == []
        assert site.counters.values["aggregates_incomplete"] == 2
        site.line("A", 2)  # without a watermark of its own: seen because the order is looked at again
        assert site.orders(advance=6) == [("A", "c", {1: "a", 2: "a"})]
        assert "aggregates_sent_incomplete" not in site.counters.values
        assert site.orders(advance=61) == [("B", "c", {})]
        assert site.counters.values["aggregates_sent_incomplete"] == 1
        assert site.all_orders() == []


def test_a_change_dated_in_the_future_waits_by_the_agents_own_clock(database: Database) -> None:
    with order_site(database, **with_aggregate(settle_seconds=10)) as site:
        site.put("A", at="2999-01-01 00:00:00")
        assert site.orders() == []
        assert site.orders(advance=11) == [("A", "c", {})]
        assert site.all_orders() == []


def test_lines_committed_late_with_an_older_time_are_found(database: Database) -> None:
    with order_site(database, look_back_seconds=100) as site:
        site.put("A")
        site.put("B")
        site.orders()
        site.all_orders(passes=10)
        database.execute(
            "INSERT INTO order_lines SELECT order_no, 1, 'late', changed_at, created_at FROM orders"
            " WHERE order_no = 'A'"
        )
        assert site.all_orders(passes=70) == [("A", "c", {1: "late"})]
        assert site.all_orders() == []


def test_a_second_change_within_the_same_time_is_found(database: Database) -> None:
    """Times to the second: the line's content differs, its time does not."""
    with order_site(database) as site:
        filled(site)
        site.orders()
        database.execute("UPDATE order_lines SET item = 'same time' WHERE order_no = 'A2' AND line_no = 2")
        assert site.all_orders(passes=70) == [("A2", "c", {1: "item1", 2: "same time"})]


def test_rows_without_a_time_count_by_the_next_column_in_parent_and_child(database: Database) -> None:
    columns = ["changed_at", "created_at"]
    with order_site(database, column=columns, **with_aggregate({**LINES, "column": columns})) as site:
        site.put("A", at="NULL")
        site.line("A", 1, at="NULL")
        assert site.orders() == [("A", "c", {1: "a"})]
        site.line("A", 2, at="NULL")
        assert site.orders(advance=1) == [("A", "c", {1: "a", 2: "a"})]


def test_many_orders_of_one_time_come_once_however_often_the_agent_is_killed(database: Database) -> None:
    rows = [(f"A{i:03}", "c", 1, "2024-06-01 11:59:59", None) for i in range(120)]
    database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", rows)
    lines = [(f"A{i:03}", 1, "x" * 39, "2024-06-01 11:59:59", None) for i in range(120)]
    database.executemany("INSERT INTO order_lines VALUES (?, ?, ?, ?, ?)", lines)
    settings = {"page_rows": 7, **with_aggregate()}
    with order_site(database, **settings) as site:
        found = site.orders(crash_after=1) + site.all_orders(passes=3)
    assert len(found) == 120
    assert {number for number, _, _ in found} == {f"A{i:03}" for i in range(120)}
    assert all(held == {1: "x" * 39} for _, _, held in found)


def test_a_parent_deleted_before_it_is_read_makes_no_record(database: Database) -> None:
    with order_site(database) as site:
        filled(site)
        site.orders()
        site.line("A1", 3)
        database.execute("DELETE FROM orders WHERE order_no = 'A1'")
        assert site.orders(advance=1) == []
        assert site.counters.values["changes_without_parent"] == 1
        assert site.all_orders() == []
        assert site.counters.values["changes_without_parent"] == 1  # once, not at each look


def test_lines_that_come_before_their_header_come_with_it(database: Database) -> None:
    with order_site(database) as site:
        site.line("A", 1)
        site.line("A", 2)
        assert site.all_orders(passes=5) == []
        site.put("A")
        assert site.orders(advance=1) == [("A", "c", {1: "a", 2: "a"})]
        assert site.all_orders() == []


def test_an_order_of_ten_thousand_lines_is_one_record_in_the_order_of_its_lines(database: Database) -> None:
    with order_site(database) as site:
        site.put("A")
        rows = [("A", i, f"item {i}", "2024-06-01 11:59:59", None) for i in range(10_000, 0, -1)]
        database.executemany("INSERT INTO order_lines VALUES (?, ?, ?, ?, ?)", rows)
        site.put("B")
        found = {number: held for number, _, held in site.orders()}
        assert list(found["A"]) == list(range(1, 10_001))
        assert found["B"] == {}
        database.execute("UPDATE order_lines SET item = 'new' WHERE line_no = 5000")
        database.execute(f"UPDATE order_lines SET changed_at = {database.now(site)} WHERE line_no = 5000")
        ((number, _, held),) = site.all_orders(passes=3)
        assert (number, len(held), held[5000]) == ("A", 10_000, "new")


def test_an_order_over_the_limit_is_set_aside_with_its_key_and_the_others_come(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "erp.db")
    create(database)
    with order_site(database) as site:
        for number in ("A", "B", "C"):
            site.put(number)
            site.line(number, 1)
        for line in range(2, 12):
            site.line("B", line, "x" * 1_000_000)
        assert sorted(site.orders()) == [("A", "c", {1: "a"}), ("C", "c", {1: "a"})]
        (reject,) = [reject for draft in site.committed for reject in draft.header.rejects]
        assert reject.code == "too_long"
        assert reject.reason.startswith("B has 10000")
        assert "11 lines" in reject.reason
        assert site.all_orders() == []
    database.close()


def test_a_value_over_the_limit_sets_its_order_aside_and_is_never_sent_cut(database: Database) -> None:
    with order_site(database, max_lob_bytes=300) as site:
        for number in ("A", "B", "C"):
            site.put(number)
            site.line(number, 1)
        database.execute("ALTER TABLE order_lines ADD note TEXT")
        site.restart()
        site.line("B", 2)
        database.execute(f"UPDATE order_lines SET note = '{'x' * 400}' WHERE order_no = 'B' AND line_no = 2")
        assert sorted(number for number, _, _ in site.orders()) == ["A", "C"]
        (reject,) = [reject for draft in site.committed for reject in draft.header.rejects]
        assert (reject.code, reject.reason) == ("too_long", "B: column lines.note has more than 300 bytes")


def test_two_child_tables_stand_in_columns_of_their_own(database: Database) -> None:
    database.execute(
        f"CREATE TABLE notes (doc VARCHAR(20), no INTEGER, text VARCHAR(20), at {database.timestamp},"
        " PRIMARY KEY (doc, no))"
    )
    notes = {"table": "notes", "as": "notes", "on": {"doc": "order_no"}, "key": ["no"], "columns": ["text"]}
    with order_site(database, **with_aggregate(LINES, {**notes, "column": "at"})) as site:
        filled(site, orders=1, lines=1)
        database.execute(f"INSERT INTO notes VALUES ('A0', 1, 'fragile', {database.now(site)})")
        (row,) = site.poll()
        header = site.committed[-1].header
        assert [c.name for c in header.columns[-2:]] == ["lines", "notes"]
        assert [c.name for c in header.columns[-1].columns] == ["text", "at", "doc", "no"]
        assert [note[0] for note in row[-1]] == ["fragile"]
        database.execute(f"INSERT INTO notes VALUES ('A0', 2, 'heavy', {database.now(site)})")
        (row,) = site.poll(advance=1)
        assert [note[0] for note in row[-1]] == ["fragile", "heavy"]


def test_a_key_of_several_columns_and_one_that_is_spelled_otherwise_in_the_child(database: Database) -> None:
    time = database.timestamp
    database.execute(f"CREATE TABLE heads (co INTEGER, no INTEGER, at {time}, PRIMARY KEY (co, no))")
    database.execute(f"CREATE TABLE items (firm INTEGER, doc VARCHAR(9), pos INTEGER, at {time})")
    database.execute("CREATE INDEX items_doc ON items (doc, firm)")
    on = {"firm": "co", "doc": "no"}
    cast = "CREATE VIEW item_view AS SELECT firm, CAST(doc AS INTEGER) AS doc, pos, at FROM items"
    database.execute(cast)
    child = {"table": "item_view", "as": "lines", "on": on, "key": ["pos"], "column": "at"}
    settings = {"table": "heads", "column": "at", "key": ["co", "no"], **with_aggregate(child)}
    with order_site(database, **settings) as site:
        for co in (1, 2):
            for no in range(1, 60):
                database.execute(f"INSERT INTO heads VALUES ({co}, {no}, {database.now(site)})")
                database.execute(f"INSERT INTO items VALUES ({co}, '{no}', {co * 100 + no}, {database.now(site)})")
        rows = site.poll()
        assert {(row[0], row[1]): [line[2] for line in row[-1]] for row in rows} == {
            (co, no): [co * 100 + no] for co in (1, 2) for no in range(1, 60)
        }
        database.execute(f"INSERT INTO items VALUES (2, '7', 999, {database.now(site)})")
        (row,) = site.poll(advance=1)
        assert [line[2] for line in row[-1]] == [207, 999]


def test_children_without_a_watermark_come_with_a_touched_parent_read_by_id(database: Database) -> None:
    database.execute("CREATE TABLE heads (id INTEGER PRIMARY KEY, no VARCHAR(9))")
    database.execute("CREATE TABLE items (no VARCHAR(9), pos INTEGER)")
    child = {"table": "items", "as": "lines", "on": {"no": "no"}, "key": ["pos"]}
    settings = {"table": "heads", "mode": "incrementing", "column": "id", "key": ["no"], **with_aggregate(child)}
    with order_site(database, **settings) as site:
        database.execute("INSERT INTO items VALUES ('x', 2)")
        database.execute("INSERT INTO items VALUES ('x', 1)")
        database.execute("INSERT INTO heads VALUES (2, 'x')")
        assert site.poll() == [[2, "x", [["x", 1], ["x", 2]]]]
        database.execute("INSERT INTO heads VALUES (1, 'late')")
        assert site.cycle(passes=5) == [[1, "late", []]]


def test_from_now_on_only_changes_come_also_after_a_restart(database: Database) -> None:
    with order_site(database, start="now") as site:
        filled(site)
        assert site.orders() == []
        site.restart()
        assert site.orders(advance=1) == []
        site.line("A1", 9, "new")
        assert site.orders(advance=1) == [("A1", "c", {1: "item1", 2: "item2", 9: "new"})]


def test_a_checkpoint_of_other_children_is_refused(database: Database) -> None:
    with order_site(database) as site:
        filled(site)
        site.orders()
        site.settings = {**site.settings, **with_aggregate({**LINES, "key": ["line_no", "item"]})}
        site.restart()
        with pytest.raises(ConfigError, match="another reading") as caught:
            site.orders()
        assert "new name" in caught.value.hint


@pytest.mark.parametrize("column", [None, "created_at", ["changed_at", "created_at"]])
def test_a_checkpoint_of_another_time_column_of_a_child_is_refused(database: Database, column: object) -> None:
    with order_site(database) as site:
        filled(site)
        site.orders()
        site.settings = {**site.settings, **with_aggregate({**LINES, "column": column})}
        site.restart()
        with pytest.raises(ConfigError, match="another reading") as caught:
            site.orders()
        assert "new name" in caught.value.hint


def test_check_names_the_index_that_the_way_to_the_lines_lacks(database: Database) -> None:
    database.execute(f"CREATE TABLE bare (doc VARCHAR(20), no INTEGER, at {database.timestamp})")
    child = {"table": "bare", "as": "notes", "on": {"doc": "order_no"}, "key": ["no"], "column": "at"}
    with order_site(database, **with_aggregate(LINES, child)) as site:
        found = {finding.name: finding for finding in site.source.check()}
        assert all(finding.ok for name, finding in found.items() if name != "clock")  # the agent's is moved
        assert found["child lines index"].detail == "order_no is indexed"
        assert found["child notes index"].hint == "create an index on bare (doc)"
        assert found["child notes watermark index"].hint == "create an index on bare (at)"
        assert found["parent's key index"].detail == "order_no is indexed"


def test_check_and_reading_name_a_child_or_column_that_is_missing(database: Database) -> None:
    with order_site(database, **with_aggregate({**LINES, "table": "nowhere"})) as site:
        failed = [finding for finding in site.source.check() if not finding.ok]
        assert "nowhere" in failed[-1].detail
        with pytest.raises(SourceUnavailable, match="nowhere"):
            site.poll()
    missing = with_aggregate({**LINES, "key": ["pos"]})
    with order_site(database, **missing) as site, pytest.raises(ConfigError, match="order_lines has no column pos"):
        site.poll()
    unread = with_aggregate(expect={"lines": "how_many"})
    with order_site(database, **unread) as site, pytest.raises(ConfigError, match="'expect' names 'how_many'"):
        site.poll()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (with_aggregate({**LINES, "on": {"order_no": "customer"}}), "'on' of order_lines must lead to each column"),
        (with_aggregate(LINES, LINES), "two children are called 'lines'"),
        (with_aggregate(expect={"items": "line_count"}), "'expect' names 'items'"),
        (with_aggregate({**LINES, "columns": []}), "'columns' of order_lines is empty"),
        ({**with_aggregate(), "mode": "incrementing"}, "needs mode timestamp"),
        (with_aggregate({**LINES, "children": []}), "unknown field `children`"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        OrderSite(Sqlite(tmp_path / "erp.db"), **settings)


def test_header_and_lines_are_of_one_state_although_a_writer_commits_between(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with order_site(database) as site:
        site.put("A", "old")
        site.line("A", 1, "old")
        site.orders()
        site.seconds += 1
        site.put("A", "old again")
        kind = SqliteDatabase if isinstance(database, Sqlite) else OdbcDatabase
        rows, asked = kind.rows, []

        def interrupted(self: Any, sql: str, values: Any = ()) -> Any:
            answer = rows(self, sql, values)
            if asks_for_keys(sql):
                asked.append(sql)
                if len(asked) == 1:  # the header was read, the lines were not
                    site.put("A", "new")
                    site.line("A", 1, "new")
            return answer

        monkeypatch.setattr(kind, "rows", interrupted)
        assert site.orders() == [("A", "old again", {1: "old"}), ("A", "new", {1: "new"})]


def test_only_indexes_are_used_and_few_keys_are_asked_for_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host must not feel it: no statement of a poll reads a whole table, none has an endless list of keys."""
    with order_site(database, page_rows=5000) as site:
        rows = [(f"A{i:05}", "c", 1, "2024-06-01 11:59:59", None) for i in range(6_000)]
        database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", rows)
        lines = [(f"A{i:05}", 1, "x", "2024-06-01 11:59:59", None) for i in range(6_000)]
        database.executemany("INSERT INTO order_lines VALUES (?, ?, ?, ?, ?)", lines)
        kind = SqliteDatabase if isinstance(database, Sqlite) else OdbcDatabase
        original, plans = kind.rows, []

        def explained(self: Any, sql: str, values: Any = ()) -> Any:
            if asks_for_keys(sql):
                assert sql.count("?") <= 400
                if (
                    database.connection.get("dialect") == "postgresql"
                ):  # the table is small: would an index be used if it were large?
                    self._connection.execute("SET enable_seqscan = off").close()
                prefix = "EXPLAIN QUERY PLAN " if isinstance(database, Sqlite) else "EXPLAIN "
                plans.append(" ".join(str(row[-1]) for row in original(self, prefix + sql, values)))
            return original(self, sql, values)

        monkeypatch.setattr(kind, "rows", explained)
        assert len(site.orders()) == 6_000
        assert len(plans) > 60
        assert not [plan for plan in plans if "SCAN s" in plan or "SCAN p" in plan or "Seq Scan" in plan]


def test_a_mass_update_does_not_make_more_wait_than_the_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregate, "MAX_WAITING", 3)
    database = Sqlite(tmp_path / "erp.db")
    create(database)
    with order_site(database, **with_aggregate(settle_seconds=30)) as site:
        filled(site, orders=10)
        assert len(site.orders()) == 7
        assert site.counters.values["aggregates_waiting"] == 3
        assert len(site.orders(advance=31)) == 3
        assert site.all_orders() == []
    database.close()


def test_on_the_first_read_an_old_order_does_not_wait_for_its_young_line_and_comes_again_once_it_settled(
    tmp_path: Path,
) -> None:
    """Were it to wait, and its line be deleted meanwhile, a killed agent would never come back to it."""
    database = Sqlite(tmp_path / "erp.db")
    create(database)
    with order_site(database, **with_aggregate(settle_seconds=5)) as site:
        site.put("old", at="2020-01-01 00:00:00")
        site.put("older", at="2019-01-01 00:00:00")
        site.put("newest")
        site.line("old", 1)
        assert site.orders() == [("older", "c", {}), ("old", "c", {1: "a"})]
        site.line("old", 2)
        assert sorted(site.orders(advance=6)) == [("newest", "c", {}), ("old", "c", {1: "a", 2: "a"})]
        assert site.all_orders() == []
    database.close()
