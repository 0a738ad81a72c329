"""The outbox file: an existing file is either sound or set aside; a new file is a new epoch.

WAL with `synchronous=FULL` syncs at every commit (SQLite, "PRAGMA synchronous"), so a committed batch survives a power
cut. `auto_vacuum=INCREMENTAL` must stand before the first table. AUTOINCREMENT: the log is read by cursor and emptied
by deletes, and plain rowids would be used again.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from crossdock.errors import BufferCorrupt, ConfigError, Retryable
from crossdock_agent.outbox.rows import source_crc

if TYPE_CHECKING:
    from sqlite_utils import Database

SCHEMA_VERSION = 4
PAGE_BYTES = 8192  # a sealed batch is 30 to 100 KiB: larger pages cost small polls more than they save here
WAL_BYTES = 16 * 1024 * 1024
FULL_CHECK_BYTES = 64 * 1024 * 1024  # a larger file is checked without walking its payload pages
EPOCH_BYTES = 16
BUSY_SECONDS = 10.0

_DAMAGE = {"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CORRUPT_VTAB", "SQLITE_CORRUPT_SEQUENCE", "SQLITE_CORRUPT_INDEX"}

_VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE sources (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    lane TEXT NOT NULL,
    last_sequence INTEGER NOT NULL DEFAULT 0,
    acked_sequence INTEGER NOT NULL DEFAULT 0,
    checkpoint BLOB,
    batches INTEGER NOT NULL DEFAULT 0,      -- these three count what is not yet acknowledged
    records INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source_id INTEGER NOT NULL REFERENCES sources (id),
    sequence INTEGER NOT NULL,
    records INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    read_at_us INTEGER NOT NULL,
    on_ack BLOB,
    sealed BLOB NOT NULL,                    -- last, so that the columns before it are read without its pages
    UNIQUE (source_id, sequence)
);
CREATE TABLE ledger (
    source_id INTEGER NOT NULL REFERENCES sources (id),
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (source_id, key)
) WITHOUT ROWID;
CREATE TABLE releases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source_id INTEGER NOT NULL REFERENCES sources (id),
    token BLOB NOT NULL
);
"""

# Acknowledged batches stay for a while (see `kept`). Sequences in this file never begin again: the wire's are counted
# from `base_sequence`, which moves when an epoch begins. Tokens up to `released_sequence` were made due once.
_VERSION_2 = """
ALTER TABLE sources ADD COLUMN base_sequence INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sources ADD COLUMN released_sequence INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sources ADD COLUMN kept_batches INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sources ADD COLUMN kept_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE sources SET released_sequence = acked_sequence;
CREATE TABLE acknowledged (
    minute INTEGER NOT NULL,                 -- of the wall clock, since 1970
    source_id INTEGER NOT NULL REFERENCES sources (id),
    first_sequence INTEGER NOT NULL,         -- from this one on they were acknowledged then, up to the next row's
    PRIMARY KEY (minute, source_id)
) WITHOUT ROWID;
"""

# What SQLite's own check cannot see: a bit that flipped inside a value. See `rows.source_crc`; NULL until written once.
_VERSION_3 = """
ALTER TABLE sources ADD COLUMN crc32 INTEGER;
"""

# Kept batches are given up a few at a time: where a row of `acknowledged` ends is looked up each time.
_VERSION_4 = """
CREATE INDEX acknowledged_source ON acknowledged (source_id, first_sequence);
"""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A damaged outbox was set aside: where it is now, and why."""

    path: Path
    reason: str


def classify(error: sqlite3.Error, path: Path) -> BufferCorrupt | Retryable:
    """What a SQLite error means to the caller: a damaged file, or a disk that may recover."""
    name = str(getattr(error, "sqlite_errorname", ""))
    if name in _DAMAGE:
        return BufferCorrupt(f"outbox {path} is damaged: {error}", hint="it is set aside, a new one begins by itself")
    hint = "free disk space there" if name == "SQLITE_FULL" else "check the disk, and that no other program uses it"
    return Retryable(f"outbox {path} cannot be used now: {error}", hint=hint)


def migrate(path: Path) -> None:
    """Bring *path* to the current schema; a failing migration rolls back. sqlite-utils weighs 6 MB: only here."""
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

    migrations = Migrations("crossdock_outbox")

    @migrations(name="1_create")  # applied migrations are never edited; the next one is appended
    def create(database: Database) -> None:
        _execute(database, _VERSION_1)
        epoch = os.urandom(EPOCH_BYTES)
        database.execute("INSERT INTO meta (key, value) VALUES ('epoch', ?), ('fresh', x'01')", [epoch])
        database.execute("PRAGMA user_version = 1")

    @migrations(name="2_keep_acknowledged")
    def keep_acknowledged(database: Database) -> None:
        _execute(database, _VERSION_2)
        database.execute("PRAGMA user_version = 2")

    @migrations(name="3_source_checksums")
    def source_checksums(database: Database) -> None:
        _execute(database, _VERSION_3)
        database.execute("PRAGMA user_version = 3")

    @migrations(name="4_ends_of_acknowledged")
    def ends_of_acknowledged(database: Database) -> None:
        _execute(database, _VERSION_4)
        database.execute("PRAGMA user_version = 4")

    connection = connect(path)
    try:
        migrations.apply(Database(connection))
    finally:
        connection.close()


def _execute(database: Database, statements: str) -> None:
    for statement in statements.split(";\n"):
        if statement.strip():
            database.execute(statement)


def open_checked(path: Path, run_migrations: Callable[[Path], None] = migrate) -> Quarantined | None:
    """Leave a sound outbox of the current schema at *path*; says what was set aside to get there.

    Raises ConfigError when a newer version wrote it, Retryable when the disk does not answer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _prepare(path, run_migrations)
    except BufferCorrupt as error:
        aside = quarantine(path, error.message)
        _prepare(path, run_migrations)
        return aside
    return None


def inspect(path: Path) -> tuple[int, int]:
    """Unacknowledged batches and their bytes, without changing the file. Raises BufferCorrupt, or Retryable."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
        try:
            _check(connection, path)
            row = connection.execute(
                "SELECT coalesce(sum(batches), 0), coalesce(sum(bytes), 0) FROM sources"
            ).fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise classify(error, path) from error
    return int(row[0]), int(row[1])


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode: transactions are opened by hand. For any thread, one at a time."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS, cached_statements=32
    )
    try:
        if int(connection.execute("PRAGMA user_version").fetchone()[0]) == 0:  # setting them writes to the file
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_BYTES // PAGE_BYTES}")
        connection.execute(f"PRAGMA journal_size_limit = {2 * WAL_BYTES}")
        connection.execute("PRAGMA cache_size = -2048")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def quarantine(path: Path, reason: str) -> Quarantined:
    """Set the outbox at *path* aside as `<name>.corrupt-<utc>`, with its WAL. Every connection must be closed.

    The main file goes first: SQLite deletes a WAL without one, but a main file without its WAL would be an older outbox
    whose sequences the controller has already seen.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            _rename(part, path.with_name(aside.name + suffix))
    logger.bind(file=str(aside)).error("outbox set aside, a new epoch begins: {}", reason)
    return Quarantined(aside, reason)


def _rename(part: Path, target: Path) -> None:
    """Raises Retryable when the disk does not do it (a full one may not even rename)."""
    for attempt in range(50):  # on Windows a virus scanner may hold the file for a moment
        try:
            part.replace(target)
        except OSError as error:
            if not isinstance(error, PermissionError) or attempt == 49:
                raise Retryable(
                    f"{part} is damaged and cannot be set aside: {error.strerror}",
                    hint="free disk space there, and see that the service may write to its directory",
                ) from error
            time.sleep(0.1)
        else:
            return


def _prepare(path: Path, run_migrations: Callable[[Path], None]) -> None:
    if path.is_dir():
        raise BufferCorrupt(f"outbox {path} is a directory")
    try:
        version = _checked_version(path)
        if version > SCHEMA_VERSION:
            raise ConfigError(
                f"outbox {path} has schema {version}, this agent knows {SCHEMA_VERSION}",
                hint="install the newer crossdock-agent again; the outbox keeps its batches and is never downgraded",
            )
        if version < SCHEMA_VERSION:
            run_migrations(path)
    except sqlite3.Error as error:
        raise classify(error, path) from error


def _checked_version(path: Path) -> int:
    connection = connect(path)
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version:
            _check(connection, path)
        return version
    finally:
        connection.close()


def _check(connection: sqlite3.Connection, path: Path) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if path.stat().st_size <= FULL_CHECK_BYTES:
        findings = connection.execute("PRAGMA quick_check(3)").fetchall()
    else:  # the small tables by page, the large one by its index: seconds for tens of gigabytes
        findings = [
            row
            for table in ("meta", "sources", "ledger", "releases", *(("acknowledged",) if version > 1 else ()))
            for row in connection.execute(f"PRAGMA quick_check({table})")
        ]
    said = [str(row[0]) for row in findings if row[0] != "ok"]
    said += [f"source {name}: the batches do not add up" for (name,) in connection.execute(_uneven(version))]
    said += _flipped(connection) if version > 2 else []
    epoch = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    if epoch is None or len(epoch[0]) != EPOCH_BYTES:
        said.append("the epoch is missing")
    if said:
        raise BufferCorrupt(f"outbox {path} is damaged: {'; '.join(said)[:400]}")


def _flipped(connection: sqlite3.Connection) -> list[str]:
    """Sources whose name, lane or checkpoint is not what was written. Read as bytes: it need not be text any more."""
    rows = connection.execute("SELECT cast(name AS BLOB), cast(lane AS BLOB), checkpoint, crc32 FROM sources")
    return [
        f"source {name.decode('utf-8', 'replace')}: its checkpoint differs from its checksum"
        for name, lane, checkpoint, crc32 in rows
        if crc32 is not None and crc32 != source_crc(name, lane, checkpoint)
    ]


def _uneven(version: int) -> str:
    """Names of sources whose batches are not one gapless run up to the last, or are not as many as counted."""
    kept = "kept_batches" if version > 1 else "0"
    return f"""
SELECT name FROM sources AS s
WHERE last_sequence - acked_sequence <> batches
   OR (SELECT count(*) FROM batches WHERE source_id = s.id) <> batches + {kept}
   OR coalesce((SELECT min(sequence) FROM batches WHERE source_id = s.id), acked_sequence + 1)
      <> acked_sequence + 1 - {kept}
   OR coalesce((SELECT max(sequence) FROM batches WHERE source_id = s.id), last_sequence) <> last_sequence
"""
