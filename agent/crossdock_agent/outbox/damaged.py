"""What can still be read of an outbox that was set aside: it is never changed, and every answer may be partial.

What it held and the controller had not acknowledged is what may be lost, so that is named: sources, sequences, records.
The batches themselves are read one by one, each against its checksum, for whoever wants them out (`readable`).
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from crossdock_agent.outbox.schema import BUSY_SECONDS


class Held(msgspec.Struct, frozen=True):
    """What the file held of one source beyond the last acknowledgement that it knew of."""

    source: str
    first_sequence: int
    last_sequence: int
    records: int
    bytes: int


class Survey(msgspec.Struct, frozen=True):
    """*unreadable* says why *held* is not known; it is empty when it is."""

    held: list[Held]
    unreadable: str = ""


def survey(aside: Path) -> Survey:
    """By the small table of positions: quick, however large the file is."""
    if not aside.is_file():
        return Survey([], "it is not a file")
    if aside.stat().st_size == 0:
        return Survey([], "it is empty")
    try:
        with closing(_open(aside)) as db:
            rows = db.execute(
                "SELECT name, acked_sequence + 1, last_sequence, records, bytes FROM sources"
                " WHERE last_sequence > acked_sequence ORDER BY name"
            ).fetchall()
        return Survey([Held(str(name), *map(int, numbers)) for name, *numbers in rows])
    except (sqlite3.Error, ValueError, TypeError) as error:  # anything may stand in a damaged file
        return Survey([], str(error))


def readable(aside: Path, source: str, after_sequence: int) -> Iterator[tuple[int, bytes]]:
    """(sequence, sealed bytes) of each batch of *source* after *after_sequence* that is whole, in order."""
    with closing(_open(aside)) as db:
        try:
            (source_id,) = db.execute("SELECT id FROM sources WHERE name = ?", (source,)).fetchone()
            last = after_sequence
            while True:
                last = _next_sequence(db, source_id, last)
                if not last:
                    return
                sealed = _sealed(db, source_id, last)
                if sealed is not None:
                    yield last, sealed
        except (sqlite3.Error, ValueError, TypeError):  # what comes after cannot be reached
            return


def _open(aside: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{aside.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)


def _next_sequence(db: sqlite3.Connection, source_id: int, after: int) -> int:
    row = db.execute(
        "SELECT min(sequence) FROM batches WHERE source_id = ? AND sequence > ?", (source_id, after)
    ).fetchone()
    return int(row[0] or 0)


def _sealed(db: sqlite3.Connection, source_id: int, sequence: int) -> bytes | None:
    """None for a batch that is damaged itself: its neighbours may be whole."""
    try:
        sealed, crc32 = db.execute(
            "SELECT sealed, crc32 FROM batches WHERE source_id = ? AND sequence = ?", (source_id, sequence)
        ).fetchone()
        return sealed if zlib.crc32(sealed) == crc32 else None
    except (sqlite3.Error, TypeError):
        return None
