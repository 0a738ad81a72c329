"""`python migration_process.py KIND SQL DIRECTORY`: a migration that is killed before each of its statements in turn.

For each number a new process begins to migrate a new copy of the file that SQL makes, and dies by SIGKILL before the
statement of that number; then the migration is run again to its end. Prints how often it was killed, and what was left
each time, as JSON. A process of its own, because it forks and hooks `sqlite3.connect`.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

STRIDE = {"outbox": 3, "intake": 1, "state": 7}  # where there is no file yet: many statements, and nothing to lose


def make(sql: str, path: Path) -> None:
    """A file of an earlier release. `PRAGMA`s stand first, and must before there is a page."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(sql)
        db.execute("PRAGMA journal_mode=WAL").fetchall()


def migrate(kind: str, path: Path) -> None:
    if kind == "outbox":
        from crossdock_agent.outbox import schema as outbox

        outbox.migrate(path)
    elif kind == "intake":
        from crossdock_controller.store.intake import IntakeWriter

        IntakeWriter(path).close()
    else:
        from crossdock_controller.store import migrate as state

        state(path)


def version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return str(db.execute("SELECT version_num FROM alembic_version").fetchone()[0])
        return str(db.execute("PRAGMA user_version").fetchone()[0])


def die_before(statement: int) -> None:
    """From now on: SIGKILL when any connection of this process begins the statement of that number."""
    begun = [0]
    connect = sqlite3.connect

    def count(_text: str) -> None:
        begun[0] += 1
        if begun[0] == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    def hooked(*args: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*args, **options)
        db.set_trace_callback(count)
        return db

    sqlite3.connect = sqlite3.dbapi2.connect = hooked  # type: ignore[assignment]


def killed_in_child(kind: str, path: Path, statement: int) -> bool:
    """False when the migration came to its end before that statement."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            die_before(statement)
            migrate(kind, path)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, f"the migration failed before statement {statement}"
    return False


def main(kind: str, sql: str, directory: Path) -> None:
    migrate(kind, directory / "warm.db")  # imports everything once
    left: list[str] = []
    statement, stride = 1, 1 if sql else STRIDE[kind]
    while True:
        path = directory / f"{kind}-{statement}.db"
        if sql:
            make(sql, path)
        if not killed_in_child(kind, path, statement):
            break
        left.append(version(path))
        migrate(kind, path)
        statement += stride
    print(json.dumps({"killed": len(left), "left": left}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).read_text("utf-8") if sys.argv[2] else "", Path(sys.argv[3]))
