"""A private, real MariaDB for tests: own data directory, own port, gone afterwards.

Like `support.postgres`: one server per pytest process, one database per test, never a server that is already there, and
a missing program is an error that names the package to install.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from support.postgres import MissingError, free_port, newest_of

START_SECONDS = 30.0
USER = "crossdock"
_SERVER_PATTERNS = ("/usr/sbin/mariadbd", "/usr/libexec/mariadbd", "/usr/bin/mariadbd", "/opt/homebrew/bin/mariadbd")
_DRIVER_PATTERNS = (
    "/usr/lib/*/odbc/libmaodbc.so",
    "/usr/lib64/libmaodbc.so",
    "/usr/local/lib/libmaodbc.so",
    "/opt/homebrew/lib/libmaodbc.dylib",
)
_OPTIONS = {
    "bind-address": "127.0.0.1", "default-time-zone": "+00:00", "character-set-server": "utf8mb4",
    "innodb-buffer-pool-size": "32M", "innodb-log-file-size": "8M", "innodb-flush-log-at-trx-commit": "0",
    "innodb-doublewrite": "0", "max-connections": "40", "performance-schema": "0",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mariadb:
    """A running server. `odbc()` is the connection string of its database *database*."""

    dialect: ClassVar[str] = "mariadb"
    timestamp: ClassVar[str] = "DATETIME(6)"
    now: ClassVar[str] = "UTC_TIMESTAMP(6)"

    port: int
    driver: str
    log: Path
    database: str = "mysql"

    def odbc(self, user: str = USER) -> str:
        return f"DRIVER={self.driver};SERVER=127.0.0.1;PORT={self.port};DATABASE={self.database};UID={user}"

    def connect(self) -> Any:
        """A pyodbc connection with every right, autocommit; the caller closes it."""
        import pyodbc

        connection = pyodbc.connect(f"{self.odbc()};CHARSET=utf8mb4", autocommit=True)
        connection.maxwrite = 1 << 28  # in pieces, the driver makes another value of it
        return connection

    def execute(self, *statements: str) -> None:
        connection = self.connect()
        try:
            for statement in statements:
                connection.execute(statement)
        finally:
            connection.close()


def server_program() -> Path:
    """`mariadbd`. Raises MissingError."""
    on_path = shutil.which("mariadbd")
    found = Path(on_path) if on_path else newest_of(_SERVER_PATTERNS)
    if found is None:
        raise MissingError("MariaDB's server (mariadbd) was not found: install the package 'mariadb-server'")
    return found


def odbc_driver() -> str:
    """Path of the MariaDB ODBC driver (its registered name on Windows). Raises MissingError."""
    if sys.platform == "win32":
        return "{MariaDB ODBC 3.1 Driver}"
    found = newest_of(_DRIVER_PATTERNS)
    if found is None:
        raise MissingError("libmaodbc.so was not found: install the package 'odbc-mariadb'")
    return str(found)


def _as_ordinary_user() -> tuple[list[str], str | None]:
    """Prefix that runs a program as an ordinary user, and that user's name: the server refuses to run as root."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return [], None
    import pwd

    setpriv = shutil.which("setpriv")
    for name in ("mysql", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            if setpriv is not None:
                identity = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
                return [setpriv, *identity, "--pdeathsig=KILL"], name  # a killed test run leaves no server behind
    raise MissingError("MariaDB does not run as root, and setpriv is not installed")


def _answers(server: Mariadb) -> bool:
    import pyodbc

    try:
        server.connect().close()
    except pyodbc.Error:
        return False
    return True


@contextlib.contextmanager
def running() -> Iterator[Mariadb]:
    """A server, stopped at the end. Raises MissingError for a program, RuntimeError with the server's log."""
    program, driver = server_program(), odbc_driver()
    install = shutil.which("mariadb-install-db")
    if install is None:
        raise MissingError("mariadb-install-db was not found: install the package 'mariadb-server'")
    prefix, owner = _as_ordinary_user()
    directory = Path(tempfile.mkdtemp(prefix="crossdock-mariadb-"))
    if owner is not None:
        shutil.chown(directory, owner)
    data, log, first = directory / "data", directory / "log", directory / "first.sql"
    first.write_text(f"CREATE USER {USER}@'%';\nGRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION;\n")
    first.chmod(0o644)
    server: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(
            [*prefix, install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal",
             "--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=8M", f"--tmpdir={directory}"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory,
        )  # fmt: skip
        port = free_port()
        options = [f"--{name}={value}" for name, value in _OPTIONS.items()]
        paths = [f"--datadir={data}", f"--socket={directory / 'socket'}", f"--pid-file={directory / 'pid'}"]
        paths.append(f"--tmpdir={directory}")  # two servers in one /tmp delete each other's temporary tables
        with log.open("wb") as output:
            server = subprocess.Popen(
                [*prefix, str(program), "--no-defaults", *paths, f"--port={port}", f"--init-file={first}", *options],
                stdout=output, stderr=output, cwd=directory,
            )  # fmt: skip
        found = Mariadb(port, driver, log)
        deadline = time.monotonic() + START_SECONDS
        while not _answers(found):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"MariaDB did not start: {log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield found
    finally:
        if server is not None and server.poll() is None:
            server.kill()  # its data is thrown away
            server.wait(timeout=START_SECONDS)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Mariadb]:
    """The server of this pytest process. Missing programs fail the test; nothing is skipped."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(running())
        except MissingError as missing:
            pytest.fail(str(missing), pytrace=False)
        yield server


@pytest.fixture
def mariadb(mariadb_server: Mariadb, request: pytest.FixtureRequest) -> Iterator[Mariadb]:
    """An empty database of its own for this test, dropped afterwards."""
    name = f"t{abs(hash(request.node.nodeid)):x}"
    mariadb_server.execute(f"CREATE DATABASE `{name}`")
    yield replace(mariadb_server, database=name)
    _disconnect(mariadb_server, name)
    mariadb_server.execute(f"DROP DATABASE `{name}`")


def _disconnect(server: Mariadb, database: str) -> None:
    """End what a failed test left connected: its locks would make the DROP wait for a day."""
    import pyodbc

    connection = server.connect()
    try:
        found = connection.execute("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = ?", database).fetchall()
        for (number,) in found:
            with contextlib.suppress(pyodbc.Error):  # it has gone by itself
                connection.execute(f"KILL {int(number)}")
    finally:
        connection.close()
