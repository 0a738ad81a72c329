"""What an error of a database means: come back later, come back much later, or a person must change something.

ODBC errors are told apart by SQLSTATE (ISO/IEC 9075, the drivers' own where they invent some), SQLite's by result code.
Whatever came, the connection is discarded: a driver may say it is open when the server has long gone.
"""

from __future__ import annotations

import re
import sqlite3

from crossdock.errors import ConfigError, Corrupt, CrossdockError, SourceUnavailable

LOGIN_AFTER_SECONDS = 300.0  # a wrong password tried every few seconds locks the account
CONTENTION_AFTER_SECONDS = 1.0
MISSING_AFTER_SECONDS = 30.0

# Where a driver's SQLSTATE says too little, the server's sentence tells. psqlodbc reports a refused login as 08001,
# like a server that is down; MariaDB's driver has HY000 for a locked account and for a server that is not there;
# SQL Server has 42000 for a lock timeout, a broken snapshot and a missing grant; Oracle HY000 for most things.
_LOGIN_TEXT = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|role \".*\" does not exist"
    r"|Access denied for user|Access denied, this account|password has expired|must reset your password"
    r"|is not permitted to log in|Login failed|account is (?:locked|disabled)|ORA-01017|ORA-2800[0-3]|SQL30082N"
    r"|user name and password are not defined",
    re.IGNORECASE,
)
_TIMEOUT_TEXT = re.compile(
    r"statement timeout|max_statement_time|maximum statement execution time|query timeout expired|ORA-01013|SQL0952N",
    re.IGNORECASE,
)
_CONTENTION_TEXT = re.compile(
    r"lock wait timeout|lock request time ?out|lock time-out|deadlock|snapshot isolation transaction"
    r"|ORA-00054|ORA-00060|ORA-08177|ORA-01555|SQL0911N|SQL0913N|lock conflict|update conflicts",
    re.IGNORECASE,
)
_DENIED_TEXT = re.compile(
    r"command denied to user|permission was denied|insufficient privileges|SQL0551N|no permission for", re.IGNORECASE
)
_UNREACHABLE_TEXT = re.compile(
    r"login timeout|can't connect to|lost connection|server has gone away|ORA-0311[34]|ORA-125\d\d|ORA-12170|SQL30081N"
    r"|unable to complete network request",
    re.IGNORECASE,
)
_TIMEOUT = {"57014", "HYT00", "HYT01", "70100"}
_CONTENTION = {"40001", "40P01", "55P03", "57033"}
_LOGIN = {"28000", "28P01", "28S01"}
_TABLE = {"42P01", "42S02", "3F000", "42704"}
_COLUMN = {"42703", "42S22"}
_DENIED = {"42501"}
_DRIVER = {"IM002", "IM003", "IM004", "01000"}
_ENCODING = {"22021", "22P05"}
_SQL_HINT = "check 'where' and 'query'"
_PREFIX = re.compile(r"^(\[[^\]]*\]\s*)+")


def odbc_fault(error: Exception, subject: str, timeout_seconds: float) -> CrossdockError:
    """The error to raise for pyodbc's *error* while reading *subject*, such as `table orders`."""
    state = str(error.args[0]) if error.args else ""
    text = _readable(str(error.args[1]) if len(error.args) > 1 else str(error))
    says = f"{text} [SQLSTATE {state}]" if state else text
    if state in _LOGIN or _LOGIN_TEXT.search(text):
        return SourceUnavailable(
            f"the database refused the login: {says}",
            hint="check user, password and expiry; tried again in 5 minutes, so that the account is not locked",
            after_seconds=LOGIN_AFTER_SECONDS,
        )
    if state in _CONTENTION or _CONTENTION_TEXT.search(text):
        return SourceUnavailable(
            f"{subject}: the read gave way to other transactions: {says}",
            hint="the same page is read again",
            after_seconds=CONTENTION_AFTER_SECONDS,
        )
    if (state in _TIMEOUT and "login timeout" not in text.lower()) or _TIMEOUT_TEXT.search(text):
        return timed_out(subject, timeout_seconds)
    return _operator_fault(state, says, subject)


def _operator_fault(state: str, says: str, subject: str) -> CrossdockError:
    if state in _TABLE:
        return _missing(subject, says)
    if state in _COLUMN:
        return ConfigError(
            f"{subject}: {says}",
            hint="a column was dropped or renamed: correct 'columns', 'column', 'key' or 'where'",
        )
    if state in _DENIED or _DENIED_TEXT.search(says):
        return SourceUnavailable(
            f"{subject}: {says}", hint="grant SELECT on it to the login", after_seconds=MISSING_AFTER_SECONDS
        )
    if state in _DRIVER:
        return ConfigError(
            f"the ODBC driver cannot be loaded: {says}", hint="correct DRIVER= in 'connection', or install it"
        )
    if state.startswith("42"):
        return ConfigError(f"{subject}: the database does not understand the query: {says}", hint=_SQL_HINT)
    if state in _ENCODING:
        return ConfigError(
            f"{subject}: a text is not in the encoding of its database: {says}",
            hint="read that column as binary: in a view or a query, convert_to(column, 'SQL_ASCII')",
        )
    if "certificate" in says.lower():
        return SourceUnavailable(
            f"the database's certificate is not trusted: {says}",
            hint="let this machine trust the authority that signed it, or set TrustServerCertificate=yes",
        )
    if state.startswith(("08", "57P")) or _UNREACHABLE_TEXT.search(says):
        return SourceUnavailable(
            f"the database cannot be reached: {says}", hint="is the server running and the port open?"
        )
    return SourceUnavailable(f"{subject} cannot be read now: {says}", hint="run 'crossdock-agent check' at the site")


def sqlite_fault(error: sqlite3.Error, file: str, subject: str, timeout_seconds: float) -> CrossdockError:
    """The error to raise for *error* while reading *subject*, such as `table orders`, of *file*."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    text = str(error)
    if code == sqlite3.SQLITE_INTERRUPT:
        return timed_out(subject, timeout_seconds)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SourceUnavailable(
            f"database {file} is locked by a writer",
            hint="the same page is read again",
            after_seconds=CONTENTION_AFTER_SECONDS,
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return SourceUnavailable(
            f"database {file} cannot be opened: {text}",
            hint="check that it exists and may be read; in WAL mode its folder must be writable or its -shm file exist",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corrupt(f"database {file} is damaged or no SQLite file: {text}", hint="check 'sqlite' in 'connection'")
    if "no such table" in text:
        return _missing(subject, text)
    if "no such column" in text:
        return ConfigError(
            f"{subject}: {text}",
            hint="a column was dropped or renamed: correct 'columns', 'column', 'key' or 'where'",
        )
    if code == sqlite3.SQLITE_ERROR:
        return ConfigError(f"{subject}: the database does not understand the query: {text}", hint=_SQL_HINT)
    return SourceUnavailable(f"{subject} cannot be read now: {text}", hint="run 'crossdock-agent check' at the site")


def timed_out(subject: str, seconds: float) -> SourceUnavailable:
    return SourceUnavailable(
        f"{subject}: reading one page took longer than {seconds:g} s and was given up",
        hint="index the watermark column, or raise 'statement_timeout_seconds'",
    )


def table_missing(table: str, says: str = "not found") -> SourceUnavailable:
    return _missing(f"table {table}", says)


def _missing(subject: str, says: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"{subject}: {says}", hint="check its name, schema and grants", after_seconds=MISSING_AFTER_SECONDS
    )


def _readable(text: str) -> str:
    """The server's sentence without the driver's decoration."""
    line = _PREFIX.sub("", text).split(";\nError while", maxsplit=1)[0]
    return re.sub(r"\s*\(-?\d+\) \(SQL\w+\)$", "", " ".join(line.split())).removeprefix("ERROR: ")
