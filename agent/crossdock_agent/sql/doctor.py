"""What `check` finds out about a table before it goes live; it reads one row and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from crossdock.errors import CrossdockError
from crossdock_agent.sources.base import Finding
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.folds import frame, present
from crossdock_agent.sql.reading import Reading, prepare, prepare_by_key
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.times import SECOND_US, parse

SKEW_SECONDS = 5
SAMPLE_ROWS = 1_000


def examine(
    settings: SqlTableSettings, connect: Callable[[], Database], wall_us: Callable[[], int]
) -> Iterator[Finding]:
    """Findings in order; the first that fails for want of a connection or a table is the last."""
    stage = "login"
    try:
        with closing(connect()) as database:
            version = str(database.rows(database.dialect.version)[0][0])
            yield Finding("login", ok=True, detail=version)
            stage = "table and columns"
            reading = prepare(database, settings)
            is_view = reading.table.is_view and reading.table.query is None
            subject = f"view {settings.table}" if is_view else settings.subject
            yield Finding("table and columns", ok=True, detail=f"{subject}, {len(reading.columns)} columns")
            stage = "read"
            yield from _read(reading, settings)
            yield _index(reading, settings)
            yield from _times(reading, settings, wall_us)
    except CrossdockError as error:
        yield Finding(stage, ok=False, detail=error.message, hint=error.hint)


def examine_by_key(settings: SqlTableSettings, connect: Callable[[], Database]) -> Iterator[Finding]:
    """The same for a table that is read by its key alone."""
    stage = "login"
    try:
        with closing(connect()) as database:
            yield Finding("login", ok=True, detail=str(database.rows(database.dialect.version)[0][0]))
            stage = "table and columns"
            reading, statements = prepare_by_key(database, settings)
            kind = "view" if reading.table.is_view else "table"
            yield Finding(
                "table and columns", ok=True, detail=f"{kind} {settings.table}, {len(reading.columns)} columns"
            )
            stage = "read"
            limit = min(SAMPLE_ROWS, settings.page_rows)
            rows = [row for sql, values in statements.ranges(None, None, limit) for row in database.rows(sql, values)]
            yield Finding("read", ok=True, detail=f"{len(rows)} rows as a sample" if rows else "no row yet")
            keys = [tuple(row[i] for i in statements.position) for row in rows]
            yield _unique(", ".join(reading.key), len(keys) - len(set(keys)), len(keys))
            yield _key_index(reading)
    except CrossdockError as error:
        yield Finding(stage, ok=False, detail=error.message, hint=error.hint)


def _unique(names: str, twice: int, count: int) -> Finding:
    return Finding(
        "key", ok=not twice,
        detail=f"{twice} of {count} rows share their ({names})" if twice else f"({names}) is unique",
        hint="add columns to 'key' until each row has its own" if twice else "",
    )  # fmt: skip


def _key_index(reading: Reading) -> Finding:
    first = reading.key[0]
    if reading.table.is_view:
        return Finding("index", ok=True, detail=f"not known for a view; {first} should be indexed in the table beneath")
    if first.lower() in reading.database.indexed(reading.table):
        return Finding("index", ok=True, detail=f"{first} is indexed")
    return Finding(
        "index", ok=True, detail=f"{first} is not indexed: each page sorts the whole table",
        hint=f"create an index on {', '.join(reading.key)}",
    )  # fmt: skip


def _read(reading: Reading, settings: SqlTableSettings) -> Iterator[Finding]:
    sql, values = reading.statements.page(None, min(SAMPLE_ROWS, settings.page_rows))
    rows = reading.database.rows(sql, values)
    yield Finding("read", ok=True, detail=f"{len(rows)} rows as a sample" if rows else "no row yet")
    keys = [tuple(row[i] for i in reading.shape.position) for row in rows]
    names = ", ".join(dict.fromkeys([*settings.watermark, *settings.key]))
    yield _unique(names, len(keys) - len(set(keys)), len(keys))
    unmarked = int(reading.database.rows(reading.statements.unmarked(keys[-1][0] if keys else None))[0][0])
    if unmarked:
        yield Finding(
            "watermark", ok=False,
            detail=f"{unmarked} rows have no usable {', '.join(settings.watermark)} and are not read",
            hint="name a second column that is always filled: column: [write_date, create_date]",
        )  # fmt: skip


def _index(reading: Reading, settings: SqlTableSettings) -> Finding:
    names = ", ".join(settings.watermark)
    if reading.table.is_view:
        kind = "query" if reading.table.query is not None else "view"
        return Finding(
            "index", ok=True, detail=f"not known for a {kind}; {names} should be indexed in the table beneath"
        )
    if len(settings.watermark) == 1 and settings.watermark[0].lower() in reading.database.indexed(reading.table):
        return Finding("index", ok=True, detail=f"{names} is indexed")
    wanted = names if len(settings.watermark) == 1 else f"COALESCE({names})"
    return Finding(
        "index", ok=True, detail=f"{wanted} is not indexed: each poll reads the whole table",
        hint=f"create an index on {wanted}, or poll less often",
    )  # fmt: skip


def _times(reading: Reading, settings: SqlTableSettings, wall_us: Callable[[], int]) -> Iterator[Finding]:
    utc, server = reading.database.clock()
    skew = (utc - wall_us()) / SECOND_US
    yield Finding(
        "clock", ok=abs(skew) <= SKEW_SECONDS, detail=f"the database is {skew:+.1f} s from this machine",
        hint="" if abs(skew) <= SKEW_SECONDS else "let both follow one time server",
    )  # fmt: skip
    if settings.mode != "timestamp":
        return
    newest = reading.database.rows(reading.statements.newest())[0][0]
    moment = parse(newest)
    if newest is None:
        return
    if moment is None:
        yield Finding(
            "watermark", ok=False,
            detail=f"the greatest {', '.join(settings.watermark)} is {newest!r}, no time known here",
            hint="exclude such rows with 'where', or read a view that shows ISO 8601 text",
        )  # fmt: skip
        return
    aware = moment.style.aware
    ahead = (moment.us - (utc if aware else present(settings, utc, server))) / SECOND_US
    if not aware and frame(settings) == "server" and abs(server - utc) >= SECOND_US:
        yield Finding(
            "zone", ok=True, detail=f"times say no zone, and the server is {(server - utc) / 3600e6:+g} h from UTC",
            hint="name it (zone: Europe/Amsterdam), or the look-back is always two hours longer for the night the"
            " clocks go back",
        )  # fmt: skip
    fits_utc = not aware and frame(settings) == "server" and moment.us - utc <= SKEW_SECONDS * SECOND_US
    hint = (
        "set 'clock: utc'"
        if fits_utc
        else "rows are dated in the future, or set 'clock' to the zone they are written in"
    )
    yield Finding(
        "watermark", ok=ahead <= SKEW_SECONDS, detail=f"newest is {newest}", hint=hint if ahead > SKEW_SECONDS else ""
    )
