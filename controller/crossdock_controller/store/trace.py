"""Where one document is: everything that is known of it, in the order it happened."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossdock_controller.outcomes import Locator
from crossdock_controller.store import dead_letters, holds
from crossdock_controller.store.connection import connect, snapshot
from crossdock_controller.store.deliveries import State

LIMIT_VERSIONS = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened at *at_us*.

    *what*: received, normalized, attempt, delivery, dead_letter. *text* is a sentence; *facts* hold the same for
    programs, each with its site. received: agent, source, place, epoch, sequence; normalized: revision, document, key,
    seq, event, warnings; attempt: sink, attempt, outcome, code, reason; delivery: sink, state, attempts; dead_letter:
    id, state, code, reason; hold: seq, state, by, reasons.
    """

    at_us: int
    what: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


def trace(state: Path, number: str, document: str | None = None) -> list[Entry]:
    """The timeline of every document with this number (its whole key, or the part after its issuer); empty if unknown.

    *document* is the kind ("SalesOrder") or the end of its name ("order"), in any case of letters. At most the latest
    LIMIT_VERSIONS versions.
    """
    with closing(connect(state)) as db, snapshot(db):
        entries: list[Entry] = []
        for seq in _versions(db, number, document):
            entries += _version(db, seq)
        entries += _letters(db, number)
    order = {"received": 0, "normalized": 1, "hold": 2, "attempt": 3, "dead_letter": 4, "delivery": 5}
    return sorted(entries, key=lambda e: (e.at_us, order[e.what]))


def documents(db: sqlite3.Connection) -> list[str]:
    """Kinds of documents in the log, by one index seek each."""
    found = []
    kind = ""
    while row := db.execute(
        "SELECT document FROM events WHERE document > ? ORDER BY document LIMIT 1", (kind,)
    ).fetchone():
        kind = row[0]
        found.append(kind)
    return found


def _versions(db: sqlite3.Connection, number: str, document: str | None) -> list[int]:
    kinds = [k for k in documents(db) if document is None or k.lower().endswith(document.lower())]
    seqs: list[int] = []
    for kind in kinds:
        exact = "SELECT seq FROM events WHERE document = ? AND key = ? ORDER BY seq DESC LIMIT ?"
        found = db.execute(exact, (kind, number, LIMIT_VERSIONS)).fetchall()
        if not found:  # with an issuer before it, or a line or location after it: a look at every key of the kind
            part = (
                "SELECT seq FROM events WHERE document = ?1 AND instr(':' || key || ':', ':' || ?2 || ':')"
                " ORDER BY seq DESC LIMIT ?3"
            )
            found = db.execute(part, (kind, number, LIMIT_VERSIONS)).fetchall()
        seqs += [seq for (seq,) in found]
    return sorted(seqs)


def _version(db: sqlite3.Connection, seq: int) -> Iterator[Entry]:
    row = db.execute(
        "SELECT e.id, e.document, e.key, e.record, e.line, e.locator, e.warnings, i.epoch, i.sequence, i.received_us,"
        " i.origin_kind, i.origin_name, i.normalized_us, i.revision, s.site, s.agent, s.source"
        " FROM events e JOIN inputs i ON i.id = e.input_id JOIN sources s ON s.id = i.source_id WHERE e.seq = ?",
        (seq,),
    ).fetchone()
    event_id, kind, key, record, line, locator, warnings, epoch, sequence, received_us, origin, name = row[:12]
    normalized_us, revision, site, agent, source = row[12:]
    place = Locator(origin, name, record, line, locator or "").text()
    yield Entry(
        received_us, "received", f"{place}, from {source} of agent {agent} at {site}, batch {sequence}",
        {"site": site, "agent": agent, "source": source, "place": place, "epoch": epoch.hex(), "sequence": sequence},
    )  # fmt: skip
    noted = warnings.split("\n") if warnings else []
    yield Entry(
        normalized_us, "normalized", "; ".join([f"{kind} {key}, version {seq}, by revision {revision}", *noted]),
        {"site": site, "revision": revision, "document": kind, "key": key, "seq": seq, "event": event_id.hex(),
         "warnings": noted},
    )  # fmt: skip
    yield from _holds(db, seq, site)
    yield from _deliveries(db, seq, site, normalized_us)


def _holds(db: sqlite3.Connection, seq: int, site: str) -> Iterator[Entry]:
    """Why a rule holds, or held, this version, and how that ended."""
    held = holds.find(db, seq)
    if held is None:
        return
    facts = {"site": site, "seq": seq, "state": held.state, "by": "", "reasons": [r.reason for r in held.reasons]}
    said = "; ".join(f"{r.code}: {r.reason}" for r in held.reasons)
    yield Entry(held.opened_us, "hold", f"version {seq} is held by a rule: {said}", facts)
    if held.state != "open":
        note = f": {held.note}" if held.note else ""
        facts = {**facts, "by": held.resolved_by, "reasons": [held.note] if held.note else []}
        yield Entry(held.resolved_us, "hold", f"version {seq} was {held.state} by {held.resolved_by}{note}", facts)


def _deliveries(db: sqlite3.Connection, seq: int, site: str, normalized_us: int) -> Iterator[Entry]:
    rows = db.execute(
        "SELECT k.id, k.name, d.state, d.attempt, d.due_us, r.ended_us FROM sinks k"
        " JOIN deliveries d ON d.sink_id = k.id AND d.event_seq = ? LEFT JOIN runs r ON r.id = d.run_id"
        " ORDER BY k.name",
        (seq,),
    ).fetchall()
    for sink, name, state, attempts, due_us, ended_us in rows:
        last_us = ended_us or normalized_us
        tried = db.execute(
            "SELECT attempt, at_us, outcome, code, reason FROM attempts WHERE sink_id = ? AND event_seq = ?"
            " ORDER BY at_us",
            (sink, seq),
        )
        for attempt, at_us, outcome, code, reason in tried:
            last_us = max(last_us, at_us)
            yield Entry(
                at_us, "attempt", f"{name}: attempt {attempt}, {outcome} {code}: {reason}",
                {"site": site, "sink": name, "seq": seq, "attempt": attempt, "outcome": outcome, "code": code,
                 "reason": reason},
            )  # fmt: skip
        word = State(state).name.lower()
        yield Entry(
            last_us, "delivery", f"{name}: {word}" + (f", attempt {attempts}" if attempts else ""),
            {"site": site, "sink": name, "seq": seq, "state": word, "attempts": attempts, "due_us": due_us},
        )  # fmt: skip


def _letters(db: sqlite3.Connection, number: str) -> Iterator[Entry]:
    """Dead letters whose record mentions the number as a whole word, or whose delivery is of this key."""
    word = re.compile(rf"(?<![\w]){re.escape(number)}(?![\w])")
    rows = db.execute(
        "SELECT d.id, d.rows, d.sample, d.locator, e.key FROM dead_letters d LEFT JOIN events e ON e.seq = d.event_seq"
        " WHERE instr(d.rows, ?1) OR instr(d.sample, CAST(?1 AS BLOB)) OR instr(d.locator, ?1) OR instr(e.key, ?1)",
        (number,),
    ).fetchall()
    for letter, records, sample, locator, key in rows:
        texts = (records, sample.decode("utf-8", "replace"), locator, key or "")
        if any(word.search(text) for text in texts):
            yield _letter(dead_letters.get(db, letter))


def _letter(found: dead_letters.DeadLetter) -> Entry:
    where = f"sink {found.sink}" if found.kind == "delivery" else found.locator.text()
    text = f"dead letter {found.id} ({found.state}), {where}: {found.code}: {found.reason}"
    if found.resolved_by:
        text += f"; {found.state} by {found.resolved_by}" + (f": {found.note}" if found.note else "")
    return Entry(
        found.created_us, "dead_letter", text,
        {"site": found.site, "id": found.id, "kind": found.kind, "state": found.state, "code": found.code,
         "reason": found.reason, "sink": found.sink, "place": found.locator.text()},
    )  # fmt: skip
