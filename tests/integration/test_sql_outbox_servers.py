"""Mode outbox against a real PostgreSQL and a real MariaDB: writers that commit in any order, locks, rights."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crossdock.errors import SourceUnavailable
from crossdock_agent.sql.writing import WritableOdbc
from support.table_site import TableSite

OUTBOX = {"table": "t", "mode": "outbox", "column": "id"}
WRITERS, ROUNDS = 4, 40


class Machine:
    """A database of either server: connections of its own, and how a source reaches it."""

    def __init__(self, server: Any, dialect: str) -> None:
        self.server, self.dialect = server, dialect
        self.connection = {"odbc": server.odbc(), "dialect": dialect}
        self._open: list[Any] = []
        self.own = self.connect()

    def connect(self, *, autocommit: bool = True) -> Any:
        made = self.server.connect()
        made.autocommit = autocommit
        self._open.append(made)
        return made

    def execute(self, sql: str, *values: object) -> None:
        self.own.execute(sql, *values)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.own.execute(sql).fetchall()]

    def close(self) -> None:
        for connection in self._open:
            connection.close()

    @contextlib.contextmanager
    def site(self, **settings: Any) -> Iterator[TableSite]:
        site = TableSite(connection=self.connection, **settings)
        try:
            yield site
        finally:
            site.source.close()


@pytest.fixture(params=["postgresql", "mariadb"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    fixture = {"postgresql": "postgres", "mariadb": "mariadb"}[request.param]
    made = Machine(request.getfixturevalue(fixture), request.param)
    made.execute("CREATE TABLE t (id bigint PRIMARY KEY, x varchar(40), n numeric(12, 3), at timestamp)")
    yield made
    made.close()


def written(work: Callable[[int], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    return threads


def test_every_row_of_writers_committing_in_any_order_arrives_once_while_the_agent_is_killed_at_random(
    machine: Machine,
) -> None:
    numbers = iter(range(1, 10**6))
    lock = threading.Lock()
    committed: set[int] = set()
    rolled_back: set[int] = set()

    def write(writer: int) -> None:
        rng = random.Random(writer)
        connection = machine.connect(autocommit=False)
        for _ in range(ROUNDS):
            with lock:
                mine = [next(numbers) for _ in range(rng.randint(1, 6))]
            rng.shuffle(mine)
            for number in mine:
                connection.execute("INSERT INTO t VALUES (?, ?, 1.5, '2024-01-31 12:00:00')", number, f"row {number}")
                if rng.random() < 0.3:
                    threading.Event().wait(rng.random() * 0.01)
            if rng.random() < 0.1:
                connection.rollback()
                rolled_back.update(mine)
            else:
                connection.commit()
                committed.update(mine)

    rng = random.Random(7)
    sent: Counter[int] = Counter()
    with machine.site(**OUTBOX, page_rows=7) as site:
        threads = written(write)
        while any(thread.is_alive() for thread in threads):
            what = rng.randrange(4)
            if what == 0:
                sent.update(row[0] for row in site.poll(crash_after=rng.randrange(3)))
            elif what == 1 and site.tokens:
                site.source.release(site.tokens[0])  # and killed before that was recorded, half of the time
                if rng.random() < 0.5:
                    site.tokens.pop(0)
                else:
                    site.restart()
            else:
                sent.update(row[0] for row in site.poll(advance=1))
        for _ in range(3):
            sent.update(row[0] for row in site.poll(advance=1))
            site.acknowledge()
    assert set(sent) == committed
    assert max(sent.values()) == 1
    assert not rolled_back & set(sent)
    assert machine.rows("SELECT COUNT(*) FROM t") == [(0,)]


def test_a_row_of_a_transaction_still_open_is_found_when_it_commits_and_not_deleted_before(machine: Machine) -> None:
    slow = machine.connect(autocommit=False)
    slow.execute("INSERT INTO t (id) VALUES (5)")
    machine.execute("INSERT INTO t (id) VALUES (4), (6)")
    with machine.site(**OUTBOX) as site:
        assert [row[0] for row in site.poll()] == [4, 6]
        site.acknowledge()
        slow.commit()
        assert machine.rows("SELECT id FROM t") == [(5,)]
        assert [row[0] for row in site.poll(advance=90_000)] == [5]


def test_a_row_locked_by_the_application_puts_the_release_off_and_is_then_judged_by_its_content(
    machine: Machine,
) -> None:
    machine.execute("INSERT INTO t (id, x) VALUES (1, 'a'), (2, 'b')")
    other = machine.connect(autocommit=False)
    with machine.site(**OUTBOX) as site:
        site.poll()
        other.execute("UPDATE t SET x = 'changed' WHERE id = 2")
        with pytest.raises(SourceUnavailable, match="arrived, but are not yet deleted"):
            site.acknowledge()
        other.commit()
        site.acknowledge()
        assert machine.rows("SELECT id FROM t") == [(2,)]
        assert [row[:2] for row in site.poll()] == [[2, "changed"]]


def test_a_writer_never_waits_for_rows_that_are_read_or_in_flight(machine: Machine) -> None:
    machine.execute("INSERT INTO t (id) VALUES (1), (2), (3)")
    with machine.site(**OUTBOX, page_rows=2) as site:
        reading = site.reading()
        next(reading)
        impatient = machine.connect()
        impatient.execute(
            "SET lock_timeout = 1" if machine.dialect == "postgresql" else "SET SESSION innodb_lock_wait_timeout = 1"
        )
        impatient.execute("UPDATE t SET x = 'x'")
        impatient.execute("DELETE FROM t WHERE id = 3")
        impatient.execute("INSERT INTO t (id) VALUES (4)")
        reading.close()  # type: ignore[attr-defined]


def test_rows_are_marked_with_the_server_s_time_in_utc(machine: Machine) -> None:
    machine.execute(
        f"ALTER TABLE t ADD COLUMN done_at {'timestamp' if machine.dialect == 'postgresql' else 'datetime'}"
    )
    if machine.dialect == "postgresql":
        machine.execute(f"ALTER DATABASE \"{machine.server.database}\" SET TimeZone = 'America/New_York'")
    machine.execute("INSERT INTO t (id, n) VALUES (1, 1.5)")
    with machine.site(**OUTBOX, outbox={"after": "mark", "mark": {"column": "done_at"}}) as site:
        assert [row[0] for row in site.poll()] == [1]
        machine.execute("INSERT INTO t (id) VALUES (2)")
        site.acknowledge()
        ((done_at,),) = machine.rows("SELECT done_at FROM t WHERE id = 1")
        assert abs(done_at - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=30)
        assert machine.rows("SELECT id FROM t WHERE done_at IS NULL") == [(2,)]
        (row,) = site.poll()
        assert row[0] == 2


def test_without_the_right_to_delete_check_says_so_and_a_release_names_the_grant(machine: Machine) -> None:
    machine.execute("INSERT INTO t (id) VALUES (1)")
    if machine.dialect == "postgresql":
        machine.execute("CREATE ROLE reader LOGIN")
        machine.execute("GRANT SELECT ON t TO reader")
        odbc = machine.server.odbc().replace("UID=crossdock", "UID=reader")
    else:
        machine.execute("CREATE USER reader@'127.0.0.1'")
        machine.execute("GRANT SELECT ON t TO reader@'127.0.0.1'")
        odbc = machine.server.odbc().replace("UID=crossdock", "UID=reader")
    site = TableSite(connection={"odbc": odbc, "dialect": machine.dialect}, **OUTBOX)
    try:
        assert [(f.name, "DELETE" in f.hint) for f in site.source.check() if not f.ok] == [("right to release", True)]
        site.poll()
        with pytest.raises(SourceUnavailable, match="not yet deleted") as caught:
            site.acknowledge()
        assert "grant DELETE" in caught.value.hint
        grantee = "reader" if machine.dialect == "postgresql" else "reader@'127.0.0.1'"
        machine.execute(f"GRANT DELETE ON t TO {grantee}")
        assert all(finding.ok for finding in site.source.check())
        site.acknowledge()
        assert machine.rows("SELECT id FROM t") == []
    finally:
        site.source.close()
        if machine.dialect == "postgresql":
            machine.execute("DROP OWNED BY reader")
            machine.execute("DROP ROLE reader")
        else:
            machine.execute("DROP USER reader@'127.0.0.1'")


def test_a_writer_never_waits_for_rows_that_are_being_deleted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.execute("INSERT INTO t (id) VALUES (1), (2), (3), (5)")
    impatient = machine.connect()
    impatient.execute(
        "SET lock_timeout = 100" if machine.dialect == "postgresql" else "SET SESSION innodb_lock_wait_timeout = 1"
    )
    execute, written = WritableOdbc.execute, []

    def held(self: WritableOdbc, sql: str, values: Sequence[object] = ()) -> None:
        execute(self, sql, values)
        if sql.startswith("DELETE"):  # and not yet committed
            impatient.execute("INSERT INTO t (id) VALUES (4), (6)")
            impatient.execute("UPDATE t SET x = 'x' WHERE id = 5")
            written.append(sql)

    monkeypatch.setattr(WritableOdbc, "execute", held)
    with machine.site(**OUTBOX, where="id <> 5") as site:
        site.poll()
        site.acknowledge()
    assert len(written) == 1
    assert machine.rows("SELECT id FROM t ORDER BY id") == [(4,), (5,), (6,)]


@pytest.mark.parametrize(
    ("dialect", "kind", "new"),
    [
        ("postgresql", "uuid", "gen_random_uuid()"),
        ("postgresql", "numeric(30)", "floor(random() * 1e20)"),
        ("mariadb", "char(36)", "UUID()"),
        ("mariadb", "decimal(20)", "FLOOR(RAND() * 1e15)"),
        ("mariadb", "datetime(6)", "NOW(6)"),
        ("mariadb", "binary(16)", "UNHEX(REPLACE(UUID(), '-', ''))"),
        ("mariadb", "bigint unsigned", "18446744073709551615 - FLOOR(RAND() * 1000000000)"),
    ],
)
def test_ids_of_any_kind_are_taken_once_and_released(
    request: pytest.FixtureRequest, dialect: str, kind: str, new: str
) -> None:
    fixture = {"postgresql": "postgres", "mariadb": "mariadb"}[dialect]
    machine = Machine(request.getfixturevalue(fixture), dialect)
    machine.execute(f"CREATE TABLE t (id {kind} PRIMARY KEY, x integer)")
    with machine.site(**OUTBOX, page_rows=20) as site:
        sent: list[Any] = []
        for turn in range(60):
            machine.execute(f"INSERT INTO t VALUES ({new}, {turn})")
            if turn % 20 == 10:
                sent += site.poll(advance=1)
            if turn == 40:
                site.acknowledge()
        site.restart()
        sent += site.poll()
        assert sorted(row[1] for row in sent) == list(range(60))
        assert site.poll(advance=60) == []
        site.acknowledge()
        assert machine.rows("SELECT COUNT(*) FROM t") == [(0,)]
    machine.close()


@pytest.mark.parametrize("charset", ["latin1 COLLATE latin1_swedish_ci", "utf8mb4 COLLATE utf8mb4_unicode_ci"])
def test_ids_that_mariadb_takes_for_equal_are_not_deleted_for_one_another(
    request: pytest.FixtureRequest, charset: str
) -> None:
    machine = Machine(request.getfixturevalue("mariadb"), "mariadb")
    machine.execute(f"CREATE TABLE t (id varchar(20) CHARACTER SET {charset}, x integer, KEY (id))")
    machine.execute("INSERT INTO t VALUES ('Größe', 1), ('b', 2)")
    with machine.site(**OUTBOX) as site:
        assert sorted(row[1] for row in site.poll()) == [1, 2]
        machine.execute("INSERT INTO t VALUES ('größe', 3), ('B', 4), ('b ', 5)")
        site.acknowledge()
        assert sorted(machine.rows("SELECT x FROM t")) == [(3,), (4,), (5,)]
        for _ in range(4):
            site.poll(advance=60)
            site.acknowledge()
        assert machine.rows("SELECT x FROM t") == []
    machine.close()
