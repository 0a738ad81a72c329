"""A private, real MariaDB for the tests of outbox tables and change logs: own directory, own port, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 60.0
_DRIVERS = ("/usr/lib/*/odbc/libmaodbc.so", "/usr/lib/odbc/libmaodbc.so", "/usr/lib64/libmaodbc.so")


@dataclass(frozen=True, slots=True)
class MariaDb:
    port: int
    driver: str
    database: str = "mysql"

    def odbc(self, user: str = "crossdock") -> str:
        where = f"SERVER=127.0.0.1;PORT={self.port};DATABASE={self.database}"
        return f"DRIVER={self.driver};{where};UID={user};CHARSET=utf8mb4"

    def connect(self) -> Any:
        """A pyodbc connection with all rights, autocommit; the caller closes it."""
        import pyodbc

        return pyodbc.connect(self.odbc(), autocommit=True)

    def execute(self, *statements: str) -> None:
        connection = self.connect()
        try:
            for statement in statements:
                connection.execute(statement)
        finally:
            connection.close()


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/libexec")
    if found is None:
        raise RuntimeError(f"{name} was not found: install the package 'mariadb-server'")
    return found


def _driver() -> str:
    for pattern in _DRIVERS:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            return str(path)
    raise RuntimeError("libmaodbc.so was not found: install the package 'odbc-mariadb'")


@contextlib.contextmanager
def running() -> Iterator[MariaDb]:
    """Raises RuntimeError naming what is missing, or with the server's log."""
    server_program, install, driver = _program("mariadbd"), _program("mariadb-install-db"), _driver()
    directory = Path(tempfile.mkdtemp(prefix="crossdock-mariadb-"))
    data, log = directory / "data", directory / "log"
    user = ["--user=mysql"] if os.geteuid() == 0 else []
    if user:
        shutil.chown(directory, "mysql")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(
            [install, "--no-defaults", *user, f"--datadir={data}", "--auth-root-authentication-method=normal",
             "--skip-test-db", "--skip-name-resolve", "--innodb-flush-method=nosync"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        setup = directory / "setup.sql"
        setup.write_text(
            "CREATE USER crossdock@'127.0.0.1';\nGRANT ALL ON *.* TO crossdock@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        setup.chmod(0o644)
        directory.chmod(0o755)
        with log.open("wb") as output:
            server = subprocess.Popen(
                [server_program, "--no-defaults", *user, f"--datadir={data}", f"--port={port}",
                 "--bind-address=127.0.0.1", f"--socket={directory / 's'}", f"--pid-file={directory / 'pid'}",
                 "--skip-name-resolve", "--innodb-buffer-pool-size=32M", "--innodb-flush-method=nosync",
                 "--innodb-flush-log-at-trx-commit=0", "--character-set-server=utf8mb4", f"--init-file={setup}"],
                stdout=output, stderr=output,
            )  # fmt: skip
        made = MariaDb(port, driver)
        deadline = time.monotonic() + START_SECONDS
        while not _answers(made):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"MariaDB did not start: {log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield made
    finally:
        if server is not None and server.poll() is None:
            server.kill()
            server.wait(timeout=START_SECONDS)
        shutil.rmtree(directory, ignore_errors=True)


def _answers(server: MariaDb) -> bool:
    import pyodbc

    try:
        server.connect().close()
    except pyodbc.Error:
        return False
    return True


@pytest.fixture(scope="session")
def mariadb_changelog_server() -> Iterator[MariaDb]:
    with running() as server:
        yield server


@pytest.fixture
def mariadb_changelog(mariadb_changelog_server: MariaDb, request: pytest.FixtureRequest) -> Iterator[MariaDb]:
    """An empty database of its own for this test."""
    name = f"t{abs(hash(request.node.nodeid)):x}"
    mariadb_changelog_server.execute(f"CREATE DATABASE `{name}`")
    yield MariaDb(mariadb_changelog_server.port, mariadb_changelog_server.driver, name)
    mariadb_changelog_server.execute(f"DROP DATABASE `{name}`")
