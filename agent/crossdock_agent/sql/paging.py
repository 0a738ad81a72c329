"""Pages of a table, one short statement each; every page begins strictly behind the last whole unit before it.

Pages start small and grow tenfold up to `page_rows`, and shrink again where rows are large: the first page of a table
with images in it must not fill the memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from crossdock.errors import ConfigError, CrossdockError
from crossdock.lifecycle import Stop
from crossdock_agent.sql.cursor import Cursor, Position
from crossdock_agent.sql.reading import Reading
from crossdock_agent.sql.rows import Page
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.times import parse

FIRST_PAGE_ROWS = 50
PAGE_BYTES = 16 * 1024 * 1024


class Pager:
    def __init__(self, settings: SqlTableSettings, stop: Stop) -> None:
        self._settings, self._stop = settings, stop
        self._rows = min(FIRST_PAGE_ROWS, settings.page_rows)

    def pages(self, reading: Reading, cursor: Cursor, after: Position | None) -> Iterator[Page]:
        """Pages with at least one unit, from *after* to the end of the table or to the stop.

        Raises CrossdockError when more rows than fit a page share one key, and what `require_order` raises.
        """
        limit = self._settings.page_rows
        while not self._stop.is_set():
            asked = self._rows
            rows = reading.database.rows(*reading.statements.page(after, asked))
            full = len(rows) >= asked
            page = Page(reading.shape, rows, full=full, may_split=asked >= limit)
            if page.ends:
                after = page.position(page.ends[-1])
                require_order(self._settings, cursor, after[0])
                yield page
            elif full and asked >= limit:
                raise CrossdockError(
                    f"table {self._settings.table}: more than {limit} rows share one key",
                    hint="name columns in 'key' that tell rows apart, or raise 'page_rows'",
                )
            if not full:
                return
            large = page.bytes > PAGE_BYTES and page.ends
            del rows, page  # before the next one is fetched
            self._rows = max(2, asked // 4) if large else min(limit, asked * 10)


def require_order(settings: SqlTableSettings, cursor: Cursor, value: object) -> None:
    """Raises ConfigError when *value*, a watermark, is no whole number, or no time where none is known yet."""
    if settings.mode == "incrementing":
        if isinstance(value, bool | float | bytes) or not str(value).removeprefix("-").isdecimal():
            raise ConfigError(
                f"table {settings.table}: {settings.watermark[0]} holds {value!r}",
                hint="mode incrementing needs whole numbers; exclude such rows with 'where'",
            )
    elif cursor.style is None and parse(value) is None:
        raise ConfigError(
            f"table {settings.table}: {', '.join(settings.watermark)} holds {value!r}, no time known here",
            hint="exclude such rows with 'where', or read a view that shows ISO 8601 text",
        )
