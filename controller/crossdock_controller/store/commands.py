"""Commands to agents: given by a person, taken to the agent by the gateway, answered once.

    waiting -> sent -> running -> done | failed | refused | expired

Every function takes an open connection to state.db and belongs in a transaction of the caller, who appends to the audit
log in it. Times are microseconds since the epoch, UTC. An answer's output is kept in parts, as it came.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

UNANSWERED = ("waiting", "sent", "running")
ENDED = ("done", "failed", "refused", "expired")
_UNANSWERED = "state IN ('waiting', 'sent', 'running')"  # as the index is made: SQLite uses it for this text


@dataclass(frozen=True, slots=True)
class CommandRow:
    """*ended_us* is 0 until it has an end; *error* says why it failed, was refused or expired."""

    id: str
    agent: str
    name: str
    arguments: dict[str, str]
    by: str
    created_us: int
    expires_us: int
    state: str
    sent_us: int
    started_us: int
    ended_us: int
    error: str
    output_bytes: int


_COLUMNS = (
    "id, agent, name, arguments, by, created_us, expires_us, state, sent_us, started_us, ended_us, error, output_bytes"
)


def add(
    db: sqlite3.Connection,
    *,
    id_: str,
    agent: str,
    name: str,
    arguments: Mapping[str, str],
    by: str,
    created_us: int,
    expires_us: int,
) -> None:
    text = json.dumps(dict(arguments), ensure_ascii=False, sort_keys=True)
    db.execute(
        "INSERT INTO commands(id, agent, name, arguments, by, created_us, expires_us, state)"
        " VALUES(?,?,?,?,?,?,?,'waiting')",
        (id_, agent, name, text, by, created_us, expires_us),
    )


def get(db: sqlite3.Connection, id_: str) -> CommandRow | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM commands WHERE id = ?", (id_,)).fetchone()
    return _row(row) if row else None


def beginning_with(db: sqlite3.Connection, prefix: str) -> list[CommandRow]:
    """Those whose id begins with *prefix*, newest first, a hundred at most: to know whether it names one."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM commands WHERE substr(id, 1, length(?1)) = ?1 ORDER BY created_us DESC LIMIT 100",
        (prefix,),
    )
    return [_row(row) for row in rows]


def newest(db: sqlite3.Connection, limit: int, agents: Iterable[str] | None = None) -> list[CommandRow]:
    """Newest first; with *agents*, theirs only."""
    if agents is None:
        rows = db.execute(f"SELECT {_COLUMNS} FROM commands ORDER BY created_us DESC, id LIMIT ?", (limit,))
    else:
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM commands WHERE agent IN (SELECT value FROM json_each(?))"
            " ORDER BY created_us DESC, id LIMIT ?",
            (json.dumps(list(agents)), limit),
        )
    return [_row(row) for row in rows]


def unanswered(db: sqlite3.Connection) -> list[CommandRow]:
    """All that have no end yet, in the order of being given."""
    return [_row(row) for row in db.execute(
        f"SELECT {_COLUMNS} FROM commands WHERE {_UNANSWERED} ORDER BY created_us, id"
    )]  # fmt: skip


def unanswered_of(db: sqlite3.Connection, agent: str) -> int:
    count: int = db.execute(f"SELECT count(*) FROM commands WHERE {_UNANSWERED} AND agent = ?", (agent,)).fetchone()[0]
    return count


def sent(db: sqlite3.Connection, id_: str, now_us: int) -> None:
    db.execute("UPDATE commands SET state = 'sent', sent_us = ? WHERE id = ? AND state = 'waiting'", (now_us, id_))


def started(db: sqlite3.Connection, id_: str, agent: str, now_us: int) -> None:
    """*agent* has begun it; of another agent's command nothing changes."""
    db.execute(
        f"UPDATE commands SET state = 'running', started_us = ? WHERE id = ? AND agent = ? AND {_UNANSWERED}"
        " AND state <> 'running'",
        (now_us, id_, agent),
    )


def ended(db: sqlite3.Connection, id_: str, state: str, error: str, now_us: int) -> bool:
    """False when it had an end already, or there is no such command: nothing changed then."""
    done = db.execute(
        "UPDATE commands SET state = ?, error = ?, ended_us = ?, output_bytes = coalesce((SELECT sum(length(data))"
        f" FROM command_outputs o WHERE o.id = commands.id), 0) WHERE id = ? AND {_UNANSWERED}",
        (state, error, now_us, id_),
    )
    return done.rowcount > 0


def add_part(db: sqlite3.Connection, id_: str, part: int, data: bytes) -> int:
    """Store a part of an output and its bytes so far; -1 when *part* is not the next one. Part 0 begins anew."""
    if part == 0:
        drop_output(db, id_)
    count, size = db.execute(
        "SELECT count(*), coalesce(sum(length(data)), 0) FROM command_outputs WHERE id = ?", (id_,)
    ).fetchone()
    if count != part:
        return -1
    db.execute("INSERT INTO command_outputs(id, part, data) VALUES(?,?,?)", (id_, part, data))
    return int(size) + len(data)


def drop_output(db: sqlite3.Connection, id_: str) -> None:
    db.execute("DELETE FROM command_outputs WHERE id = ?", (id_,))


def output(db: sqlite3.Connection, id_: str) -> bytes:
    """All of it; empty when there is none, or none any more."""
    rows = db.execute("SELECT data FROM command_outputs WHERE id = ? ORDER BY part", (id_,))
    return b"".join(bytes(data) for (data,) in rows)


def purge(db: sqlite3.Connection, before_us: int, keep_bytes: int) -> int:
    """Forget commands that ended before *before_us*, and the oldest outputs beyond *keep_bytes* in all; how many
    commands and outputs went."""
    old = [id_ for (id_,) in db.execute(
        f"SELECT id FROM commands WHERE created_us < ? AND ended_us < ? AND NOT {_UNANSWERED}", (before_us, before_us)
    )]  # fmt: skip
    for id_ in old:
        drop_output(db, id_)
        db.execute("DELETE FROM commands WHERE id = ?", (id_,))
    held, too_much = 0, []
    for id_, size in db.execute(
        f"SELECT id, output_bytes FROM commands WHERE output_bytes > 0 AND NOT {_UNANSWERED} ORDER BY ended_us DESC"
    ).fetchall():
        held += size
        if held > keep_bytes:
            too_much.append(id_)
    for id_ in too_much:
        drop_output(db, id_)
        db.execute("UPDATE commands SET output_bytes = 0 WHERE id = ?", (id_,))
    return len(old) + len(too_much)


def _row(values: tuple[object, ...]) -> CommandRow:
    fields = list(values)
    fields[3] = json.loads(str(fields[3]))
    return CommandRow(*fields)  # type: ignore[arg-type]
