"""A server that freezes, or a network that forgets a connection: the driver waits for ever, the source does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from crossdock.errors import CrossdockError, SourceUnavailable
from crossdock_agent.sql import connections, patience
from crossdock_agent.sql.connections import OdbcDatabase
from crossdock_agent.sql.dialects import DIALECTS
from crossdock_agent.sql.patience import PatientThread
from crossdock_agent.sql.writing import WritableOdbc
from support.freezing import Relay, relayed
from support.mariadb import Mariadb
from support.postgres import Postgres
from support.table_site import Server, TableSite
from support.waiting import until

BY_ID = {"table": "t", "mode": "incrementing", "column": "id"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(connections, "LOGIN_SECONDS", 1)


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Postgres | Mariadb:
    found: Postgres | Mariadb = request.getfixturevalue("postgres" if request.param == "postgresql" else "mariadb")
    return found


@pytest.fixture
def relay(server: Postgres | Mariadb) -> Iterator[Relay]:
    with relayed(server.port) as made:
        yield made


@pytest.fixture
def site(server: Postgres | Mariadb, relay: Relay) -> Iterator[TableSite]:
    database = Server(server)
    database.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    database.close()
    odbc = server.odbc().replace(f"PORT={server.port}", f"PORT={relay.port}")
    made = TableSite(connection={"odbc": odbc, "dialect": server.dialect}, statement_timeout_seconds=0.5, **BY_ID)
    yield made
    made.source.close()


def test_a_statement_that_is_never_answered_is_given_up_and_the_source_goes_on_later(
    server: Postgres | Mariadb, relay: Relay, site: TableSite
) -> None:
    assert site.poll() == [[1]]
    server.execute("INSERT INTO t VALUES (2)")
    relay.freeze()
    with pytest.raises(SourceUnavailable, match=r"table t: the database has not answered for 0\.8 s") as caught:
        site.poll(advance=5)
    assert "firewall" in caught.value.hint
    relay.thaw()
    assert site.poll(advance=5) == [[2]]


def test_a_login_that_is_never_answered_is_given_up_too(relay: Relay, site: TableSite) -> None:
    relay.freeze()
    with pytest.raises(SourceUnavailable):
        site.poll()
    relay.thaw()
    assert site.poll() == [[1]]


def test_a_stop_is_not_held_up_by_a_server_that_does_not_answer(relay: Relay, site: TableSite) -> None:
    assert site.poll() == [[1]]
    relay.freeze()
    reader = threading.Thread(target=lambda: site.drafts(advance=5))
    reader.start()
    until(lambda: site.source._reading is None or site.source._reading.database._running is not None)  # type: ignore[attr-defined]
    site.stop.set()
    reader.join(10)
    assert not reader.is_alive()


def test_a_release_that_is_never_answered_is_given_up_and_done_later(
    server: Postgres | Mariadb, relay: Relay, site: TableSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of its transaction, where undoing it would wait for the same server."""
    settings = {**site.settings, "mode": "outbox"}
    outbox = TableSite(**settings)
    assert outbox.poll() == [[1]]
    execute = WritableOdbc.execute

    def frozen(database: WritableOdbc, sql: str, values: Sequence[object] = ()) -> None:
        if sql.startswith("DELETE"):
            relay.freeze()
        execute(database, sql, values)

    monkeypatch.setattr(WritableOdbc, "execute", frozen)
    with pytest.raises(SourceUnavailable, match="has not answered"):
        in_time(outbox.acknowledge)
    monkeypatch.setattr(WritableOdbc, "execute", execute)
    relay.thaw()
    until(lambda: released(outbox))
    assert outbox.poll(advance=5) == []
    database = Server(server)
    assert database.scalar("SELECT COUNT(*) FROM t") == 0
    database.close()
    outbox.source.close()


def test_one_state_for_several_statements_is_asked_for_with_patience_too(
    server: Postgres | Mariadb, relay: Relay, site: TableSite
) -> None:
    database = OdbcDatabase(DIALECTS[server.dialect], site.settings["connection"]["odbc"], "table t", 0.5)

    def look() -> None:
        with database.snapshot():
            database.rows("SELECT id FROM t")

    look()
    relay.freeze()
    with pytest.raises(SourceUnavailable, match="has not answered"):
        in_time(look)
    database.close()


def in_time(work: Callable[[], object]) -> None:
    """What *work* raises; it fails the test by not coming back."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except CrossdockError as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    for error in raised:
        raise error


def released(site: TableSite) -> bool:
    """The lock of a transaction that was left behind may still be held."""
    try:
        site.acknowledge()
    except SourceUnavailable:
        return False
    return True


def test_no_more_than_a_few_threads_are_left_behind_and_those_that_came_back_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "_left_behind", set())
    gate = threading.Event()
    for _ in range(patience.MOST_LEFT_BEHIND):
        with pytest.raises(SourceUnavailable):
            PatientThread("table t").call(gate.wait, 0.01)
    with pytest.raises(CrossdockError, match="never came back") as caught:
        PatientThread("table t")
    assert "restart the agent" in caught.value.hint
    gate.set()
    until(lambda: not any(thread.is_alive() for thread in patience._left_behind))
    thread = PatientThread("table t")
    assert thread.call(lambda: 7, 1.0) == 7
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 // 0, 1.0)
    thread.stop()
