"""Deliveries that are not to be sent at all: a newer version of their key makes them pointless, or they are too old.

Nothing goes without a trace: a superseded one has a state and a place in the account of its own, an expired one is a
dead letter. Neither holds the later versions of its key.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping

from crossdock_controller.store import dead_letters, deliveries
from crossdock_controller.store.deliveries import State

BY = "crossdock"  # who settles the dead letters of what a newer version made pointless


def received_us(db: sqlite3.Connection, seqs: Collection[int]) -> dict[int, int]:
    """When the controller received the records of the events *seqs*."""
    rows = db.execute(
        "SELECT e.seq, i.received_us FROM json_each(?) q CROSS JOIN events e ON e.seq = q.value"
        " CROSS JOIN inputs i ON i.id = e.input_id",
        (json.dumps(list(seqs)),),
    )
    return dict(rows.fetchall())


def supersede(db: sqlite3.Connection, sink: int, seqs: Iterable[int]) -> None:
    """They are not sent and leave their chains; `settle` those after. In a transaction."""
    _leave(db, sink, State.SUPERSEDED, seqs)


def expire(db: sqlite3.Connection, sink: int, reasons: Mapping[int, str], now_us: int) -> None:
    """They become dead letters with the code "expired", and leave their chains; `settle` those after. In a
    transaction."""
    _leave(db, sink, State.EXPIRED, reasons)
    dead_letters.add_deliveries(db, sink, [(seq, "expired", reason) for seq, reason in reasons.items()], now_us)


def pass_dead(
    db: sqlite3.Connection, sink: int, chains: Iterable[int], documents: Collection[str], now_us: int
) -> list[int]:
    """Dead deliveries of *documents* that a newer version of their key waits behind are superseded by it, their letters
    settled on record; their chains, to be settled after. In a transaction."""
    rows = db.execute(
        "SELECT d.event_seq, d.chain FROM json_each(?1) q CROSS JOIN deliveries d INDEXED BY deliveries_chain"
        " ON d.sink_id = ?2 AND d.chain = q.value CROSS JOIN events e ON e.seq = d.event_seq"
        " WHERE d.state = ?3 AND e.document IN (SELECT value FROM json_each(?4))",
        (json.dumps(list(chains)), sink, int(State.DEAD), json.dumps(sorted(documents))),
    ).fetchall()
    passed = deliveries.with_newer(db, sink, [seq for seq, _ in rows], waiting=True) if rows else set()
    if not passed:
        return []
    supersede(db, sink, passed)
    for letter in dead_letters.open_of(db, sink, sorted(passed)):
        dead_letters.resolve(db, letter, "discarded", BY, "superseded by a newer version of its key", now_us)
    return [chain for seq, chain in rows if seq in passed]


def _leave(db: sqlite3.Connection, sink: int, state: State, seqs: Iterable[int]) -> None:
    db.executemany(
        "UPDATE deliveries SET state = ?, due_us = NULL, chain = NULL, since_us = NULL"
        " WHERE sink_id = ? AND event_seq = ?",
        [(int(state), sink, seq) for seq in seqs],
    )
