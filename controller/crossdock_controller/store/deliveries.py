"""What is due where. Per sink and business key order is kept: whatever stands behind an unresolved delivery is held.

The bulk is fresh: rows beyond the sink's cursor, closed by range when a run is done. Only a delivery that did not go
well becomes exceptional: it gets `chain`, a number of its business key, and stays in its chain until it is resolved.
Three rules, kept by `settle` in the same transaction as every change, are all there is to order:

- a row joins its chain at the latest when the cursor passes it unresolved, and leaves it when done, discarded,
  superseded or expired;
- the head of a chain is never held, and rows behind a head that waits (retrying, dead, stopped) are;
- a row is picked only when no earlier row of its chain would be left out.

A row that a rule stopped is in its chain from the start, so it may stand there before the cursor has come to it. Once
released it waits for what is fresh before it: `pick_due` sees to that.

Functions here run within the caller's transaction, except the picks, which read.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec

from crossdock_controller.store.bodies import Bodies


class State(IntEnum):
    """Numbers are for ever; which is worse is said by SEVERITY.

    "leased" is not among them: the lease is the sink's, and a run that was not finished was never begun.
    """

    DONE = 0
    DISCARDED = 1
    PENDING = 2
    RETRYING = 3
    HELD = 4
    DEAD = 5
    STOPPED = 6  # by a rule, all deliveries of the event at once: none of them is dead beside it
    SUPERSEDED = 10  # not sent, for a newer version of its key made it pointless
    EXPIRED = 11  # a dead letter that holds nobody: it was too old when its turn came


SEVERITY = (
    State.DONE, State.SUPERSEDED, State.DISCARDED, State.PENDING, State.RETRYING, State.HELD, State.STOPPED,
    State.EXPIRED, State.DEAD,
)  # fmt: skip
"""Of several deliveries of one event the last of these is the event's state in the account."""

URGENT_US = 1  # due before anything that waits for its time


def severity_sql(column: str) -> str:
    """The place in SEVERITY of the state in *column*."""
    cases = " ".join(f"WHEN {int(state)} THEN {place}" for place, state in enumerate(SEVERITY))
    return f"CASE {column} {cases} END"


class Picked(msgspec.Struct, frozen=True, gc=False):
    """A delivery to send. *chain* is None for a fresh one; *since_us* is when its sink first put it off."""

    event_seq: int
    attempt: int
    chain: int | None
    since_us: int | None
    event_id: bytes
    document: str
    key: str
    body: bytes
    version: int = 1  # of the kind of document
    again: int | None = None  # the replay that sends it, 0 for a person who retried an expired one
    was_done: bool = False  # it was delivered before
    input_id: int = 0  # the batch it came from


@dataclass(frozen=True, slots=True)
class Failure:
    """A delivery that was tried and not done, as it shall stand now."""

    event_seq: int
    chain: int
    state: State  # RETRYING or DEAD
    attempt: int
    due_us: int | None
    since_us: int | None


LAST = 2**63 - 1
# Which index is taken is said, not left to be guessed: without statistics SQLite walks a sink's deliveries from the
# first to the last where a chain has two rows.
_PICK = (
    "SELECT d.event_seq, d.attempt, d.chain, d.since_us, e.id, e.document, e.key, e.body_id, e.body_start,"
    " e.body_length, e.version, d.again, d.run_id, e.input_id"
    " FROM deliveries d{index} CROSS JOIN events e ON e.seq = d.event_seq"
)


def chain_of(document: str, key: str) -> int:
    """The number of a business key: 64 bits of a hash. Two keys with one number would wait for each other, no worse."""
    digest = hashlib.blake2b(f"{document}\x00{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def add(db: sqlite3.Connection, sink: int, seqs: Sequence[int]) -> None:
    """Fresh deliveries of events that were appended in this transaction, *seqs* ascending."""
    for first, last in ranges(seqs):
        if last - first < 8:
            db.executemany(
                "INSERT INTO deliveries(sink_id, event_seq, state, attempt) VALUES(?,?,?,0)",
                [(sink, seq, int(State.PENDING)) for seq in range(first, last + 1)],
            )
        else:
            db.execute(
                "INSERT INTO deliveries(sink_id, event_seq, state, attempt)"
                " SELECT ?, seq, ?, 0 FROM events WHERE seq BETWEEN ? AND ?",
                (sink, int(State.PENDING), first, last),
            )


def ranges(seqs: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending numbers as (first, last) of each gapless stretch."""
    found: list[tuple[int, int]] = []
    first = last = None
    for seq in seqs:
        if last is not None and first is not None and seq != last + 1:
            found.append((first, last))
            first = seq
        elif first is None:
            first = seq
        last = seq
    if first is not None and last is not None:
        found.append((first, last))
    return found


def pick_fresh(
    db: sqlite3.Connection, bodies: Bodies, sink: int, after: int, limit: int, up_to: int = LAST
) -> list[Picked]:
    """The next fresh deliveries beyond *after*, in event order."""
    rows = db.execute(
        _PICK.format(index="")
        + " WHERE d.sink_id = ? AND d.event_seq > ? AND d.event_seq <= ? AND d.state = ? AND d.chain IS NULL"
        " ORDER BY d.event_seq LIMIT ?",
        (sink, after, up_to, int(State.PENDING), limit),
    )
    return _picked(rows, bodies)


def pick_due(
    db: sqlite3.Connection, bodies: Bodies, sink: int, now_us: int, limit: int, ahead: int, up_to: int = LAST
) -> list[Picked]:
    """Exceptional deliveries whose time has come, longest due first, then put in event order.

    One whose chain has an earlier row that is not due, or due later, waits: its head goes first. One beyond *ahead*,
    how far fresh deliveries were picked, waits for those before it, of whatever key, unless it is urgent: then those of
    its key are in its chain (see `urgent`).
    """
    rows = db.execute(
        _PICK.format(index=" INDEXED BY deliveries_due") + " WHERE d.sink_id = ?1 AND d.due_us <= ?2"
        " AND d.event_seq <= ?6 AND NOT EXISTS (SELECT 1 FROM deliveries b INDEXED BY deliveries_chain"
        " WHERE b.sink_id = ?1 AND b.chain = d.chain AND b.event_seq < d.event_seq"
        " AND (b.due_us IS NULL OR b.due_us > d.due_us))"
        " AND (d.event_seq <= ?4 OR d.due_us <= ?7"
        " OR NOT EXISTS (SELECT 1 FROM deliveries f WHERE f.sink_id = ?1 AND f.event_seq > ?4"
        " AND f.event_seq < d.event_seq AND f.state = ?5 AND f.chain IS NULL))"
        " ORDER BY d.due_us, d.event_seq LIMIT ?3",
        (sink, now_us, limit, ahead, int(State.PENDING), up_to, URGENT_US),
    )
    return sorted(_picked(rows, bodies), key=lambda p: p.event_seq)


def _picked(rows: Iterable[Any], bodies: Bodies) -> list[Picked]:
    get = bodies.get
    return [
        Picked(
            seq, attempt, chain, since_us, event_id, document, key, get(chunk, start, length), version, again,
            run is not None, origin,
        )
        for (
            seq, attempt, chain, since_us, event_id, document, key, chunk, start, length, version, again, run, origin
        ) in rows
    ]  # fmt: skip


def bring_forward(db: sqlite3.Connection, sink: int, now_us: int, by_us: int) -> None:
    """The clock was set back by *by_us*: what waits for a later time waits as long as it was to. In a transaction."""
    db.execute(
        "UPDATE deliveries SET due_us = max(?, due_us - ?) WHERE sink_id = ? AND due_us > ?",
        (now_us, by_us, sink, now_us),
    )


def next_due_us(db: sqlite3.Connection, sink: int) -> int | None:
    """When the next exceptional delivery is due."""
    row = db.execute(
        "SELECT min(due_us) FROM deliveries INDEXED BY deliveries_due WHERE sink_id = ? AND due_us IS NOT NULL", (sink,)
    ).fetchone()
    return row[0] if row else None


def has_chains(db: sqlite3.Connection, sink: int) -> bool:
    """Whether anything of this sink is unresolved; while nothing is, fresh deliveries need no look at their keys."""
    query = "SELECT 1 FROM deliveries INDEXED BY deliveries_chain WHERE sink_id = ? AND chain IS NOT NULL LIMIT 1"
    return db.execute(query, (sink,)).fetchone() is not None


def blocked(db: sqlite3.Connection, sink: int, chains: Iterable[int]) -> dict[int, int]:
    """Those of *chains* that have an unresolved row in this sink, and the first event of each: what comes after that
    one waits. What a rule stopped may stand behind rows that are still fresh: those need not."""
    rows = db.execute(
        "SELECT c.value, (SELECT min(event_seq) FROM deliveries INDEXED BY deliveries_chain"
        " WHERE sink_id = ? AND chain = c.value) AS first"
        " FROM json_each(?) c WHERE first IS NOT NULL",
        (sink, json.dumps(list(chains))),
    )
    return dict(rows.fetchall())


def close_range(db: sqlite3.Connection, sink: int, first: int, last: int, run_id: int) -> int:
    """Fresh deliveries from *first* to *last* are done, but for those that joined a chain; how many."""
    return db.execute(
        "UPDATE deliveries SET state = ?, attempt = attempt + 1, run_id = ?"
        " WHERE sink_id = ? AND event_seq BETWEEN ? AND ? AND state = ? AND chain IS NULL",
        (int(State.DONE), run_id, sink, first, last, int(State.PENDING)),
    ).rowcount


def joined(db: sqlite3.Connection, sink: int, seqs: Iterable[int]) -> dict[int, int]:
    """{event seq: chain} of those of *seqs* that are still open, and in a chain by now."""
    rows = db.execute(
        "SELECT d.event_seq, d.chain FROM json_each(?) q CROSS JOIN deliveries d"
        " ON d.sink_id = ? AND d.event_seq = q.value"
        " WHERE d.chain IS NOT NULL AND d.state = ?",
        (json.dumps(list(seqs)), sink, int(State.PENDING)),
    )
    return dict(rows.fetchall())


def close(db: sqlite3.Connection, sink: int, seqs: Iterable[int], run_id: int) -> None:
    """Exceptional deliveries are done and leave their chains; `settle` those after."""
    db.executemany(
        "UPDATE deliveries SET state = ?, attempt = attempt + 1, run_id = ?, due_us = NULL, chain = NULL,"
        " since_us = NULL WHERE sink_id = ? AND event_seq = ?",
        [(int(State.DONE), run_id, sink, seq) for seq in seqs],
    )


def fail(db: sqlite3.Connection, sink: int, failures: Iterable[Failure]) -> None:
    db.executemany(
        "UPDATE deliveries SET state = ?, attempt = ?, due_us = ?, chain = ?, since_us = ?"
        " WHERE sink_id = ? AND event_seq = ?",
        [(int(f.state), f.attempt, f.due_us, f.chain, f.since_us, sink, f.event_seq) for f in failures],
    )


def hold(db: sqlite3.Connection, sink: int, held: Iterable[tuple[int, int]]) -> None:
    """(event seq, chain) of deliveries that stand behind an earlier one of their key; `settle` their chains after."""
    db.executemany(
        "UPDATE deliveries SET state = ?, due_us = NULL, chain = ? WHERE sink_id = ? AND event_seq = ?",
        [(int(State.HELD), chain, sink, seq) for seq, chain in held],
    )


def settle(db: sqlite3.Connection, sink: int, chains: Iterable[int], now_us: int) -> None:
    """Restore the rule of the head after any change to *chains*: free what waits for nobody, hold what must wait."""
    for chain in set(chains):
        head = db.execute(
            "SELECT event_seq, state FROM deliveries INDEXED BY deliveries_chain WHERE sink_id = ? AND chain = ?"
            " ORDER BY event_seq LIMIT 1",
            (sink, chain),
        ).fetchone()
        if head is None:
            continue
        if head[1] == State.HELD:
            db.execute(
                "UPDATE deliveries INDEXED BY deliveries_chain SET state = ?, due_us = ?"
                " WHERE sink_id = ? AND chain = ? AND state = ?",
                (int(State.PENDING), now_us, sink, chain, int(State.HELD)),
            )
        elif head[1] in (State.RETRYING, State.DEAD, State.STOPPED):
            db.execute(
                "UPDATE deliveries INDEXED BY deliveries_chain SET state = ?, due_us = NULL"
                " WHERE sink_id = ? AND chain = ? AND event_seq > ? AND state IN (?, ?)",
                (int(State.HELD), sink, chain, head[0], int(State.PENDING), int(State.RETRYING)),
            )


def has_newer(db: sqlite3.Connection, sink: int, seq: int) -> bool:
    """Whether a later version of the key of event *seq* was delivered to this sink."""
    return bool(with_newer(db, sink, [seq], waiting=False))


def with_newer(db: sqlite3.Connection, sink: int, seqs: Collection[int], *, waiting: bool) -> set[int]:
    """Those of the events *seqs* of whose key a later version was delivered to this sink, or, with *waiting*, is on its
    way there. One that is dead, or waits for a person, does not count: it may never arrive."""
    states = [State.DONE, State.SUPERSEDED, *((State.PENDING, State.RETRYING, State.HELD) if waiting else ())]
    rows = db.execute(
        "SELECT q.value FROM json_each(?) q CROSS JOIN events e ON e.seq = q.value WHERE EXISTS ("
        "SELECT 1 FROM events n INDEXED BY events_key CROSS JOIN deliveries d ON d.sink_id = ? AND d.event_seq = n.seq"
        " WHERE n.document = e.document AND n.key = e.key AND n.seq > e.seq"
        f" AND d.state IN ({','.join(str(int(s)) for s in states)}))",
        (json.dumps(list(seqs)), sink),
    )
    return {seq for (seq,) in rows}


def retry_dead(db: sqlite3.Connection, sink: int, seq: int, now_us: int, again: int = 0) -> int | None:
    """Make a dead delivery due now; its attempts go on, its age begins anew. Its chain, or None when it is not dead.

    One that expired joins its chain, and does not expire a second time; *again* is the replay that retries it.
    """
    chain, state = _dead(db, sink, seq)
    if chain is None:
        return None
    db.execute(
        "UPDATE deliveries SET state = ?, due_us = ?, since_us = NULL, chain = ?, again = coalesce(?, again)"
        " WHERE sink_id = ? AND event_seq = ?",
        (int(State.PENDING), now_us, chain, again if again or state == State.EXPIRED else None, sink, seq),
    )
    return chain


def discard_dead(db: sqlite3.Connection, sink: int, seq: int) -> int | None:
    """A person gives a dead delivery up. The chain it leaves (`settle` it after), or None when it is not dead."""
    chain, _ = _dead(db, sink, seq)
    if chain is None:
        return None
    _discard(db, sink, seq)
    return chain


def stop(db: sqlite3.Connection, sink: int, stopped: Iterable[tuple[int, int]]) -> None:
    """(event seq, chain) of deliveries added in this transaction that a rule holds for a person."""
    db.executemany(
        "UPDATE deliveries SET state = ?, chain = ? WHERE sink_id = ? AND event_seq = ?",
        [(int(State.STOPPED), chain, sink, seq) for seq, chain in stopped],
    )


def start(db: sqlite3.Connection, seq: int, now_us: int, *, discard: bool = False) -> int:
    """The stopped deliveries of an event go on, or with *discard* are given up; how many there were."""
    rows = db.execute(
        "SELECT k.id, d.chain FROM sinks k CROSS JOIN deliveries d"
        " ON d.sink_id = k.id AND d.event_seq = ? WHERE d.state = ?",
        (seq, int(State.STOPPED)),
    ).fetchall()
    for sink, chain in rows:
        if discard:
            _discard(db, sink, seq)
        else:
            db.execute(
                "UPDATE deliveries SET state = ?, due_us = ? WHERE sink_id = ? AND event_seq = ?",
                (int(State.PENDING), now_us, sink, seq),
            )
        settle(db, sink, [chain], now_us)
    return len(rows)


def _discard(db: sqlite3.Connection, sink: int, seq: int) -> None:
    db.execute(
        "UPDATE deliveries SET state = ?, due_us = NULL, chain = NULL, since_us = NULL"
        " WHERE sink_id = ? AND event_seq = ?",
        (int(State.DISCARDED), sink, seq),
    )


def _dead(db: sqlite3.Connection, sink: int, seq: int) -> tuple[int | None, int]:
    """The chain and state of a delivery that is dead or expired; None as the chain when it is neither."""
    row = db.execute(
        "SELECT d.chain, d.state, e.document, e.key FROM deliveries d JOIN events e ON e.seq = d.event_seq"
        " WHERE d.sink_id = ? AND d.event_seq = ? AND d.state IN (?, ?)",
        (sink, seq, int(State.DEAD), int(State.EXPIRED)),
    ).fetchone()
    if row is None:
        return None, 0
    chain, state, document, key = row
    return (chain if chain is not None else chain_of(document, key)), state
