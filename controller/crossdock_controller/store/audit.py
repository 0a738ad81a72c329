"""The audit log: append-only, each entry carrying the digest of the one before it and of itself.

Whoever changes something appends in the same transaction. An actor is "local:NAME" (a command on the controller's own
machine), "user:NAME" (through the API), "agent:NAME", or "controller". Details never hold a secret or a payload.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class Entry:
    seq: int
    at_us: int
    actor: str
    action: str  # noun and verb: "agents.revoke", "revision.apply"
    target: str
    details: str  # JSON, sorted keys
    hash: bytes


def append(
    db: sqlite3.Connection,
    *,
    actor: str,
    action: str,
    now_us: int,
    target: str = "",
    details: Mapping[str, object] | None = None,
) -> int:
    """Add an entry; its number. In a transaction of the caller, with the change that it tells of."""
    last = db.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    seq, previous = (last[0] + 1, bytes(last[1])) if last else (1, GENESIS)
    text = json.dumps(dict(details or {}), ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    digest = digest_of(previous, seq, now_us, actor, action, target, text)
    db.execute(
        "INSERT INTO audit(seq, at_us, actor, action, target, details, hash) VALUES(?,?,?,?,?,?,?)",
        (seq, now_us, actor, action, target, text, digest),
    )
    return seq


def digest_of(previous: bytes, seq: int, at_us: int, actor: str, action: str, target: str, details: str) -> bytes:
    """SHA-256 over the digest before and the fields as a JSON array: no two entries read as the same bytes."""
    fields = json.dumps([seq, at_us, actor, action, target, details], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(previous + fields.encode("utf-8", "surrogatepass")).digest()


def head(db: sqlite3.Connection) -> tuple[int, bytes]:
    """(number, digest) of the newest entry; (0, GENESIS) while there is none."""
    row = db.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    return (row[0], bytes(row[1])) if row else (0, GENESIS)


def hash_at(db: sqlite3.Connection, seq: int) -> bytes | None:
    row = db.execute("SELECT hash FROM audit WHERE seq = ?", (seq,)).fetchone()
    return bytes(row[0]) if row else None


def entries(
    db: sqlite3.Connection,
    *,
    since_us: int = 0,
    actor: str | None = None,
    action: str | None = None,
    target: str | None = None,
    after: int | None = None,
    limit: int = 100,
) -> list[Entry]:
    """Newest first; with *after*, those beyond that number, oldest first. *actor* is "user:anna" or only the name,
    *action* "agents.revoke" or only the noun."""
    where, values = ["at_us >= ?"], list[object]([since_us])
    if actor is not None:
        where.append("(actor = ? OR substr(actor, instr(actor, ':') + 1) = ?)")
        values += [actor, actor]
    if action is not None:
        where.append("(action = ? OR substr(action, 1, ?) = ?)")
        values += [action, len(action) + 1, f"{action}."]
    if target is not None:
        where.append("target = ?")
        values.append(target)
    if after is not None:
        where.append("seq > ?")
        values.append(after)
    order = "DESC" if after is None else "ASC"
    query = f"SELECT {_COLUMNS} FROM audit WHERE {' AND '.join(where)} ORDER BY seq {order} LIMIT ?"
    return [_entry(row) for row in db.execute(query, (*values, limit))]


@dataclass(frozen=True, slots=True)
class Walked:
    """*entries* from the beginning hold together. *broken* is the number of the first that does not, 0 when all do."""

    entries: int
    broken: int
    problem: str


def walk(db: sqlite3.Connection) -> Walked:
    """Compute every digest again. One pass, entry by entry."""
    sound, previous = 0, GENESIS
    for row in db.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY seq"):
        entry = _entry(row)
        if entry.seq != sound + 1:
            return Walked(sound, sound + 1, f"entry {sound + 1} is missing: the next one is {entry.seq}")
        expected = digest_of(previous, entry.seq, entry.at_us, entry.actor, entry.action, entry.target, entry.details)
        if expected != entry.hash:
            return Walked(sound, entry.seq, f"entry {entry.seq} is not what was written, or not in its place")
        sound, previous = entry.seq, entry.hash
    return Walked(sound, 0, "")


_COLUMNS = "seq, at_us, actor, action, target, details, hash"


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, at_us, actor, action, target, details, digest = row
    return Entry(seq, at_us, actor, action, target, details, bytes(digest))
