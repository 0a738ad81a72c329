"""Mode snapshot on a SQLite table: what is seen, what is never taken for deleted, and what survives a crash."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossdock import codec
from crossdock.errors import ConfigError, CrossdockError, Retryable, SourceUnavailable
from crossdock.siteconfig import OutboxConfig, SourceConfig
from crossdock_agent.outbox import Outbox
from crossdock_agent.pump import Pump
from crossdock_agent.sources.base import Source, SourceContext, build
from crossdock_agent.sql.keychunks import CHUNK_ROWS
from support.table_site import Sqlite, TableSite, rows_of, site_of

SNAPSHOT: dict[str, Any] = {"table": "t", "mode": "snapshot", "key": ["id"]}

Row = list[Any]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Sqlite]:
    opened = Sqlite(tmp_path / "erp.db")
    opened.execute("PRAGMA synchronous = OFF")
    opened.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
    yield opened
    opened.close()


def fill(database: Sqlite, n: int, first: int = 1) -> None:
    database.executemany("INSERT INTO t VALUES (?, ?)", [(i, f"row {i}") for i in range(first, first + n)])


def ops(rows: list[Row]) -> list[tuple[Any, ...]]:
    """Rows without their version."""
    return [tuple(row[:-1]) for row in rows]


def test_a_table_without_a_watermark_shows_inserts_updates_and_deletes(database: Sqlite) -> None:
    fill(database, 3)
    with site_of(database, **SNAPSHOT) as site:
        assert site.poll() == [[1, "row 1", "upsert", 0], [2, "row 2", "upsert", 0], [3, "row 3", "upsert", 0]]
        assert site.poll() == []
        database.execute("UPDATE t SET x = 'changed' WHERE id = 2")
        database.execute("INSERT INTO t VALUES (4, NULL)")
        database.execute("DELETE FROM t WHERE id = 1")
        assert ops(site.poll()) == [(2, "changed", "upsert"), (4, None, "upsert"), (1, None, "delete")]
        assert site.poll() == []
        assert [c.name for c in site.committed[0].header.columns] == ["id", "x", "$op", "$version"]
        assert list(site.committed[0].header.key_columns) == ["id"]


def test_between_two_scans_only_the_last_state_is_seen(database: Sqlite) -> None:
    """What the mode promises, and no more (LESSONS 7)."""
    fill(database, 3)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        database.execute("UPDATE t SET x = 'first' WHERE id = 1")
        database.execute("UPDATE t SET x = 'second' WHERE id = 1")
        database.execute("UPDATE t SET x = 'there' WHERE id = 2")
        database.execute("UPDATE t SET x = 'row 2' WHERE id = 2")
        database.execute("INSERT INTO t VALUES (9, 'short-lived')")
        database.execute("DELETE FROM t WHERE id = 9")
        assert ops(site.poll()) == [(1, "second", "upsert")]


def test_a_row_marked_as_inactive_is_a_change_and_no_delete(database: Sqlite) -> None:
    database.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, active BOOLEAN)")
    database.executemany("INSERT INTO s VALUES (?, 1)", [[1], [2]])
    with site_of(database, table="s", mode="snapshot", key=["id"]) as site:
        site.poll()
        database.execute("UPDATE s SET active = 0 WHERE id = 2")
        assert ops(site.poll()) == [(2, False, "upsert")]


def test_deletes_made_while_the_agent_was_away_are_seen_when_it_is_back(database: Sqlite) -> None:
    fill(database, 100)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        site.source.close()
        database.execute("DELETE FROM t WHERE id IN (3, 99)")
        database.execute("UPDATE t SET x = 'changed' WHERE id = 50")
        site.restart()
        assert ops(site.poll()) == [(50, "changed", "upsert"), (3, None, "delete"), (99, None, "delete")]


def test_a_content_that_comes_back_and_a_row_deleted_twice_are_events_of_their_own(database: Sqlite) -> None:
    fill(database, 2)
    with site_of(database, **SNAPSHOT) as site:
        seen = site.poll()
        for statement in (
            "UPDATE t SET x = 'B' WHERE id = 1", "UPDATE t SET x = 'row 1' WHERE id = 1", "DELETE FROM t WHERE id = 1",
            "INSERT INTO t VALUES (1, 'row 1')", "DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES (1, 'row 1')",
        ):  # fmt: skip
            database.execute(statement)
            (row,) = site.poll()
            seen.append(row)
        assert len({tuple(row) for row in seen}) == len(seen) == 8


def test_the_same_history_has_the_same_versions_after_a_crash(database: Sqlite) -> None:
    fill(database, 3 * CHUNK_ROWS)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        database.execute("UPDATE t SET x = x || '!' WHERE id % 3 = 0")
        database.execute("DELETE FROM t WHERE id % 11 = 0")
        checkpoint, ledger = site.checkpoint, dict(site.ledger)
        drafts = site.drafts()
        straight = [row for draft in drafts for row in rows_of(draft)]
        assert len(straight) == CHUNK_ROWS + 3 * CHUNK_ROWS // 11 - 3 * CHUNK_ROWS // 33
        for broken_after in range(len(drafts)):
            site.checkpoint, site.ledger = checkpoint, dict(ledger)
            site.restart()
            again = site.poll(crash_after=broken_after) + site.poll() + site.poll()
            assert sorted(map(repr, again)) == sorted(map(repr, straight))


def test_a_draft_the_outbox_refused_comes_again_and_nothing_is_lost(database: Sqlite) -> None:
    fill(database, 12_000)
    with site_of(database, **SNAPSHOT) as site:
        kept = site.poll(crash_after=None)[:0]
        database.execute("UPDATE t SET x = 'new'")
        first = site.drafts(after=1)
        reading = site.source.read(site.checkpoint)
        next(reading)
        next(reading)  # two more were made, none was taken
        reading.close()  # type: ignore[attr-defined]
        rows = [row for draft in first for row in rows_of(draft)] + site.poll() + kept
        assert sorted(row[0] for row in rows) == list(range(1, 12_001))


# --- the brake (LEGACY 6, 7)


def test_an_emptied_table_is_a_fault_and_deletes_nothing_until_a_person_says_so(database: Sqlite) -> None:
    fill(database, 5)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        database.execute("DELETE FROM t")
        for _ in range(2):
            with pytest.raises(Retryable, match="found none of the 5 rows known here; none was taken") as caught:
                site.poll()
            assert "'accept_vanished: 5'" in caught.value.hint
        site.restart()
        with pytest.raises(Retryable):
            site.poll()
        assert site.counters.snapshot()["vanished_held_back"] == 5
        site.settings["snapshot"] = {"accept_vanished": 5}
        site.restart()
        assert ops(site.poll()) == [(i, None, "delete") for i in range(1, 6)]
        assert site.counters.snapshot()["vanished_held_back"] == 0


def test_an_acceptance_counts_once(database: Sqlite) -> None:
    fill(database, 100)
    with site_of(database, **SNAPSHOT, snapshot={"accept_vanished": 50}) as site:
        site.poll()
        database.execute("DELETE FROM t WHERE id <= 40")
        assert len(site.poll()) == 40
        database.execute("DELETE FROM t WHERE id <= 80")
        site.restart()
        with pytest.raises(Retryable, match="did not find 40 of the 60 rows"):
            site.poll()


def test_a_suddenly_shrunken_table_is_a_fault_and_over_when_its_rows_are_back(database: Sqlite) -> None:
    fill(database, 1000)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        database.execute("DELETE FROM t WHERE id > 700")
        with pytest.raises(Retryable, match="did not find 300 of the 1,000 rows"):
            site.poll()
        database.execute("INSERT INTO t VALUES (701, 'row 701')")
        with pytest.raises(Retryable, match="did not find 299"):
            site.poll()
        fill(database, 299, first=702)
        assert site.poll() == []  # all of them are back: nothing had happened
        assert site.counters.snapshot()["vanished_held_back"] == 0
        assert site.counters.snapshot()["rows_kept"] == 1000


def test_what_a_shrunken_scan_changed_was_sent_before_the_fault(database: Sqlite) -> None:
    fill(database, 1000)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        database.execute("DELETE FROM t WHERE id > 700")
        database.execute("UPDATE t SET x = 'changed' WHERE id = 7")
        sent: list[Row] = []
        with pytest.raises(Retryable):
            sent.extend(row for draft in site.reading() for row in rows_of(draft))
        assert ops(sent) == [(7, "changed", "upsert")]


def test_up_to_a_fifth_and_a_few_rows_of_a_small_table_may_vanish(database: Sqlite) -> None:
    fill(database, 1000)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        database.execute("DELETE FROM t WHERE id <= 200")
        assert len(site.poll()) == 200
    database.execute("DELETE FROM t WHERE id > 211")
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        database.execute("DELETE FROM t WHERE id > 201")
        assert len(site.poll()) == 10


def test_a_scan_that_broke_off_deletes_nothing(database: Sqlite) -> None:
    fill(database, 6 * CHUNK_ROWS)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        database.execute("DELETE FROM t WHERE id = 1")
        asked = 0
        source: Any = site.source
        ask = source._open().database.rows

        def failing(sql: str, values: Any = ()) -> Any:
            nonlocal asked
            asked += 1
            if asked == 4:
                raise SourceUnavailable("cut off")
            return ask(sql, values)

        source._open().database.rows = failing
        with pytest.raises(SourceUnavailable):
            site.poll()
        assert ops(site.poll()) == [(1, None, "delete")]


def test_a_stop_in_the_middle_of_a_scan_deletes_nothing(database: Sqlite) -> None:
    fill(database, 6 * CHUNK_ROWS)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        database.execute("DELETE FROM t WHERE id = 1")
        source: Any = site.source
        ask = source._open().database.rows

        def stopping(sql: str, values: Any = ()) -> Any:
            found = ask(sql, values)
            if values and values[0] != 1:
                site.stop.set()
            return found

        source._open().database.rows = stopping
        assert site.poll() == []
        site.restart()
        assert ops(site.poll()) == [(1, None, "delete")]


def test_a_changed_filter_is_refused_because_what_it_leaves_out_was_not_deleted(database: Sqlite) -> None:
    fill(database, 5)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        site.settings["where"] = "s.id > 2"
        site.restart()
        with pytest.raises(ConfigError, match="another table, key or 'where'") as caught:
            site.poll()
        assert "new name" in caught.value.hint


# --- rows that move while the scan goes by


def during(site: TableSite, statement: int, change: Any) -> list[Row]:
    """What a scan sends, *change* committed before its statement of that number."""
    source: Any = site.source
    source._quiet = None
    database = source._open().database
    ask, asked = database.rows, 0

    def rows(sql: str, values: Any = ()) -> Any:
        nonlocal asked
        if "FROM" in sql and '"id"' in sql:
            asked += 1
            if asked == statement:
                change()
        return ask(sql, values)

    database.rows = rows
    try:
        return site.poll()
    finally:
        database.rows = ask


def test_a_row_whose_key_moves_ahead_of_or_behind_the_scan_is_never_taken_for_deleted_wrongly(database: Sqlite) -> None:
    fill(database, 4 * CHUNK_ROWS)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        last = 4 * CHUNK_ROWS
        ahead = during(site, 3, lambda: database.execute(f"UPDATE t SET id = {last + 5} WHERE id = 1"))
        assert ops(ahead) == [(last + 5, "row 1", "upsert")]  # key 1 was there when its range was read
        assert ops(site.poll()) == [(1, None, "delete")]
        behind = during(site, 3, lambda: database.execute(f"UPDATE t SET id = 1 WHERE id = {last + 5}"))
        assert ops(behind) == [(last + 5, None, "delete")]
        assert ops(site.poll()) == [(1, "row 1", "upsert")]


def test_a_row_deleted_and_put_back_before_the_sweep_is_not_deleted(database: Sqlite) -> None:
    fill(database, 3)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        database.execute("DELETE FROM t WHERE id = 2")
        assert during(site, 2, lambda: database.execute("INSERT INTO t VALUES (2, 'row 2')")) == []
        assert site.poll() == []
        assert site.counters.snapshot()["rows_kept"] == 3


def test_a_database_that_begins_to_order_keys_otherwise_loses_no_row(database: Sqlite) -> None:
    """A new collation library, a dump restored elsewhere: known rows turn up in other ranges."""
    database.execute("CREATE TABLE w (k TEXT COLLATE BINARY NOT NULL PRIMARY KEY, x)")
    keys = [f"{letter}{i:04}" for i in range(CHUNK_ROWS) for letter in "aBcD"]
    database.executemany("INSERT INTO w VALUES (?, 1)", [[key] for key in keys])
    with site_of(database, table="w", mode="snapshot", key=["k"]) as site:
        assert len(site.poll()) == len(keys)
        database.execute("ALTER TABLE w RENAME TO old")
        database.execute("CREATE TABLE w (k TEXT COLLATE NOCASE NOT NULL PRIMARY KEY, x)")
        database.execute("INSERT INTO w SELECT * FROM old")
        database.execute("DELETE FROM w WHERE k = 'B0007'")
        sent = site.poll() + site.poll()
        assert ops([row for row in sent if row[-2] == "delete"]) == [("B0007", None, "delete")]
        assert site.counters.snapshot()["keys_out_of_order"] == CHUNK_ROWS


# --- what is kept


def test_a_lost_disk_gives_the_first_version_of_each_row_again(database: Sqlite) -> None:
    fill(database, 3 * CHUNK_ROWS)
    with site_of(database, **SNAPSHOT) as site:
        first = site.poll()
        site.ledger.clear()  # the controller gives the checkpoint back, nothing else
        site.restart()
        assert site.poll() == first
        assert site.counters.snapshot()["rows_forgotten"] == 1
        assert site.poll() == []


def test_an_empty_table_keeps_nothing_and_sends_nothing(database: Sqlite) -> None:
    with site_of(database, **SNAPSHOT) as site:
        for _ in range(3):
            assert site.drafts() == []
            site.source.close()
        fill(database, 1)
        assert len(site.poll()) == 1


def test_a_single_change_in_a_large_table_writes_one_chunk_and_a_quiet_scan_nothing(database: Sqlite) -> None:
    fill(database, 20_000)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        assert max(len(draft.header.checkpoint) for draft in site.committed) < 200
        database.execute("UPDATE t SET x = 'changed' WHERE id = 9999")
        (draft,) = site.drafts()
        assert len(draft.remember) == 1
        site.source.close()
        assert site.drafts() == []


def test_chunks_join_when_a_table_shrinks_and_their_slots_are_used_again(database: Sqlite) -> None:
    fill(database, 20_000)
    with site_of(database, **SNAPSHOT, snapshot={"max_vanished_percent": 100}) as site:
        site.poll()
        slots = len(site.ledger)
        for _ in range(3):
            database.execute("DELETE FROM t WHERE id % 50 <> 0")
            assert len(site.poll()) == 19_600
            site.poll()
            assert site.drafts() == []
            database.executemany(
                "INSERT INTO t VALUES (?, ?)", [(i, f"row {i}") for i in range(1, 20_001) if i % 50 != 0]
            )
            assert len(site.poll()) == 19_600
        assert len(site.ledger) <= slots * 2


def test_nothing_is_read_while_the_database_says_that_nothing_was_committed(database: Sqlite) -> None:
    fill(database, 5)
    with site_of(database, **SNAPSHOT) as site:
        site.poll()
        site.poll()
        asked: list[str] = []
        reader: Any = site.source._reading.database  # type: ignore[attr-defined]
        ask = reader.rows
        reader.rows = lambda sql, values=(): (asked.append(sql), ask(sql, values))[1]
        assert site.poll() == []
        assert asked == ["PRAGMA data_version"]
        database.execute("DELETE FROM t WHERE id = 5")
        assert len(site.poll()) == 1


def test_a_value_over_its_limit_is_set_aside_and_never_sent_cut(database: Sqlite) -> None:
    fill(database, 3)
    database.execute("UPDATE t SET x = printf('%.*c', 400, 'x') WHERE id = 2")
    with site_of(database, **SNAPSHOT, max_lob_bytes=300) as site:
        drafts = site.drafts()
        assert [row[0] for draft in drafts for row in rows_of(draft)] == [1, 3]
        (reject,) = [reject for draft in drafts for reject in draft.header.rejects]
        assert reject.reason == "row 2: column x has more than 300 bytes"
        assert site.poll() == []


def test_a_row_too_long_for_a_batch_is_set_aside_once_and_the_others_go_on(database: Sqlite) -> None:
    fill(database, 3)
    database.execute("UPDATE t SET x = printf('%.*c', 9000000, 'x') WHERE id = 2")
    with site_of(database, **SNAPSHOT) as site:
        drafts = site.drafts()
        assert [row[0] for draft in drafts for row in rows_of(draft)] == [1, 3]
        (reject,) = [reject for draft in drafts for reject in draft.header.rejects]
        assert (reject.code, reject.reason) == ("too_long", "row 2: column x has more than 8388608 bytes")
        assert site.drafts() == []


# --- keys


def test_keys_that_are_no_keys_are_refused_with_the_one_that_stands_twice(database: Sqlite) -> None:
    database.execute("CREATE TABLE u (a, b)")
    database.executemany("INSERT INTO u VALUES (?, ?)", [(1, 1), (1, 2), (2, 1)])
    with site_of(database, table="u", mode="snapshot", key=["a"]) as site:
        with pytest.raises(CrossdockError, match=r"several rows have the key \(1\)") as caught:
            site.poll()
        assert "name columns in 'key'" in caught.value.hint
        (finding,) = [f for f in site.source.check() if f.name == "key"]
        assert not finding.ok
    for page_rows in (2, 3):
        with (
            site_of(database, table="u", mode="snapshot", key=["a"], page_rows=page_rows) as site,
            pytest.raises(CrossdockError, match="several rows"),
        ):
            site.poll()


def test_keys_that_only_the_database_takes_for_equal_are_refused_and_none_is_skipped(database: Sqlite) -> None:
    database.execute("CREATE TABLE u (a TEXT COLLATE NOCASE, b INTEGER)")
    database.executemany("INSERT INTO u VALUES (?, ?)", [("a", None), ("A", None), ("b", None)])
    with (
        site_of(database, table="u", mode="snapshot", key=["a", "b"], page_rows=2) as site,
        pytest.raises(CrossdockError, match="several rows have the key"),
    ):
        site.poll()


def test_flags_and_columns_not_listed_travel_in_deletes_as_they_do_in_rows(database: Sqlite) -> None:
    database.execute("CREATE TABLE f (x TEXT, flag BOOLEAN, no TEXT, PRIMARY KEY (flag, no))")
    database.executemany("INSERT INTO f VALUES (?, ?, ?)", [("a", 0, "007"), ("b", 1, "007"), ("c", None, "")])
    with site_of(database, table="f", mode="snapshot", key=["flag", "no"], columns=["x"]) as site:
        rows = site.poll()
        assert ops(rows) == [("c", None, "", "upsert"), ("a", False, "007", "upsert"), ("b", True, "007", "upsert")]
        database.execute("DELETE FROM f WHERE flag = 1 OR no = ''")
        assert ops(site.poll()) == [(None, None, "", "delete"), (None, True, "007", "delete")]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"key": []}, "needs 'key'"),
        ({"column": "id"}, "takes no 'column'"),
        ({"start": "now"}, "no 'start'"),
        ({"reconcile": {}}, "'reconcile' is for"),
        ({"initial_load": "key"}, "'initial_load: key' is for"),
        ({"mode": "timestamp", "column": "x", "snapshot": {}}, "'snapshot' is for"),
        ({"snapshot": {"max_vanished_percent": 101}}, "<= 100"),
    ],
)
def test_settings_that_contradict_the_mode_are_refused(database: Sqlite, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TableSite(connection=database.connection, **{**SNAPSHOT, **settings})


# --- with a real outbox


def test_a_full_outbox_stops_the_scan_and_nothing_is_lost_or_doubled(database: Sqlite, tmp_path: Path) -> None:
    database.executemany("INSERT INTO t VALUES (?, hex(randomblob(100)))", [[i] for i in range(1, 20_001)])
    config = SourceConfig(
        name="erp", kind="sql_table", settings={"connection": database.connection, "poll_seconds": 0.1, **SNAPSHOT}
    )
    sent: list[int] = []
    with Outbox(tmp_path / "outbox.db", OutboxConfig(max_bytes=600_000, min_free_disk_bytes=0)) as outbox:

        def drain(after: int) -> int:
            """As the uplink does; the last sequence taken."""
            for batch in outbox.page("erp", after, 1 << 30):
                header, payload = codec.open_sealed(batch.sealed)
                count = b"\xdd" + header.records.to_bytes(4, "big")
                sent.extend(row[0] for row in msgspec.msgpack.decode(count + payload))
                after = batch.sequence
            outbox.acknowledge("erp", outbox.epoch, after)
            return after

        def made(config: SourceConfig, context: SourceContext) -> Source:
            return build(config.kind, config.settings, context)

        pump = Pump(config, 1, outbox, str, made, random.Random(1))
        pump.start()
        blocked, last = False, 0
        deadline = time.monotonic() + 30
        while len(sent) < 20_000:
            assert time.monotonic() < deadline
            blocked = blocked or pump.progress.state == "blocked"
            if blocked or pump.progress.state == "waiting":
                last = drain(last)
            time.sleep(0.01)
        assert blocked
        assert pump.stop()
    assert sent == list(range(1, 20_001))
