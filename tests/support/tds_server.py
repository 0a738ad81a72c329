"""A server that speaks SQL Server's protocol (the package pysqlbridge) over CSV files, met through Microsoft's driver.

It is no SQL Server: it proves login, TLS, the session's statements, the catalog, paging and what errors look like, not
types, locks or isolation. It lacks prepared statements, which is how pyodbc sends every bound value: `_Prepared` adds
them ([MS-TDS] 2.2.6.6 RPC Request, 2.2.7.19 RETURNVALUE).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.postgres import MissingError

USER, PASSWORD = "crossdock", "Pass-word1"
_DONE_BYTES = 13


@dataclass
class TdsServer:
    """`tables` become CSV files; `asked` is every statement that arrived; `refuse` maps a word in a statement to the
    error (number, text) it is answered with."""

    port: int
    driver: str
    asked: list[str] = field(default_factory=list)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    stopped: Any = None

    def odbc(self, *, user: str = USER, password: str = PASSWORD, tls: str = "TrustServerCertificate=yes") -> str:
        return f"DRIVER={self.driver};SERVER=127.0.0.1,{self.port};DATABASE=pysqlbridge;UID={user};PWD={password};{tls}"


def odbc_driver() -> str:
    """Path of Microsoft's driver inside the package mssql-python-odbc. Raises MissingError."""
    try:
        import mssql_python_odbc
    except ImportError as error:
        raise MissingError("the package mssql-python-odbc is not installed: it brings SQL Server's driver") from error
    libraries = Path(str(mssql_python_odbc.__file__)).parent / "libs" / "linux"
    flavour = "debian_ubuntu" if Path("/etc/debian_version").exists() else "rhel"
    found = sorted((libraries / flavour).glob("*/lib/libmsodbcsql*"))
    if not found:
        raise MissingError(f"no driver for SQL Server in {libraries / flavour}")
    return str(found[-1])


class _Prepared:
    """An answer with the number of its prepared statement in it, before the closing DONE."""

    def __init__(self, answer: Any, number: int) -> None:
        self._answer, self._number = answer, number

    def encode(self, *arguments: Any, **named: Any) -> bytes:
        data: bytes = self._answer.encode(*arguments, **named)
        value = b"\xac\x00\x00\x00\x01" + struct.pack("<IH", 0, 0) + b"\x26\x04\x04" + struct.pack("<i", self._number)
        return data[:-_DONE_BYTES] + value + data[-_DONE_BYTES:]


class _Handler:
    def __init__(self, catalog: Any, server: TdsServer) -> None:
        self._catalog, self._server = catalog, server
        self._prepared = 0

    def __call__(self, query: Any) -> Any:
        if query.procedure == "sp_prep_exec":
            _, declared, sql, *values = [*query.arguments, *query.parameters.values()]
            names = re.findall(r"@\w+", declared or "")
            self._prepared += 1
            return _Prepared(self._answer(query, sql, dict(zip(names, values, strict=True))), self._prepared)
        if query.procedure == "sp_unprepare":
            return self._answer(query, "SET NOCOUNT OFF", {})
        if query.procedure:
            return self._catalog.answer(query)
        return self._answer(query, query.sql, query.parameters)

    def _answer(self, query: Any, sql: str, values: dict[str, Any]) -> Any:
        from pysqlbridge.tds.connection import QueryError

        self._server.asked.append(sql)
        for word, (number, text) in self._server.refuse.items():
            if word in sql:
                raise QueryError(text, number=number)
        plain = dataclasses.replace(query, sql=sql, procedure=None, arguments=[], parameters=values)
        return self._catalog.answer(plain)


@contextlib.contextmanager
def running(directory: Path, tables: dict[str, str]) -> Iterator[TdsServer]:
    from pysqlbridge.server import BridgeServer, load_catalog, load_logins

    for name, text in tables.items():
        (directory / f"{name}.csv").write_text(text, "utf-8")
    described = {
        "tables": [{"name": name, "csv": f"{name}.csv"} for name in tables],
        "logins": [{"user": USER, "password": PASSWORD}],
    }
    settings = directory / "server.json"
    settings.write_text(json.dumps(described), "utf-8")
    server = TdsServer(0, odbc_driver())
    handler = _Handler(load_catalog(str(settings)), server)
    listener = BridgeServer(
        port=0, certificate=_certificate(), query_handler=handler, logins=load_logins(str(settings))
    )
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    server.port = listener.address[1]
    server.stopped = lambda: _stop(listener, thread)
    try:
        yield server
    finally:
        _stop(listener, thread)


@functools.cache
def _certificate() -> Any:
    from pysqlbridge.certificate import self_signed

    return self_signed()


def _stop(listener: Any, thread: threading.Thread) -> None:
    listener.shutdown()
    listener.server_close()
    thread.join(10)


ORDERS = "ID,TEXT,QTY\n" + "".join(f"{n},order {n},{n}.5\n" for n in range(1, 301))


@pytest.fixture
def tds_server(tmp_path: Path) -> Iterator[TdsServer]:
    """A server with the table `orders` of 300 rows."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(running(tmp_path, {"orders": ORDERS}))
        except MissingError as missing:
            pytest.fail(str(missing), pytrace=False)
        yield server
