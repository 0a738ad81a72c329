"""Dead letters mapped again: one that a person corrected, and all that waited for the meaning of a code.

An older record never becomes a version after a newer one of its document: when its source has sent a later one that is
in the log already, the letter is superseded. What is mapped again leaves its letter and enters the log in one
transaction: a crash repeats it or finds it done.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from loguru import logger

from crossdock.errors import Refused
from crossdock_controller import rounds
from crossdock_controller.mappings.rules import Lookup
from crossdock_controller.outcomes import Dead, Locator, Mapped
from crossdock_controller.store import bodies, codes, dead_letters, events, inputs, sinks
from crossdock_controller.store.connection import transaction
from crossdock_controller.store.dead_letters import DeadLetter

PORTION = 100  # letters of one source at a time, so that fresh records do not wait for a backlog
LOOK_SECONDS = 0.5
LOOK_ANYWAY_SECONDS = 10.0  # a round may have been decided before an answer and committed after it
_LANES = {"critical": 0, "standard": 1, "bulk": 2}


class Engine(Protocol):
    """What a correction needs of `mappings.engine.Engine`."""

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def line_columns(self) -> tuple[str, ...]: ...

    def remap(
        self, rows: list[dict[str, object]], locator: Locator, lookup: Lookup, *, unit: bytes = b""
    ) -> Mapped | Dead: ...


class Runtime(Protocol):
    """What a correction needs of `config.runtime.Runtime`."""

    @property
    def number(self) -> int: ...

    @property
    def router(self) -> rounds.Router: ...

    def engine(self, site: str, source: str) -> Engine | None: ...

    def labels(self, site: str) -> Mapping[str, str]: ...


def remap(db: sqlite3.Connection, engine: Engine, letter: DeadLetter, rows: list[dict[str, object]]) -> Mapped | Dead:
    """*rows* of the letter, perhaps corrected, by the mapping of *engine*."""
    unit = inputs.unit_of(db, letter.input_id)
    return engine.remap(rows, letter.locator, rounds.LogLookup(db), unit=unit)


def newer(db: sqlite3.Connection, letter: DeadLetter, document: Mapped) -> int | None:
    """The event of the same document that a later record of the same source became; None when there is none."""
    return events.later(db, document.document, document.key, letter.input_id, letter.locator.record)


def commit(
    db: sqlite3.Connection,
    runtime: Runtime,
    letter: DeadLetter,
    document: Mapped,
    by: str,
    note: str,
    now_us: int,
    *,
    fields: Sequence[str] = (),
    force: bool = False,
    on_record: bool = True,
) -> int | None:
    """The letter is retried and *document* in the log, its deliveries due; None. Or, unless *force*, nothing is done,
    because a newer version is in the log: its event. Raises Refused when the letter is not open any more."""
    made = [(letter, document)]
    found = commit_all(db, runtime, made, by, note, now_us, fields=fields, force=force, on_record=on_record)
    return found[1] if found is not None else None


def commit_all(
    db: sqlite3.Connection,
    runtime: Runtime,
    made: Sequence[tuple[DeadLetter, Mapped]],
    by: str,
    note: str,
    now_us: int,
    *,
    fields: Sequence[str] = (),
    force: bool = False,
    on_record: bool = True,
) -> tuple[int, int] | None:
    """`commit` for many, in one transaction: None, or nothing is done, and it is (index of the first letter that has a
    newer version in the log, that event). Raises Refused when one of them is not open any more."""
    ways = [[_sinks(db, runtime, letter, one) for one in document.all()] for letter, document in made]
    due: dict[int, list[int]] = {}
    events_of: list[tuple[int, Mapped]] = []  # (input id, document), those beside one of a letter right after it
    places: list[int] = []  # of the first document of each letter
    with transaction(db):
        for index, (letter, document) in enumerate(made):
            later = None if force else newer(db, letter, document)
            if later is not None:
                return index, later
        for (letter, document), of_each in zip(made, ways, strict=True):
            places.append(len(events_of))
            for one, numbers in zip(document.all(), of_each, strict=True):
                if one is not document and not force and newer(db, letter, one) is not None:
                    continue  # it is not the letter's own: a customer, say, of whom later orders told as well
                for number in numbers:
                    due.setdefault(number, []).append(len(events_of))
                events_of.append((letter.input_id, one))
        packed = bodies.pack([one.body for _, one in events_of])
        for letter, _ in made:
            dead_letters.resolve(db, letter.id, "retried", by, note, now_us, fields, on_record=on_record)
        holding = any(one.holds for _, one in events_of)
        known = set(rounds.append(db, events_of, packed, due, now_us=now_us, holding=holding))
        counts = []
        for place, (letter, _) in zip(places, made, strict=True):
            records = letter.records
            counts.append(inputs.Counts(dead=-records, **{"duplicates" if place in known else "mapped": records}))
        inputs.add_counts(db, [(letter.input_id, c) for (letter, _), c in zip(made, counts, strict=True)])
    return None


def _sinks(db: sqlite3.Connection, runtime: Runtime, letter: DeadLetter, one: Mapped) -> list[int]:
    """Where *one* goes, by number."""
    labels = runtime.labels(letter.site)
    names = runtime.router.route(one.document, one.key, letter.site, letter.source, labels, one.fields)
    return [sinks.sink_id(db, name) for name in names]


class Recoder:
    """Maps again what waited for the meaning of a code, a portion at a time. On the normalizer's thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._seen = 0  # the last answer after which nothing was left to do
        self._looked = self._anyway = float("-inf")

    def step(
        self, runtime_at: Callable[[str], Runtime | None], lanes: Callable[[], Mapping[tuple[str, str], str]]
    ) -> bool:
        """One portion, of the most critical source that has any; whether something moved. *lanes* by site and source.

        It costs a look at one number, twice a second, while nobody answers anything.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return False
        last = codes.last(self._db)
        if last == 0 or (last == self._seen and now - self._anyway < LOOK_ANYWAY_SECONDS):
            self._looked = now
            return False
        waiting = codes.sources_due(self._db)
        lane = lanes() if waiting else {}
        waiting.sort(key=lambda name: (_LANES.get(lane.get(name, "standard"), 1), name))
        for site, source in waiting:
            runtime = runtime_at(site)
            engine = runtime.engine(site, source) if runtime is not None else None
            if runtime is not None and engine is not None and self._portion(runtime, engine, site, source):
                return True
        self._seen, self._looked, self._anyway = last, now, now
        return False

    def _portion(self, runtime: Runtime, engine: Engine, site: str, source: str) -> bool:
        found = codes.due(self._db, site, source, PORTION)
        counts = {"mapped": 0, "superseded": 0, "discarded": 0, "still refused": 0}
        for entry in found:
            try:
                counts[self._one(runtime, engine, entry)] += 1
            except Refused:  # a person was quicker
                continue
        log = logger.bind(site=site, source=source, **{name.replace(" ", "_"): n for name, n in counts.items() if n})
        if found:
            log.info("records that waited for a code were mapped again")
        return bool(found)

    def _one(self, runtime: Runtime, engine: Engine, entry: codes.Due) -> str:
        letter, said, now_us = dead_letters.get(self._db, entry.letter), entry.said, time.time_ns() // 1000
        if said.state == "ignored":
            note = f"the code {said.value!r} of {said.list} is ignored" + (f": {said.note}" if said.note else "")
            self._resolve(letter, "discarded", said.by, note, now_us)
            return "discarded"
        rows: list[dict[str, object]] = [dict(row) for row in letter.rows]
        found = self._tried(engine, letter, rows) if len(rows) == letter.records else None
        if not isinstance(found, Mapped):
            with transaction(self._db):
                if found is not None:
                    dead_letters.changed(self._db, letter.id, found)
                codes.tried(self._db, letter.id, said.id)
            return "still refused"
        note = f"{said.value!r} of {said.list} means {said.meaning!r}"
        later = commit(self._db, runtime, letter, found, said.by, note, now_us, on_record=False)
        if later is None:
            return "mapped"
        self._resolve(letter, "superseded", said.by, f"event {later} is a later version of {found.key}", now_us)
        return "superseded"

    def _tried(self, engine: Engine, letter: DeadLetter, rows: list[dict[str, object]]) -> Mapped | Dead | None:
        """None when the mapping itself fails on it: the letter stays, and nobody else waits for that."""
        try:
            return remap(self._db, engine, letter, rows)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours, in one record of thousands
            log = logger.bind(site=letter.site, source=letter.source, letter=letter.id)
            log.opt(exception=error).error("the mapping failed on a dead letter, which stays as it is: {!r}", error)
            return None

    def _resolve(self, letter: DeadLetter, state: dead_letters.Resolution, by: str, note: str, now_us: int) -> None:
        with transaction(self._db):
            dead_letters.resolve(self._db, letter.id, state, by, note, now_us, on_record=False)
