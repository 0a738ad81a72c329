"""What the centre wants written here: in SQLite before anything is done about it, until the centre has its receipt.

    received -> prepared -> settled -> acknowledged         a delivery's state; each step is one synced transaction

An id that is here is never applied a second time; it stays for KEEP_DAYS after the centre acknowledged its receipt,
with its verdict and what an undo needs. Rows of a writer's own ledger are written with the verdict they belong to.
The file is made when the first writer is configured. One connection, any thread, one at a time.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from crossdock.disk import keep_private
from crossdock.errors import Retryable
from crossdock_agent.writers.base import Job, Verdict

KEEP_DAYS = 35.0  # longer than the centre lets one be undone
BUSY_SECONDS = 10.0
_RECEIVED, _PREPARED, _SETTLED, _ACKNOWLEDGED = range(4)
_RECEIPT = "id, attempt, sequence, verdict, code, reason, place"
_DAMAGE = {"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CORRUPT_VTAB", "SQLITE_CORRUPT_INDEX", "SQLITE_CORRUPT_SEQUENCE"}

_SCHEMA = """
CREATE TABLE deliveries (
    id BLOB PRIMARY KEY,
    attempt INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    writer TEXT NOT NULL,
    document TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    undoes BLOB,
    state INTEGER NOT NULL,
    note BLOB,
    verdict TEXT NOT NULL DEFAULT '',
    code TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    place TEXT NOT NULL DEFAULT '',
    settled_us INTEGER NOT NULL DEFAULT 0,
    payload BLOB
);
CREATE INDEX deliveries_open ON deliveries (writer, sequence) WHERE state < 2;
CREATE INDEX deliveries_settled ON deliveries (sequence) WHERE state = 2;
CREATE INDEX deliveries_old ON deliveries (settled_us) WHERE state = 3;
CREATE TABLE ledger (
    writer TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (writer, key)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A delivery as it came."""

    id: bytes
    attempt: int
    sequence: int
    writer: str
    document: str
    key: str
    version: int
    undoes: bytes | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the centre is to hear of a delivery."""

    id: bytes
    attempt: int
    sequence: int
    verdict: str
    code: str
    reason: str
    place: str


class Inbox:
    """Opens, or makes, the file. A damaged one is set aside: the centre sends again what it has no receipt for, and the
    writers find at the destination what was done. Raises Retryable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._db = self._opened()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorname", "") not in _DAMAGE:
                raise self._unavailable(error) from error
            self._set_aside(error)
            self._db = self._opened()
        keep_private(path)

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchall()
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA cache_size = -1024")
            self._check(db)
        except BaseException:
            db.close()
            raise
        return db

    def _check(self, db: sqlite3.Connection) -> None:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        elif version > 1:
            raise Retryable(
                f"inbox {self._path} has schema {version}, this agent knows 1", hint="install a newer agent"
            )
        elif (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _damaged(str(found))

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_name(f"{self._path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.replace(self._path.with_name(aside.name + suffix))
        logger.bind(file=str(aside)).error("the inbox is damaged and set aside, a new one begins: {}", error)

    # --- from the centre

    def receive(self, arrived: Iterable[Arrived]) -> None:
        """Take them in; one that is here already keeps its state, unless it is asked for with a higher attempt."""
        with self._transaction() as db:
            for one in arrived:
                known = db.execute("SELECT attempt, state FROM deliveries WHERE id = ?", (one.id,)).fetchone()
                if known is not None and known[0] >= one.attempt:
                    if known[1] == _ACKNOWLEDGED:  # the centre forgot that it knows: it is told again
                        db.execute("UPDATE deliveries SET state = ? WHERE id = ?", (_SETTLED, one.id))
                    continue
                if known is not None and known[1] in (_RECEIVED, _PREPARED):
                    db.execute("UPDATE deliveries SET attempt = ? WHERE id = ?", (one.attempt, one.id))
                    continue
                db.execute(
                    "INSERT OR REPLACE INTO deliveries(id, attempt, sequence, writer, document, key, version, undoes,"
                    " state, payload) VALUES(?,?,?,?,?,?,?,?,?,?)",
                    (one.id, one.attempt, one.sequence, one.writer, one.document, one.key, one.version, one.undoes,
                     _RECEIVED, one.payload),
                )  # fmt: skip

    def acknowledged(self, ids: Iterable[bytes]) -> None:
        """The centre has these receipts."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE deliveries SET state = ?, payload = NULL WHERE id = ? AND state = ?",
                [(_ACKNOWLEDGED, id_, _SETTLED) for id_ in ids],
            )

    def purge(self, now_us: int) -> None:
        before = now_us - int(KEEP_DAYS * 86_400e6)
        with self._transaction() as db:
            db.execute("DELETE FROM deliveries WHERE state = ? AND settled_us < ?", (_ACKNOWLEDGED, before))

    # --- to the centre

    def receipts(self, after: int, limit: int) -> list[Receipt]:
        """Those that the centre does not have, beyond sequence *after*, in order."""
        with self._reading() as db:
            rows = db.execute(
                f"SELECT {_RECEIPT} FROM deliveries WHERE state = 2 AND sequence > ? ORDER BY sequence LIMIT ?",
                (after, limit),
            ).fetchall()
        return [Receipt(*row) for row in rows]

    def settled(self, ids: Iterable[bytes]) -> list[Receipt]:
        """Of *ids*, those that were settled before."""
        found = []
        with self._reading() as db:
            for id_ in ids:
                row = db.execute(f"SELECT {_RECEIPT} FROM deliveries WHERE id = ? AND state = 2", (id_,)).fetchone()
                found += [Receipt(*row)] if row else []
        return found

    def open_count(self) -> int:
        """How many are not acknowledged."""
        with self._reading() as db:
            count: int = db.execute("SELECT count(*) FROM deliveries WHERE state < 3").fetchone()[0]
        return count

    # --- for writers

    def jobs(self, writer: str, limit: int) -> list[Job]:
        """What *writer* has to do next, in order, of each document one version at most."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT d.id, d.attempt, d.document, d.key, d.version, d.payload, d.note, o.note, d.undoes"
                " FROM deliveries d LEFT JOIN deliveries o ON o.id = d.undoes"
                " WHERE d.state < 2 AND d.writer = ? ORDER BY d.sequence LIMIT ?",
                (writer, limit),
            ).fetchall()
        found: dict[tuple[str, str], Job] = {}
        for id_, attempt, document, key, version, payload, note, undo, undoes in rows:
            if (document, key) not in found:
                given = (undo if undo is not None else b"") if undoes is not None else None
                found[document, key] = Job(
                    id_, attempt, document, key, version, payload or b"", note, given, undoes
                )  # fmt: skip
        return list(found.values())

    def prepared(self, notes: Iterable[tuple[bytes, bytes]]) -> None:
        with self._transaction() as db:
            db.executemany(
                "UPDATE deliveries SET state = ?, note = ? WHERE id = ?",
                [(_PREPARED, note, id_) for id_, note in notes],
            )

    def settle(self, writer: str, verdicts: Sequence[tuple[Job, Verdict]], now_us: int) -> None:
        """Verdicts, and what the writer is to remember with them."""
        with self._transaction() as db:
            for job, verdict in verdicts:
                db.execute(
                    "UPDATE deliveries SET state = ?, verdict = ?, code = ?, reason = ?, place = ?, note = ?,"
                    " settled_us = ? WHERE id = ?",
                    (_SETTLED, verdict.outcome, verdict.code, verdict.reason[:500], verdict.place[:500], verdict.note,
                     now_us, job.id),
                )  # fmt: skip
                for key, value in verdict.remember:
                    if value is None:
                        db.execute("DELETE FROM ledger WHERE writer = ? AND key = ?", (writer, key))
                    else:
                        db.execute("INSERT OR REPLACE INTO ledger VALUES(?,?,?)", (writer, key, value))

    def recall(self, writer: str, key: str) -> bytes | None:
        with self._reading() as db:
            row = db.execute("SELECT value FROM ledger WHERE writer = ? AND key = ?", (writer, key)).fetchone()
        return row[0] if row else None

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise self._unavailable(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _unavailable(self, error: sqlite3.Error) -> Retryable:
        return Retryable(f"inbox {self._path} cannot be used now: {error}", hint="check the disk and its free space")


def _damaged(said: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(said)
    error.sqlite_errorname = "SQLITE_CORRUPT"
    return error
