"""Mode outbox on a real SQLite file: rows are taken once, and exactly those are deleted or marked, whatever happens
between."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError, SourceUnavailable
from crossdock.siteconfig import OutboxConfig, SourceConfig
from crossdock_agent.outbox import Outbox
from crossdock_agent.pump import Pump
from crossdock_agent.sources.base import build
from crossdock_agent.sql import releasing, taking
from crossdock_agent.sql.connections import SqliteDatabase
from support.agents import eventually
from support.table_site import Sqlite, TableSite, site_of

OUTBOX = {"table": "t", "mode": "outbox", "column": "id"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Sqlite]:
    opened = Sqlite(tmp_path / "erp.db")
    opened.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT)")
    yield opened
    opened.close()


def put(database: Sqlite, *ids: int, text: str = "x") -> None:
    database.executemany("INSERT INTO t VALUES (?, ?)", [(i, f"{text}{i}") for i in ids])


def ids(database: Sqlite) -> list[int]:
    return [int(i) for (i,) in database._writer.execute("SELECT id FROM t ORDER BY id")]


def numbers(found: list[list[Any]]) -> list[int]:
    return [row[0] for row in found]


def test_a_row_that_commits_late_with_a_lower_id_is_read_however_late_it_is(database: Sqlite) -> None:
    put(database, 1, 2, 5, 6)
    with site_of(database, **OUTBOX) as site:
        assert numbers(site.poll()) == [1, 2, 5, 6]
        put(database, 3)
        assert numbers(site.poll(advance=86_400)) == [3]
        site.restart()
        put(database, 4)
        assert numbers(site.poll()) == [4]
        assert site.poll() == []


def test_a_pass_that_began_over_an_empty_table_keeps_the_order_as_any_other(
    database: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows come right after the pass has asked how far it goes; while it reads, a lower id is committed, and then a
    later version of it under a higher one."""
    rows = SqliteDatabase.rows
    later = iter([lambda: put(database, *range(101, 161)), lambda: put(database, 50, 500)])

    def asked(reader: SqliteDatabase, sql: str, values: Sequence[object] = ()) -> list[Any]:
        found = rows(reader, sql, values)
        if 'FROM "t"' in sql:
            next(later, lambda: None)()
        return found

    with site_of(database, **OUTBOX) as site:
        monkeypatch.setattr(SqliteDatabase, "rows", asked)
        found = numbers([*site.poll(), *site.poll(), *site.poll()])
    assert sorted(found) == [50, *range(101, 161), 500]
    assert found.index(50) < found.index(500)


def test_a_release_deletes_the_rows_of_its_batch_and_none_committed_between_them(database: Sqlite) -> None:
    put(database, 1, 2, 5, 6)
    with site_of(database, **OUTBOX) as site:
        site.poll()
        put(database, 3, 4, 7)
        site.acknowledge()
        assert ids(database) == [3, 4, 7]
        assert numbers(site.poll()) == [3, 4, 7]
        site.acknowledge()
        assert ids(database) == []


def test_a_process_killed_between_acknowledgement_and_delete_deletes_after_the_restart(database: Sqlite) -> None:
    put(database, *range(1, 12_001))
    with site_of(database, **OUTBOX) as site:
        assert len(site.poll()) == 12_000
        assert len(site.tokens) >= 3
        for done in range(len(site.tokens)):
            site.restart()
            assert site.poll() == [], f"after {done} releases"
            site.source.release(site.tokens.pop(0))
        assert ids(database) == []


def test_a_process_killed_between_delete_and_its_record_deletes_no_later_row_with_the_same_id(
    database: Sqlite,
) -> None:
    put(database, 1, 2, 3)
    with site_of(database, **OUTBOX) as site:
        site.poll()
        (token,) = site.tokens
        site.source.release(token)  # the outbox has not recorded that it was done
        assert ids(database) == []
        put(database, 2, text="another ")
        site.restart()
        assert site.poll() == []
        site.acknowledge()
        assert ids(database) == [2]
        assert site.poll() == [[2, "another 2"]]
        site.acknowledge()
        assert ids(database) == []


def test_a_process_killed_in_the_middle_of_a_release_goes_on_with_the_rest(
    database: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releasing, "CHUNK_VALUES", 10)
    put(database, *range(1, 101))
    with site_of(database, **OUTBOX) as site:
        site.poll()
        releaser = site.source._taker._releaser  # type: ignore[attr-defined]
        chunk, done = releaser._chunk, []

        def killed(*arguments: Any) -> int:
            if len(done) == 3:
                raise KeyboardInterrupt
            done.append(1)
            return int(chunk(*arguments))

        releaser._chunk = killed
        with pytest.raises(KeyboardInterrupt):
            site.acknowledge()
        assert ids(database) == list(range(31, 101))
        site.restart()
        put(database, 5, text="new ")
        site.acknowledge()
        assert ids(database) == [5]
        assert site.poll() == [[5, "new 5"]]


def test_a_row_changed_after_it_was_read_is_not_deleted_and_is_read_anew(database: Sqlite) -> None:
    put(database, 1, 2)
    with site_of(database, **OUTBOX) as site:
        site.poll()
        database.execute("UPDATE t SET x = 'changed' WHERE id = 1")
        site.acknowledge()
        assert ids(database) == [1]
        assert site.counters.snapshot()["rows_changed_in_flight"] == 1
        assert site.poll() == [[1, "changed"]]


def test_a_locked_database_puts_the_release_off_and_the_reading_goes_on(
    database: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossdock_agent.sql.connections.BUSY_SECONDS", 0.01)
    put(database, 1)
    with site_of(database, **OUTBOX) as site:
        site.poll()
        database.execute("BEGIN IMMEDIATE")
        with pytest.raises(SourceUnavailable, match="arrived, but are not yet deleted") as caught:
            site.acknowledge()
        assert caught.value.hint
        assert site.poll() == []
        database.execute("ROLLBACK")
        site.acknowledge()
        assert ids(database) == []


def test_reading_pauses_at_the_limit_of_rows_in_flight_and_goes_on_after_releases(database: Sqlite) -> None:
    put(database, *range(1, 1001))
    with site_of(database, **OUTBOX, page_rows=100, outbox={"max_in_flight": 300}) as site:
        first = site.poll()
        assert 300 <= len(first) <= 400
        assert site.counters.snapshot()["paused_in_flight"] == 1
        assert site.poll() == []
        site.restart()
        assert site.poll() == []
        found = numbers(first)
        for _ in range(10):
            site.acknowledge()
            found += numbers(site.poll())
        assert found == list(range(1, 1001))
        assert site.counters.snapshot()["paused_in_flight"] == 0
        site.acknowledge()
        assert ids(database) == []


def test_an_agent_that_lost_its_disk_reads_the_rows_in_flight_again_with_the_same_content(database: Sqlite) -> None:
    put(database, *range(1, 101))
    with site_of(database, **OUTBOX, page_rows=10) as site:
        before = site.poll()
        site.ledger.clear()
        site.tokens.clear()
        site.restart()
        put(database, 101)
        again = site.poll()
        assert again == [*before, [101, "x101"]]
        site.acknowledge()
        assert ids(database) == []


def test_a_view_is_read_though_nothing_was_committed_because_it_may_go_by_the_clock(
    database: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("CREATE VIEW due AS SELECT * FROM t")
    monkeypatch.setattr(SqliteDatabase, "changes", lambda _: 1)
    with site_of(database, **{**OUTBOX, "table": "due"}) as site:
        assert site.poll() == []
        put(database, 1)  # stands for a row whose time has come
        assert numbers(site.poll()) == [1]


@pytest.mark.parametrize(("value", "unread"), [("now", None), ("DONE", "NEW")])
def test_rows_are_marked_when_they_are_not_to_be_deleted(database: Sqlite, value: str, unread: str | None) -> None:
    database.execute("DROP TABLE t")
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT, state TEXT)")
    database.executemany("INSERT INTO t VALUES (?, 'x', ?)", [(1, unread), (2, unread)])
    outbox = {"after": "mark", "mark": {"column": "state", "value": value}}
    with site_of(database, **OUTBOX, outbox=outbox) as site:
        assert site.poll() == [[1, "x", unread], [2, "x", unread]]
        database.execute("INSERT INTO t VALUES (3, 'x', ?)", [unread])
        token = site.tokens[0]
        site.acknowledge()
        marked = database.scalar("SELECT state FROM t WHERE id = 1")
        assert str(marked).startswith("20") if value == "now" else marked == "DONE"
        assert database.scalar("SELECT state FROM t WHERE id = 3") == unread
        database.execute("UPDATE t SET state = ? WHERE id = 2", [f"{marked}!"])
        site.source.release(token)
        assert database.scalar("SELECT state FROM t WHERE id = 1") == marked
        assert database.scalar("SELECT state FROM t WHERE id = 2") == f"{marked}!"
        assert numbers(site.poll()) == ([3] if value == "now" else [2, 3])


def test_rows_scattered_over_many_runs_are_gone_on_from_and_looked_through_now_and_then(
    database: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "SCATTERED_RUNS", 10)
    put(database, *range(2, 200, 2))
    with site_of(database, **OUTBOX, outbox={"rescan_seconds": 30}) as site:
        assert len(site.poll()) == 99
        put(database, 5, 201)
        assert numbers(site.poll(advance=1)) == [201]
        assert site.poll(advance=1) == []
        assert numbers(site.poll(advance=31)) == [5]
        put(database, 7, 203)
        site.restart()
        assert numbers(site.poll()) == [7, 203]


def test_runs_of_ids_in_flight_are_jumped_over(database: Sqlite) -> None:
    put(database, *range(1, 5001))
    with site_of(database, **OUTBOX, page_rows=50) as site:
        assert len(site.poll()) == 5000
        reader: Any = site.source._taker._taking.reading.database  # type: ignore[attr-defined]
        asked: list[str] = []
        ask = reader.rows
        reader.rows = lambda sql, values=(): (asked.append(sql), ask(sql, values))[1]
        put(database, 5001)
        assert numbers(site.poll()) == [5001]
        assert len(asked) <= 5


def test_a_row_too_long_to_travel_is_reported_once_and_stays_in_the_table(database: Sqlite) -> None:
    put(database, 1, 3)
    put(database, 2, text="x" * 9 * 1024 * 1024)
    with site_of(database, **OUTBOX) as site:
        assert numbers(site.poll()) == [1, 3]
        assert [reject.code for draft in site.committed for reject in draft.header.rejects] == ["too_long"]
        site.acknowledge()
        assert ids(database) == [2]
        for _ in range(2):
            site.committed.clear()
            site.restart()
            assert site.poll() == []
            assert not [reject for draft in site.committed for reject in draft.header.rejects]
        put(database, 4)
        site.poll()
        site.acknowledge()
        assert ids(database) == [2]


def test_keys_may_be_text_or_several_columns(database: Sqlite) -> None:
    database.execute("CREATE TABLE k (a TEXT, b INTEGER, c BLOB, x TEXT)")
    known = [(a, b, c, "x") for a in ("a'1", "b", "ü") for b in (1, None, -5) for c in (None, b"\x00\xff")]
    database.executemany("INSERT INTO k VALUES (?, ?, ?, ?)", known)
    settings = {"table": "k", "mode": "outbox", "column": "a", "key": ["b", "c"], "page_rows": 4}
    with site_of(database, **settings) as site:
        assert sorted(site.poll(), key=repr) == sorted(map(list, known), key=repr)
        assert site.poll() == []
        site.restart()
        database.execute("INSERT INTO k VALUES ('b', 2, NULL, 'late')")
        assert site.poll() == [["b", 2, None, "late"]]
        site.acknowledge()
        assert database.scalar("SELECT COUNT(*) FROM k") == 0


def test_a_column_added_while_rows_are_in_flight_does_not_keep_them_in_the_table(database: Sqlite) -> None:
    put(database, 1, 2)
    with site_of(database, **OUTBOX) as site:
        site.poll()
        database.execute("ALTER TABLE t ADD COLUMN y TEXT")
        site.restart()
        assert site.poll() == []
        site.acknowledge()
        assert ids(database) == []


def test_a_column_dropped_while_rows_are_in_flight_has_them_read_anew_and_never_deleted_unseen(
    database: Sqlite,
) -> None:
    put(database, 1, 2)
    with site_of(database, **OUTBOX) as site:
        site.poll()
        database.execute("ALTER TABLE t DROP COLUMN x")
        site.restart()
        site.acknowledge()
        assert ids(database) == [1, 2]
        assert site.poll() == [[1], [2]]
        site.acknowledge()
        assert ids(database) == []


def test_the_reading_session_cannot_write_and_the_other_is_opened_for_a_release_only(database: Sqlite) -> None:
    put(database, 1)
    with site_of(database, **OUTBOX) as site:
        site.poll()
        taker: Any = site.source._taker  # type: ignore[attr-defined]
        assert taker._releaser._database is None
        with pytest.raises(SourceUnavailable, match="readonly"):
            taker._taking.reading.database.rows("DELETE FROM t")
        site.acknowledge()
        assert taker._releaser._database is not None
        site.poll(advance=60)
        assert taker._releaser._database is None


def test_check_proves_the_right_to_delete_without_deleting(database: Sqlite) -> None:
    put(database, 1)
    with site_of(database, **OUTBOX) as site:
        findings = {finding.name: finding for finding in site.source.check()}
        assert findings["right to release"].ok
        assert all(finding.ok for finding in findings.values())
        assert ids(database) == [1]
        database.execute("CREATE TRIGGER no BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'no'); END")
        assert all(finding.ok for finding in site.source.check())
    missing = {"after": "mark", "mark": {"column": "nowhere"}}
    with site_of(database, **OUTBOX, outbox=missing) as site:
        failed = [finding for finding in site.source.check() if not finding.ok]
        assert any("nowhere" in finding.detail for finding in failed)
        assert not any("grant" in finding.hint for finding in failed)  # a right is not what is missing


def test_check_finds_ids_that_sqlite_hands_out_again(database: Sqlite) -> None:
    """A row with the id and content of one that was delivered cannot be told from it."""
    database.execute("CREATE TABLE again (id INTEGER PRIMARY KEY, x TEXT)")
    with site_of(database, **{**OUTBOX, "table": "again"}) as site:
        (finding,) = [finding for finding in site.source.check() if not finding.ok]
        assert "AUTOINCREMENT" in finding.hint


def test_a_checkpoint_of_another_reading_is_refused(database: Sqlite) -> None:
    put(database, 1)
    with site_of(database, **OUTBOX) as site:
        site.poll()
        other = TableSite(connection=database.connection, **{**OUTBOX, "table": "u"})
        other.checkpoint = site.checkpoint
        database.execute("CREATE TABLE u (id INTEGER PRIMARY KEY)")
        with pytest.raises(ConfigError, match="another reading"):
            other.poll()
        other.source.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"column": []},
        {"column": ["id", "x"]},
        {"start": "now"},
        {"outbox": {"after": "mark"}},
        {"outbox": {"mark": {"column": "x"}}},
        {"outbox": {"after": "mark", "mark": {"column": "x", "value": "it's"}}},
        {"mode": "incrementing", "outbox": {}},
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        TableSite(connection={"sqlite": str(tmp_path / "x.db")}, **{**OUTBOX, **wrong})


def test_a_file_replaced_under_the_agent_is_seen_by_the_release_too(database: Sqlite, tmp_path: Path) -> None:
    put(database, 1)
    with site_of(database, **OUTBOX) as site:
        site.poll()
        site.acknowledge()
        other = sqlite3.connect(tmp_path / "other.db")
        other.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT)")
        other.execute("INSERT INTO t VALUES (1, 'other')")
        other.commit()
        other.close()
        database.close()
        (tmp_path / "other.db").replace(tmp_path / "erp.db")
        for left in ("erp.db-wal", "erp.db-shm"):
            (tmp_path / left).unlink(missing_ok=True)
        assert site.poll() == [[1, "other"]]
        site.acknowledge()
        check = sqlite3.connect(tmp_path / "erp.db")
        assert check.execute("SELECT COUNT(*) FROM t").fetchone() == (0,)
        check.close()


def test_in_a_running_agent_rows_leave_the_table_once_they_were_acknowledged_and_not_before(
    database: Sqlite, tmp_path: Path
) -> None:
    put(database, *range(1, 8_001))
    table = {"connection": database.connection, **OUTBOX, "poll_seconds": 0.05}
    config = SourceConfig(name="erp", kind="sql_table", settings=table)

    def pump() -> Pump:
        made = Pump(config, 1, outbox, str, lambda c, context: build(c.kind, c.settings, context), random.Random(1))
        made.start()
        return made

    def records() -> int:
        at = outbox.positions().get("erp")
        return at.records if at is not None else 0

    with Outbox(tmp_path / "outbox.db", OutboxConfig(min_free_disk_bytes=0)) as outbox:
        first = pump()
        eventually(lambda: records() == 8_000, "all rows are in the outbox")
        assert len(ids(database)) == 8_000
        outbox.acknowledge("erp", outbox.epoch, 1)
        eventually(lambda: 0 < len(ids(database)) < 8_000, "the rows of the first batch have left")
        assert first.stop()
        before = records()
        put(database, 3, text="new ")  # an id that has left
        second = pump()
        eventually(lambda: records() == before + 1, "the new row is in the outbox, and it alone")
        outbox.acknowledge("erp", outbox.epoch, 10**6)
        eventually(lambda: not ids(database), "the table is empty")
        eventually(lambda: not outbox.unreleased("erp"), "that is recorded")
        eventually(lambda: second.counters.snapshot()["rows_in_flight"] == 0, "nothing is in flight")
        assert second.stop()


def test_rows_of_a_table_that_a_source_read_before_are_not_released_in_another(database: Sqlite) -> None:
    put(database, 1)
    database.execute("CREATE TABLE u (id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT)")
    database.execute("INSERT INTO u VALUES (1, 'x1')")
    with site_of(database, **OUTBOX) as site:
        site.poll()
        site.settings = {**site.settings, "table": "u"}
        site.restart()
        with pytest.raises(ConfigError, match="has read from outbox t") as caught:
            site.acknowledge()
        assert "new name" in caught.value.hint
        assert database.scalar("SELECT COUNT(*) FROM u") == 1


def test_check_says_when_each_poll_would_read_past_all_rows_ever_marked(database: Sqlite) -> None:
    outbox = {"after": "mark", "mark": {"column": "x"}}
    with site_of(database, **OUTBOX, outbox=outbox) as site:
        (before,) = [finding for finding in site.source.check() if finding.name == "mark index"]
        assert "(x, id)" in before.hint
        database.execute("CREATE INDEX unread ON t (x, id)")
        (after,) = [finding for finding in site.source.check() if finding.name == "mark index"]
        assert not after.hint


def test_ids_that_differ_in_capitals_only_are_not_deleted_for_one_another(database: Sqlite) -> None:
    database.execute("CREATE TABLE k (id TEXT COLLATE NOCASE, x INTEGER)")
    database.executemany("INSERT INTO k VALUES (?, ?)", [("a", 1), ("b", 2)])
    with site_of(database, table="k", mode="outbox", column="id") as site:
        site.poll()
        database.executemany("INSERT INTO k VALUES (?, ?)", [("A", 3)])
        site.acknowledge()
        assert database.scalar("SELECT group_concat(x) FROM k") == "3"
