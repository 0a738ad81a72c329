"""The audit log for people: who did what, and the proof that nobody changed it."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

from crossdock_controller import heads
from crossdock_controller.authority import Authority
from crossdock_controller.heads import Head
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit as store
from crossdock_controller.store import connection

PAGE = 100
MOST = 5000
Limit = Annotated[int, Meta(ge=1, le=MOST)]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """*hash* is in hex; *details* hold neither secrets nor payloads."""

    seq: int
    at_us: int
    actor: str
    action: str
    target: str
    details: dict[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Verified:
    """*entries* hold together from the first on. *broken* is the number of the first entry at fault (0: none), and
    *problem* says what is wrong with it. *heads* signed heads were compared, the newest of entry *covered* at
    *covered_us*; entries after it have no second witness yet. *foreign* heads were signed by no authority that this
    controller ever had."""

    sound: bool
    entries: int
    broken: int
    problem: str
    heads: int
    foreign: int
    covered: int
    covered_us: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A head of the log that was kept elsewhere: entry *seq* had this digest, hex."""

    seq: int
    hash: str


@served
def audit_list(
    data: DataDirectory,
    *,
    since_us: int = 0,
    actor: str | None = None,
    action: str | None = None,
    target: str | None = None,
    after: int | None = None,
    limit: Limit = PAGE,
) -> list[AuditEntry]:
    """Newest first; with *after*, those beyond that number, oldest first. *actor* is "user:anna" or only the name,
    *action* "agents.revoke" or only the noun."""
    with closing(connection.connect(data.state)) as db:
        found = store.entries(
            db, since_us=since_us, actor=actor, action=action, target=target, after=after, limit=min(limit, MOST)
        )
    return [AuditEntry(e.seq, e.at_us, e.actor, e.action, e.target, _details(e.details), e.hash.hex()) for e in found]


@served
def audit_verify(data: DataDirectory, witness: Kept | None = None) -> Verified:
    """Every digest computed again, and the log compared with its signed heads, and with *witness*, as of a
    backup's manifest."""
    written = heads.read(data.audit_heads)
    known = heads.genuine(written, Authority.open(data.authority).record)
    told = [*known, *([Head(witness.seq, witness.hash, 0)] if witness else [])]
    with closing(connection.connect(data.state)) as db, connection.snapshot(db):
        walked = store.walk(db)
        last = store.head(db)[0]
        missed = next((head for head in told if _differs(store.hash_at(db, head.seq), head)), None)
    broken, problem = walked.broken, walked.problem
    if missed is not None and (not broken or missed.seq < broken):
        broken, problem = missed.seq, _missed(missed, last)
    newest = known[-1] if known else Head(0, "", 0)
    return Verified(
        not broken, walked.entries, broken, problem, len(known), len(written) - len(known), newest.seq, newest.at_us
    )


def _differs(digest: bytes | None, head: Head) -> bool:
    return head.seq > 0 and (digest is None or digest.hex() != head.hash)


def _missed(head: Head, last: int) -> str:
    if head.seq > last:
        return f"entry {head.seq} was there and is gone: the log ends at {last}, its end was cut off"
    return f"entry {head.seq} is not the one that was there: the log was written anew"


def _details(text: str) -> dict[str, Any]:
    """What cannot be read is for `audit_verify` to judge."""
    try:
        found = json.loads(text)
    except ValueError:
        return {"unreadable": text}
    return found if isinstance(found, dict) else {"unreadable": text}
