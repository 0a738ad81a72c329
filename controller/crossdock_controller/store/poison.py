"""Batches at which a worker died, and the records that are not to be touched again because of which it did.

What a worker has in hand stands in a file beside its proof of life, written without a flush: a process that dies leaves
it to the next. A machine that dies takes it along, and blames nobody.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crossdock_controller.store.connection import transaction

WHOLE = -1  # in the place of a position: the whole batch
_WIDTH = 100  # bytes of a mark


@dataclass(frozen=True, slots=True)
class Suspect:
    """A worker died *deaths* times in a round that began at (*sequence*, *record*) and reached to *until_sequence*."""

    stream_id: int
    sequence: int
    record: int
    until_sequence: int
    deaths: int


class Hand:
    """What a worker has in hand now, on view for whoever comes after it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self, stream_id: int, sequence: int, record: int, until_sequence: int) -> None:
        self._write(f"{stream_id} {sequence} {record} {until_sequence}")

    def put_down(self) -> None:
        self._write("")

    def close(self) -> None:
        os.close(self._file)
        self._path.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, text.ljust(_WIDTH).encode())


def in_hand(path: Path) -> tuple[int, int, int, int] | None:
    """(stream, sequence, record, until sequence) that a dead worker left; None when it had nothing in hand."""
    try:
        words = path.read_bytes().split()
    except OSError:
        return None
    if len(words) != 4 or not all(word.isdigit() for word in words):
        return None
    stream_id, sequence, record, until = map(int, words)
    return stream_id, sequence, record, until


def accuse(db: sqlite3.Connection, found: tuple[int, int, int, int], now_us: int) -> None:
    """One more death at this place; another place of the stream begins at one. In a transaction."""
    db.execute(
        "INSERT INTO suspects(stream_id, sequence, record, until_sequence, deaths, last_us) VALUES(?,?,?,?,1,?)"
        " ON CONFLICT(stream_id) DO UPDATE SET"
        " deaths = CASE WHEN sequence = excluded.sequence AND record = excluded.record THEN deaths + 1 ELSE 1 END,"
        " sequence = excluded.sequence, record = excluded.record, until_sequence = excluded.until_sequence,"
        " last_us = excluded.last_us",
        (*found, now_us),
    )


def suspects(db: sqlite3.Connection) -> dict[int, Suspect]:
    """By stream."""
    rows = db.execute("SELECT stream_id, sequence, record, until_sequence, deaths FROM suspects")
    return {row[0]: Suspect(*row) for row in rows}


def clear(db: sqlite3.Connection, stream_id: int) -> None:
    """The stream went on."""
    with transaction(db):
        db.execute("DELETE FROM suspects WHERE stream_id = ?", (stream_id,))


def set_aside(db: sqlite3.Connection, stream_id: int, sequence: int, reasons: Mapping[int, str]) -> None:
    """{position in the batch, or WHOLE: reason}: from now on these become dead letters without being mapped."""
    with transaction(db):
        db.executemany(
            "INSERT OR REPLACE INTO set_aside(stream_id, sequence, position, reason) VALUES(?,?,?,?)",
            [(stream_id, sequence, position, reason) for position, reason in reasons.items()],
        )


def aside(db: sqlite3.Connection, stream_id: int, from_sequence: int) -> dict[int, dict[int, str]]:
    """{sequence: {position: reason}} of a stream, from a batch on."""
    found: dict[int, dict[int, str]] = {}
    for sequence, position, reason in db.execute(
        "SELECT sequence, position, reason FROM set_aside WHERE stream_id = ? AND sequence >= ?",
        (stream_id, from_sequence),
    ):
        found.setdefault(sequence, {})[position] = reason
    return found
