"""Events that are sent to a sink again on purpose: what was chosen, how far it is, and what became of it.

A replay goes through the event log once, a page at a time. Its checkpoint moves in the transaction that makes the
deliveries of the page due, by whoever serves the sink and under the sink's lease: so it survives any death, queues no
delivery twice, and knows at each event what the sink has at that moment.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from crossdock.errors import Refused
from crossdock_controller.store import dead_letters, deliveries, urgent
from crossdock_controller.store.deliveries import State, chain_of

PAGE = 500  # deliveries made due in one transaction
SCAN = 20_000  # events looked at in one transaction
_OPEN = (State.PENDING, State.RETRYING, State.HELD)


class Chosen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events; what is empty or 0 chooses nothing out. Times are those of the controller's receiving. *cause* is
    the code of a dead letter at the sink, or the cause of an exception. *unrouted*: also events that no route ever sent
    to this sink (it is newer than they are). *again*: also what the sink has already, its newest version only unless
    *all_versions*."""

    document: str = ""
    key: str = ""
    since_us: int = 0
    until_us: int = 0
    site: str = ""
    source: str = ""
    cause: str = ""
    unrouted: bool = False
    again: bool = False
    all_versions: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the events chosen: to be sent; *has_it*: delivered already, or given up by a person; *older* than what the
    sink has, or than another one chosen; *waiting*: on their way already, or held by a rule."""

    send: int = 0
    has_it: int = 0
    older: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Replay:
    """*state* is running (its events are still being made due), done (all are) or cancelled. *total* were to be sent
    when it was begun; *queued* are due since, and of those *sent* are delivered, *open* not yet, *dead* set aside."""

    id: int
    sink: str
    chosen: Chosen
    because: str
    created_by: str
    created_us: int
    rate: float
    at_seq: int
    until_seq: int
    total: int
    queued: int
    has_it: int
    older: int
    waiting: int
    state: str
    finished_us: int
    ended_by: str
    sent: int = 0
    open: int = 0
    dead: int = 0


_COLUMNS = (
    "r.id, s.name, r.chosen, r.because, r.created_by, r.created_us, r.rate, r.at_seq, r.until_seq, r.total, r.queued,"
    " r.has_it, r.older, r.waiting, r.state, r.finished_us, r.ended_by"
)


def count(db: sqlite3.Connection, sink: int, chosen: Chosen, until_seq: int) -> Counts:
    """What a replay of *chosen* would do now."""
    query, values = _query(sink, chosen)
    rows = db.execute(
        f"SELECT class, count(*) FROM ({query}) GROUP BY 1", {**values, "at": 0, "to": until_seq, "until": until_seq}
    )
    return Counts(**dict(rows.fetchall()))


def last_seq(db: sqlite3.Connection) -> int:
    found: int = db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
    return found


def add(
    db: sqlite3.Connection, sink: int, chosen: Chosen, *, because: str, by: str, rate: float, total: int,
    until_seq: int, now_us: int,
) -> int:  # fmt: skip
    """In a transaction; its number."""
    cursor = db.execute(
        "INSERT INTO replays(sink_id, chosen, because, created_by, created_us, rate, until_seq, total)"
        " VALUES(?,?,?,?,?,?,?,?)",
        (
            sink, msgspec.json.encode(chosen).decode(), because, by, now_us, rate, until_seq, total,
        ),
    )  # fmt: skip
    assert cursor.lastrowid is not None  # noqa: S101 - an INSERT has one
    return cursor.lastrowid


def running(db: sqlite3.Connection, sink: int) -> tuple[int, float] | None:
    """The number and rate of the oldest one that still makes deliveries of this sink due."""
    row = db.execute(
        "SELECT id, rate FROM replays WHERE sink_id = ? AND state = 'running' ORDER BY id LIMIT 1", (sink,)
    ).fetchone()
    return (row[0], row[1]) if row else None


def ahead(db: sqlite3.Connection, replay: int) -> int:
    """Deliveries of it that are due, or will be, and wait for nobody else."""
    found: int = db.execute(
        "SELECT count(*) FROM deliveries INDEXED BY deliveries_again WHERE again = ? AND again > 0 AND state IN (?, ?)",
        (replay, int(State.PENDING), int(State.RETRYING)),
    ).fetchone()[0]
    return found


def step(db: sqlite3.Connection, sink: int, replay: int, limit: int, now_us: int) -> int:
    """Make the next deliveries of it due, at most *limit*, and move its checkpoint; how many. In a transaction, under
    the sink's lease, when all that was sent is persisted."""
    row = db.execute(
        "SELECT chosen, at_seq, until_seq, created_by, because FROM replays WHERE id = ? AND state = 'running'",
        (replay,),
    ).fetchone()
    if row is None:  # cancelled meanwhile
        return 0
    text, at, until, by, because = row
    chosen = msgspec.json.decode(text, type=Chosen)
    to = until if chosen.key and chosen.document else min(until, at + SCAN)
    query, values = _query(sink, chosen)
    found: list[tuple[int, str, str, int | None, str]] = db.execute(
        f"{query} ORDER BY e.seq LIMIT :limit", {**values, "at": at, "to": to, "until": until, "limit": limit}
    ).fetchall()
    if len(found) == limit:
        to = found[-1][0]
    send = [(seq, document, key, state) for seq, document, key, state, class_ in found if class_ == "send"]
    _make_due(db, sink, replay, send, by, f"replay {replay}: {because}", now_us)
    classes = [class_ for *_, class_ in found]
    over = to >= until
    db.execute(
        "UPDATE replays SET at_seq = ?, queued = queued + ?, has_it = has_it + ?, older = older + ?,"
        " waiting = waiting + ?, state = ?, finished_us = ? WHERE id = ?",
        (
            to, *(classes.count(word) for word in ("send", "has_it", "older", "waiting")),
            "done" if over else "running", now_us if over else 0, replay,
        ),
    )  # fmt: skip
    return len(send)


def cancel(db: sqlite3.Connection, replay: int, by: str, now_us: int) -> int:
    """Nothing more becomes due; what the sink had before and did not get again yet is done, as it was. How many of
    those there were. In a transaction. Raises Refused when it is not running and nothing of it waits."""
    found = get(db, replay)
    if found.state == "cancelled" or (found.state == "done" and not found.open):
        raise Refused(
            f"replay {replay} is over: {found.state}", hint=f"crossdock replay show {replay} tells what became of it"
        )
    rows = db.execute(
        "SELECT sink_id, event_seq, chain FROM deliveries INDEXED BY deliveries_again WHERE again = ? AND again > 0"
        " AND state IN (?, ?)"
        " AND run_id IS NOT NULL",
        (replay, int(State.PENDING), int(State.HELD)),
    ).fetchall()
    db.executemany(
        "UPDATE deliveries SET state = ?, due_us = NULL, chain = NULL, since_us = NULL"
        " WHERE sink_id = ? AND event_seq = ?",
        [(int(State.DONE), sink, seq) for sink, seq, _ in rows],
    )
    for sink in {sink for sink, _, _ in rows}:
        deliveries.settle(db, sink, [chain for k, _, chain in rows if k == sink and chain is not None], now_us)
    db.execute(
        "UPDATE replays SET state = 'cancelled', finished_us = ?, ended_by = ? WHERE id = ?", (now_us, by, replay)
    )
    return len(rows)


def get(db: sqlite3.Connection, replay: int) -> Replay:
    """With what became of it so far. Raises Refused when there is none of that number."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM replays r JOIN sinks s ON s.id = r.sink_id WHERE r.id = ?", (replay,)
    ).fetchone()
    if row is None:
        raise Refused(f"there is no replay {replay}", hint="crossdock replay list shows them")
    return _replay(db, row)


def newest(db: sqlite3.Connection, limit: int) -> list[Replay]:
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM replays r JOIN sinks s ON s.id = r.sink_id ORDER BY r.id DESC LIMIT ?", (limit,)
    ).fetchall()
    return [_replay(db, row) for row in rows]


def _replay(db: sqlite3.Connection, row: Any) -> Replay:
    states = dict(
        db.execute(
            "SELECT state, count(*) FROM deliveries INDEXED BY deliveries_again"
            " WHERE again = ? AND again > 0 GROUP BY state",
            (row[0],),
        ).fetchall()
    )
    sent = states.get(int(State.DONE), 0) if row[14] != "cancelled" else 0
    waiting = sum(states.get(int(state), 0) for state in _OPEN)
    dead = states.get(int(State.DEAD), 0)
    values = list(row)
    values[2] = msgspec.json.decode(row[2], type=Chosen)
    return replace(Replay(*values), sent=sent, open=waiting, dead=dead)


def _make_due(
    db: sqlite3.Connection, sink: int, replay: int, send: list[tuple[int, str, str, int | None]], by: str, note: str,
    now_us: int,
) -> None:  # fmt: skip
    """Each joins the chain of its key, behind what is earlier and before what is later."""
    dead = [seq for seq, _, _, state in send if state in (State.DEAD, State.EXPIRED)]
    for seq in dead:
        deliveries.retry_dead(db, sink, seq, now_us, again=replay)
    for letter in dead_letters.open_of(db, sink, dead):
        dead_letters.resolve(db, letter, "retried", by, note, now_us)
    db.executemany(
        "INSERT INTO deliveries(sink_id, event_seq, state, attempt, due_us, chain, again) VALUES(?,?,?,0,?,?,?)"
        " ON CONFLICT(sink_id, event_seq) DO UPDATE SET state = excluded.state, due_us = excluded.due_us,"
        " chain = excluded.chain, since_us = NULL, again = excluded.again",
        [
            (sink, seq, int(State.PENDING), now_us, chain_of(document, key), replay)
            for seq, document, key, state in send
            if state not in (State.DEAD, State.EXPIRED)
        ],
    )
    urgent.urge(db, sink, {(document, key) for _, document, key, _ in send}, now_us, now_us)


def _query(sink: int, chosen: Chosen) -> tuple[str, dict[str, object]]:
    """Events of *chosen* between :at and :to as (seq, document, key, state at the sink, class)."""
    where, values = _where(chosen, "e", "i", "s")
    newer = [
        "EXISTS (SELECT 1 FROM events n INDEXED BY events_key CROSS JOIN deliveries nd"
        " ON nd.sink_id = :sink AND nd.event_seq = n.seq"
        " WHERE n.document = e.document AND n.key = e.key AND n.seq > e.seq"
        f" AND nd.state IN ({int(State.DONE)}, {int(State.SUPERSEDED)}))"
    ]
    join = "LEFT JOIN" if chosen.unrouted else "JOIN"
    if chosen.again:
        same, _ = _where(chosen, "n", "ni", "ns")
        newer.append(
            "EXISTS (SELECT 1 FROM events n INDEXED BY events_key JOIN inputs ni ON ni.id = n.input_id"
            f" JOIN sources ns ON ns.id = ni.source_id {join} deliveries nd"
            " ON nd.sink_id = :sink AND nd.event_seq = n.seq"
            f" WHERE n.document = e.document AND n.key = e.key AND n.seq > e.seq AND n.seq <= :until{same})"
        )
    dead = f"({int(State.DEAD)}, {int(State.EXPIRED)})"
    settled = f"({int(State.DONE)}, {int(State.DISCARDED)})"
    over = f"({int(State.DONE)}, {int(State.DISCARDED)}, {int(State.SUPERSEDED)})"
    hold = "WHEN EXISTS (SELECT 1 FROM holds h WHERE h.event_seq = e.seq AND h.state ="  # at whatever sink
    class_ = (
        f"CASE WHEN d.state NOT IN {over} AND d.state NOT IN {dead} THEN 'waiting'"
        f" {hold} 'open') THEN 'waiting' {hold} 'discarded') THEN 'has_it'"
        + ("" if chosen.again else f" WHEN d.state IN {settled} THEN 'has_it'")
        + ("" if chosen.all_versions else f" WHEN {' OR '.join(newer)} THEN 'older'")
        + " ELSE 'send' END AS class"
    )
    query = (
        f"SELECT e.seq, e.document, e.key, d.state, {class_} FROM events e JOIN inputs i ON i.id = e.input_id"
        f" JOIN sources s ON s.id = i.source_id {join} deliveries d ON d.sink_id = :sink AND d.event_seq = e.seq"
        f" WHERE e.seq > :at AND e.seq <= :to{where}"
    )
    return query, {**values, "sink": sink}


def _where(chosen: Chosen, event: str, inputs: str, source: str) -> tuple[str, dict[str, object]]:
    tests = {
        "document": f"{event}.document = :document",
        "key": f"{event}.key = :key",
        "since_us": f"{inputs}.received_us >= :since_us",
        "until_us": f"{inputs}.received_us < :until_us",
        "site": f"{source}.site = :site",
        "source": f"{source}.source = :source",
        "cause": f"(EXISTS (SELECT 1 FROM dead_letters l WHERE l.event_seq = {event}.seq AND l.sink_id = :sink"
        f" AND l.code = :cause) OR EXISTS (SELECT 1 FROM exceptions x WHERE x.event_seq = {event}.seq"
        " AND x.cause = :cause AND x.sink IN ('', (SELECT name FROM sinks WHERE id = :sink))))",
    }
    named = {name: getattr(chosen, name) for name in tests if getattr(chosen, name)}
    return "".join(f" AND {tests[name]}" for name in named), named
