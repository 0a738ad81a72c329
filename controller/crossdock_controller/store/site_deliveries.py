"""Deliveries to writers at sites, on their way through this store: put here by a sink, taken by the gateway, settled by
the site's receipt. A row is the whole truth: whoever is killed goes on from it.

    waiting -> applied -> undone        waiting -> rejected -> (sent again by a person) waiting

Functions that write belong in a transaction of the caller. Times are microseconds since the epoch, UTC.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from crossdock_controller.store import exceptions
from crossdock_controller.store.exceptions import Item

PAGE = 500


class Addressed(msgspec.Struct, frozen=True, gc=False):
    """One event for one writer at a site. *asked* is the dispatcher's number of the attempt."""

    id: bytes
    event_seq: int
    document: str
    key: str
    payload: bytes
    asked: int


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """As the agent gets it. *undo_of* is the id of the delivery to take back, else None."""

    sequence: int
    id: bytes
    writer: str
    document: str
    key: str
    event_seq: int
    undo_of: bytes | None
    attempt: int
    payload: bytes


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What a site said of a delivery: *verdict* is "applied", "rejected" or "retry" (it tries again by itself)."""

    id: bytes
    attempt: int
    verdict: str
    code: str
    reason: str
    place: str


@dataclass(frozen=True, slots=True)
class SiteDelivery:
    """A row for people. *state* is waiting, applied, rejected or undone; *kind* says whether it takes back another."""

    id: str
    sequence: int
    kind: str  # "delivery" or "undo"
    sink: str
    site: str
    agent: str
    writer: str
    document: str
    key: str
    event_seq: int
    attempt: int
    state: str
    code: str
    reason: str
    place: str
    created_us: int
    receipt_us: int


def id_of(sink: str, identity: bytes) -> bytes:
    """The delivery's id at the site, the same at every attempt: 16 bytes. *identity* is `Outgoing.identity`."""
    return hashlib.blake2b(sink.encode() + b"\x00" + identity, digest_size=16).digest()


def put(
    db: sqlite3.Connection, run: Sequence[Addressed], *, sink: str, site: str, agent: str, writer: str, now_us: int
) -> None:
    """Have *run* waiting for *agent*, in its order. What waits there or was applied stays as it is; what was rejected
    and is asked for anew, or was taken back by a person, begins again with a higher attempt. In a transaction."""
    for new in run:
        row = db.execute(
            "SELECT state, attempt, asked, agent, writer FROM site_deliveries WHERE id = ?", (new.id,)
        ).fetchone()
        attempt = 1
        if row is not None:
            state, attempt, asked, had, by = row
            moved = state == "waiting" and (had, by) != (agent, writer)  # the site's agent is another one now
            if not moved and (state in ("waiting", "applied") or (state == "rejected" and asked >= new.asked)):
                continue
            db.execute("DELETE FROM site_deliveries WHERE id = ?", (new.id,))
            attempt += 1
        db.execute(
            "INSERT INTO site_deliveries(id, sink, site, agent, writer, document, key, event_seq, attempt, asked,"
            " state, created_us, payload) VALUES(?,?,?,?,?,?,?,?,?,?,'waiting',?,?)",
            (new.id, sink, site, agent, writer, new.document, new.key, new.event_seq, attempt, new.asked, now_us,
             new.payload),
        )  # fmt: skip


def put_undo(db: sqlite3.Connection, row: SiteDelivery, now_us: int) -> bytes:
    """Have its agent take back what *row* wrote; the id of the order. In a transaction."""
    of = bytes.fromhex(row.id)
    id_ = hashlib.blake2b(b"undo\x00" + of + row.attempt.to_bytes(4, "big"), digest_size=16).digest()
    known = db.execute("SELECT state, attempt FROM site_deliveries WHERE id = ?", (id_,)).fetchone()
    if known is not None and known[0] != "rejected":
        return id_
    attempt = known[1] + 1 if known is not None else 1
    db.execute("DELETE FROM site_deliveries WHERE id = ?", (id_,))
    db.execute(
        "INSERT INTO site_deliveries(id, sink, site, agent, writer, document, key, event_seq, undo_of, attempt, asked,"
        " state, created_us, payload) VALUES(?,?,?,?,?,?,?,?,?,?,0,'waiting',?,x'')",
        (id_, row.sink, row.site, row.agent, row.writer, row.document, row.key, row.event_seq, of, attempt, now_us),
    )
    return id_


def verdicts(db: sqlite3.Connection, ids: Iterable[bytes]) -> dict[bytes, tuple[str, str, str]]:
    """(state, code, reason) of each of *ids* that is here."""
    found: dict[bytes, tuple[str, str, str]] = {}
    wanted = list(ids)
    for start in range(0, len(wanted), PAGE):
        some = wanted[start : start + PAGE]
        places = ",".join("?" * len(some))
        rows = db.execute(f"SELECT id, state, code, reason FROM site_deliveries WHERE id IN ({places})", some)
        found.update({bytes(id_): (state, code, reason) for id_, state, code, reason in rows})
    return found


def is_elsewhere(db: sqlite3.Connection, sink: str, agent: str, writer: str) -> bool:
    """Whether something of *sink* waits for another agent or writer than these."""
    query = (
        "SELECT 1 FROM site_deliveries WHERE state = 'waiting' AND sink = ? AND undo_of IS NULL"
        " AND (agent <> ? OR writer <> ?) LIMIT 1"
    )
    return db.execute(query, (sink, agent, writer)).fetchone() is not None


def waiting(db: sqlite3.Connection, agent: str, after: int, limit: int) -> list[Waiting]:
    """What waits for *agent* beyond sequence *after*, in order."""
    rows = db.execute(
        "SELECT sequence, id, writer, document, key, event_seq, undo_of, attempt, payload FROM site_deliveries"
        " WHERE state = 'waiting' AND agent = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        (agent, after, limit),
    )
    return [
        Waiting(seq, bytes(i), w, d, k, e, None if u is None else bytes(u), a, bytes(p or b""))
        for seq, i, w, d, k, e, u, a, p in rows
    ]


def newest_waiting(db: sqlite3.Connection) -> dict[str, int]:
    """By agent, the sequence of the last delivery that waits for it."""
    return dict(
        db.execute("SELECT agent, max(sequence) FROM site_deliveries WHERE state = 'waiting' GROUP BY agent").fetchall()
    )


def settle(db: sqlite3.Connection, agent: str, receipts: Iterable[Settled], now_us: int) -> None:
    """Store what *agent* said of its own deliveries; what has its verdict already keeps it. In a transaction."""
    for receipt in receipts:
        row = db.execute(
            "SELECT sink, site, writer, document, key, event_seq, undo_of, attempt FROM site_deliveries"
            " WHERE id = ? AND agent = ? AND state = 'waiting'",
            (receipt.id, agent),
        ).fetchone()
        if row is None or row[7] != receipt.attempt:
            continue
        state = "waiting" if receipt.verdict == "retry" else receipt.verdict
        settled_us = 0 if state == "waiting" else now_us
        db.execute(
            "UPDATE site_deliveries SET state = ?, code = ?, reason = ?, place = ?, receipt_us = ?,"
            " payload = CASE WHEN ? = 'waiting' THEN payload END WHERE id = ?",
            (state, receipt.code, receipt.reason, receipt.place, settled_us, state, receipt.id),
        )
        _consequences(db, row, receipt, now_us)


def _consequences(db: sqlite3.Connection, row: tuple[object, ...], receipt: Settled, now_us: int) -> None:
    sink, site, writer, document, key, event_seq, undo_of, _ = row
    if receipt.verdict == "applied" and undo_of is not None:
        db.execute("UPDATE site_deliveries SET state = 'undone' WHERE id = ? AND state = 'applied'", (undo_of,))
    if receipt.verdict == "applied" and receipt.attempt > 1:
        exceptions.resolve_events(db, [int(str(event_seq))], by=f"site:{site}", outcome="applied", now_us=now_us)
    if receipt.verdict == "rejected" and receipt.code == "conflict":
        what = "undo of " if undo_of is not None else ""
        item = Item(
            kind="conflict", severity="reject", cause=f"write_back_conflict:{sink}:{writer}",
            title=f"{what}{document} {key} at {site}: {receipt.reason}"[:500], site=str(site), document=str(document),
            key=str(key), sink=str(sink), event_seq=int(str(event_seq)),
        )  # fmt: skip
        exceptions.add(db, [item], now_us)


_COLUMNS = (
    "hex(id), sequence, CASE WHEN undo_of IS NULL THEN 'delivery' ELSE 'undo' END, sink, site, agent, writer, document,"
    " key, event_seq, attempt, state, code, reason, place, created_us, receipt_us"
)


def get(db: sqlite3.Connection, id_: bytes) -> SiteDelivery | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM site_deliveries WHERE id = ?", (id_,)).fetchone()
    return _row(row) if row else None


def listed(
    db: sqlite3.Connection, *, sink: str | None, document: str | None, key: str | None, state: str | None, limit: int
) -> list[SiteDelivery]:
    """Newest first."""
    wanted = {"sink": sink, "document": document, "key": key, "state": state}
    given = {name: value for name, value in wanted.items() if value is not None}
    where = " AND ".join(f"{name} = ?" for name in given) or "1"
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM site_deliveries WHERE {where} ORDER BY sequence DESC LIMIT ?",
        (*given.values(), limit),
    )
    return [_row(row) for row in rows]


def last_applied(db: sqlite3.Connection, sink: str, document: str, key: str) -> SiteDelivery | None:
    """The latest version of a document that is at the site by this sink."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM site_deliveries WHERE sink = ? AND document = ? AND key = ? AND undo_of IS NULL"
        " AND state = 'applied' ORDER BY event_seq DESC, sequence DESC LIMIT 1",
        (sink, document, key),
    ).fetchone()
    return _row(row) if row else None


def purge(db: sqlite3.Connection, before_us: int, limit: int = 5000) -> int:
    """Forget applied ones of before *before_us*; how many went. They cannot be undone any more."""
    return db.execute(
        "DELETE FROM site_deliveries WHERE sequence IN (SELECT sequence FROM site_deliveries"
        " WHERE receipt_us > 0 AND receipt_us < ? AND state IN ('applied', 'undone') LIMIT ?)",
        (before_us, limit),
    ).rowcount


def _row(values: tuple[object, ...]) -> SiteDelivery:
    fields = list(values)
    fields[0] = str(fields[0]).lower()
    return SiteDelivery(*fields)  # type: ignore[arg-type]
