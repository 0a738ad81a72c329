"""state.db has exactly one schema, whoever makes it and however it is interrupted."""

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from crossdock.errors import ConfigError
from crossdock_controller.store import connection, migrate, schema


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def same_name_twice(db: sqlite3.Connection) -> None:
    with connection.transaction(db):
        db.execute("INSERT INTO sinks(name) VALUES('a')")
        db.execute("INSERT INTO sinks(name) VALUES('a')")


def test_an_empty_directory_gets_the_whole_schema_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.db"
    migrate(path)
    assert {"events", "deliveries", "dead_letters", "normalizer_checkpoints", "sink_cursors", "wakers"} <= tables(path)
    with closing(connection.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA page_size").fetchone() == (schema.PAGE_BYTES,)


def test_the_head_in_the_code_is_the_head_of_the_migrations() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={})
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_an_up_to_date_file_is_opened_without_importing_alembic(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    migrate(path)
    code = (
        "import sys; from pathlib import Path; from crossdock_controller.store import migrate;"
        f"migrate(Path({str(path)!r})); sys.exit('alembic' in sys.modules or 'sqlalchemy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_processes_that_migrate_at_once_both_find_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    code = f"from pathlib import Path; from crossdock_controller.store import migrate; migrate(Path({str(path)!r}))"
    started = [subprocess.Popen([sys.executable, "-W", "error", "-c", code]) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    assert schema.version(path) == schema.HEAD


def test_many_that_switch_a_new_file_at_once_all_find_the_schema(tmp_path: Path) -> None:
    """SQLite refuses one of two that switch to WAL together at once, whatever its busy timeout is."""
    for attempt in range(15):
        path = tmp_path / f"{attempt}.db"
        together = threading.Barrier(4)

        def make(path: Path = path, together: threading.Barrier = together) -> None:
            together.wait()
            migrate(path)

        with ThreadPoolExecutor(4) as pool:
            for made in [pool.submit(make) for _ in range(4)]:
                made.result(60)
        assert schema.version(path) == schema.HEAD


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE deliveries(x)")  # in the way of a step in the middle
    with pytest.raises(Exception, match="deliveries"):
        migrate(path)
    assert tables(path) == {"deliveries"}


def test_a_file_of_a_newer_release_is_refused_with_the_next_step(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    migrate(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
        db.commit()
    with pytest.raises(ConfigError, match="newer"):
        migrate(path)


def test_a_transaction_that_fails_changes_nothing_and_a_second_waits_for_the_first(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    migrate(path)
    with closing(connection.connect(path)) as one, closing(connection.connect(path)) as two:
        with pytest.raises(sqlite3.IntegrityError):
            same_name_twice(one)
        assert one.execute("SELECT count(*) FROM sinks").fetchone() == (0,)
        with connection.transaction(one):
            assert not connection.begin(two)
        assert connection.begin(two)
        two.execute("ROLLBACK")
