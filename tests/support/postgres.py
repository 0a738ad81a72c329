"""A private, real PostgreSQL for tests: own data directory, own port, gone afterwards.

It never touches a server that is already there. One server per pytest process (so one per xdist worker), one database
per test. On a developer's machine without PostgreSQL the tests that need it are reported as errors that name the
package to install; with `CI=true` likewise: nothing is skipped silently.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

START_SECONDS = 30.0
USER = "crossdock"
_BINARY_PATTERNS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_DRIVER_PATTERNS = (
    "/usr/lib/*/odbc/psqlodbcw.so",
    "/usr/lib/odbc/psqlodbcw.so",
    "/usr/lib64/psqlodbcw.so",
    "/usr/local/lib/psqlodbcw.so",
    "/opt/homebrew/lib/psqlodbcw.so",
)


class MissingError(RuntimeError):
    """A program these tests need is not installed."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server. `odbc()` is the connection string of its database *database*."""

    dialect: ClassVar[str] = "postgresql"
    timestamp: ClassVar[str] = "TIMESTAMP"
    now: ClassVar[str] = "now() AT TIME ZONE 'UTC'"

    port: int
    binaries: Path
    directory: Path
    driver: str
    database: str = "postgres"

    def odbc(self) -> str:
        return f"DRIVER={self.driver};SERVER=127.0.0.1;PORT={self.port};DATABASE={self.database};UID={USER}"

    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{self.database}"

    def connect(self) -> Any:
        """A pyodbc connection as superuser, autocommit; the caller closes it."""
        import pyodbc

        return pyodbc.connect(self.odbc(), autocommit=True)

    def execute(self, *statements: str) -> None:
        """Runs *statements*, each in a transaction of its own."""
        connection = self.connect()
        try:
            for statement in statements:
                connection.execute(statement)
        finally:
            connection.close()


def newest_of(patterns: tuple[str, ...]) -> Path | None:
    """The match of the first pattern that has any; of several versions the highest."""
    for pattern in patterns:
        found = sorted(Path("/").glob(pattern.lstrip("/")), key=lambda path: (len(str(path)), str(path)))
        if found:
            return found[-1]
    return None


def binaries() -> Path:
    """The directory with `initdb` and `postgres`. Raises MissingError."""
    found = newest_of(_BINARY_PATTERNS)
    if found is not None and (found / "initdb").exists():
        return found
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    raise MissingError(
        "PostgreSQL's server programs (initdb, postgres) were not found: install the package 'postgresql'"
    )


def odbc_driver() -> str:
    """Path of the Unicode PostgreSQL ODBC driver (its registered name on Windows). Raises MissingError."""
    if sys.platform == "win32":
        return "{PostgreSQL Unicode(x64)}"
    found = newest_of(_DRIVER_PATTERNS)
    if found is None:
        raise MissingError("psqlodbcw.so was not found: install the package 'odbc-postgresql'")
    return str(found)


def _as_ordinary_user() -> tuple[list[str], str | None]:
    """Prefix that runs a program as an ordinary user, and that user's name: initdb refuses to run as root."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return [], None
    import pwd

    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        setpriv = shutil.which("setpriv")
        if setpriv:
            identity = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
            return [setpriv, *identity, "--pdeathsig=INT"], name  # a killed test run leaves no server behind
        runuser = shutil.which("runuser")
        if runuser:
            return [runuser, "-u", name, "--"], name
    raise MissingError(f"PostgreSQL does not run as {getpass.getuser()}, and neither setpriv nor runuser is installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(programs: Path, port: int) -> bool:
    """True once the server accepts logins: it answers, and refuses them, for a moment before."""
    asked = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
    return subprocess.run(asked, check=False).returncode == 0


@contextlib.contextmanager
def running(**settings: str) -> Iterator[Postgres]:
    """A server, stopped at the end; *settings* win over those of tests, which make it quick and not durable.

    Raises MissingError for a program, RuntimeError with the server's log.
    """
    programs, driver = binaries(), odbc_driver()
    prefix, owner = _as_ordinary_user()
    directory = Path(tempfile.mkdtemp(prefix="crossdock-postgres-"))
    if owner is not None:
        shutil.chown(directory, owner)
    data, log = directory / "data", directory / "log"
    environment = {**os.environ, "LC_ALL": "C.UTF-8" if sys.platform != "win32" else "C", "TZ": "UTC"}
    server: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(
            [*prefix, str(programs / "initdb"), "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, env=environment, cwd=directory,
        )  # fmt: skip
        port = free_port()
        options = {
            "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
            "max_connections": 40, "shared_buffers": "32MB", "timezone": "UTC", "autovacuum": "off",
            **settings,
        }  # fmt: skip
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with log.open("wb") as output:
            server = subprocess.Popen(
                [*prefix, str(programs / "postgres"), "-D", str(data), *arguments],
                stdout=output, stderr=output, env=environment, cwd=directory,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not _ready(programs, port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield Postgres(port, programs, directory, driver)
    finally:
        if server is not None and server.poll() is None:
            subprocess.run(
                [*prefix, str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop"],
                check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory,
            )  # fmt: skip
            server.wait(timeout=START_SECONDS)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The server of this pytest process. MissingError programs fail the test; nothing is skipped."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(running())
        except MissingError as missing:
            pytest.fail(str(missing), pytrace=False)
        yield server


@pytest.fixture
def postgres(postgres_server: Postgres, request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """An empty database of its own for this test, dropped afterwards with whoever is still connected."""
    name = f"t{abs(hash(request.node.nodeid)):x}"
    postgres_server.execute(f'CREATE DATABASE "{name}"')
    yield Postgres(
        postgres_server.port, postgres_server.binaries, postgres_server.directory, postgres_server.driver, name
    )
    postgres_server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
