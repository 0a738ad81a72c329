"""Pages of a table, one short statement each; every page begins strictly behind the last whole unit before it.

Pages start small and grow tenfold up to `page_rows`, and shrink again where rows are large: the first page of a table
with images in it must not fill the memory. Where the database knows the size of a value without handing it out, it is
asked first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from crossdock.errors import ConfigError, CrossdockError
from crossdock.lifecycle import Stop
from crossdock_agent.sql.cursor import Cursor, Position
from crossdock_agent.sql.reading import Reading
from crossdock_agent.sql.rows import Page
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.times import parse

FIRST_PAGE_ROWS = 50
SMALLEST_PAGE_ROWS = 2  # of a full page the last unit is left to the next one
PAGE_BYTES = 16 * 1024 * 1024


class Pager:
    def __init__(self, settings: SqlTableSettings, stop: Stop) -> None:
        self._settings, self._stop = settings, stop
        self._rows = min(FIRST_PAGE_ROWS, settings.page_rows)
        self._least = SMALLEST_PAGE_ROWS

    def pages(
        self, reading: Reading, cursor: Cursor | None, after: Position | None, below: object = None
    ) -> Iterator[Page]:
        """Pages with at least one unit, from *after* to the end of the table (to *below*, exclusive) or to the stop.

        Raises CrossdockError when more rows than fit a page share one key, and what `require_order` raises.
        """
        limit = self._settings.page_rows
        while not self._stop.is_set():
            asked = self._fitting(reading, after, below)
            rows = reading.database.rows(*reading.statements.page(after, asked, below))
            full = len(rows) >= asked
            page = Page(reading.shape, rows, full=full, may_split=asked >= limit)
            if page.ends:
                self._least = SMALLEST_PAGE_ROWS
                after = page.position(page.ends[-1])
                require_order(self._settings, cursor, after[0])
                yield page
            elif full and asked >= limit:
                raise CrossdockError(
                    f"{self._settings.subject}: more than {limit} rows share one key",
                    hint="name columns in 'key' that tell rows apart, or raise 'page_rows'",
                )
            if not full:
                return
            large = page.bytes > PAGE_BYTES and page.ends
            if not page.ends:  # a unit is larger than the page: its size is no matter any more
                self._least = min(limit, asked * 10)
            del rows, page  # before the next one is fetched
            self._rows = max(SMALLEST_PAGE_ROWS, asked // 4) if large else min(limit, asked * 10)

    def _fitting(self, reading: Reading, after: Position | None, below: object) -> int:
        """How many rows to ask for: where some are large, no more than together fit a page in memory."""
        return fitting(reading, after, self._rows, self._least, self._settings.max_lob_bytes, below)


def fitting(
    reading: Reading, after: Sequence[object] | None, rows: int, least: int, cap: int, below: object = None
) -> int:
    """So many of *rows* as fit a page in memory, but *least*, where the database knows their sizes; *cap* bytes of a
    value are read at most."""
    probe = reading.statements.sizes(after, rows, below)
    if probe is None:
        return rows
    most = cap * len(reading.shape.names)
    sums = accumulate(min(int(size), most) for (size,) in reading.database.rows(*probe))
    return min(rows, max(sum(1 for total in sums if total <= PAGE_BYTES), least))


def require_order(settings: SqlTableSettings, cursor: Cursor | None, value: object) -> None:
    """Raises ConfigError when *value*, a watermark, is no whole number, or no time where none is known yet."""
    if settings.mode != "timestamp":
        if isinstance(value, bool | float | bytes) or not str(value).removeprefix("-").isdecimal():
            raise ConfigError(
                f"{settings.subject}: {settings.watermark[0]} holds {value!r}",
                hint=f"mode {settings.mode} needs whole numbers; exclude such rows with 'where'",
            )
    elif (cursor is None or cursor.style is None) and parse(value) is None:
        raise ConfigError(
            f"{settings.subject}: {', '.join(settings.watermark)} holds {value!r}, no time known here",
            hint="exclude such rows with 'where', or read a view that shows ISO 8601 text",
        )
