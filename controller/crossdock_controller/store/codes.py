"""Codes without a meaning are a worklist: what waits, what people filled in, and what is to be mapped again for it.

What waits is not kept twice: it is the open dead letters that name a list and a code. What people said is kept,
one row each time; the last one for a list, a code and a site counts.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Literal

from crossdock.errors import Refused
from crossdock_controller.store import audit

State = Literal["given", "ignored"]
UNKNOWN_CODE = "unknown_code"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A code that has no meaning, at one source. *sample* is the reason of the oldest letter; *said* is not empty when
    a person has answered and the records are on their way."""

    list: str
    value: str
    site: str
    source: str
    letters: int
    records: int
    since_us: int
    letter: int
    sample: str
    said: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a person said of a code; *site* is empty for every site."""

    id: int
    list: str
    value: str
    site: str
    state: State
    meaning: str
    by: str
    at_us: int
    note: str


@dataclass(frozen=True, slots=True)
class Due:
    """A dead letter whose code was answered since it was last tried."""

    letter: int
    site: str
    source: str
    said: Said


# The answer that counts for a letter: of its site, else of every site.
_ANSWER = (
    "coalesce((SELECT max(c.id) FROM code_meanings c WHERE c.list = d.list AND c.value = d.value AND c.site = s.site),"
    " (SELECT max(c.id) FROM code_meanings c WHERE c.list = d.list AND c.value = d.value AND c.site = ''))"
)
_SAID = "m.id, m.list, m.value, m.site, m.state, m.meaning, m.said_by, m.at_us, m.note"
_OPEN = "d.state = 'open' AND d.list != ''"  # refused for another reason since: a better answer may help


class Meanings:
    """What people filled in, as the mapping engine asks it (`mappings.answered.People`). On one thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._last = -1
        self._known: dict[tuple[str, str, str], str] = {}

    @property
    def generation(self) -> int:
        """The number of the last answer; looks at the store, by one seek."""
        last: int = self._db.execute("SELECT coalesce(max(id), 0) FROM code_meanings").fetchone()[0]
        if last != self._last:
            rows = self._db.execute(
                "SELECT site, list, value, meaning FROM code_meanings WHERE id > ? ORDER BY id", (self._last,)
            ).fetchall()
            self._known.update(((site, name, value), meaning) for site, name, value, meaning in rows)
            self._last = last
        return last

    def given(self, site: str, name: str, value: str, /) -> str | None:
        if self._last < 0:
            _ = self.generation
        found = self._known.get((site, name, value))
        if found is None:  # ignored at this site, it is not what it means elsewhere
            found = self._known.get(("", name, value))
        return found or None  # an ignored code has no meaning


def waiting(db: sqlite3.Connection) -> list[Waiting]:
    """What waits for a meaning: most records first."""
    rows = db.execute(
        "SELECT w.list, w.value, w.site, w.source, w.letters, w.records, w.since_us, w.first, d.reason, coalesce("
        f"(SELECT iif(m.state = 'ignored', 'ignored', m.meaning) FROM code_meanings m WHERE m.id = {_ANSWER}), '')"
        " FROM (SELECT d.list, d.value, s.site, s.source, count(*) AS letters, sum(d.records) AS records,"
        " min(d.created_us) AS since_us, min(d.id) AS first FROM dead_letters d JOIN sources s ON s.id = d.source_id"
        f" WHERE d.state = 'open' AND d.code = '{UNKNOWN_CODE}' GROUP BY d.list, d.value, s.site, s.source) w"
        " JOIN dead_letters d ON d.id = w.first JOIN sources s ON s.id = d.source_id"
        " ORDER BY w.records DESC, w.list, w.value, w.site, w.source"
    )
    return [Waiting(*row) for row in rows]


def said(db: sqlite3.Connection, name: str = "") -> list[Said]:
    """What counts now of what people said, of the list *name* or of all, by list, code and site."""
    rows = db.execute(
        f"SELECT {_SAID} FROM code_meanings m WHERE m.id IN"
        " (SELECT max(id) FROM code_meanings GROUP BY list, value, site) AND (?1 = '' OR m.list = ?1)"
        " ORDER BY m.list, m.value, m.site",
        (name,),
    )
    return [Said(*row) for row in rows]


def say(
    db: sqlite3.Connection,
    name: str,
    value: str,
    site: str,
    state: State,
    meaning: str,
    *,
    by: str,
    note: str,
    now_us: int,
) -> int:
    """A person's word on a code, on record; how many dead letters wait for it. In a transaction. Raises Refused."""
    if not name:
        raise Refused(
            f"the code {value!r} stands in a table inside the mapping, which no list is",
            hint="add it to 'codes' of that field and apply it, or let the field name a list of lists/",
        )
    db.execute(
        "INSERT INTO code_meanings(list, value, site, state, meaning, said_by, at_us, note) VALUES(?,?,?,?,?,?,?,?)",
        (name, value, site, state, meaning, by, now_us, note),
    )
    details = {"list": name, "site": site}  # the code itself is of a record
    action = "codes.set" if state == "given" else "codes.ignore"
    audit.append(db, actor=by, action=action, target=name, details=details, now_us=now_us)
    found: int = db.execute(
        f"SELECT count(*) FROM dead_letters d JOIN sources s ON s.id = d.source_id WHERE {_OPEN} AND d.list = ?"
        " AND d.value = ? AND (? = '' OR s.site = ?)",
        (name, value, site, site),
    ).fetchone()[0]
    return found


def last(db: sqlite3.Connection) -> int:
    """The number of the last answer of a person, 0 when nobody ever gave one."""
    found: int = db.execute("SELECT coalesce(max(id), 0) FROM code_meanings").fetchone()[0]
    return found


def sources_due(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """(site, source) of dead letters whose code was answered since they were last tried."""
    rows = db.execute(
        f"SELECT DISTINCT s.site, s.source FROM dead_letters d JOIN sources s ON s.id = d.source_id"
        f" WHERE {_OPEN} AND {_ANSWER} > d.coded"
    )
    return list(rows.fetchall())


def due(db: sqlite3.Connection, site: str, source: str, limit: int) -> list[Due]:
    """The oldest of one source, in the order of their records."""
    rows = db.execute(
        f"SELECT d.id, s.site, s.source, {_SAID} FROM dead_letters d JOIN sources s ON s.id = d.source_id"
        f" JOIN code_meanings m ON m.id = {_ANSWER} WHERE {_OPEN} AND m.id > d.coded AND s.site = ? AND s.source = ?"
        " ORDER BY d.input_id, json_extract(d.locator, '$.record'), d.id LIMIT ?",
        (site, source, limit),
    )
    return [Due(letter, at, of, Said(*rest)) for letter, at, of, *rest in rows]


def tried(db: sqlite3.Connection, letter: int, answer: int) -> None:
    """It was tried with this answer, and is still refused: not again before another one. In a transaction."""
    db.execute("UPDATE dead_letters SET coded = ? WHERE id = ?", (answer, letter))
