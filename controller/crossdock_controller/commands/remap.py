"""Replays of records: raw batches of the intake normalized again by the mapping in force, on purpose and on record."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from crossdock import codec
from crossdock.errors import ConfigError, Corrupt, Refused
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit, codes, connection, normalizer, remaps, revisions, targets
from crossdock_controller.store.intake import IntakeReader, StreamInfo
from crossdock_controller.store.normalizer import Position
from crossdock_controller.store.remaps import Part, Remap, RemapCounts

if TYPE_CHECKING:
    from crossdock_controller import rounds
    from crossdock_controller.config.runtime import Runtime

PAGE = 50
DRY_SECONDS = 60.0
MOST_BACK = 128  # batches to the beginning of a file, as many as a group may span
_LOOK = 64


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a replay would do. *left*: records that the time did not suffice for."""

    total: int
    left: int
    counts: RemapCounts
    problem: str = ""


@served
def replay_records(
    data: DataDirectory,
    source: str,
    because: str,
    *,
    by: str,
    now_us: int,
    site: str = "",
    since_us: int = 0,
    unit: str = "",
    rate: Annotated[float, Meta(ge=0)] = 0.0,
) -> Remap:
    """Have what *source* sent since then normalized again; or what came of the file (or table) *unit*. *rate* is
    records a second, 0 as fast as it goes. The normalizer does it, beside its work.

    Raises Refused when there is nothing, or one of that source runs already; ConfigError without a mapping.
    """
    if not because.strip():
        raise Refused("a replay needs a reason", hint="--because 'what was wrong, and what was corrected'")
    chosen = f"file {unit}" if unit else f"since {_moment(since_us)}" if since_us else "everything that is kept"
    with closing(connection.connect(data.state)) as db, closing(IntakeReader(data.intake)) as intake:
        engines = _Engines(db)
        parts, total = _parts(db, intake, engines, source, site, since_us, unit)
        with connection.transaction(db):
            other = remaps.running(db, source)
            if other is not None:
                hint = f"wait for it, or: crossdock mapping cancel {other.id}"
                raise Refused(f"replay {other.id} of records of {source} runs already", hint=hint)
            number = remaps.create(
                db, source=source, site=site, chosen=chosen, because=because, by=by, now_us=now_us, rate=rate,
                total=total, parts=parts,
            )  # fmt: skip
            details = {"source": source, "site": site, "chosen": chosen, "records": total}
            audit.append(db, actor=by, action="mapping.replay", target=str(number), details=details, now_us=now_us)
        found = remaps.get(db, number)
    _wake(data)
    return found


@served
def dry_run(
    data: DataDirectory,
    source: str,
    *,
    site: str = "",
    since_us: int = 0,
    unit: str = "",
    seconds: Annotated[float, Meta(gt=0, le=600)] = DRY_SECONDS,
) -> DryRun:
    """What `replay_records` would do; nothing is written. Ends after *seconds* and says how much is left."""
    from crossdock_controller import rounds
    from crossdock_controller.remapping import deciding
    from crossdock_controller.store.bodies import Bodies

    until, counts, problem = time.monotonic() + seconds, RemapCounts(), ""
    with closing(connection.connect(data.state)) as db, closing(IntakeReader(data.intake)) as intake:
        db.execute("PRAGMA query_only=1")
        engines = _Engines(db)
        parts, total = _parts(db, intake, engines, source, site, since_us, unit)
        streams = {stream.id: stream for stream in intake.streams()}
        bodies = Bodies(db)
        for part in parts:
            stream, size = streams[part.stream_id], deciding.BATCHES
            engine = engines.of(stream)
            at, finished = part, False
            while not finished and time.monotonic() < until:
                try:
                    window = deciding.decide(db, bodies, intake, stream, at, engine, size)
                except rounds.EngineFault as error:
                    problem = str(error)
                    break
                counts.add(window.counts)
                size = size * 2 if window.more else deciding.BATCHES
                at, finished = Part(at.stream_id, at.source_id, window.to, at.end), window.finished
    return DryRun(total, max(0, total - counts.records), counts, problem)


@served
def replays(data: DataDirectory, *, limit: Annotated[int, Meta(ge=1, le=1000)] = PAGE) -> list[Remap]:
    """Newest first."""
    with closing(connection.connect(data.state)) as db:
        return remaps.list_all(db, limit)


@served
def replay(data: DataDirectory, number: int) -> Remap:
    """Raises Refused when there is none of that number."""
    with closing(connection.connect(data.state)) as db:
        return remaps.get(db, number)


@served
def cancel(data: DataDirectory, number: int, *, by: str, now_us: int) -> Remap:
    """End it where it is; what it made stays. Raises Refused when it does not run."""
    with closing(connection.connect(data.state)) as db:
        with connection.transaction(db):
            remaps.get(db, number)
            remaps.end(db, number, "cancelled", by=by, problem="", now_us=now_us)
            audit.append(db, actor=by, action="mapping.replay-cancel", target=str(number), now_us=now_us)
        return remaps.get(db, number)


def _parts(
    db: sqlite3.Connection,
    intake: IntakeReader,
    engines: _Engines,
    source: str,
    site: str,
    since_us: int,
    unit: str,
) -> tuple[list[Part], int]:
    """What is to be mapped again, up to where each stream is normalized, and how many records. Raises Refused."""
    held = normalizer.checkpoints(db)
    parts: list[Part] = []
    total = 0
    for stream in intake.streams():
        checkpoint = held.get(stream.id)
        if stream.source != source or (site and stream.site != site) or checkpoint is None:
            continue
        engines.of(stream)
        for first, until in _ranges(intake, stream, since_us, unit):
            end = min(checkpoint.at, Position(until + 1, 0), key=lambda p: (p.sequence, p.record))
            records = intake.records_between(stream.id, first, end.sequence - 1) + end.record
            if records and not any(part.stream_id == stream.id for part in parts):
                parts.append(Part(stream.id, checkpoint.source_id, Position(first, 0), end))
                total += records
    if not parts:
        where = f" at {site}" if site else ""
        raise Refused(
            f"the intake keeps no normalized records of {source}{where} for that",
            hint="crossdock storage tells how long records are kept; crossdock account which sources there are",
        )
    return parts, total


def _ranges(intake: IntakeReader, stream: StreamInfo, since_us: int, unit: str) -> list[tuple[int, int]]:
    """First and last sequences. Of a file, or of everything since: from where its first file begins, since a part of a
    group would make a wrong document."""
    first = intake.first_since(stream.id, since_us)
    if first is None:
        return []
    if not unit:
        return [(_beginning(intake, stream, first), stream.last_sequence)]
    found = [sequence for sequence, name in _origins(intake, stream, first) if name == unit]
    return [(found[0], found[-1])] if found else []


def _origins(intake: IntakeReader, stream: StreamInfo, first: int) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    at = first
    while stored := intake.batches(stream.id, at, _LOOK):
        for batch in stored:
            try:
                found.append((batch.sequence, codec.open_header(batch.sealed).origin.name))
            except Corrupt:
                found.append((batch.sequence, ""))
        at = stored[-1].sequence + 1
    return found


def _beginning(intake: IntakeReader, stream: StreamInfo, first: int) -> int:
    """The batch with which the file of batch *first* begins, if it is kept; behind that file otherwise."""
    back = max(1, first - MOST_BACK)
    headers: dict[int, BatchHeader | None] = {}
    for batch in intake.batches(stream.id, back, first - back + 1):
        try:
            headers[batch.sequence] = codec.open_header(batch.sealed)
        except Corrupt:
            headers[batch.sequence] = None
    at = first
    while (header := headers.get(at)) is not None and header.origin.first_record:
        before = headers.get(at - 1)
        if before is None or before.closes:
            break
        at -= 1
    header = headers.get(at)
    if header is None or not header.origin.first_record or headers.get(at - 1) is not None:
        return at
    for sequence, closes in _closings(intake, stream, first):
        if closes:
            return sequence + 1
    return stream.last_sequence + 1


def _closings(intake: IntakeReader, stream: StreamInfo, first: int) -> list[tuple[int, bool]]:
    found = []
    for batch in intake.batches(stream.id, first, MOST_BACK):
        try:
            found.append((batch.sequence, codec.open_header(batch.sealed).closes))
        except Corrupt:
            found.append((batch.sequence, True))
    return found


class _Engines:
    """Of the revision that each site is to run, built when first asked for."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self._targets = db, targets.read(db)
        self._built: dict[int, Runtime] = {}

    def of(self, stream: StreamInfo) -> rounds.Engine:
        """Raises ConfigError when no mapping is in force for it."""
        from crossdock_controller.config.runtime import Runtime

        number = self._targets.of(stream.site)
        if number not in self._built:
            tree = revisions.tree(self._db, number)
            if tree is None:
                raise ConfigError("there is no configuration to map by", hint="crossdock apply DIR")
            self._built[number] = Runtime.from_tree(tree, number)
            self._built[number].asks(codes.Meanings(self._db))
        engine = self._built[number].engine(stream.site, stream.source)
        if engine is None:
            message = f"revision {number} has no mapping for source {stream.source} at {stream.site}"
            raise ConfigError(message, hint="add it to the configuration and apply it, or name a --site")
        return engine


def _moment(us: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(us / 1_000_000))


def _wake(data: DataDirectory) -> None:
    from crossdock_controller.store.wake import Waker

    with closing(Waker(data.state)) as waker:
        waker.wake("normalize")
