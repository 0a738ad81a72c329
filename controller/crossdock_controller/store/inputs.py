"""Where records came from: sources by name, and one row for each batch that was normalized, with what became of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from crossdock_controller.store.connection import transaction

_KNOWN_SITES = 4_096  # batches whose site is remembered


@dataclass(slots=True, kw_only=True)
class Counts:
    """Of records."""

    records: int = 0
    mapped: int = 0
    dead: int = 0
    ignored: int = 0
    duplicates: int = 0


@dataclass(slots=True)
class InputRow:
    """A batch, or what was decided of it in one round: rounds add up in one row."""

    epoch: bytes
    sequence: int
    received_us: int
    origin_kind: str
    origin_name: str
    unit: bytes = b""
    counts: Counts = field(default_factory=Counts)


class Sites:
    """The site of a batch by its number; neighbours come from the same one. Used from the thread of its connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[int, str] = {}

    def of(self, input_id: int) -> str:
        """Empty for a batch that is not known."""
        site = self._known.get(input_id)
        if site is None:
            row = self._db.execute(
                "SELECT s.site FROM inputs i JOIN sources s ON s.id = i.source_id WHERE i.id = ?", (input_id,)
            ).fetchone()
            if len(self._known) >= _KNOWN_SITES:
                self._known.clear()
            site = self._known[input_id] = row[0] if row is not None else ""
        return site


def source_id(db: sqlite3.Connection, site: str, agent: str, source: str) -> int:
    """The number of this source, given to it when first asked for."""
    find = "SELECT id FROM sources WHERE site = ? AND agent = ? AND source = ?"
    row = db.execute(find, (site, agent, source)).fetchone()
    if row is None:
        with transaction(db):
            db.execute("INSERT OR IGNORE INTO sources(site, agent, source) VALUES(?,?,?)", (site, agent, source))
            row = db.execute(find, (site, agent, source)).fetchone()
    number: int = row[0]
    return number


def reserve(db: sqlite3.Connection, source: int, revision: int, rows: Sequence[InputRow], now_us: int) -> list[int]:
    """A row for each batch (kept when it is there already), counts still 0; their ids, in order. In a transaction."""
    ids = []
    for row in rows:
        found = db.execute(
            "INSERT INTO inputs(source_id, epoch, sequence, received_us, origin_kind, origin_name, unit,"
            " normalized_us, revision, records, mapped, dead, ignored, duplicates) VALUES(?,?,?,?,?,?,?,?,?,0,0,0,0,0)"
            " ON CONFLICT(source_id, epoch, sequence) DO UPDATE SET normalized_us = excluded.normalized_us,"
            " revision = excluded.revision RETURNING id",
            (
                source,
                row.epoch,
                row.sequence,
                row.received_us,
                row.origin_kind,
                row.origin_name,
                row.unit,
                now_us,
                revision,
            ),
        ).fetchone()
        ids.append(found[0])
    return ids


def add_counts(db: sqlite3.Connection, counts: Iterable[tuple[int, Counts]]) -> None:
    """Add *counts* to those of the inputs of these ids. In a transaction."""
    db.executemany(
        "UPDATE inputs SET records = records + ?, mapped = mapped + ?, dead = dead + ?, ignored = ignored + ?,"
        " duplicates = duplicates + ? WHERE id = ?",
        [(c.records, c.mapped, c.dead, c.ignored, c.duplicates, i) for i, c in counts],
    )


def unit_of(db: sqlite3.Connection, input_id: int) -> bytes:
    """Identity of the file the batch came from; empty for a table, or where the batch could not be read."""
    unit: bytes = db.execute("SELECT unit FROM inputs WHERE id = ?", (input_id,)).fetchone()[0]
    return unit
