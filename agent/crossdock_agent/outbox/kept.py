"""Acknowledged batches stay for a while: a controller that is restored from a backup gets them again.

They are those up to `acked_sequence`, in one gapless run that shrinks from its oldest end only. *acknowledged* says
when: a row a minute and source at most, written with the first acknowledgement of that minute. Sequences here are the
file's own (see `schema`). Everything runs inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping

from crossdock_agent.outbox.rows import Missing

STEP_BATCHES = 256  # looked at in one go


def minute_now() -> int:
    return int(time.time() // 60)


class Kept:
    """On the connection that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._noted: dict[int, int] = {}  # minute of the newest row, by source

    def forget(self) -> None:
        """A transaction was undone: what memory noted may not be in the file."""
        self._noted = {}

    def acknowledged(self, source_id: int, first: int, minute: int) -> None:
        """From *first* on, the batches of the source are acknowledged in *minute*."""
        if self._noted.get(source_id) == minute:
            return
        self._db.execute("INSERT OR IGNORE INTO acknowledged VALUES (?, ?, ?)", (minute, source_id, first))
        self._noted[source_id] = minute

    def unacknowledge(self, source_id: int, acked: int) -> int:
        """Everything after *acked* is to be sent again; how many batches come back. They must be kept."""
        batches, records, size = self._db.execute(
            "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(bytes), 0) FROM batches"
            " WHERE source_id = ?1 AND sequence > ?2"
            " AND sequence <= (SELECT acked_sequence FROM sources WHERE id = ?1)",
            (source_id, acked),
        ).fetchone()
        self._db.execute(
            "UPDATE sources SET acked_sequence = ?1, batches = batches + ?2, records = records + ?3,"
            " bytes = bytes + ?4, kept_batches = kept_batches - ?2, kept_bytes = kept_bytes - ?4 WHERE id = ?5",
            (acked, batches, records, size, source_id),
        )
        self._db.execute("DELETE FROM acknowledged WHERE source_id = ? AND first_sequence > ?", (source_id, acked))
        self._noted.pop(source_id, None)
        return int(batches)

    def rewind(self, source: str, sequence: int) -> int | None:
        """The controller has *source* only up to *sequence* any more: what it once acknowledged after that is to be
        sent again; how many batches. None, and nothing is changed, when some of them are not kept any more."""
        row = self._db.execute(
            "SELECT id, base_sequence + ?, acked_sequence, acked_sequence - kept_batches FROM sources WHERE name = ?",
            (sequence, source),
        ).fetchone()
        if row is None or row[1] >= row[2]:
            return 0
        return None if row[1] < row[3] else self.unacknowledge(row[0], row[1])

    def renew(self, known: Mapping[str, int]) -> list[Missing]:
        """A new epoch has begun: number from 1 all that a controller which has *known* ({source: sequence}) lacks and
        that is still here; returns what is not here any more."""
        missing = []
        rows = self._db.execute(
            "SELECT id, name, base_sequence, acked_sequence, acked_sequence - kept_batches FROM sources ORDER BY name"
        ).fetchall()
        for source_id, name, base, acked, gone in rows:
            has = min(base + known.get(name, 0), acked)
            begins = max(has, min(gone, acked), base)
            if begins > has:
                missing.append(Missing(name, has - base + 1, begins - base, self._read_at(source_id, begins + 1)))
            if begins < acked:
                self.unacknowledge(source_id, begins)
            self._db.execute("UPDATE sources SET base_sequence = acked_sequence WHERE id = ?", (source_id,))
        return missing

    def totals(self) -> tuple[int, int]:
        """(bytes kept, bytes not yet acknowledged)."""
        kept, held = self._db.execute("SELECT sum(kept_bytes), sum(bytes) FROM sources").fetchone()
        return int(kept or 0), int(held or 0)

    def give_up(self, need_bytes: int, before_minute: int = 2**62) -> int:
        """Delete kept batches, those acknowledged longest ago first, until *need_bytes* are free; how many are.

        At most what was acknowledged before *before_minute*.
        """
        freed = 0
        while freed < need_bytes:
            oldest = self._db.execute(
                "SELECT minute, source_id, first_sequence FROM acknowledged WHERE minute < ?"
                " ORDER BY minute, source_id LIMIT 1",
                (before_minute,),
            ).fetchone()
            if oldest is None:
                break
            minute, source_id, first = oldest
            freed += self._drop(minute, source_id, first, need_bytes - freed)
        return freed

    def _drop(self, minute: int, source_id: int, first: int, need_bytes: int) -> int:
        """Some of the batches of one row, and the row itself when it has none left; bytes freed."""
        (until,) = self._db.execute(
            "SELECT coalesce((SELECT min(first_sequence) - 1 FROM acknowledged"
            " WHERE source_id = ?1 AND first_sequence > ?2), (SELECT acked_sequence FROM sources WHERE id = ?1))",
            (source_id, first),
        ).fetchone()
        rows = self._db.execute(
            "SELECT sequence, bytes FROM batches WHERE source_id = ? AND sequence <= ? ORDER BY sequence LIMIT ?",
            (source_id, until, STEP_BATCHES),
        ).fetchall()
        freed = count = 0
        for _, size in rows:
            if freed >= need_bytes:
                break
            freed += size
            count += 1
        if count:
            self._db.execute(
                "DELETE FROM batches WHERE source_id = ? AND sequence <= ?", (source_id, rows[count - 1][0])
            )
            self._db.execute(
                "UPDATE sources SET kept_batches = kept_batches - ?, kept_bytes = kept_bytes - ? WHERE id = ?",
                (count, freed, source_id),
            )
        if count == len(rows) < STEP_BATCHES:
            self._db.execute("DELETE FROM acknowledged WHERE minute = ? AND source_id = ?", (minute, source_id))
            self._noted.pop(source_id, None)
        return int(freed)

    def _read_at(self, source_id: int, sequence: int) -> int:
        row = self._db.execute(
            "SELECT read_at_us FROM batches WHERE source_id = ? AND sequence = ?", (source_id, sequence)
        ).fetchone()
        return 0 if row is None else int(row[0])
