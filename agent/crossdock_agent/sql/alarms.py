"""What a person should know about a table that is read without error: rows never read, clocks apart, steps back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossdock.errors import CrossdockError, SourceUnavailable
from crossdock_agent.sources.base import SourceContext
from crossdock_agent.sql.connections import SqliteDatabase
from crossdock_agent.sql.cursor import Cursor
from crossdock_agent.sql.reading import Reading
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.times import SECOND_US

if TYPE_CHECKING:
    from loguru import Logger

COUNT_SECONDS = 600.0  # how often rows without a watermark are counted: that may read the whole table
AHEAD_SECONDS = 600  # a newest row this far in the future is reported


class Alarms:
    def __init__(self, settings: SqlTableSettings, context: SourceContext, log: Logger) -> None:
        self._settings, self._context, self._log = settings, context, log
        self._counted = float("-inf")

    def report(self, reading: Reading, cursor: Cursor, ceiling: int | None) -> bool:
        """Set the counters after a pass; False when that broke the connection."""
        counters, order = self._context.counters, cursor.scale.order(cursor.high)
        if ceiling is not None and order is not None and not cursor.scale.incrementing:
            ahead = max(0, (order - ceiling) // SECOND_US)
            counters.set("newest_ahead_seconds", ahead if ahead > AHEAD_SECONDS else 0)
        if isinstance(reading.database, SqliteDatabase):
            counters.set("undecodable_texts", reading.database.undecodable)
        now = self._context.monotonic()
        if now - self._counted < COUNT_SECONDS:
            return True
        self._counted = now
        return self._count_unmarked(reading, cursor)

    def refuse_a_step_back(self, reading: Reading, cursor: Cursor) -> None:
        """Raises CrossdockError when the newest row stands before what was settled. Nothing is lost by stopping: there
        is then nothing behind the floor to read."""
        newest = reading.database.rows(reading.statements.newest())[0][0]
        now = cursor.scale.order([newest]) if newest is not None else None
        floor = cursor.scale.order(cursor.floor)
        if now is None or floor is None or now >= floor:
            return
        self._context.counters.add("steps_back")
        raise CrossdockError(
            f"{self._settings.subject} ends at {newest}, but was read up to {cursor.high} before",
            hint="if it was restored, give the source a new name to read it anew;"
            " if its newest rows are deleted on purpose, set 'purged: true'",
        )

    def _count_unmarked(self, reading: Reading, cursor: Cursor) -> bool:
        sample = cursor.high[0] if cursor.high else None
        try:
            unmarked = int(reading.database.rows(reading.statements.unmarked(sample))[0][0])
        except SourceUnavailable as error:  # a count too slow for the timeout must not stop what is read by index
            self._log.warning("rows without a watermark were not counted: {}", error.message)
            return False
        self._context.counters.set("rows_without_watermark", unmarked)
        if unmarked:
            names = ", ".join(self._settings.watermark)
            self._log.warning("{} rows have no usable {} and are not read", unmarked, names)
        return True
