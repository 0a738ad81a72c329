"""Mode change_log on SQLite, PostgreSQL and MariaDB: what triggers log arrives, version by version, deletes too."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import SourceUnavailable
from crossdock_agent.sql import installing, taking
from crossdock_agent.sql import rows as rows_module
from support.agents import eventually
from support.changelog_machine import Machine, machine_of, short
from support.memory import allocated_at_most
from support.table_site import rows_of


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with machine_of(request.param, request, tmp_path) as made:
        yield made


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with machine_of(request.param, request, tmp_path) as made:
        yield made


def test_every_version_arrives_in_order_and_a_delete_with_its_last_image(machine: Machine) -> None:
    machine.install()
    with machine.site() as site:
        site.poll()
        machine.execute("INSERT INTO t VALUES (1, 'a', 1.5), (2, 'b', NULL)")
        machine.execute("UPDATE t SET x = 'c' WHERE id = 1")
        machine.execute("UPDATE t SET x = 'a' WHERE id = 1")
        machine.execute("DELETE FROM t WHERE id = 2")
        rows = site.poll(advance=1)
        assert short(rows) == [
            (1, "a", "upsert"), (2, "b", "upsert"), (1, "c", "upsert"), (1, "a", "upsert"), (2, "b", "delete"),
        ]  # fmt: skip
        versions = [row[-1] for row in rows]
        assert versions == sorted(set(versions))
        header = site.committed[-1].header
        assert [c.name for c in header.columns] == ["id", "x", "n", "$op", "$version"]
        assert [c.type for c in header.columns][-2:] == ["text", "integer"]
        assert list(header.key_columns) == ["id"]
        assert header.origin.name == "t"
        assert machine.log_rows() == 5
        site.acknowledge()
        assert machine.log_rows() == 0
        assert site.poll(advance=1) == []


def test_listed_columns_keep_the_spelling_of_the_settings_as_with_every_mode(machine: Machine) -> None:
    """A mapping is written, and checked by plan, with the names of the settings."""
    machine.execute("INSERT INTO t VALUES (1, 'a', 1.5)")
    machine.install(columns=["X"], key=["ID"])
    with machine.site(columns=["X"], key=["ID"]) as site:
        assert short(site.poll()) == [(1, "a", "upsert")]
        machine.execute("UPDATE t SET x = 'b'")
        assert short(site.poll(advance=1)) == [(1, "b", "upsert")]
        for draft in site.committed:
            assert [c.name for c in draft.header.columns] == ["ID", "X", "$op", "$version"]
            assert list(draft.header.key_columns) == ["ID"]
        site.acknowledge()
        assert machine.log_rows() == 0


def test_what_changed_while_triggers_were_missing_is_read_once_they_are_there_again(machine: Machine) -> None:
    """As after a table was rebuilt by a tool that copies it."""
    machine.execute("INSERT INTO t VALUES (1, 'a', 1.5), (2, 'b', NULL)")
    machine.install()
    with machine.site() as site:
        assert short(site.poll()) == [(1, "a", "upsert"), (2, "b", "upsert")]
        machine.execute("INSERT INTO t VALUES (3, 'c', NULL)")
        machine.remove(discard=False)  # the log stays: it has a row
        machine.execute("UPDATE t SET x = 'unseen' WHERE id = 1")
        with pytest.raises(SourceUnavailable, match="changes are not logged"):
            site.poll(advance=70)
        machine.install()
        found = [row for _ in range(3) for row in site.poll(advance=70)]
        assert {row[0]: row[1] for row in found} == {1: "unseen", 2: "b", 3: "c"}
        site.acknowledge()
        assert machine.log_rows() == 0
        assert site.poll(advance=70) == []


def test_large_values_are_read_few_at_a_time_from_table_and_log(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with machine_of("sqlite", request, tmp_path) as machine:
        machine.execute("ALTER TABLE t ADD COLUMN image BLOB")
        insert = "INSERT INTO t (id, image) VALUES (?, zeroblob(1000000))"
        for number in range(45):
            machine.execute(insert, number)
        machine.install()
        with machine.site() as site:
            for first in (0, 45):
                with allocated_at_most(60_000_000):
                    assert sum(draft.header.records for draft in site.reading()) == 45
                for number in range(first + 45, first + 90):
                    machine.execute(insert, number)


def test_the_table_is_read_first_and_a_row_changed_meanwhile_ends_in_its_last_version(machine: Machine) -> None:
    for number in range(1, 301):
        machine.execute("INSERT INTO t VALUES (?, 'old', 1)", number)
    machine.install()
    with machine.site(page_rows=20) as site:
        reading = site.reading()
        found: list[list[Any]] = []
        changed = iter([5, 290, 150, 291])
        expected = dict.fromkeys(range(1, 301), "old")
        for draft in reading:
            found += rows_of(draft)
            number = next(changed, None)
            if number is not None:
                machine.execute("UPDATE t SET x = 'new' WHERE id = ?", number)
                machine.execute("DELETE FROM t WHERE id = ?", number + 3)
                expected[number] = "new"
                expected.pop(number + 3)
        found += site.poll(advance=1)
        last = {row[0]: (row[1], row[-2]) for row in found}
        assert {number: x for number, (x, op) in last.items() if op == "upsert"} == expected
        assert {row[-1] for row in found if row[1] == "old" and row[-2] == "upsert"} == {0}


def test_a_restart_in_the_middle_of_the_first_reading_goes_on_where_it_was(machine: Machine) -> None:
    for number in range(1, 201):
        machine.execute("INSERT INTO t VALUES (?, 'old', 1)", number)
    machine.install()
    with machine.site(page_rows=20) as site:
        sent: Counter[int] = Counter()
        for _ in range(8):
            sent.update(row[0] for row in site.poll(crash_after=2))
        sent.update(row[0] for row in site.poll())
        assert sent == Counter(dict.fromkeys(range(1, 201), 1))
        machine.execute("DELETE FROM t WHERE id = 1")
        assert short(site.poll(advance=1)) == [(1, "old", "delete")]


def test_start_now_reads_what_changes_from_then_on(machine: Machine) -> None:
    machine.execute("INSERT INTO t VALUES (1, 'old', 1)")
    machine.install()
    with machine.site(start="now") as site:
        assert site.poll() == []
        machine.execute("UPDATE t SET x = 'new'")
        site.restart()
        assert short(site.poll()) == [(1, "new", "upsert")]


def test_without_its_triggers_nothing_is_read_as_if_nothing_had_changed(machine: Machine) -> None:
    with machine.site() as site:
        with pytest.raises(SourceUnavailable, match="no change log") as caught:
            site.poll()
        assert "--install" in caught.value.hint
        assert any(not finding.ok and "--install" in finding.hint for finding in site.source.check())
        machine.install()
        assert all(finding.ok for finding in site.source.check())
        site.poll()
        machine.execute("INSERT INTO t VALUES (1, 'a', 1)")
        assert machine.remove() == 1  # the row is not yet delivered, so the log stays
        with pytest.raises(SourceUnavailable, match="triggers"):
            site.poll(advance=61)
        assert len(site.tokens) == 1  # what was logged before was read nevertheless
        site.acknowledge()
        assert machine.remove() == 0
        assert not installing.look(*machine.typed()).exists


def test_a_log_that_grew_while_the_agent_was_away_is_an_alarm_and_nothing_of_it_is_dropped(machine: Machine) -> None:
    machine.install()
    for number in range(50):
        machine.execute("INSERT INTO t VALUES (?, 'a', 1)", number)
        machine.execute("UPDATE t SET x = 'b' WHERE id = ?", number)
    with machine.site(start="now", change_log={"alarm_rows": 60, "max_in_flight": 40}, page_rows=10) as site:
        sent: Counter[tuple[Any, ...]] = Counter()
        sent.update(short(site.poll()))
        assert site.counters.snapshot()["log_rows"] == 100
        assert site.counters.snapshot()["log_rows_alarm"] == 1
        for _ in range(6):
            site.acknowledge()
            sent.update(short(site.poll(advance=61)))
        assert len(sent) == 100
        assert set(sent.values()) == {1}
        site.acknowledge()
        site.poll(advance=61)
        assert site.counters.snapshot()["log_rows"] == 0
        assert site.counters.snapshot()["log_rows_alarm"] == 0


def test_an_agent_that_lost_its_disk_reads_what_is_in_the_log_again_with_the_same_content(machine: Machine) -> None:
    machine.install()
    with machine.site() as site:
        site.poll()
        machine.execute("INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 1)")
        machine.execute("DELETE FROM t WHERE id = 1")
        before = site.poll(advance=1)
        site.ledger.clear()
        site.tokens.clear()
        site.restart()
        assert site.poll() == before
        site.acknowledge()
        assert machine.log_rows() == 0


def test_every_committed_version_of_four_writers_arrives_once_and_in_order_while_the_agent_is_killed_at_random(
    server: Machine,
) -> None:
    for number in range(1, 21):
        server.execute("INSERT INTO t VALUES (?, 'v0', 0)", number)
    server.install()
    lock = threading.Lock()
    history: dict[int, list[str | None]] = {number: ["v0"] for number in range(1, 21)}  # None: deleted
    begin = threading.Event()

    def write(writer: int) -> None:
        rng = random.Random(writer)
        connection = server.connect()
        begin.wait()
        for turn in range(30):
            numbers = sorted(rng.sample(range(1, 21), rng.randint(1, 4)))  # sorted: no deadlocks among the writers
            mine: list[tuple[int, str | None]] = []
            for number in numbers:
                there = connection.execute(f"SELECT x FROM t WHERE id = {number} FOR UPDATE").fetchone()
                version = f"w{writer}.{turn}.{number}"
                if there is None:
                    continue
                if rng.random() < 0.2:
                    connection.execute("DELETE FROM t WHERE id = ?", number)
                    mine.append((number, None))
                    if rng.random() < 0.7:
                        connection.execute("INSERT INTO t VALUES (?, ?, 1)", number, version)
                        mine.append((number, version))
                else:
                    connection.execute("UPDATE t SET x = ? WHERE id = ?", version, number)
                    mine.append((number, version))
                if rng.random() < 0.3:
                    time.sleep(rng.random() * 0.005)
            if rng.random() < 0.15:
                connection.rollback()
                continue
            with lock:  # held over the commit, so that the history is in the order of commits
                connection.commit()
                for number, version in mine:
                    history[number].append(version)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    rng = random.Random(11)
    sent: list[list[Any]] = []
    with server.site(page_rows=5) as site:
        begin.set()
        while any(thread.is_alive() for thread in threads):
            what = rng.randrange(4)
            if what == 0:
                sent += site.poll(crash_after=rng.randrange(4))
            elif what == 1 and site.tokens:
                site.source.release(site.tokens[0])
                if rng.random() < 0.5:
                    site.tokens.pop(0)
                else:
                    site.restart()
            else:
                sent += site.poll(advance=1)
        for _ in range(4):
            sent += site.poll(advance=1)
            site.acknowledge()
    logged = [row for row in sent if row[-1] > 0]
    versions = Counter(row[-1] for row in logged)
    assert max(versions.values()) == 1
    for number, versions_of in history.items():
        seen = [row[1] if row[-2] == "upsert" else None for row in logged if row[0] == number]
        assert seen == versions_of[1:], f"row {number}"
        last = [row for row in sent if row[0] == number][-1]
        assert (last[1] if last[-2] == "upsert" else None) == versions_of[-1]
    assert server.log_rows() == 0


@pytest.mark.parametrize("scattered", [False, True])
def test_a_later_change_of_a_row_never_arrives_before_an_earlier_one_that_committed_late(
    server: Machine, monkeypatch: pytest.MonkeyPatch, scattered: bool
) -> None:
    """Its number may lie below one that was read already: reading on from there would turn the two round."""
    monkeypatch.setattr(rows_module, "TARGET_RECORDS", 1)  # so that a pass can be held in its middle
    if scattered:
        monkeypatch.setattr(taking, "SCATTERED_RUNS", 0)
    server.execute("INSERT INTO t VALUES (1, 'v0', 1), (2, 'v0', 1)")
    server.install()
    with server.site(start="now", page_rows=2) as site:
        site.poll()
        slow = server.connect()
        slow.execute("UPDATE t SET x = 'v1' WHERE id = 1")
        for turn in range(6):
            server.execute("UPDATE t SET x = ? WHERE id = 2", f"b{turn}")
        reading = site.reading()
        rows = rows_of(next(reading))
        if scattered:
            rows += [row for draft in reading for row in rows_of(draft)]
        slow.commit()
        server.execute("UPDATE t SET x = 'v2' WHERE id = 1")
        rows += [row for draft in reading for row in rows_of(draft)]
        for advance in (1, 1, 31):
            rows += site.poll(advance=advance)
        assert [row[1] for row in rows if row[0] == 1] == ["v1", "v2"]
        assert [row[1] for row in rows if row[0] == 2] == [f"b{turn}" for turn in range(6)]


def test_two_changes_of_one_transaction_that_commits_between_two_pages_arrive_in_order(
    server: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first lies in a page that was read before the commit, the second in one that is read after it."""
    monkeypatch.setattr(rows_module, "TARGET_RECORDS", 1)  # so that a pass can be held in its middle
    server.execute("INSERT INTO t VALUES (1, 'v0', 1), (2, 'v0', 1)")
    server.install()
    with server.site(start="now", page_rows=2) as site:
        site.poll()
        slow = server.connect()
        slow.execute("DELETE FROM t WHERE id = 1")
        for turn in range(6):
            server.execute("UPDATE t SET x = ? WHERE id = 2", f"b{turn}")
        slow.execute("INSERT INTO t VALUES (1, 'v1', 1)")
        server.execute("UPDATE t SET x = 'last' WHERE id = 2")
        reading = site.reading()
        rows = rows_of(next(reading))
        slow.commit()
        rows += [row for draft in reading for row in rows_of(draft)]
        for advance in (1, 1, 31):
            rows += site.poll(advance=advance)
        assert [(row[1], row[-2]) for row in rows if row[0] == 1] == [("v0", "delete"), ("v1", "upsert")]
        assert [row[1] for row in rows if row[0] == 2] == [*(f"b{turn}" for turn in range(6)), "last"]


def test_a_state_of_the_log_is_one_state_however_many_statements_look_at_it(
    server: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in flight is jumped over: a later statement may follow a commit that an earlier one did not see."""
    server.execute("INSERT INTO t VALUES (1, 'v0', 1), (2, 'v0', 1)")
    server.install()
    with server.site(start="now", page_rows=2) as site:
        site.poll()
        for text in ("b0", "b1"):
            server.execute("UPDATE t SET x = ? WHERE id = 2", text)
        rows = site.poll(advance=1)
        slow = server.connect()
        slow.execute("DELETE FROM t WHERE id = 1")
        server.execute("UPDATE t SET x = 'b2' WHERE id = 2")
        rows += site.poll(advance=1)
        beyond = rows[-1][-1]  # the number of b2: the statement behind it comes after one that passed the delete
        slow.execute("INSERT INTO t VALUES (1, 'v1', 1)")
        server.execute("UPDATE t SET x = 'last' WHERE id = 2")
        database: Any = site.source._taker._taking.reading.database  # type: ignore[attr-defined]
        ask, committed = database.rows, threading.Event()

        def asking(sql: str, values: Any = ()) -> Any:
            if [int(value) for value in values if isinstance(value, int)] == [beyond] and not committed.is_set():
                slow.commit()
                committed.set()
            return ask(sql, values)

        monkeypatch.setattr(database, "rows", asking)
        for advance in (1, 1, 31):
            rows += site.poll(advance=advance)
        assert committed.is_set()
        assert [(row[1], row[-2]) for row in rows if row[0] == 1] == [("v0", "delete"), ("v1", "upsert")]


def test_numbers_that_a_restored_database_gives_again_are_not_deleted_with_the_rows_that_had_them(
    machine: Machine,
) -> None:
    machine.install()
    with machine.site() as site:
        site.poll()
        machine.execute("INSERT INTO t VALUES (1, 'a', 1)")
        site.poll(advance=1)
        log = "crossdock_log_t"
        again = "OVERRIDING SYSTEM VALUE " if machine.dialect == "postgresql" else ""
        (number,) = machine.rows(f"SELECT crossdock_seq FROM {log}")[0]
        machine.execute(f"DELETE FROM {log}")
        machine.execute(
            f"INSERT INTO {log} (crossdock_seq, crossdock_op, id, x, n) {again}VALUES ({number}, 'U', 1, 'other', 1)"
        )
        site.acknowledge()
        assert short(site.poll(advance=1)) == [(1, "other", "upsert")]
        site.acknowledge()
        assert machine.log_rows() == 0


def test_numbers_of_a_long_statement_in_mariadb_are_given_one_by_one(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Numbers reserved ahead would make a later change of the long statement look earlier than another's before it."""
    with machine_of("mariadb", request, tmp_path) as machine:
        machine.install()
        machine.rows("SELECT GET_LOCK('gate', 10)")
        slow = machine.connect()
        slow.autocommit = True
        rows = "SELECT seq, IF(seq = 20, GET_LOCK('gate', 60), 'x'), 1 FROM seq_1_to_40"
        thread = threading.Thread(target=slow.execute, args=(f"INSERT INTO t {rows}",))
        thread.start()
        waits = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'User lock'"
        eventually(lambda: machine.rows(waits) == [(1,)], "the long statement is in its middle")
        machine.execute("INSERT INTO t VALUES (1000, 'x', 1)")
        machine.rows("SELECT RELEASE_LOCK('gate')")
        thread.join(60)
        order = [number for (number,) in machine.rows("SELECT id FROM crossdock_log_t ORDER BY crossdock_seq")]
        assert order == [*range(1, 20), 1000, *range(20, 41)]
