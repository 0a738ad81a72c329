"""What is looked at before a store is worked on. A check of every page of tens of GB would keep agents waiting for many
minutes at each start; so the start looks at what is short and decides all the rest, and every later reading of a page
that is wrong ends the controller (`faults`). Contents are proved by their own checksums when they are used.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from crossdock_controller.store import faults

_MAGIC = b"SQLite format 3\x00"
_SMALL = (  # tables of a row a stream, sink, source or agent: read whole in milliseconds
    "alembic_version", "holder", "agents", "tokens", "sources", "sinks", "sink_cursors", "normalizer_checkpoints",
    "suspects", "streams",
)  # fmt: skip


def check_at_start(*paths: Path) -> None:
    """Header, length, schema and the small tables of each file that exists. Raises StoreDamaged, StoreUnavailable."""
    for path in paths:
        if path.exists() and path.stat().st_size:
            _check(path)


def problems(path: Path) -> Iterator[str]:
    """Everything SQLite finds wrong in the whole file, page by page: minutes for tens of GB."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA busy_timeout=30000")
        try:
            yield from (text for (text,) in db.execute("PRAGMA integrity_check") if text != "ok")
        except sqlite3.DatabaseError as error:  # too damaged to be checked to its end
            if not isinstance(faults.of(error, path), faults.StoreDamaged):
                raise
            yield str(error)


def _check(path: Path) -> None:
    with path.open("rb") as file:
        header = file.read(len(_MAGIC))
    if header != _MAGIC:
        raise faults.damaged(path, "its first bytes are not those of a database")
    with faults.told(path), closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA busy_timeout=30000")
        _check_length(db, path)
        known = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in _SMALL:
            if table in known:
                found = [text for (text,) in db.execute(f"PRAGMA quick_check({table})") if text != "ok"]
                if found:
                    raise faults.damaged(path, f"table {table}: {found[0]}")


def _check_length(db: sqlite3.Connection, path: Path) -> None:
    """A file that lost its end. What is still in the log counts as there, so only a file without one can be judged."""
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        return
    expected = db.execute("PRAGMA page_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0]
    if path.stat().st_size < expected:
        raise faults.damaged(path, f"it has {path.stat().st_size} bytes, {expected} were written")
