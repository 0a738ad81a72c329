"""A reading by key beside the one by watermark: what reconciling finds, and the first load of an old table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError, Retryable
from crossdock_agent.sql import keydraft
from crossdock_agent.sql.keychunks import CHUNK_ROWS
from support.table_site import Sqlite, TableSite, rows_of, site_of

DAY = 86_400.0
BY_TIME: dict[str, Any] = {
    "table": "t", "mode": "timestamp", "column": "at", "key": ["id"], "poll_seconds": 5.0,
    "reconcile": {"deletes": True},
}  # fmt: skip
LOAD = {"table": "t", "mode": "timestamp", "column": "at", "key": ["id"], "initial_load": "key", "poll_seconds": 5.0}

Row = list[Any]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Sqlite]:
    opened = Sqlite(tmp_path / "erp.db")
    opened.execute("PRAGMA synchronous = OFF")
    opened.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT, at TEXT)")
    opened.execute("CREATE INDEX t_at ON t (at, id)")
    yield opened
    opened.close()


def fill(database: Sqlite, n: int, first: int = 1, at: str = "2024-05-01 12:00:00.000") -> None:
    database.executemany("INSERT INTO t VALUES (?, ?, ?)", [(i, f"row {i}", at) for i in range(first, first + n)])


def add_newest(database: Sqlite) -> None:
    """A row so much later than the others that they lie below the look-back window."""
    fill(database, 1, first=0, at="2024-05-20 12:00:00.000")


def insert(database: Sqlite, site: TableSite, number: int, text: str = "fresh") -> None:
    database.execute(f"INSERT INTO t VALUES (?, ?, {database.now(site)})", (number, text))


def settle(site: TableSite) -> list[Row]:
    """What is sent until the whole look-back window was read and nothing in it can change any more."""
    return [row for _ in range(34) for row in site.poll(advance=5.0)]


def next_day(site: TableSite) -> list[Row]:
    """What the next reconciliation sends, and the passes after it."""
    site.seconds += DAY
    return settle(site)


def keyed(rows: list[Row]) -> list[tuple[Any, Any, Any]]:
    return [(row[0], row[1], row[-2]) for row in rows]


# --- reconciling


def test_a_table_that_was_read_as_it_should_be_has_nothing_missed_and_nothing_sent_twice(database: Sqlite) -> None:
    fill(database, 3 * CHUNK_ROWS)
    with site_of(database, **BY_TIME) as site:
        rows = site.poll()
        for day in range(3):
            insert(database, site, 10_000 + day)
            rows += next_day(site)
        assert len(rows) == 3 * CHUNK_ROWS + 3
        assert {tuple(row[-2:]) for row in rows} == {("upsert", 0)}
        counters = site.counters.snapshot()
        assert (counters["reconcile_missed"], counters["reconcile_vanished"]) == (0, 0)
        assert counters["rows_kept"] == 3 * CHUNK_ROWS + 3
        assert all(
            [c.name for c in draft.header.columns] == ["id", "x", "at", "$op", "$version"] for draft in site.committed
        )
        assert max(len(draft.header.checkpoint) for draft in site.committed) < 4096


def test_late_commits_null_watermarks_silent_changes_and_deletes_are_found(database: Sqlite) -> None:
    fill(database, 100)
    add_newest(database)
    with site_of(database, **BY_TIME) as site:
        site.poll()
        settle(site)
        fill(database, 1, first=200)  # stamped long before the look-back: committed too late
        database.execute("INSERT INTO t VALUES (201, 'no stamp', NULL)")
        database.execute("UPDATE t SET x = 'silent' WHERE id = 50")
        database.execute("DELETE FROM t WHERE id = 7")
        assert sorted(keyed(next_day(site))) == [
            (7, None, "delete"), (50, "silent", "upsert"), (200, "row 200", "upsert"), (201, "no stamp", "upsert"),
        ]  # fmt: skip
        counters = site.counters.snapshot()
        assert (counters["reconcile_missed"], counters["reconcile_vanished"]) == (3, 1)
        assert next_day(site) == []
        assert site.counters.snapshot()["reconcile_missed"] == 0


def test_a_silent_change_and_its_taking_back_are_events_of_their_own(database: Sqlite) -> None:
    fill(database, 3)
    add_newest(database)
    with site_of(database, **BY_TIME) as site:
        rows = site.poll() + settle(site)
        for text in ("other", "row 1", "other"):
            database.execute("UPDATE t SET x = ? WHERE id = 1", [text])
            rows += next_day(site)
        assert len(rows) == len({tuple(row) for row in rows}) == 7


def test_vanished_rows_are_counted_and_not_sent_unless_that_is_wanted(database: Sqlite) -> None:
    fill(database, 10)
    with site_of(database, **{**BY_TIME, "reconcile": {}}) as site:
        site.poll()
        settle(site)
        database.execute("DELETE FROM t WHERE id = 7")
        assert next_day(site) == []
        assert site.counters.snapshot()["reconcile_vanished"] == 1
        assert next_day(site) == []
        assert site.counters.snapshot()["reconcile_vanished"] == 0


def test_a_row_that_came_and_went_between_two_scans_is_deleted_too(database: Sqlite) -> None:
    fill(database, 100)
    with site_of(database, **BY_TIME) as site:
        site.poll()
        settle(site)
        insert(database, site, 1000)
        assert keyed(site.poll(advance=5)) == [(1000, "fresh", "upsert")]
        database.execute("DELETE FROM t WHERE id = 1000")
        assert keyed(next_day(site)) == [(1000, None, "delete")]
        assert next_day(site) == []
        assert site.counters.snapshot()["reconcile_vanished"] == 0


@pytest.mark.parametrize("killed", [False, True])
def test_a_pass_that_ends_with_the_scan_leaves_such_rows_to_the_next_pass(database: Sqlite, killed: bool) -> None:
    """A budget ends it there, or a process is killed: the rows do not wait for the scan of the next day."""
    fill(database, 100)
    add_newest(database)
    with site_of(database, **BY_TIME, purged=True) as site:
        settle(site)
        insert(database, site, 1000)
        assert keyed(site.poll(advance=5)) == [(1000, "fresh", "upsert")]
        database.execute("DELETE FROM t WHERE id = 1000")
        database.execute("UPDATE t SET x = 'silent' WHERE id = 1")
        site.seconds += DAY
        found: list[Row] = []
        for _ in range(40):
            for draft in site.drafts(after=1, advance=5):
                found += rows_of(draft)
            if killed:
                site.restart()
        assert keyed(found) == [(1, "silent", "upsert"), (1000, None, "delete")]
        assert next_day(site) == []


def test_many_such_rows_are_sent_though_each_pass_ends_after_one_batch(
    database: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keydraft, "TARGET_RECORDS", 3)
    fill(database, 100)
    with site_of(database, **BY_TIME, purged=True) as site:
        settle(site)
        fill(database, 10, first=1000, at="2024-06-01 12:10:00.000")
        assert len(settle(site)) == 10
        database.execute("DELETE FROM t WHERE id >= 1000")
        site.seconds += DAY
        found = [row for _ in range(40) for draft in site.drafts(after=1, advance=5) for row in rows_of(draft)]
        assert [row[0] for row in found] == list(range(1000, 1010))
        assert {row[-2] for row in found} == {"delete"}
        assert next_day(site) == []


def test_many_rows_that_came_and_went_between_two_scans_are_held_back_by_the_brake(database: Sqlite) -> None:
    fill(database, 100)
    with site_of(database, **BY_TIME) as site:
        site.poll()
        settle(site)
        fill(database, 60, first=1000, at="2024-06-01 12:10:00.000")
        assert len(settle(site)) == 60
        database.execute("DELETE FROM t WHERE id >= 1000")
        site.seconds += DAY
        with pytest.raises(Retryable, match="did not find 60 of the 160 rows"):
            site.poll()
        assert not [row for draft in site.committed for row in rows_of(draft) if row[-2] == "delete"]


def test_a_row_the_live_reading_is_about_to_take_is_not_called_missed(database: Sqlite) -> None:
    fill(database, 3 * CHUNK_ROWS)
    add_newest(database)
    with site_of(database, **BY_TIME) as site:
        site.poll()
        settle(site)
        site.seconds += DAY
        reading, rows = site.reading(), []
        database.execute("UPDATE t SET x = 'silent' WHERE id = 1")  # makes the scan yield once
        source: Any = site.source
        ask, asked = source._live.database().rows, []

        def rows_between(sql: str, values: Any = ()) -> Any:
            if 's."id" <= ?' in sql and not asked:  # the scan's first range
                asked.append(sql)
                insert(database, site, 10_000)
                database.execute(f"UPDATE t SET x = 'changed', at = {database.now(site)} WHERE id = 2")
            return ask(sql, values)

        source._live.database().rows = rows_between
        for draft in reading:
            rows += rows_of(draft)
        source._live.database().rows = ask
        assert keyed(rows) == [(1, "silent", "upsert")]
        assert asked
        assert site.counters.snapshot()["reconcile_missed"] == 1
        assert sorted(keyed(site.poll(advance=5))) == [(2, "changed", "upsert"), (10_000, "fresh", "upsert")]
        assert next_day(site) == []
        assert site.counters.snapshot()["reconcile_missed"] == 0


def test_many_vanished_rows_are_a_fault_that_does_not_stop_the_live_reading(database: Sqlite) -> None:
    fill(database, 100)
    with site_of(database, **BY_TIME) as site:
        site.poll()
        settle(site)
        database.execute("DELETE FROM t WHERE id <= 60")
        site.seconds += DAY
        with pytest.raises(Retryable, match="did not find 60 of the 100 rows"):
            site.poll()
        insert(database, site, 1000)
        assert keyed(site.poll(advance=5)) == [(1000, "fresh", "upsert")]
        assert site.counters.snapshot()["vanished_held_back"] == 60
        site.settings["reconcile"] = {"deletes": True, "accept_vanished": 60}
        site.restart()
        assert len([row for row in site.poll(advance=5) if row[-2] == "delete"]) == 60


def test_reconciling_from_now_on_does_not_send_what_was_there_before(database: Sqlite) -> None:
    fill(database, 100)
    with site_of(database, **BY_TIME, start="now") as site:
        assert settle(site) == []
        database.execute("UPDATE t SET x = 'silent' WHERE id = 3")
        assert keyed(next_day(site)) == [(3, "silent", "upsert")]


def test_a_crash_after_any_batch_of_a_reconciliation_repeats_and_loses_nothing(database: Sqlite) -> None:
    fill(database, 4 * CHUNK_ROWS)
    add_newest(database)
    with site_of(database, **BY_TIME) as site:
        site.poll()
        settle(site)
        database.execute("UPDATE t SET x = x || printf('%.*c', 300, 'y') WHERE id % 2 = 0 AND id > 0")
        database.execute("DELETE FROM t WHERE id % 101 = 1")
        checkpoint, ledger, seconds = site.checkpoint, dict(site.ledger), site.seconds + DAY
        site.seconds = seconds
        drafts = site.drafts()
        straight = sorted(repr(row) for draft in drafts for row in rows_of(draft))
        assert len(drafts) >= 3
        for broken_after in range(len(drafts)):
            site.checkpoint, site.ledger, site.seconds = checkpoint, dict(ledger), seconds
            site.restart()
            rows = site.poll(crash_after=broken_after) + site.poll() + site.poll()
            assert sorted(map(repr, rows)) == straight


def test_an_agent_that_lost_its_disk_compares_anew_at_once_and_sees_what_is_deleted_from_then_on(
    database: Sqlite,
) -> None:
    fill(database, 100)
    add_newest(database)
    with site_of(database, **BY_TIME) as site:
        settle(site)
        site.ledger.clear()
        site.restart()
        assert len(next_day(site)) == 101  # as they were, so the controller knows them
        assert site.counters.snapshot()["rows_forgotten"] == 1
        database.execute("DELETE FROM t WHERE id = 5")
        assert keyed(next_day(site)) == [(5, None, "delete")]


def test_reconciling_can_be_added_to_a_source_that_has_read_for_long_and_be_taken_away(database: Sqlite) -> None:
    fill(database, 100)
    add_newest(database)
    plain = {name: value for name, value in BY_TIME.items() if name != "reconcile"}
    with site_of(database, **plain) as site:
        assert len(site.poll() + settle(site)) == 101
        site.settings["reconcile"] = {}
        site.restart()
        again = site.poll(advance=5)
        sent = [row[:2] + row[-2:] for row in again]  # as before and seen first, so that the controller drops them
        assert sent == [[i, f"row {i}", "upsert", 0] for i in range(1, 101)]
        insert(database, site, 1000)
        assert keyed(site.poll(advance=5)) == [(1000, "fresh", "upsert")]
        del site.settings["reconcile"]
        site.restart()
        insert(database, site, 1001)
        assert [row[0] for row in site.poll(advance=5)] == [1001]


def test_incrementing_reconciles_by_its_column_when_no_key_is_named(database: Sqlite) -> None:
    fill(database, 100)
    settings = {
        "table": "t",
        "mode": "incrementing",
        "column": "id",
        "look_back_ids": 10,
        "reconcile": {"deletes": True},
    }
    with site_of(database, **settings) as site:
        site.poll()
        site.cycle(passes=100)
        database.execute("UPDATE t SET x = 'changed' WHERE id = 3")
        database.execute("DELETE FROM t WHERE id = 4")
        assert keyed(next_day(site)) == [(3, "changed", "upsert"), (4, None, "delete")]


# --- the first load


def test_the_first_load_sends_every_row_once_in_the_order_of_the_key(database: Sqlite) -> None:
    fill(database, 12_000)
    with site_of(database, **LOAD) as site:
        rows = site.poll()
        assert [row[0] for row in rows] == list(range(1, 12_001))
        assert site.cycle() == []
        site.restart()
        assert site.cycle() == []


def test_a_live_change_is_in_the_outbox_within_one_poll_while_the_load_runs(database: Sqlite) -> None:
    fill(database, 12_000)
    with site_of(database, **LOAD, page_rows=500) as site:
        numbers: list[int] = []
        batches_since = None
        for draft in site.reading():
            numbers += [row[0] for row in rows_of(draft)]
            site.seconds += 2.0
            if len(numbers) > 2_000 and batches_since is None:
                insert(database, site, 99_999)
                database.execute(f"UPDATE t SET x = 'changed', at = {database.now(site)} WHERE id = 11999")
                batches_since = 0
            elif batches_since is not None and 99_999 not in numbers:
                batches_since += 1
        assert batches_since is not None
        assert batches_since <= 5 / 2.0 + 1  # poll_seconds, two a batch
        assert numbers.index(99_999) < 5_000
        assert numbers.index(11_999) < 5_000  # live, and again by the load, as it then stands
        assert sorted(set(numbers)) == [*range(1, 12_001), 99_999]


def test_a_restart_after_any_batch_of_the_load_goes_on_behind_it(database: Sqlite) -> None:
    fill(database, 12_000)
    with site_of(database, **LOAD) as straight:
        drafts = straight.drafts()
        expected = [row for draft in drafts for row in rows_of(draft)]
    for broken_after in range(len(drafts)):
        with site_of(database, **LOAD) as site:
            assert site.poll(crash_after=broken_after) + site.poll() == expected


def test_rows_loaded_and_rows_read_live_are_alike_so_that_the_controller_knows_them_again(database: Sqlite) -> None:
    fill(database, 600)
    for extra in ({}, {"reconcile": {}}):
        with site_of(database, **LOAD, **extra) as site, contextlib.closing(site.reading()) as reading:  # type: ignore[type-var]
            rows: list[Row] = []
            for draft in reading:
                rows += rows_of(draft)
                if rows and len(rows) < 50:  # after the first page
                    database.execute(f"UPDATE t SET at = {database.now(site)} WHERE id = 600")
                    site.seconds += 6.0
            found = [row for row in rows if row[0] == 600]
            assert len(found) == 2
            assert found[0] == found[1]
        database.execute("UPDATE t SET at = '2024-05-01 12:00:00.000' WHERE id = 600")


def test_what_the_first_load_sent_is_not_missed_by_the_reconciliation_after_it(database: Sqlite) -> None:
    fill(database, 3000)
    with site_of(database, **LOAD, reconcile={"deletes": True}) as site:
        rows = site.poll() + [row for _ in range(3) for row in site.poll(advance=70)]
        assert len(rows) == 3000
        assert site.counters.snapshot()["rows_kept"] == 3000
        assert site.counters.snapshot().get("reconcile_missed", 0) == 0
        database.execute("DELETE FROM t WHERE id = 1500")
        assert keyed(next_day(site)) == [(1500, None, "delete")]


def test_settings_that_contradict_a_reading_by_key_are_refused(database: Sqlite) -> None:
    with pytest.raises(ConfigError, match="with 'start: beginning'"):
        TableSite(connection=database.connection, **LOAD, start="now")


def test_a_first_load_that_has_not_ended_is_not_given_up_without_a_word(database: Sqlite) -> None:
    fill(database, 12_000)
    with site_of(database, **LOAD) as site:
        site.poll(crash_after=2)
        site.settings["initial_load"] = "watermark"
        site.restart()
        with pytest.raises(ConfigError, match="first load by key has not come to its end"):
            site.poll()
