"""Tables written to while they are read, on SQLite and real PostgreSQL and MariaDB servers: each row once, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock.errors import ConfigError, CrossdockError, SourceUnavailable
from support.table_site import Server, Sqlite, TableSite, rows_of, site_of

EARLY = "2024-05-01 08:00:00"
BY_ID = {"table": "orders", "mode": "incrementing", "column": "id"}
BY_TIME = {"table": "orders", "mode": "timestamp", "column": "at", "key": ["id"], "clock": "utc"}


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sqlite | Server]:
    fixture = {"postgresql": "postgres", "mariadb": "mariadb"}.get(request.param)
    opened = Sqlite(tmp_path / "erp.db") if fixture is None else Server(request.getfixturevalue(fixture))
    opened.execute(f"CREATE TABLE orders (id BIGINT PRIMARY KEY, text TEXT, at {opened.timestamp})")
    yield opened
    opened.close()


def put(database: Sqlite | Server, ids: range | list[int], at: str | None = EARLY, text: str = "x") -> None:
    database.executemany("INSERT INTO orders (id, text, at) VALUES (?, ?, ?)", [(i, f"{text}{i}", at) for i in ids])


def ids(rows: list[list[object]]) -> list[object]:
    return [row[0] for row in rows]


# --- late commits


def test_a_lower_id_that_commits_later_is_found_and_nothing_is_sent_twice(database: Sqlite | Server) -> None:
    put(database, [1, 2, 3, 5, 6])
    with site_of(database, **BY_ID) as site:
        assert ids(site.poll()) == [1, 2, 3, 5, 6]
        put(database, [4])
        assert ids(site.poll(advance=5)) == [4]
        assert site.cycle() == []
        put(database, [7])
        assert ids(site.poll(advance=5)) == [7]


def test_a_lower_id_is_found_even_when_it_commits_while_the_agent_is_down(database: Sqlite | Server) -> None:
    with site_of(database, **BY_ID, poll_seconds=1) as site:
        for i in range(1, 200):
            put(database, [2 * i])
            site.poll(advance=1)
        site.restart()
        put(database, [371])
        assert ids(site.cycle()) == [371]


def test_an_earlier_timestamp_that_commits_later_is_found_within_the_look_back(database: Sqlite | Server) -> None:
    with site_of(database, **BY_TIME) as site:
        put(database, [1], "2024-06-01 11:59:50.000001")
        put(database, [2], "2024-06-01 11:59:50.000003")
        assert ids(site.poll()) == [1, 2]
        put(database, [3], "2024-06-01 11:59:50.000002")
        put(database, [4], "2024-06-01 11:59:50.000003")
        put(database, [5], "2024-06-01 11:58:55")
        assert sorted(map(int, ids(site.cycle()))) == [3, 4, 5]


def test_what_is_older_than_the_look_back_is_settled(database: Sqlite | Server) -> None:
    put(database, [1, 2], "2024-06-01 11:50:00")
    with site_of(database, **BY_TIME) as site:
        site.poll()
        assert site.cycle() == []
        put(database, [3], "2024-06-01 11:40:00")
        assert site.cycle() == []


# --- equal timestamps, crashes


def test_equal_timestamps_survive_a_crash_at_every_batch(database: Sqlite | Server) -> None:
    database.execute("CREATE INDEX orders_at ON orders (at, id)")
    put(database, range(1, 12_001))
    with site_of(database, **BY_TIME, page_rows=700) as straight:
        expected = ids(straight.poll())
    batches = len(straight.committed)
    assert len(expected) == 12_000
    assert batches >= 3
    for crash_after in range(batches + 1):
        with site_of(database, **BY_TIME, page_rows=700) as site:
            assert ids(site.poll(crash_after=crash_after) + site.cycle(passes=20)) == expected


def test_a_crash_after_each_batch_of_a_busy_table_loses_and_repeats_nothing(database: Sqlite | Server) -> None:
    with site_of(database, **BY_TIME, page_rows=500, poll_seconds=1) as site:
        seen: Counter[object] = Counter()
        for step in range(12):
            put(database, range(step * 1000, step * 1000 + 1000), f"2024-06-01 11:59:{10 + step}.25")
            seen.update(ids(site.poll(advance=1, crash_after=step % 3)))
        seen.update(ids(site.cycle()))
        assert set(seen) == set(range(12_000))
        assert set(seen.values()) == {1}


def test_a_process_that_never_survives_its_first_batch_still_comes_to_the_end_once(database: Sqlite | Server) -> None:
    put(database, range(1, 25_001))
    with site_of(database, **BY_ID) as site:
        seen: list[object] = []
        while not site.committed or not site.committed[-1].header.closes:
            seen += ids(site.poll(crash_after=1))
        assert seen == list(range(1, 25_001))
        assert site.cycle() == []


def test_a_row_that_joins_a_settled_timestamp_is_sent_once(database: Sqlite | Server) -> None:
    with site_of(database, **BY_TIME) as site:
        put(database, [1])
        assert ids(site.poll()) == [1]
        put(database, [9], "2024-06-01 11:59:50")
        assert ids(site.cycle(passes=20)) == [9]
        assert site.cycle() == []
        put(database, [10], "2024-06-01 11:59:50")
        assert ids(site.poll(advance=5)) == [10]
        for number in range(20, 40):  # commits to a row long settled, so that passes go on
            database.execute("UPDATE orders SET text = ? WHERE id = 1", [str(number)])
            assert site.cycle(passes=10) == []


def test_a_site_that_lost_its_disk_sends_the_window_once_more_and_then_is_quiet(database: Sqlite | Server) -> None:
    put(database, range(1, 101), "2024-06-01 11:59:59")
    with site_of(database, **BY_TIME) as site:
        assert len(site.poll()) == 100
        site.ledger.clear()  # the controller gave the checkpoint back, the ledger is gone
        site.restart()
        assert len(site.cycle()) == 100
        assert site.cycle() == []


# --- updates


def test_a_row_updated_while_its_table_is_paged_through_is_never_lost(database: Sqlite | Server) -> None:
    put(database, range(1, 6001))
    with site_of(database, **BY_TIME, page_rows=500) as site:
        seen = []
        for number, draft in enumerate(site.reading()):
            seen += rows_of(draft)
            if number == 0:
                database.execute("UPDATE orders SET text = 'new', at = '2024-06-01 11:59:30' WHERE id IN (1, 5999)")
        seen += site.cycle()
        latest = {row[0]: row[1] for row in seen}
        assert len(latest) == 6000
        assert (latest[1], latest[5999]) == ("new", "new")
        assert Counter(ids(seen))[1] == 2


def test_a_row_that_changes_again_comes_again_and_only_then(database: Sqlite | Server) -> None:
    put(database, [1, 2, 3])
    with site_of(database, **BY_TIME) as site:
        assert len(site.poll()) == 3
        for second in range(5):
            database.execute("UPDATE orders SET at = ? WHERE id = 2", [f"2024-06-01 11:59:{second:02}"])
            assert ids(site.poll(advance=1)) == [2]
        assert site.cycle() == []


def test_an_unfilled_change_time_falls_back_to_the_time_of_creation(database: Sqlite | Server) -> None:
    database.execute(f"ALTER TABLE orders ADD COLUMN changed {database.timestamp}")
    put(database, [1, 2, 3])
    database.execute("UPDATE orders SET changed = '2024-05-02 09:00:00' WHERE id = 1")
    with site_of(database, **{**BY_TIME, "column": ["changed", "at"]}) as site:
        assert ids(site.poll()) == [2, 3, 1]
        database.execute("UPDATE orders SET changed = '2024-06-01 11:00:00' WHERE id = 3")
        assert ids(site.poll(advance=5)) == [3]


def test_rows_without_any_watermark_are_counted_as_a_problem(database: Sqlite | Server) -> None:
    put(database, [1, 2, 3])
    put(database, [4, 5], None)
    with site_of(database, **BY_TIME) as site:
        assert ids(site.poll()) == [1, 2, 3]
        assert site.counters.snapshot()["rows_without_watermark"] == 2
        assert "watermark" in [f.name for f in site.source.check() if not f.ok]


def test_a_row_from_the_future_does_not_hide_those_of_the_present(database: Sqlite | Server) -> None:
    put(database, [1], "2099-12-31 00:00:00")
    with site_of(database, **BY_TIME) as site:
        assert ids(site.poll()) == [1]
        for i in range(2, 8):
            database.execute(f"INSERT INTO orders VALUES (?, 'x', {database.now(site)})", [i])
            assert ids(site.cycle(passes=30)) == [i]
        assert site.cycle() == []
        assert site.counters.snapshot()["newest_ahead_seconds"] > 10**9


# --- units


def make_order_view(database: Sqlite | Server) -> None:
    database.execute("CREATE TABLE items (order_id BIGINT, line INTEGER, sku TEXT)")
    database.execute(
        "CREATE VIEW order_lines AS SELECT o.id AS order_id, l.line, l.sku, o.at"
        " FROM orders o LEFT JOIN items l ON l.order_id = o.id"
    )
    database.execute("CREATE INDEX items_order ON items (order_id)")


def units_of(site: TableSite) -> list[list[object]]:
    """The orders as they came: neighbouring rows of one order, within what one closed pass sent."""
    units: list[list[object]] = []
    previous = None
    for draft in site.committed:
        for row in rows_of(draft):
            if row[0] != previous:
                units.append([row[0]])
            units[-1].append(row[1])
            previous = row[0]
        previous = None if draft.header.closes else previous
    return units


def test_the_lines_of_an_order_stay_together_across_pages_batches_and_crashes(database: Sqlite | Server) -> None:
    make_order_view(database)
    put(database, range(1, 1201))
    database.executemany(
        "INSERT INTO items VALUES (?, ?, 's')", [(o, n) for o in range(1, 1200) for n in range(o % 12)]
    )
    settings = {**BY_TIME, "table": "order_lines", "key": ["order_id", "line"], "page_rows": 97}
    lines = {o: list(range(o % 12)) or [None] for o in range(1, 1200)} | {1200: [None]}
    with site_of(database, **settings) as straight:
        straight.poll()
        assert {unit[0]: unit[1:] for unit in units_of(straight)} == lines
        assert len(units_of(straight)) == 1200
    for crash_after in range(1, len(straight.committed)):
        with site_of(database, **settings) as site:
            site.poll(crash_after=crash_after)
            site.poll()
            assert units_of(site) == units_of(straight)


def test_a_line_that_commits_after_its_order_brings_the_whole_order_again(database: Sqlite | Server) -> None:
    make_order_view(database)
    put(database, [7], "2024-06-01 11:59:58")
    database.executemany("INSERT INTO items VALUES (?, ?, 's')", [(7, 1), (7, 2)])
    settings = {**BY_TIME, "table": "order_lines", "key": ["order_id", "line"]}
    with site_of(database, **settings) as site:
        assert [row[1] for row in site.poll()] == [1, 2]
        database.execute("INSERT INTO items VALUES (7, 3, 's')")
        assert [row[1] for row in site.cycle()] == [1, 2, 3]


def test_a_group_larger_than_a_page_is_sent_row_by_row_and_once(database: Sqlite | Server) -> None:
    database.execute(f"CREATE TABLE stock (warehouse TEXT, sku INTEGER, at {database.timestamp})")
    database.executemany("INSERT INTO stock VALUES ('W1', ?, ?)", [(i, "2024-06-01 11:59:59") for i in range(1000)])
    settings = {**BY_TIME, "table": "stock", "key": ["warehouse", "sku"], "page_rows": 90}
    with site_of(database, **settings) as site:
        assert [row[1] for row in site.poll()] == list(range(1000))
        database.execute("INSERT INTO stock VALUES ('W1', -1, '2024-06-01 11:59:59')")
        assert -1 in [row[1] for row in site.cycle()]
        assert site.cycle() == []


def test_rows_that_no_key_tells_apart_stop_the_source_when_they_fill_a_page(database: Sqlite | Server) -> None:
    put(database, range(50))
    settings = {**BY_TIME, "key": ["at"], "page_rows": 20}
    with site_of(database, **settings) as site, pytest.raises(CrossdockError, match="share one key"):
        site.poll()


# --- what ends a pass


def test_only_the_last_batch_of_a_pass_closes_it_and_a_quiet_pass_gives_none(database: Sqlite | Server) -> None:
    put(database, range(12_000))
    with site_of(database, **BY_ID) as site:
        site.poll()
        closes = [draft.header.closes for draft in site.committed]
        assert closes == [False] * (len(closes) - 1) + [True]
        assert site.cycle(passes=5) == []
        assert len(site.committed) == len(closes)


def test_a_broken_off_pass_whose_rest_vanished_is_closed_by_an_empty_batch(database: Sqlite | Server) -> None:
    put(database, range(12_000))
    with site_of(database, **BY_ID) as site:
        kept = ids(site.poll(crash_after=1))
        database.execute("DELETE FROM orders WHERE id > ?", [max(map(int, kept))])
        assert site.poll() == []
        assert (site.committed[-1].header.records, site.committed[-1].header.closes) == (0, True)


def test_starting_now_leaves_out_what_is_there_even_after_a_restart_before_the_first_row(
    database: Sqlite | Server,
) -> None:
    put(database, [*range(1, 50), *range(51, 100)], "2024-06-01 11:59:59")
    for settings in (BY_ID, BY_TIME):
        with site_of(database, **settings, start="now") as site:
            assert site.poll() == []
            site.restart()
            number = 100 if settings is BY_ID else 200
            put(database, [number - 50, number], "2024-06-01 11:59:59")
            assert ids(site.cycle(passes=20)) == [number - 50, number]


# --- errors


def test_a_restored_table_stops_the_source_until_it_has_passed_the_old_end(database: Sqlite | Server) -> None:
    put(database, range(1, 50))
    with site_of(database, **BY_ID, look_back_ids=0) as site:
        site.poll()
        site.cycle()
        database.execute("DELETE FROM orders WHERE id > 20")
        with pytest.raises(CrossdockError, match=r"ends at 20, but was read up to \[49\]") as caught:
            site.cycle()
        assert "purged: true" in caught.value.hint
        put(database, [50])
        assert ids(site.poll()) == [50]


def test_a_table_whose_newest_rows_are_purged_is_no_alarm_when_told_so(database: Sqlite | Server) -> None:
    put(database, range(1, 50))
    with site_of(database, **BY_ID, look_back_ids=0, purged=True) as site:
        site.poll()
        database.execute("DELETE FROM orders WHERE id > 20")
        assert site.cycle() == []
        put(database, [50])
        assert ids(site.cycle(passes=3)) == [50]


def test_an_emptied_table_is_no_restored_one(database: Sqlite | Server) -> None:
    put(database, range(1, 50))
    with site_of(database, **BY_ID) as site:
        site.poll()
        database.execute("DELETE FROM orders")
        assert site.cycle() == []


def test_a_missing_table_is_unavailable_and_found_once_it_is_there(database: Sqlite | Server) -> None:
    with site_of(database, **{**BY_ID, "table": "invoices"}) as site:
        with pytest.raises(SourceUnavailable, match="invoices"):
            site.poll()
        database.execute("CREATE TABLE invoices (id BIGINT PRIMARY KEY)")
        database.execute("INSERT INTO invoices VALUES (1)")
        assert ids(site.poll()) == [1]


def test_a_missing_column_is_named_with_those_that_are_there(database: Sqlite | Server) -> None:
    with site_of(database, **BY_ID, columns=["id", "price"]) as site:
        with pytest.raises(ConfigError, match="no column price") as caught:
            site.poll()
        assert "id, text, at" in caught.value.hint


def test_a_column_that_vanishes_stops_this_source_and_never_reads_as_text(database: Sqlite | Server) -> None:
    put(database, [1, 2])
    with site_of(database, **BY_ID, columns=["id", "text"]) as site:
        assert len(site.poll()) == 2
        put(database, [3])
        database.execute("ALTER TABLE orders DROP COLUMN text")
        with pytest.raises(ConfigError, match="text"):
            site.poll(advance=5)


def test_a_wrong_condition_is_a_configuration_error(database: Sqlite | Server) -> None:
    with site_of(database, **BY_ID, where="s.nonsense = = 1") as site, pytest.raises(ConfigError):
        site.poll()


def test_a_condition_limits_the_rows_and_does_not_hide_late_ones(database: Sqlite | Server) -> None:
    put(database, range(1, 20))
    with site_of(database, **BY_ID, where="s.id % 2 = 0 -- even ones") as site:
        assert ids(site.poll()) == list(range(2, 20, 2))
        put(database, [22])
        assert ids(site.poll(advance=5)) == [22]
        put(database, [20])
        assert ids(site.cycle()) == [20]


def test_a_position_of_another_reading_is_refused(database: Sqlite | Server) -> None:
    put(database, [1])
    with site_of(database, **BY_ID) as site:
        site.poll()
        checkpoint = site.checkpoint
    with site_of(database, **BY_TIME) as other:
        other.checkpoint = checkpoint
        with pytest.raises(ConfigError, match="another reading") as caught:
            other.poll()
        assert "new name" in caught.value.hint


# --- the writer


def test_a_reader_between_two_pages_holds_nothing_at_the_database(database: Sqlite | Server) -> None:
    put(database, range(12_000))
    with site_of(database, **BY_ID, page_rows=500) as site:
        reading = site.reading()
        next(reading)
        database.execute("DROP TABLE orders")  # needs every other transaction on the table to be over
        reading.close()  # type: ignore[attr-defined]


def test_check_finds_a_sound_table_sound_and_names_the_missing_index(database: Sqlite | Server) -> None:
    put(database, range(10))
    with site_of(database, **BY_TIME) as site:
        if not isinstance(database, Sqlite):  # whose clock is the test's own
            database.execute(f"UPDATE orders SET at = {database.now(site)}")
        findings = {f.name: f for f in site.source.check() if f.name != "clock"}
        assert all(f.ok for f in findings.values())
        assert "create an index on at" in findings["index"].hint
        database.execute("CREATE INDEX orders_at ON orders (at)")
        findings = {f.name: f for f in site.source.check()}
        assert not findings["index"].hint
        database.execute("ALTER TABLE orders RENAME TO gone")
        assert any(not f.ok and f.hint for f in site.source.check())
