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
