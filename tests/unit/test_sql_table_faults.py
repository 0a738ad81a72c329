"""What each error of a database means: soon again, much later, or a person's turn. And no secret in a message."""

from __future__ import annotations

import sqlite3
from pathlib import PurePath, PurePosixPath, PureWindowsPath

import pytest

from crossdock.errors import ConfigError, Corrupt, CrossdockError, SourceUnavailable
from crossdock_agent.sql.connections import sqlite_uri, with_secrets
from crossdock_agent.sql.faults import LOGIN_AFTER_SECONDS, odbc_fault, sqlite_fault
from crossdock_agent.sql.settings import Connection


@pytest.mark.parametrize(
    ("state", "text", "kind", "says"),
    [
        ("08001", "connection to server failed: Connection refused", SourceUnavailable, "cannot be reached"),
        ("08S01", "Communication link failure", SourceUnavailable, "cannot be reached"),
        ("57P01", "terminating connection due to administrator command", SourceUnavailable, "cannot be reached"),
        ("28000", "[ma-3.1][10.11]Access denied for user 'x'@'y'", SourceUnavailable, "refused the login"),
        ("08001", 'FATAL: password authentication failed for user "x"', SourceUnavailable, "refused the login"),
        ("08001", 'FATAL:  role "x" does not exist', SourceUnavailable, "refused the login"),
        ("57014", "canceling statement due to statement timeout", SourceUnavailable, "took longer than 30 s"),
        ("70100", "Query execution was interrupted (max_statement_time exceeded)", SourceUnavailable, "took longer"),
        ("HYT00", "Timeout expired", SourceUnavailable, "took longer"),
        ("40P01", "deadlock detected", SourceUnavailable, "gave way"),
        ("55P03", "canceling statement due to lock timeout", SourceUnavailable, "gave way"),
        ("42P01", 'relation "t" does not exist', SourceUnavailable, "does not exist"),
        ("42S02", "Table 'erp.t' doesn't exist", SourceUnavailable, "doesn't exist"),
        ("42501", "permission denied for table t", SourceUnavailable, "permission denied"),
        ("42703", 'column "c" does not exist', ConfigError, 'column "c"'),
        ("42S22", "Unknown column 'c' in 'field list'", ConfigError, "Unknown column"),
        ("42601", "syntax error at or near", ConfigError, "does not understand"),
        ("IM002", "Data source name not found", ConfigError, "driver cannot be loaded"),
        ("HY000", "[ma-3.1.15]Access denied, this account is locked", SourceUnavailable, "refused the login"),
        ("HY000", "[ma-3.1.15]Can't connect to server on '10.0.0.1' (115)", SourceUnavailable, "cannot be reached"),
        ("HY000", "Lock wait timeout exceeded; try restarting transaction", SourceUnavailable, "gave way"),
        ("42000", "SELECT command denied to user 'x'@'y' for table `t`", SourceUnavailable, "command denied"),
        ("42000", "[SQL Server]Lock request time out period exceeded. (1222)", SourceUnavailable, "gave way"),
        ("40001", "[SQL Server]Transaction (Process ID 52) was deadlocked (1205)", SourceUnavailable, "gave way"),
        (
            "HY000",
            "[SQL Server]Snapshot isolation transaction failed in database 'x' (3961)",
            SourceUnavailable,
            "gave way",
        ),
        (
            "42000",
            "[SQL Server]The SELECT permission was denied on the object 't' (229)",
            SourceUnavailable,
            "permission",
        ),
        ("28000", "[SQL Server]Login failed for user 'x'. (18456)", SourceUnavailable, "refused the login"),
        ("HYT00", "[Microsoft]Query timeout expired (0)", SourceUnavailable, "took longer"),
        ("HYT00", "[Microsoft]Login timeout expired (0)", SourceUnavailable, "cannot be reached"),
        ("HY000", "[Oracle][ODBC][Ora]ORA-28000: the account is locked", SourceUnavailable, "refused the login"),
        ("HY000", "[Oracle][ODBC][Ora]ORA-28001: the password has expired", SourceUnavailable, "refused the login"),
        ("HY000", "[Oracle][ODBC][Ora]ORA-01555: snapshot too old", SourceUnavailable, "gave way"),
        ("HY000", "[Oracle][ODBC][Ora]ORA-12541: TNS:no listener", SourceUnavailable, "cannot be reached"),
        ("HY000", "[Oracle][ODBC][Ora]ORA-01031: insufficient privileges", SourceUnavailable, "privileges"),
        ("08001", "[IBM][CLI Driver] SQL30082N  Security processing failed", SourceUnavailable, "refused the login"),
        (
            "40001",
            "[IBM][CLI Driver] SQL0911N  rolled back because of a deadlock or timeout",
            SourceUnavailable,
            "gave way",
        ),
        ("42704", '[IBM][CLI Driver] SQL0204N  "T" is an undefined name.', SourceUnavailable, "undefined name"),
        ("HY000", "[ODBC Firebird Driver]lock conflict on no wait transaction", SourceUnavailable, "gave way"),
        ("HY000", "[ODBC Firebird Driver]Your user name and password are not defined.", SourceUnavailable, "login"),
        ("22012", "division by zero", SourceUnavailable, "division by zero"),
    ],
)
def test_an_odbc_error_is_told_by_its_sqlstate(state: str, text: str, kind: type[CrossdockError], says: str) -> None:
    fault = odbc_fault(
        Exception(state, f"[{state}] ERROR: {text};\nError while executing (1) (SQLExecDirectW)"), "t", 30
    )
    assert type(fault) is kind
    assert says in fault.message
    assert fault.hint
    assert "SQLExec" not in fault.message
    if "refused" in says or says == "login":
        assert isinstance(fault, SourceUnavailable)
        assert fault.after_seconds == LOGIN_AFTER_SECONDS


def _sqlite_error(text: str, code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("text", "code", "kind", "says"),
    [
        ("database is locked", sqlite3.SQLITE_BUSY, SourceUnavailable, "locked by a writer"),
        ("unable to open database file", sqlite3.SQLITE_CANTOPEN, SourceUnavailable, "cannot be opened"),
        ("interrupted", sqlite3.SQLITE_INTERRUPT, SourceUnavailable, "took longer than 30 s"),
        ("file is not a database", sqlite3.SQLITE_NOTADB, Corrupt, "damaged"),
        ("no such table: t", sqlite3.SQLITE_ERROR, SourceUnavailable, "no such table"),
        ("no such column: s.c", sqlite3.SQLITE_ERROR, ConfigError, "no such column"),
        ('near "=": syntax error', sqlite3.SQLITE_ERROR, ConfigError, "does not understand"),
        ("disk I/O error", sqlite3.SQLITE_IOERR, SourceUnavailable, "disk I/O error"),
    ],
)
def test_a_sqlite_error_is_told_by_its_code(text: str, code: int, kind: type[CrossdockError], says: str) -> None:
    fault = sqlite_fault(_sqlite_error(text, code), "erp.db", "table t", 30)
    assert type(fault) is kind
    assert says in fault.message
    assert fault.hint


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ("plain", "UID=crossdock;PWD=plain;X=1"),
        ("a;DATABASE=other", "UID=crossdock;PWD={a;DATABASE=other};X=1"),
        ("br}ace", "UID=crossdock;PWD={br}}ace};X=1"),
        ("back\\1slash", "UID=crossdock;PWD=back\\1slash;X=1"),
    ],
)
def test_a_secret_is_put_in_quoted_so_that_it_ends_nowhere_early(secret: str, expected: str) -> None:
    asked = []

    def resolve(reference: str) -> str:
        asked.append(reference)
        return secret

    assert with_secrets("UID=crossdock;PWD={secret:erp-db};X=1", resolve) == expected
    assert asked == ["secret:erp-db"]


@pytest.mark.parametrize("arguments", [{}, {"sqlite": "a", "odbc": "b", "dialect": "mariadb"}, {"odbc": "b"}])
def test_a_connection_is_either_a_file_or_a_server_with_its_dialect(arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"connection needs|needs a 'dialect'"):
        Connection(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (PurePosixPath("/data/erp 1?#%.db"), "file:///data/erp%201%3F%23%25.db"),
        (PureWindowsPath("C:\\ERP\\erp.db"), "file:///C:/ERP/erp.db"),
        (PureWindowsPath("\\\\server\\share\\erp.db"), "file:////server/share/erp.db"),
    ],
)
def test_a_path_becomes_a_uri_without_an_authority(path: PurePath, uri: str) -> None:
    assert sqlite_uri(path) == uri
