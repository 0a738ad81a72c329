"""Events that a rule holds until a person decides, or until the master records come that they refer to.

A held event is in the log like any other, its deliveries stopped (`deliveries.stop`): later versions of its key wait
behind it, nobody else does. Everything here happens in the caller's transaction, with what it is about.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from crossdock.errors import Refused
from crossdock_controller.outcomes import Hold, Locator
from crossdock_controller.store import audit, deliveries, events, exceptions
from crossdock_controller.store.exceptions import Item

CONTROLLER = "controller"
State = Literal["open", "released", "discarded"]
_ITEMS = 20  # exceptions of one event at most: a document of 1,000 unknown items is one piece of work all the same


@dataclass(frozen=True, slots=True)
class Held:
    """One event that is, or was, held. *waits* are masters still missing, as (document, key); *later* counts newer
    versions of the same document, which wait behind it."""

    seq: int
    site: str
    source: str
    document: str
    key: str
    reasons: tuple[Hold, ...]
    waits: tuple[tuple[str, str], ...]
    by_hand: bool  # at least one reason is for a person alone
    locator: Locator
    records: int
    later: int
    state: State
    opened_us: int
    resolved_us: int
    resolved_by: str
    note: str


_SELECT = (
    "SELECT h.event_seq, s.site, s.source, e.document, e.key, h.reasons, h.by_hand, i.origin_kind, i.origin_name,"
    " e.record, e.line, coalesce(e.locator, ''), e.records,"
    " (SELECT count(*) FROM events n WHERE n.document = e.document AND n.key = e.key AND n.seq > e.seq),"
    " h.state, h.opened_us, h.resolved_us, h.resolved_by, h.note"
    " FROM holds h JOIN events e ON e.seq = h.event_seq JOIN inputs i ON i.id = e.input_id"
    " JOIN sources s ON s.id = i.source_id"
)
_reasons = msgspec.json.Decoder(tuple[Hold, ...]).decode


def add(db: sqlite3.Connection, held: Iterable[tuple[int, Sequence[Hold]]], now_us: int) -> None:
    """(event seq, why) of events appended in this transaction, whose deliveries are stopped. What they wait for may
    have come meanwhile: `arrived` after."""
    for seq, reasons in held:
        by_hand = any(not reason.waits for reason in reasons)
        db.execute(
            "INSERT INTO holds(event_seq, reasons, by_hand, opened_us) VALUES(?,?,?,?)",
            (seq, msgspec.json.encode(reasons).decode(), int(by_hand), now_us),
        )
        db.executemany(
            "INSERT OR IGNORE INTO hold_waits(document, key, event_seq) VALUES(?,?,?)",
            [(document, key, seq) for reason in reasons for document, key in reason.waits],
        )
        exceptions.add(db, _items(get(db, seq)), now_us)


def _items(held: Held) -> list[Item]:
    """One for each cause: a missing master is the same cause for all that refer to it."""
    causes: dict[str, str] = {}
    for reason in held.reasons:
        for document, key in reason.waits:
            causes.setdefault(f"{reason.code}:{document}:{key}", reason.reason)
        if not reason.waits:
            causes.setdefault(f"{reason.code}:{held.document}:{reason.field}", reason.reason)
    return [
        Item(
            kind="hold", severity="hold", cause=cause, title=f"{held.document} {held.key} is held: {said}",
            site=held.site, source=held.source, document=held.document, key=held.key, event_seq=held.seq,
        )
        for cause, said in list(causes.items())[:_ITEMS]
    ]  # fmt: skip


def waited_for(db: sqlite3.Connection) -> set[str]:
    """Kinds of documents that some held event waits for; empty in a store that holds none, at the cost of one look."""
    if db.execute("SELECT 1 FROM hold_waits LIMIT 1").fetchone() is None:
        return set()
    return {document for (document,) in db.execute("SELECT DISTINCT document FROM hold_waits")}


def missing(db: sqlite3.Connection, seqs: Iterable[int]) -> dict[str, set[str]]:
    """What these events wait for: keys by document."""
    found: dict[str, set[str]] = {}
    query = "SELECT w.document, w.key FROM json_each(?) q JOIN hold_waits w ON w.event_seq = q.value"
    for document, key in db.execute(query, (json.dumps(list(seqs)),)):
        found.setdefault(document, set()).add(key)
    return found


def arrived(db: sqlite3.Connection, masters: Mapping[str, Iterable[str]], now_us: int) -> list[int]:
    """These masters (keys by document) are in the log now: events that waited for nothing else go on; which."""
    touched: set[int] = set()
    for document, keys in masters.items():
        rows = db.execute(
            "DELETE FROM hold_waits WHERE document = ? AND key IN (SELECT value FROM json_each(?)) RETURNING event_seq",
            (document, json.dumps(list(keys))),
        )
        touched |= {seq for (seq,) in rows.fetchall()}
    if not touched:
        return []
    free = db.execute(
        "SELECT q.value FROM json_each(?) q JOIN holds h ON h.event_seq = q.value AND h.state = 'open'"
        " AND h.by_hand = 0 WHERE NOT EXISTS (SELECT 1 FROM hold_waits w WHERE w.event_seq = q.value) ORDER BY 1",
        (json.dumps(sorted(touched)),),
    ).fetchall()
    for (seq,) in free:
        _settle(db, seq, "released", CONTROLLER, "what it referred to has come", now_us)
    return [seq for (seq,) in free]


def known_meanwhile(db: sqlite3.Connection, seqs: Iterable[int]) -> dict[str, set[str]]:
    """What these events wait for and the log has: it came after the look at the log, or in this transaction."""
    return {
        document: found for document, keys in missing(db, seqs).items() if (found := events.known(db, document, keys))
    }


def release(db: sqlite3.Connection, seq: int, *, by: str, note: str, now_us: int) -> None:
    """Its deliveries are due now. On record. Raises Refused when it is not held."""
    _open(db, seq)
    _settle(db, seq, "released", by, note, now_us)
    audit.append(db, actor=by, action="holds.release", target=str(seq), now_us=now_us)


def discard(db: sqlite3.Connection, seq: int, *, by: str, note: str, now_us: int) -> None:
    """It goes nowhere, and what stands behind it goes on. On record. Raises Refused when it is not held."""
    _open(db, seq)
    _settle(db, seq, "discarded", by, note, now_us)
    audit.append(db, actor=by, action="holds.discard", target=str(seq), now_us=now_us)


def _settle(
    db: sqlite3.Connection, seq: int, state: Literal["released", "discarded"], by: str, note: str, now_us: int
) -> None:
    db.execute(
        "UPDATE holds SET state = ?, resolved_us = ?, resolved_by = ?, note = ? WHERE event_seq = ?",
        (state, now_us, by, note, seq),
    )
    db.execute("DELETE FROM hold_waits WHERE event_seq = ?", (seq,))
    deliveries.start(db, seq, now_us, discard=state == "discarded")
    exceptions.resolve_events(db, [seq], by=by, outcome=state, now_us=now_us)


def _open(db: sqlite3.Connection, seq: int) -> None:
    found = get(db, seq)
    if found.state != "open":
        raise Refused(
            f"event {seq} is not held any more: {found.state} by {found.resolved_by}",
            hint=f"crossdock trace {found.key} tells where it is",
        )


def get(db: sqlite3.Connection, seq: int) -> Held:
    """Raises Refused when that event was never held."""
    found = find(db, seq)
    if found is None:
        raise Refused(f"no rule holds event {seq}", hint="crossdock holds list shows those that are held")
    return found


def find(db: sqlite3.Connection, seq: int) -> Held | None:
    """None when that event was never held."""
    row = db.execute(_SELECT + " WHERE h.event_seq = ?", (seq,)).fetchone()
    return _held(db, row) if row is not None else None


def list_all(
    db: sqlite3.Connection,
    *,
    state: State | None = "open",
    document: str | None = None,
    limit: int = 100,
    after: int = 0,
) -> list[Held]:
    """Oldest first, beyond event *after*; state None means every state."""
    where, values = ["h.event_seq > ?"], list[object]((after,))
    for test, value in (("h.state = ?", state), ("e.document = ?", document)):
        if value is not None:
            where.append(test)
            values.append(value)
    query = f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY h.event_seq LIMIT ?"
    return [_held(db, row) for row in db.execute(query, (*values, limit)).fetchall()]


def count_open(db: sqlite3.Connection) -> dict[str, int]:
    """How many are held, by site."""
    rows = db.execute(
        "SELECT s.site, count(*) FROM holds h JOIN events e ON e.seq = h.event_seq JOIN inputs i ON i.id = e.input_id"
        " JOIN sources s ON s.id = i.source_id WHERE h.state = 'open' GROUP BY s.site"
    )
    return dict(rows.fetchall())


def site_of(db: sqlite3.Connection, seq: int) -> str | None:
    """The site of a held event; None when that event was never held."""
    row = db.execute(
        "SELECT s.site FROM holds h JOIN events e ON e.seq = h.event_seq JOIN inputs i ON i.id = e.input_id"
        " JOIN sources s ON s.id = i.source_id WHERE h.event_seq = ?",
        (seq,),
    ).fetchone()
    return row[0] if row else None


def _held(db: sqlite3.Connection, row: Sequence[object]) -> Held:
    seq, site, source, document, key, reasons, by_hand, kind, name, record, line, locator, *rest = row
    waits = db.execute("SELECT document, key FROM hold_waits WHERE event_seq = ? ORDER BY 1, 2", (seq,)).fetchall()
    place = Locator(kind, name, record, line, locator)  # type: ignore[arg-type]
    return Held(
        seq, site, source, document, key, _reasons(reasons), tuple(waits), bool(by_hand), place, *rest,  # type: ignore[arg-type]
    )  # fmt: skip
