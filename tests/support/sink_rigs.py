"""One rig for each destination a sink can have: it makes sinks, shows what arrived, refuses, breaks and mends.

The documents are of one type, "Thing": number (the key), text, quantity, lines. A negative quantity is refused.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from crossdock_controller.sinks.base import Outgoing, Sink, SinkContext, kinds
from support.http_batches import BatchReceiver
from support.http_sink import Fault, HttpReceiver
from support.mariadb import Mariadb
from support.postgres import Postgres
from support.sftp import SshServer

THING_TABLES: dict[str, Any] = {
    "Thing": {
        "table": "thing",
        "key": ["number"],
        "columns": {
            "number": "number",
            "text": "text",
            "quantity": "quantity.value",
            "sequence": "$sequence",
            "event_id": "$event_id",
        },
        "children": [
            {
                "each": "lines",
                "table": "thing_line",
                "columns": {"line": "$index", "sku": "sku"},
                "parent": {"thing_number": "number"},
            }
        ],
    }
}
_SCHEMA = (
    "CREATE TABLE thing (number text PRIMARY KEY, text text,"
    " quantity numeric CONSTRAINT not_negative CHECK (quantity >= 0), sequence bigint, event_id text)",
    "CREATE TABLE thing_line (thing_number text, line integer, sku text)",
    "CREATE INDEX thing_line_by_parent ON thing_line (thing_number)",
)

State = dict[str, tuple[str, list[str]]]  # by number: text, skus of its lines


def thing(
    sequence: int, key: str, text: str = "", *, quantity: str = "1", lines: Sequence[str] = (), attempt: int = 1
) -> Outgoing:
    body = {"number": key, "text": text, "quantity": {"value": quantity}, "lines": [{"sku": sku} for sku in lines]}
    return Outgoing(sequence.to_bytes(16, "big"), "Thing", key, json.dumps(body).encode(), sequence, attempt)


def refused(sequence: int, key: str) -> Outgoing:
    return thing(sequence, key, "refused", quantity="-1")


def build(
    kind: str,
    settings: Mapping[str, Any],
    base: Path,
    *,
    name: str = "finance",
    secrets: Mapping[str, str] | None = None,
) -> Sink:
    made = kinds()[kind]
    context = SinkContext(name, lambda text: (secrets or {}).get(text, text), str(base))
    return made.create(made.settings.model_validate(settings), context)


class Rig(Protocol):
    kind: str
    settings: Mapping[str, Any]
    base: Path
    secrets: Mapping[str, str]

    def make(self) -> Sink:
        """A sink as after a start of the process; several may exist one after the other."""

    def state(self) -> State: ...

    def effects(self) -> list[tuple[str, int]] | None:
        """(number, sequence) of every document in the order of its effect, where the destination keeps all versions."""

    def refuse(self, delivery: Outgoing) -> None:
        """Called before a delivery that `refused` made: the destination will answer it with a no."""

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]: ...


def of_body(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    return body["text"], [line["sku"] for line in body["lines"]]


class MadeRig:
    kind: str
    settings: Mapping[str, Any]
    base: Path
    secrets: Mapping[str, str] = {}

    def make(self) -> Sink:
        return build(self.kind, self.settings, self.base, secrets=self.secrets)

    def refuse(self, delivery: Outgoing) -> None:
        """Its own rules refuse it."""


class SqliteRig(MadeRig):
    kind = "sql"

    def __init__(self, base: Path) -> None:
        self.base, self.path = base, base / "finance.db"
        self.settings = {"url": "sqlite:///finance.db", "tables": THING_TABLES, "timeout_seconds": 0.1}
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            for statement in _SCHEMA:
                db.execute(statement)

    def state(self) -> State:
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            found = {number: (text, []) for number, text in db.execute("SELECT number, text FROM thing")}
            for number, sku in db.execute("SELECT thing_number, sku FROM thing_line ORDER BY thing_number, line"):
                found[number][1].append(sku)
            return found

    def effects(self) -> None:
        return None

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Another program holds the write lock for longer than the sink waits."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            yield
            db.execute("ROLLBACK")


class PostgresRig(MadeRig):
    kind = "sql"

    def __init__(self, base: Path, server: Postgres) -> None:
        self.base, self.server = base, server
        self.settings = {"url": server.url(), "tables": THING_TABLES}
        server.execute(*_SCHEMA)

    def state(self) -> State:
        with contextlib.closing(self.server.connect()) as db:
            found: State = {number: (text, []) for number, text in db.execute("SELECT number, text FROM thing")}
            for number, sku in db.execute("SELECT thing_number, sku FROM thing_line ORDER BY thing_number, line"):
                found[number][1].append(sku)
            return found

    def effects(self) -> None:
        return None

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Every connection is cut, and no new one is allowed."""
        name, other = self.server.database, replace(self.server, database="postgres")
        other.execute(
            f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false',
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        try:
            yield
        finally:
            other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


class OdbcPostgresRig(PostgresRig):
    """The same server through its ODBC driver."""

    def __init__(self, base: Path, server: Postgres) -> None:
        super().__init__(base, server)
        self.settings = {"odbc": server.odbc(), "dialect": "postgresql", "tables": THING_TABLES}


class MariadbRig(MadeRig):
    kind = "sql"

    def __init__(self, base: Path, server: Mariadb) -> None:
        self.base, self.server = base, server
        self.settings = {"odbc": server.odbc(), "dialect": "mariadb", "tables": THING_TABLES}
        exact = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
        server.execute(
            f"CREATE TABLE thing (number varchar(200) {exact} PRIMARY KEY, text longtext {exact},"
            " quantity decimal(20, 6), sequence bigint, event_id varchar(64),"
            " CONSTRAINT not_negative CHECK (quantity >= 0))",
            f"CREATE TABLE thing_line (thing_number varchar(200) {exact}, line integer, sku longtext {exact},"
            " INDEX thing_line_by_parent (thing_number))",
        )

    def state(self) -> State:
        with contextlib.closing(self.server.connect()) as db:
            found: State = {n: (text, []) for n, text in db.execute("SELECT number, text FROM thing").fetchall()}
            lines = db.execute("SELECT thing_number, sku FROM thing_line ORDER BY thing_number, line").fetchall()
            for number, sku in lines:
                found[number][1].append(sku)
            return found

    def effects(self) -> None:
        return None

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """The table is locked away under another name, as while somebody rebuilds it."""
        self.server.execute("RENAME TABLE thing TO thing_aside")
        try:
            yield
        finally:
            self.server.execute("RENAME TABLE thing_aside TO thing")


class HttpRig(MadeRig):
    kind = "http"

    def __init__(self, base: Path, receiver: HttpReceiver, *, concurrency: int = 1) -> None:
        self.base, self.receiver = base, receiver
        self.settings = {
            "url": receiver.url + "/{key}",
            "method": "PUT",
            "timeout_seconds": 5,
            "concurrency": concurrency,
        }

    def state(self) -> State:
        return {r.key: of_body(json.loads(r.body)) for r in self.receiver.effects}

    def effects(self) -> list[tuple[str, int]]:
        return [(r.key, int(r.headers["crossdock-sequence"])) for r in self.receiver.effects]

    def refuse(self, delivery: Outgoing) -> None:
        self.receiver.script_for(delivery.key, Fault(422, body=b"not_negative: quantity is -1"))

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """The server is down, and comes back with its memory."""
        self.receiver.__exit__()
        try:
            yield
        finally:
            self.receiver = self.receiver.successor()
            self.receiver.__enter__()


class BatchRig(HttpRig):
    """Several documents a request."""

    def __init__(self, base: Path, receiver: BatchReceiver) -> None:
        super().__init__(base, receiver)
        batch = {"max": 7, "wrap": "items", "results": "results"}
        self.settings = {"url": receiver.url, "timeout_seconds": 5, "batch": batch}


class SftpRig(MadeRig):
    kind = "sftp"

    def __init__(self, base: Path, server: SshServer) -> None:
        self.base, self.server = base, server
        self.secrets = {"secret:key": server.key}
        self.directory = server.directory / uuid.uuid4().hex
        self.directory.mkdir()
        self.settings = {
            "host": "127.0.0.1", "port": server.port, "user": server.user, "key": "secret:key",
            "host_key": server.host_key, "directory": str(self.directory), "timeout_seconds": 30,
        }  # fmt: skip

    def lines(self) -> list[dict[str, Any]]:
        files = sorted(self.directory.glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]

    def state(self) -> State:
        return {line["key"]: of_body(line["body"]) for line in self.lines()}

    def effects(self) -> list[tuple[str, int]]:
        return [(line["key"], line["sequence"]) for line in self.lines()]

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """The server is down, and comes back."""
        self.server.stop()
        try:
            yield
        finally:
            self.server.start()


class FileRig(MadeRig):
    kind = "file"

    def __init__(self, base: Path) -> None:
        self.base, self.directory = base, base / "out"
        self.settings = {"directory": "out"}

    def lines(self) -> list[dict[str, Any]]:
        files = sorted(self.directory.glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]

    def state(self) -> State:
        return {line["key"]: of_body(line["body"]) for line in self.lines()}

    def effects(self) -> list[tuple[str, int]]:
        return [(line["key"], line["sequence"]) for line in self.lines()]

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """The directory is gone, and something else has its name."""
        aside = self.base / "aside"
        if self.directory.exists():
            self.directory.rename(aside)
        self.directory.write_bytes(b"")
        try:
            yield
        finally:
            self.directory.unlink()
            if aside.exists():
                aside.rename(self.directory)
