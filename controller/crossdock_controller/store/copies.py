"""Copies of the two store files: taken while they are written to, judged, and made the store of a restored controller.

A copy is one moment of its file: a read transaction is held over all its pages. In WAL mode that holds nobody up; the
file's log grows by what is written meanwhile, and shrinks again afterwards.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from crossdock.errors import Corrupt
from crossdock_controller.store import audit, enrolments, facts, holder, revocations, rollouts, tokens
from crossdock_controller.store.connection import transaction
from crossdock_controller.store.intake_schema import VERSIONS
from crossdock_controller.store.revocations import Revocation

STEP_BYTES = 4 * 1024 * 1024  # copied between two looks at *progress*
JUMP = 1_000_000_000  # of event numbers at a restore, at least: INTEGER columns of 32 bits stand one of them ...
JUMP_PER_SECOND = 10_000  # ... and at least this many events for each second since the backup

_STATE_COUNTS = {
    "agents": "SELECT count(*) FROM agents",
    "revisions": "SELECT count(*) FROM revisions",
    "events": "SELECT count(*) FROM events",
    "last_event": "SELECT coalesce(max(seq), 0) FROM events",
    "inputs": "SELECT count(*) FROM inputs",
    "dead_letters": "SELECT count(*) FROM dead_letters",
}
_INTAKE_COUNTS = {
    "streams": "SELECT count(*) FROM streams",
    "batches": "SELECT count(*) FROM batches",
    "received": "SELECT coalesce(sum(last_sequence), 0) FROM streams",
    "records": "SELECT coalesce(sum(records), 0) FROM streams",
}


class Taken(msgspec.Struct, frozen=True):
    """One file of a backup: what was in it at its moment. *schema* as text ("0002", "1")."""

    name: str
    bytes: int
    schema: str
    counts: dict[str, int]
    sha256: str = ""


class AgentState(msgspec.Struct, frozen=True):
    agent: str
    site: str
    state: str  # "active" or "revoked"


def size(path: Path) -> int:
    """Bytes that a copy of *path* takes."""
    with _reading(path) as db:
        pages, page = db.execute("SELECT * FROM pragma_page_count, pragma_page_size").fetchone()
    return int(pages) * int(page)


def take(path: Path, target: Path, progress: Callable[[int, int], None]) -> Taken:
    """Copy the file as it is now to the new file *target*. *progress* hears (bytes done, bytes in all)."""
    with (
        _reading(path) as db,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
        _sound(path),
    ):
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on it is this moment
        counts, schema = counted(db)
        (page,) = db.execute("PRAGMA page_size").fetchone()
        copy.execute("PRAGMA synchronous=OFF")  # synced once, at the end
        db.backup(
            copy, pages=max(1, STEP_BYTES // page),
            progress=lambda _status, left, pages: progress((pages - left) * page, pages * page),
        )  # fmt: skip
        db.execute("COMMIT")
    return Taken(target.name, target.stat().st_size, schema, counts)


def counted(db: sqlite3.Connection) -> tuple[dict[str, int], str]:
    """What the file holds, and the version of its schema."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        (schema,) = db.execute("SELECT version_num FROM alembic_version").fetchone()
        queries = _STATE_COUNTS
    else:
        schema = str(db.execute("PRAGMA user_version").fetchone()[0])
        queries = _INTAKE_COUNTS
    return {name: int(db.execute(query).fetchone()[0]) for name, query in queries.items()}, schema


def faults(path: Path, taken: Taken) -> list[str]:
    """What is wrong with a copy, judged alone: damage, or another content than was noted.

    SQLite's own check sees the structure of pages, not the bytes of a batch: those have a checksum of their own.
    """
    try:
        with closing(frozen(path)) as db:
            found = [str(row[0]) for row in db.execute("PRAGMA integrity_check(3)") if row[0] != "ok"]
            if found:
                return [f"{path.name} is damaged: {'; '.join(found)[:300]}"]
            counts, schema = counted(db)
            found = _unlike_their_sums(db) if "batches" in counts else []
            if found:
                return [f"{path.name} has damaged batches: {'; '.join(found)}"]
    except sqlite3.Error as error:
        return [f"{path.name} is damaged: {error}"]
    wrong = [f"{path.name} has {counts.get(n)} {n}, {was} were noted" for n, was in taken.counts.items()
             if counts.get(n) != was]  # fmt: skip
    if schema != taken.schema:
        wrong.append(f"{path.name} has schema {schema}, {taken.schema} was noted")
    return wrong


def _unlike_their_sums(db: sqlite3.Connection) -> list[str]:
    """At most three of the batches that differ from their checksum."""
    rows = db.execute("SELECT stream_id, sequence, crc32, sealed FROM batches ORDER BY id")
    wrong = (f"stream {stream}, batch {n}" for stream, n, crc32, sealed in rows if zlib.crc32(sealed) != crc32)
    return list(islice(wrong, 3))


def uncovered(state: Path, intake: Path) -> list[str]:
    """Where the state goes on from batches that the intake lacks: nobody could normalize those any more."""
    wrong = []
    with closing(frozen(state)) as db, closing(frozen(intake)) as log:
        streams = dict(log.execute("SELECT id, last_sequence FROM streams").fetchall())
        for stream_id, sequence in db.execute("SELECT stream_id, sequence FROM normalizer_checkpoints"):
            last = streams.get(stream_id)
            if last is None or sequence > last + 1:
                wrong.append(f"stream {stream_id}: normalized up to batch {sequence - 1}, the intake ends at {last}")
                continue
            (there,) = log.execute(
                "SELECT count(*) FROM batches WHERE stream_id = ? AND sequence >= ?", (stream_id, sequence)
            ).fetchone()
            if there != last + 1 - sequence:
                wrong.append(
                    f"stream {stream_id}: {last + 1 - sequence - there} batches from {sequence} on are missing"
                )
    return wrong


def store_id(path: Path) -> str:
    """In hex; empty where the schema is older than store ids."""
    with _reading(path) as db:
        known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone()
        return facts.store_id(db).hex() if known else ""


def agents(path: Path) -> list[AgentState]:
    """Everyone who ever enrolled, by name."""
    with _reading(path) as db:
        return [AgentState(*row) for row in db.execute("SELECT agent, site, state FROM agents ORDER BY agent")]


@dataclass(frozen=True, slots=True)
class Users:
    """Of the store with the id *store*: {name: whether they may sign in}."""

    store: bytes
    able: dict[str, bool]

    def gone(self, since: Users) -> list[str]:
        """Who may sign in here and may not by *since*. One who is missing there was removed only if it is the
        same store."""
        same = self.store == since.store
        return sorted(name for name, able in self.able.items() if able and not since.able.get(name, not same))


def users(path: Path) -> Users:
    """None of a store of an older release."""
    with _reading(path) as db:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'users'").fetchone() is None:
            return Users(b"", {})
        return Users(facts.store_id(db), {n: not off for n, off in db.execute("SELECT name, disabled FROM users")})


def revoked_since(path: Path, since_us: int) -> list[Revocation]:
    """None of a store of an older release."""
    with _reading(path) as db:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'revocations'").fetchone() is None:
            return []
        return [found for found in revocations.list_all(db).values() if found.at_us > since_us]


def last_event(path: Path) -> int:
    """The number of the newest event that was ever in the log."""
    with _reading(path) as db:
        row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return int(row[0]) if row else 0


def make_restored(
    path: Path,
    *,
    backup_us: int,
    now_us: int,
    beyond: int,
    revoked: list[str],
    disabled: list[str],
    void: list[Revocation],
    by: str,
    source: str,
) -> tuple[bytes, int]:
    """Turn a copy of state.db into the store of a restored controller: (its new id, the number before its next event).

    Event numbers go on far beyond any that the lost store can have given (and beyond *beyond*): sinks that let only a
    newer `$sequence` win must not take what comes now for old. Join tokens and API tokens of the backup are void (some
    were used or revoked since), *revoked* agents and *disabled* users stay so, and a rollout is paused: it may have
    been halted since. On record as done by *by*, from the backup *source*.
    """
    seconds = max(0, now_us - backup_us) // 1_000_000
    jump = max(JUMP, -(-seconds * JUMP_PER_SECOND // JUMP) * JUMP)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=FULL")
        row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        last = max((row[0] if row else 0) + jump, beyond)
        with transaction(db):
            new = facts.renew_store_id(db)
            facts.put(db, "restored_us", str(now_us).encode())
            facts.put(db, "backup_us", str(backup_us).encode())
            if row is None:
                db.execute("INSERT INTO sqlite_sequence(name, seq) VALUES('events', ?)", (last,))
            db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'events'", (last,))
            holder.forget(db)
            tokens.void_all(db)
            enrolments.void_all(db)
            db.execute("UPDATE agents SET connected = 0")
            db.executemany("UPDATE agents SET state = 'revoked' WHERE agent = ?", [(name,) for name in revoked])
            for found in void:  # also where the agent enrolled anew: what is in this store was issued before
                revocations.record(db, found.agent, found.by, found.because, found.at_us)
            db.executemany("UPDATE users SET disabled = 1 WHERE name = ?", [(name,) for name in disabled])
            db.execute("UPDATE api_tokens SET revoked_us = ? WHERE revoked_us = 0", (now_us,))
            paused = rollouts.pause_all(db)
            details = {
                "backup_us": backup_us, "store": new.hex(), "revoked_again": revoked, "rollouts_paused": paused,
                "disabled_again": disabled,
            }  # fmt: skip
            audit.append(db, actor=by, action="backup.restore", target=source, details=details, now_us=now_us)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return new, last


def free(path: Path) -> None:
    """The copy is of nobody: whoever held its original does not hold it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=FULL")
        with transaction(db):
            holder.forget(db)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def newer(taken: Taken, state_head: str) -> bool:
    """True when a later release wrote it. *state_head* is the schema of state.db in this one."""
    if taken.schema.isdigit() and taken.name.startswith("intake"):
        return int(taken.schema) > len(VERSIONS)
    return taken.schema > state_head


def frozen(path: Path) -> sqlite3.Connection:
    """A file that nobody writes to, also on a medium that cannot be written to."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)


def sync(path: Path) -> None:
    """The file's content is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Damage that shows while *path* is read becomes Corrupt; a disk that is full or busy stays what it is."""
    try:
        yield
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise Corrupt(
            f"{path} is damaged: {error}", hint="there is nothing to back up: stop the controller, restore the last one"
        ) from error


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Raises Corrupt for a file that is missing."""
    if not path.exists():
        raise Corrupt(f"{path} is not there", hint="is this the controller's data directory?")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA busy_timeout=30000")
        db.execute("PRAGMA query_only=1")
        yield db
