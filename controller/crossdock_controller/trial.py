"""Batches mapped in a process of their own, which may die of it: `worker --role trial`.

One question a line on its standard input, one answer a line on its standard output, both JSON. It reads the stores and
writes nothing. Its memory and the time of each answer are limited.
"""

from __future__ import annotations

import faulthandler
import sqlite3
import sys
from contextlib import closing
from typing import IO

import msgspec

from crossdock_controller import rounds
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import connection, revisions, targets
from crossdock_controller.store.intake import IntakeReader, StreamInfo
from crossdock_controller.store.normalizer import Position

CANNOT_TRY = 5  # exit code: the store cannot be read now, which says nothing about what was asked
LEFT_OUT = "left out of a trial"
LEAST_MEMORY_BYTES = 1024**3
MOST_MEMORY_BYTES = 4 * 1024**3


class Question(msgspec.Struct, frozen=True):
    """Map the records at *keep* of a batch, after *skip*; the others are set aside. None keeps all."""

    stream_id: int
    sequence: int
    skip: int
    keep: list[int] | None
    seconds: float


class Answer(msgspec.Struct, frozen=True):
    """*problem* is empty when it went well; *records* are those of the batch, 0 when it cannot be opened."""

    problem: str = ""
    records: int = 0


def limit_memory() -> None:
    """At most half of the machine's memory for this process: one record must not take the machine down. POSIX only."""
    if sys.platform == "win32":
        return
    import os
    import resource

    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        machine = 2 * MOST_MEMORY_BYTES
    most = max(LEAST_MEMORY_BYTES, min(MOST_MEMORY_BYTES, machine // 2))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or hard > most:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def run_trials(data: DataDirectory, questions: IO[bytes], answers: IO[bytes]) -> None:
    """Until the questions end. Raises what the store raises when it cannot be read."""
    limit_memory()
    decode = msgspec.json.Decoder(Question).decode
    with closing(connection.connect(data.state)) as db, closing(IntakeReader(data.intake)) as intake:
        db.execute("PRAGMA query_only=1")
        at = _Runtimes(db)
        for line in questions:
            question = decode(line)
            # A matching regular expression holds the interpreter's lock: only a thread outside of it can end that.
            faulthandler.dump_traceback_later(question.seconds, exit=True)
            answer = _answer(db, intake, at, question)
            faulthandler.cancel_dump_traceback_later()
            answers.write(msgspec.json.encode(answer) + b"\n")
            answers.flush()


class _Runtimes:
    """The revision that a site is to run as this process begins, built when first asked for."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._targets = targets.read(db)
        self._built: dict[int, Runtime | None] = {}

    def of(self, site: str) -> Runtime | None:
        number = self._targets.of(site)
        if number not in self._built:
            tree = revisions.sound(self._db, [number])[0].get(number)  # a damaged one says nothing of a batch
            self._built[number] = Runtime.from_tree(tree, number) if tree is not None else None
        return self._built[number]


def _answer(db: sqlite3.Connection, intake: IntakeReader, runtimes: _Runtimes, question: Question) -> Answer:
    stream = next((s for s in intake.streams() if s.id == question.stream_id), None)
    stored = intake.batches(question.stream_id, question.sequence, 1)
    runtime = runtimes.of(stream.site) if stream is not None else None
    engine = runtime.engine(stream.site, stream.source) if runtime is not None and stream is not None else None
    if stream is None or engine is None or not stored:
        return Answer()
    opened, _damaged = rounds.open_batches(stored, 1)
    return Answer(_problem(db, stream, opened, engine, question), stored[0].records) if opened else Answer()


def _problem(
    db: sqlite3.Connection,
    stream: StreamInfo,
    opened: list[rounds.Opened],
    engine: rounds.Engine,
    question: Question,
) -> str:
    aside = {}
    if question.keep is not None:
        kept = set(question.keep)
        left_out = {p: LEFT_OUT for p in range(opened[0].stored.records) if p not in kept}
        aside = {question.sequence: left_out}
    try:
        return rounds.fault_of(stream, Position(question.sequence, question.skip), opened, engine, db, aside)
    except MemoryError as error:
        return repr(error)
