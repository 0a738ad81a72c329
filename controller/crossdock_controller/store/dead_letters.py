"""Records and deliveries set aside with their reason, until a person retries or discards them. None is ever removed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from crossdock.errors import Refused
from crossdock_controller.outcomes import Dead, Locator
from crossdock_controller.store import audit, deliveries, exceptions
from crossdock_controller.store.connection import transaction

Kind = Literal["record", "delivery"]
Resolution = Literal["retried", "discarded", "superseded"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """*rows* are the decoded records, as JSON values; *sink*, *document* and *key* are set for a delivery."""

    id: int
    kind: Kind
    site: str
    agent: str
    source: str
    input_id: int
    sink: str
    event_seq: int | None
    document: str
    key: str
    code: str
    reason: str
    field: str
    records: int
    locator: Locator
    sample: bytes
    rows: list[dict[str, Any]]
    state: str  # "open", "retried", "discarded", or "superseded" by a later record of its document
    created_us: int
    resolved_us: int
    resolved_by: str
    note: str
    list: str = ""  # of a code without a meaning: the list that lacks it
    value: str = ""  # ... and the code


_SELECT = (
    "SELECT d.id, d.kind, s.site, s.agent, s.source, d.input_id, coalesce(k.name, ''), d.event_seq,"
    " coalesce(e.document, ''), coalesce(e.key, ''), d.code, d.reason, d.field, d.records, d.locator, d.sample, d.rows,"
    " d.state, d.created_us, d.resolved_us, d.resolved_by, d.note, d.list, d.value"
    " FROM dead_letters d JOIN sources s ON s.id = d.source_id"
    " LEFT JOIN sinks k ON k.id = d.sink_id LEFT JOIN events e ON e.seq = d.event_seq"
)


def add_records(db: sqlite3.Connection, source: int, letters: Iterable[tuple[int, Dead]], now_us: int) -> None:
    """(input id, what died) of one source; each opens an exception. In a transaction."""
    found = list(letters)
    if not found:
        return
    before = _last(db)
    db.executemany(
        "INSERT INTO dead_letters(kind, source_id, input_id, code, reason, field, records, locator, sample, rows,"
        " list, value, state, created_us) VALUES('record',?,?,?,?,?,?,?,?,?,?,?,'open',?)",
        [
            (
                source,
                i,
                d.code,
                d.reason,
                d.field,
                d.records,
                _json(d.locator),
                d.sample,
                _json(d.rows),
                d.list,
                d.value,
                now_us,
            )
            for i, d in found
        ],
    )
    exceptions.add_of_records(db, before, now_us)


def add_deliveries(db: sqlite3.Connection, sink: int, letters: Iterable[tuple[int, str, str]], now_us: int) -> None:
    """(event seq, code, reason) of deliveries that died at *sink*; each opens an exception. In a transaction."""
    found = list(letters)
    if not found:
        return
    before = _last(db)
    db.executemany(
        "INSERT INTO dead_letters(kind, source_id, input_id, sink_id, event_seq, code, reason, field, records, locator,"
        " sample, rows, state, created_us)"
        " SELECT 'delivery', i.source_id, i.id, ?, e.seq, ?, ?, '', e.records,"
        " json_object('kind', i.origin_kind, 'name', i.origin_name, 'record', e.record, 'line', e.line,"
        " 'key', coalesce(e.locator, '')), x'', '[]', 'open', ?"
        " FROM events e JOIN inputs i ON i.id = e.input_id WHERE e.seq = ?",
        [(sink, code, reason, now_us, seq) for seq, code, reason in found],
    )
    exceptions.add_of_deliveries(db, before, now_us)


def _last(db: sqlite3.Connection) -> int:
    """The number of the newest letter there ever was."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'").fetchone()
    return row[0] if row else 0


def open_of(db: sqlite3.Connection, sink: int, seqs: Sequence[int]) -> list[int]:
    """The open dead letters of deliveries of the events *seqs* to *sink*."""
    rows = db.execute(
        "SELECT l.id FROM json_each(?) q CROSS JOIN dead_letters l ON l.event_seq = q.value"
        " WHERE l.sink_id = ? AND l.state = 'open' ORDER BY l.id",
        (json.dumps(list(seqs)), sink),
    )
    return [letter for (letter,) in rows]


def ends_of_long_groups(db: sqlite3.Connection, unit: bytes) -> set[int]:
    """For each group of the file *unit* that was too long: the ordinal of the record after it."""
    rows = db.execute(
        "SELECT json_extract(d.locator, '$.record') + d.records FROM dead_letters d JOIN inputs i ON i.id = d.input_id"
        " WHERE d.code = 'group_too_long' AND i.unit = ?",
        (unit,),
    )
    return {end for (end,) in rows}


def get(db: sqlite3.Connection, letter: int) -> DeadLetter:
    """Raises Refused when there is none of that number."""
    row = db.execute(_SELECT + " WHERE d.id = ?", (letter,)).fetchone()
    if row is None:
        raise Refused(f"there is no dead letter {letter}", hint="crossdock dead list shows them")
    return _letter(row)


def get_open(db: sqlite3.Connection, letters: Iterable[int]) -> list[DeadLetter]:
    """Those of *letters* that are open, in the order of their numbers."""
    query = f"{_SELECT} JOIN json_each(?) j ON d.id = j.value WHERE d.state = 'open' ORDER BY d.id"
    return [_letter(row) for row in db.execute(query, (json.dumps(list(letters)),))]


def list_all(
    db: sqlite3.Connection,
    *,
    state: str | None = "open",
    source: str | None = None,
    limit: int = 100,
    before: int | None = None,
) -> list[DeadLetter]:
    """Newest first, at most *limit*; *before* is the last id of the page before. State None means every state."""
    where, values = ["1"], list[object]()
    for test, value in (("d.state = ?", state), ("s.source = ?", source), ("d.id < ?", before)):
        if value is not None:
            where.append(test)
            values.append(value)
    query = f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY d.id DESC LIMIT ?"
    return [_letter(row) for row in db.execute(query, (*values, limit))]


def count_open(db: sqlite3.Connection) -> int:
    found: int = db.execute("SELECT count(*) FROM dead_letters WHERE state = 'open'").fetchone()[0]
    return found


def summary(db: sqlite3.Connection) -> list[tuple[str, str, str, str, int, int]]:
    """Open ones as (site, source, kind, code, letters, records)."""
    rows = db.execute(
        "SELECT s.site, s.source, d.kind, d.code, count(*), sum(d.records) FROM dead_letters d"
        " JOIN sources s ON s.id = d.source_id"
        " WHERE d.state = 'open' GROUP BY 1, 2, 3, 4"
    )
    return list(rows)


def newest_us(db: sqlite3.Connection) -> int:
    """When the newest one came, settled ones counted; 0 when there never was one."""
    row = db.execute("SELECT created_us FROM dead_letters ORDER BY id DESC LIMIT 1").fetchone()
    return int(row[0]) if row else 0


def resolve(
    db: sqlite3.Connection,
    letter: int,
    state: Resolution,
    by: str,
    note: str,
    now_us: int,
    fields: Sequence[str] = (),
    *,
    on_record: bool = True,
) -> None:
    """Close an open letter, within a transaction, on record; *fields* were corrected. Not *on_record*: because what a
    person said of thousands at once is on record already. Raises Refused when someone else closed it meanwhile."""
    changed = db.execute(
        "UPDATE dead_letters SET state = ?, resolved_us = ?, resolved_by = ?, note = ? WHERE id = ? AND state = 'open'",
        (state, now_us, by, note, letter),
    ).rowcount
    if changed != 1:
        raise Refused(
            f"dead letter {letter} is not open any more", hint=f"crossdock dead show {letter} tells who resolved it"
        )
    exceptions.resolve_letters(db, [letter], by=by, outcome=state, now_us=now_us)
    if not on_record:
        return
    action = "dead.retry" if state == "retried" else "dead.discard"
    details = (
        {"fields": list(fields)} if fields else {}
    )  # their names: what stands in them is payload, and so is a note
    audit.append(db, actor=by, action=action, target=str(letter), details=details, now_us=now_us)


def changed(db: sqlite3.Connection, letter: int, found: Dead) -> None:
    """It was mapped again and is refused for what *found* says now; the code that it waited for stays, unless it waits
    for another one. In a transaction."""
    db.execute(
        "UPDATE dead_letters SET code = ?1, reason = ?2, field = ?3, list = iif(?4 = '', list, ?4),"
        " value = iif(?4 = '', value, ?5) WHERE id = ?6 AND state = 'open'",
        (found.code, found.reason, found.field, found.list, found.value, letter),
    )
    exceptions.refused_anew(db, letter)


def retry_delivery(db: sqlite3.Connection, letter: DeadLetter, by: str, note: str, now_us: int) -> None:
    """The delivery is due now; its attempts go on."""
    retry_deliveries(db, [letter], by, note, now_us)


def retry_deliveries(db: sqlite3.Connection, letters: Sequence[DeadLetter], by: str, note: str, now_us: int) -> None:
    """The deliveries are due now; their attempts go on. One transaction: all of them, or Refused."""
    with transaction(db):
        for letter in letters:
            resolve(db, letter.id, "retried", by, note, now_us)
            sink, seq = _delivery_of(db, letter)
            if letter.code == "expired" and deliveries.has_newer(db, sink, seq):
                raise Refused(
                    f"dead letter {letter.id} expired, and the sink has a newer version of"
                    f" {letter.document} {letter.key}",
                    hint=f"crossdock dead discard {letter.id}",
                )
            chain = deliveries.retry_dead(db, sink, seq, now_us)
            if chain is None:
                raise Refused(
                    f"the delivery of dead letter {letter.id} is not dead", hint="crossdock trace shows where it is"
                )
            deliveries.settle(db, sink, [chain], now_us)


def discard(db: sqlite3.Connection, letter: DeadLetter, by: str, note: str, now_us: int) -> None:
    """Give it up, on purpose and on record; a delivery's later versions are free to go."""
    discard_all(db, [letter], by, note, now_us)


def discard_all(db: sqlite3.Connection, letters: Sequence[DeadLetter], by: str, note: str, now_us: int) -> None:
    """`discard` for many. One transaction: all of them, or Refused."""
    with transaction(db):
        for letter in letters:
            resolve(db, letter.id, "discarded", by, note, now_us)
            if letter.kind != "delivery":
                continue
            sink, seq = _delivery_of(db, letter)
            chain = deliveries.discard_dead(db, sink, seq)
            if chain is None:
                raise Refused(
                    f"the delivery of dead letter {letter.id} is not dead", hint="crossdock trace shows where it is"
                )
            deliveries.settle(db, sink, [chain], now_us)


def _delivery_of(db: sqlite3.Connection, letter: DeadLetter) -> tuple[int, int]:
    row = db.execute("SELECT sink_id, event_seq FROM dead_letters WHERE id = ?", (letter.id,)).fetchone()
    return row[0], row[1]


def _letter(row: Sequence[Any]) -> DeadLetter:
    values = list(row)
    values[14] = msgspec.json.decode(values[14], type=Locator)
    values[16] = json.loads(values[16])
    return DeadLetter(*values)


def _json(value: object) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()
