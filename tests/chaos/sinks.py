"""The three kinds of sink, as their owners see them: what arrived is read from the receiving side alone."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from chaos.ledger import Findings, Got, Record
from support.http_sink import Fault, HttpReceiver, Received

_ROWS = """
CREATE TABLE rows(sku TEXT NOT NULL, version TEXT NOT NULL, event_id TEXT, sequence INTEGER, UNIQUE(sku, version));
CREATE TABLE arrivals(n INTEGER PRIMARY KEY AUTOINCREMENT, sku TEXT, version TEXT, event_id TEXT);
CREATE TRIGGER inserted AFTER INSERT ON rows BEGIN
    INSERT INTO arrivals(sku, version, event_id) VALUES(new.sku, new.version, new.event_id); END;
CREATE TRIGGER updated AFTER UPDATE ON rows BEGIN
    INSERT INTO arrivals(sku, version, event_id) VALUES(new.sku, new.version, new.event_id); END;
"""
_LATEST = """
CREATE TABLE latest(sku TEXT PRIMARY KEY, version TEXT, sequence INTEGER);
CREATE TABLE history(n INTEGER PRIMARY KEY AUTOINCREMENT, sku TEXT, version TEXT);
CREATE TRIGGER inserted AFTER INSERT ON latest BEGIN
    INSERT INTO history(sku, version) VALUES(new.sku, new.version); END;
CREATE TRIGGER updated AFTER UPDATE ON latest BEGIN
    INSERT INTO history(sku, version) VALUES(new.sku, new.version); END;
"""


class SqlSinks:
    """Two databases: `rows` has a row for each record, `latest` a row for each key. Triggers keep what was written."""

    def __init__(self, directory: Path) -> None:
        self.rows, self.latest = directory / "rows.db", directory / "latest.db"
        for path, schema in ((self.rows, _ROWS), (self.latest, _LATEST)):
            with contextlib.closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA journal_mode=WAL")
                db.executescript(schema)

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Another program keeps the database locked."""
        path = self.rows if name == "rows" else self.latest
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=0.2)) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                db.execute("ROLLBACK")

    def got(self, findings: Findings, again: frozenset[Record] = frozenset()) -> list[Got]:
        """The records in `rows`, in the order of their first arrival. Another event id for one is a finding, but
        for those in *again*."""
        first: dict[Record, Got] = {}
        other: set[Record] = set()
        for sku, version, event_id in _read(self.rows, "SELECT sku, version, event_id FROM arrivals ORDER BY n"):
            got = Got(_record(sku, version), event_id)
            if first.setdefault(got.record, got).event_id != event_id and got.record not in again:
                other.add(got.record)
        if other:
            findings.add(f"sink rows: {len(other)} records came as two different events", other)
        return list(first.values())

    def states(self, findings: Findings) -> dict[str, int]:
        """The version of each key in `latest`; a version that went back is a finding."""
        highest: dict[str, int] = {}
        back: set[Record] = set()
        for sku, version in _read(self.latest, "SELECT sku, version FROM history ORDER BY n"):
            record = _record(sku, version)
            if record.version < highest.get(sku, 0):
                back.add(record)
            highest[sku] = max(record.version, highest.get(sku, 0))
        if back:
            findings.add(f"sink latest: {len(back)} times an older version came over a newer one", back)
        return {sku: int(version) for sku, version in _read(self.latest, "SELECT sku, version FROM latest")}


class HttpSink:
    """A receiver that keeps the bargain (a known idempotency key has no second effect), and misbehaves when told."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"{seed} http")
        self._lock = threading.Lock()
        self.mode = ""
        self._receiver: _Moody | None = _Moody(self)
        self._last: HttpReceiver = self._receiver
        self.port = self._receiver.port
        self.url = self._receiver.url

    def __enter__(self) -> HttpSink:
        assert self._receiver is not None
        self._receiver.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._receiver is not None:
            self._receiver.__exit__()

    def close_port(self) -> None:
        """Connections are refused until `open_port`."""
        if self._receiver is not None:
            self._receiver.__exit__()
            self._receiver = None

    def open_port(self) -> None:
        if self._receiver is None:
            self._receiver = _Moody(self, self._last)
            self._last = self._receiver
            self._receiver.__enter__()

    def fault(self) -> Fault | None:
        """How the next request is treated; half of those that fail took effect before."""
        mode = self.mode
        if mode == "slow":
            time.sleep(0.2)
            return None
        with self._lock:
            applied, lucky = self._rng.random() < 0.5, self._rng.random() < 0.2
        if not mode or lucky:
            return None
        if mode == "429":
            return Fault(429, {"Retry-After": "1"})
        if mode == "500":
            return Fault(500, applied=applied)
        if mode == "close":
            return Fault(mode="half_body" if applied else "close", applied=applied)
        return Fault(mode="hang", applied=applied)

    def got(self, findings: Findings) -> list[Got]:
        bodies: dict[str, bytes] = {}
        differing: set[Record] = set()
        for request in self._last.requests:
            if bodies.setdefault(request.idempotency_key, request.body) != request.body:
                differing.add(_body(request.body))
        if differing:
            findings.add(f"sink web: {len(differing)} idempotency keys came with two bodies", differing)
        return [Got(_body(effect.body), effect.idempotency_key) for effect in self._last.effects]

    @property
    def requests(self) -> int:
        return len(self._last.requests)

    @property
    def effects(self) -> int:
        return len(self._last.effects)


class _Moody(HttpReceiver):
    def __init__(self, owner: HttpSink, earlier: HttpReceiver | None = None) -> None:
        super().__init__(port=0 if earlier is None else earlier.port)
        self._owner = owner
        if earlier is not None:
            self.requests, self.effects, self._known = earlier.requests, earlier.effects, earlier._known

    def take(self, received: Received) -> Fault | None:
        fault = self._owner.fault()
        if fault is not None:
            self.script_for(received.key, fault)
        return super().take(received)


class FileSink:
    """A folder of finished files; a document in two of them is doubled."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def got(self) -> list[Got]:
        found: list[Got] = []
        for path in sorted(self.directory.glob("*.jsonl")):
            for line in path.read_text("utf-8").splitlines():
                envelope = json.loads(line)
                found.append(Got(_of_document(envelope["body"]), envelope["event_id"]))
        return found


def _read(path: Path, query: str) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as db:
        return db.execute(query).fetchall()


def _record(sku: str, version: str) -> Record:
    return Record(sku, int(version))


def _body(body: bytes) -> Record:
    return _of_document(json.loads(body))


def _of_document(document: dict[str, object]) -> Record:
    quantity = document["on_hand"]
    assert isinstance(quantity, dict), document
    return Record(str(document["sku"]), int(quantity["value"]))
