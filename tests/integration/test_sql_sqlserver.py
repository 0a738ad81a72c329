"""SQL Server's own driver against a server of its protocol: login, TLS, catalog, paging by bound values, errors.

What only a real SQL Server can show (types, locks, isolation, rowversion) is not here: see tests/golden/sql.
"""

from __future__ import annotations

import pytest

from crossdock.errors import ConfigError, CrossdockError, SourceUnavailable
from crossdock_agent.sql import connections
from support.table_site import TableSite
from support.tds_server import TdsServer

BY_ID = {"table": "orders", "mode": "incrementing", "column": "ID"}


def site_of(server: TdsServer, odbc: str | None = None, **settings: object) -> TableSite:
    return TableSite(connection={"odbc": odbc or server.odbc(), "dialect": "sqlserver"}, **{**BY_ID, **settings})


def test_a_table_is_found_in_the_catalog_and_read_page_by_page(tds_server: TdsServer) -> None:
    site = site_of(tds_server, page_rows=70)
    rows = site.poll(crash_after=1) + site.poll()
    assert rows == [[n, f"order {n}", n + 0.5] for n in range(1, 301)]
    assert [(c.name, c.type) for c in site.committed[0].header.columns] == [
        ("ID", "integer"), ("TEXT", "text"), ("QTY", "float"),
    ]  # fmt: skip
    assert site.cycle(passes=3) == []
    site.source.close()


def test_the_session_is_set_up_before_anything_is_read(tds_server: TdsServer) -> None:
    site = site_of(tds_server, statement_timeout_seconds=1)
    site.poll()
    first, *rest = [sql for sql in tds_server.asked if sql.startswith(("SET", "IF", "SELECT"))]
    assert first == "SET LOCK_TIMEOUT 1000"
    assert [sql.split()[1] for sql in rest[:2]] == ["DEADLOCK_PRIORITY", "DATEFORMAT"]
    assert "ISOLATION LEVEL SNAPSHOT" in rest[2]
    assert not [sql for sql in tds_server.asked if "NOLOCK" in sql or "UNCOMMITTED" in sql]
    assert site.source._reading.database._connection.timeout == 1  # type: ignore[attr-defined]
    site.source.close()


def test_dirty_reads_happen_by_explicit_choice_only(tds_server: TdsServer) -> None:
    connection = {"odbc": tds_server.odbc(), "dialect": "sqlserver", "isolation": "read_uncommitted"}
    site = TableSite(connection=connection, **BY_ID)
    site.poll()
    assert "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED" in tds_server.asked
    site.source.close()


def test_a_refused_login_waits_long_so_that_no_account_is_locked(tds_server: TdsServer) -> None:
    site = site_of(tds_server, tds_server.odbc(password="wrong"))
    with pytest.raises(SourceUnavailable, match="refused the login: Login failed") as caught:
        site.poll()
    assert caught.value.after_seconds == 300


def test_a_certificate_nobody_vouches_for_is_refused_and_says_so(tds_server: TdsServer) -> None:
    site = site_of(tds_server, tds_server.odbc(tls="Encrypt=yes"))
    with pytest.raises(SourceUnavailable, match="certificate verify failed") as caught:
        site.poll()
    assert "TrustServerCertificate" in caught.value.hint


def test_check_says_what_the_server_is_and_names_a_missing_table(tds_server: TdsServer) -> None:
    site = site_of(tds_server, table="dbo.invoices")
    findings = list(site.source.check())
    assert (findings[0].name, findings[0].ok) == ("login", True)
    assert "SQL Server" in findings[0].detail
    assert not findings[-1].ok
    assert "dbo.invoices" in findings[-1].detail
    with pytest.raises(SourceUnavailable, match=r"table dbo\.invoices"):
        site.poll()


def test_a_missing_column_is_named_with_those_that_are_there(tds_server: TdsServer) -> None:
    with pytest.raises(ConfigError, match="no column price") as caught:
        site_of(tds_server, columns=["ID", "price"]).poll()
    assert "ID, TEXT, QTY" in caught.value.hint


def test_a_column_or_table_that_vanishes_while_it_is_read_is_told_by_the_server_s_error(tds_server: TdsServer) -> None:
    site = site_of(tds_server, where="s.nonsense = 1")
    with pytest.raises(ConfigError, match="nonsense"):
        site.poll()
    site = site_of(tds_server, where="EXISTS (SELECT 1 FROM gone)")
    with pytest.raises(SourceUnavailable, match="gone"):
        site.poll()


@pytest.mark.parametrize(
    ("number", "text", "says", "after"),
    [
        (1205, "Transaction (Process ID 52) was deadlocked on lock resources with another process", "gave way", 1.0),
        (1222, "Lock request time out period exceeded.", "gave way", 1.0),
        (3961, "Snapshot isolation transaction failed in database 'erp'", "gave way", 1.0),
        (229, "The SELECT permission was denied on the object 'orders'", "permission was denied", 30.0),
    ],
)
def test_an_error_of_the_server_gives_way_or_waits_and_the_same_page_is_read_again(
    tds_server: TdsServer, number: int, text: str, says: str, after: float
) -> None:
    site = site_of(tds_server, page_rows=50)
    tds_server.refuse["[ID] >"] = (number, text)
    with pytest.raises(SourceUnavailable, match=says) as caught:
        site.poll()
    assert caught.value.after_seconds == after
    tds_server.refuse.clear()
    assert len(site.poll()) == 300
    site.source.close()


def test_a_server_that_goes_away_is_unavailable(tds_server: TdsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOGIN_SECONDS", 1)
    site = site_of(tds_server)
    assert len(site.poll()) == 300
    tds_server.stopped()
    site.restart()
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        site.poll()


def test_a_query_s_columns_are_asked_of_the_server_and_an_old_one_says_it_cannot(tds_server: TdsServer) -> None:
    """The test server has no sys.dm_exec_describe_first_result_set: the statement is sent, and the error names the
    query."""
    settings = {"query": "SELECT ID FROM orders;", "mode": "incrementing", "column": "ID", "table": "open orders"}
    site = TableSite("sql_query", connection={"odbc": tds_server.odbc(), "dialect": "sqlserver"}, **settings)
    with pytest.raises(CrossdockError, match=r"query open orders: .*dm_exec_describe_first_result_set"):
        site.poll()
    assert any("dm_exec_describe_first_result_set(@P1, NULL, 0)" in sql for sql in tds_server.asked)


def test_a_query_that_begins_with_with_is_refused_with_a_way_out(tds_server: TdsServer) -> None:
    settings = {"query": "WITH o AS (SELECT ID FROM orders) SELECT * FROM o", "mode": "incrementing", "column": "ID"}
    site = TableSite("sql_query", connection={"odbc": tds_server.odbc(), "dialect": "sqlserver"}, **settings)
    with pytest.raises(ConfigError, match="sqlserver takes in no FROM") as caught:
        site.poll()
    assert "view" in caught.value.hint
