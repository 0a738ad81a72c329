"""Deliveries that go before what is fresh: those of critical sources while a backlog waits, and those sent again.

They join the chain of their key, and so does whatever is fresh and earlier of the same key: it goes first, out of turn
with them. From then on the rules of `deliveries` keep the order, as they do for what failed. Nothing else moves.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from crossdock_controller.store import deliveries
from crossdock_controller.store.deliveries import URGENT_US, State, chain_of

BACKLOG = 50  # fewer fresh deliveries than this are sent in one call anyway: they keep nobody waiting


def backlog(db: sqlite3.Connection, sink: int) -> bool:
    """Whether so much is fresh at this sink that it is worth while to go before it. What is sent and not yet persisted
    counts as fresh: the answer may be yes too often, and that only costs time."""
    query = (
        "SELECT 1 FROM deliveries WHERE sink_id = ?1 AND state = ?2 AND chain IS NULL"
        " AND event_seq > (SELECT event_seq FROM sink_cursors WHERE sink_id = ?1) LIMIT 1 OFFSET ?3"
    )
    return db.execute(query, (sink, int(State.PENDING), BACKLOG)).fetchone() is not None


def urge(
    db: sqlite3.Connection, sink: int, keys: Collection[tuple[str, str]], now_us: int, due_us: int = URGENT_US
) -> None:
    """Every fresh delivery of *keys* (document, key) goes before the fresh ones of other keys, in order. In a
    transaction; whoever serves the sink finds them in their chains, even those that it has just sent."""
    chains = {(document, key): chain_of(document, key) for document, key in set(keys)}
    rows = db.execute(
        "SELECT d.event_seq, json_extract(q.value, '$[2]') FROM json_each(?1) q"
        " CROSS JOIN events e INDEXED BY events_key ON e.document = json_extract(q.value, '$[0]')"
        " AND e.key = json_extract(q.value, '$[1]')"
        " AND e.seq > (SELECT event_seq FROM sink_cursors WHERE sink_id = ?2)"
        " CROSS JOIN deliveries d ON d.sink_id = ?2 AND d.event_seq = e.seq"
        " WHERE d.state = ?3 AND d.chain IS NULL",
        (json.dumps([[*key, chain] for key, chain in chains.items()]), sink, int(State.PENDING)),
    ).fetchall()
    db.executemany(
        "UPDATE deliveries SET chain = ?, due_us = ? WHERE sink_id = ? AND event_seq = ?",
        [(chain, due_us, sink, seq) for seq, chain in rows],
    )
    db.executemany(
        "UPDATE deliveries INDEXED BY deliveries_chain SET due_us = ?"
        " WHERE sink_id = ? AND chain = ? AND state = ? AND due_us > ?",
        [(due_us, sink, chain, int(State.PENDING), due_us) for chain in chains.values()],
    )
    deliveries.settle(db, sink, chains.values(), now_us)
