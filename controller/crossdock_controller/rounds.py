"""One round of one stream: batches from the intake become events, deliveries, dead letters and a checkpoint, in one
transaction or not at all.

`decide` is pure but for look-ups; `commit` persists what it decided, and only if the checkpoint is where it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import count
from typing import Protocol

import msgspec

from crossdock import codec
from crossdock.errors import Corrupt
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller import stopping
from crossdock_controller.documents.base import Document, decode
from crossdock_controller.mappings.rules import Lookup
from crossdock_controller.outcomes import Dead, Locator, Mapped, Outcomes
from crossdock_controller.routing import RouteProblem
from crossdock_controller.store import bodies, dead_letters, deliveries, events, inputs, normalizer, urgent
from crossdock_controller.store.connection import transaction
from crossdock_controller.store.inputs import Counts, InputRow
from crossdock_controller.store.intake import StoredBatch, StreamInfo
from crossdock_controller.store.normalizer import Checkpoint, Position

SAMPLE_BYTES = 4096
_NONE_ASIDE: Mapping[int, Mapping[int, str]] = {}
UNIT_BYTES = 6  # of an event id: what names the file it came from


class Engine(Protocol):
    """What a round needs of `mappings.engine.Engine`."""

    @property
    def grouped(self) -> bool: ...

    def run(
        self,
        batches: Sequence[tuple[BatchHeader, bytes, int]],
        lookup: Lookup,
        *,
        cap_reached: bool = False,
        aside: Sequence[Mapping[int, str]] = (),
    ) -> list[Outcomes]: ...


class Router(Protocol):
    """What a round needs of `routing.Router`."""

    def route(
        self, document: str, key: str, site: str, source: str, labels: Mapping[str, str], fields: msgspec.Struct
    ) -> tuple[str, ...]: ...

    def take_problems(self) -> Sequence[RouteProblem]: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A batch as it was stored, opened."""

    stored: StoredBatch
    header: BatchHeader
    payload: bytes


class EngineFault(Exception):  # noqa: N818 - a fault of ours, shown as the problem of the source
    """The engine failed, or did not account for every record. Nothing was committed."""


@dataclass(slots=True)
class Round:
    """What was decided: for each batch its input row, documents and dead letters, and where to go on."""

    rows: list[InputRow] = field(default_factory=list)
    mapped: list[tuple[int, Mapped]] = field(default_factory=list)  # with the index of its row
    dead: list[tuple[int, Dead]] = field(default_factory=list)
    to: Position = normalizer.BEGINNING
    records: int = 0  # decided
    holding: bool = False  # whether any of *mapped* has holds


class LogLookup:
    """What rules may ask: whether a document is known, and what its last version said, by the event log."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._bodies: bodies.Bodies | None = None

    def latest(self, document: str, keys: set[str]) -> dict[str, Document]:
        if self._bodies is None:
            self._bodies = bodies.Bodies(self._db)
        get = self._bodies.get
        return {
            key: decode(document, get(chunk, start, length), version)
            for key, chunk, start, length, version in events.latest(self._db, document, keys)
        }

    def today(self) -> date:
        return datetime.now(UTC).date()

    def known(self, document: str, keys: set[str]) -> set[str]:
        return events.known(self._db, document, keys)


def open_batches(
    batches: Sequence[StoredBatch], max_raw_bytes: int, aside: Container[int] = ()
) -> tuple[list[Opened], StoredBatch | None]:
    """The readable batches up to about *max_raw_bytes*, and the one that ended them, if one did: damaged, or of the
    sequences that are set *aside* as a whole."""
    opened: list[Opened] = []
    size = 0
    for stored in batches:
        if stored.sequence in aside:
            return opened, stored
        try:
            opened.append(_open(stored))
        except Corrupt:
            return opened, stored
        size += len(opened[-1].payload)
        if size >= max_raw_bytes:
            break
    return opened, None


def _open(stored: StoredBatch) -> Opened:
    codec.verify(stored.sealed, stored.crc32)
    header, payload = codec.open_sealed(stored.sealed)
    if header.records + len(header.rejects) != stored.records:
        raise Corrupt(f"batch says {header.records} records, the intake {stored.records}")
    return Opened(stored, header, payload)


def decide(
    stream: StreamInfo,
    at: Position,
    opened: Sequence[Opened],
    engine: Engine,
    db: sqlite3.Connection,
    *,
    cap_reached: bool,
    aside: Mapping[int, Mapping[int, str]] = _NONE_ASIDE,
) -> Round:
    """Run *engine* over *opened*, contiguous from *at*; *aside* are records not to be mapped, by sequence and position.

    Raises EngineFault.
    """
    skips = [at.record, *([0] * (len(opened) - 1))]
    batches = [(b.header, b.payload, skip) for b, skip in zip(opened, skips, strict=True)]
    try:
        if aside:
            left = [aside.get(b.stored.sequence, {}) for b in opened]
            outcomes = engine.run(batches, LogLookup(db), cap_reached=cap_reached, aside=left)
        else:
            outcomes = engine.run(batches, LogLookup(db), cap_reached=cap_reached)
    except sqlite3.Error:
        raise
    except Exception as error:
        raise EngineFault(f"the mapping failed on batch {opened[0].stored.sequence}: {error!r}") from error
    expected = sum(b.stored.records for b in opened) - at.record
    counted = sum(o.records() for o in outcomes)
    if len(outcomes) != len(opened) or counted != expected:
        raise EngineFault(
            f"the mapping accounted for {counted} of {expected} records from batch {opened[0].stored.sequence} on"
        )
    round_ = Round(to=_position_after(opened, outcomes))
    for batch, outcome in zip(opened, outcomes, strict=True):
        _collect(round_, stream, batch, outcome)
    if engine.grouped:
        _set_scattered_aside(round_, db)
        _set_remainder_aside(round_, db)
    if any(m.beside for _, m in round_.mapped):  # what was set aside took those beside it along
        round_.mapped = [(index, one) for index, m in round_.mapped for one in m.all()]
    return round_


def fault_of(
    stream: StreamInfo,
    at: Position,
    opened: Sequence[Opened],
    engine: Engine,
    db: sqlite3.Connection,
    aside: Mapping[int, Mapping[int, str]],
) -> str:
    """Why *opened* cannot be mapped but for the records *aside*; empty when they can."""
    try:
        decide(stream, at, opened, engine, db, cap_reached=True, aside=aside)
    except EngineFault as error:
        return repr(error.__cause__) if error.__cause__ is not None else str(error)
    return ""


def damaged(stream: StreamInfo, at: Position, batch: StoredBatch) -> Round:
    """A batch that cannot be opened is one dead letter with all its undecided records; the stream goes on behind it."""
    said = "is damaged in the intake; check the disk, have the source send it again"
    return _as_one_letter(stream, at, batch, "batch_corrupt", said)


def poisoned(stream: StreamInfo, at: Position, batch: StoredBatch, reason: str) -> Round:
    """A batch that cannot be mapped without the worker's death, or that fails without any record at fault."""
    said = f"was set aside as a whole: {reason}; its raw bytes stay in the intake for the retention time"
    return _as_one_letter(stream, at, batch, "poison_batch", said)


def _as_one_letter(stream: StreamInfo, at: Position, batch: StoredBatch, code: str, said: str) -> Round:
    records = batch.records - at.record
    name = f"batch {batch.sequence} of {stream.source} from agent {stream.agent}"
    letter = Dead(
        code, f"{name} {said}", "", records, Locator("batch", name, at.record), batch.sealed[:SAMPLE_BYTES]
    )  # fmt: skip
    row = InputRow(stream.epoch, batch.sequence, batch.received_us, "batch", name)
    row.counts = Counts(records=records, dead=records)
    return Round([row], [], [(0, letter)], Position(batch.sequence + 1, 0), records)


def route_all(
    mapped: Sequence[Mapped], route: Callable[[Mapped], tuple[str, ...]], sink_number: Callable[[str], int]
) -> dict[int, list[int]]:
    """{sink id: ascending indexes into *mapped*}."""
    due: dict[int, list[int]] = {}
    targets: dict[tuple[str, ...], list[list[int]]] = {}
    for index, document in enumerate(mapped):
        names = route(document)
        lists = targets.get(names)
        if lists is None:
            lists = targets[names] = [due.setdefault(sink_number(name), []) for name in names]
        for indexes in lists:
            indexes.append(index)
    return due


def commit(
    db: sqlite3.Connection,
    round_: Round,
    held: Checkpoint,
    due: Mapping[int, Sequence[int]],
    revision: int,
    now_us: int,
    *,
    critical: bool = False,
) -> int:
    """Persist everything the round decided, and move the checkpoint; how many events were new. *critical*: of a lane
    whose deliveries go first. Raises LeaseLost."""
    packed = bodies.pack([m.body for _, m in round_.mapped])
    with transaction(db):
        normalizer.move(db, held, round_.to)
        ids = inputs.reserve(db, held.source_id, revision, round_.rows, now_us)
        mapped = [(ids[i], m) for i, m in round_.mapped]
        duplicates = append(db, mapped, packed, due, now_us=now_us, holding=round_.holding)
        if critical:
            _urge(db, round_.mapped, due, set(duplicates), now_us)
        for index in duplicates:
            row, document = round_.mapped[index]
            round_.rows[row].counts.mapped -= document.records
            round_.rows[row].counts.duplicates += document.records
        dead_letters.add_records(db, held.source_id, [(ids[i], d) for i, d in round_.dead], now_us)
        inputs.add_counts(db, [(i, row.counts) for i, row in zip(ids, round_.rows, strict=True)])
    return len(round_.mapped) - len(duplicates)


def _urge(
    db: sqlite3.Connection,
    mapped: Sequence[tuple[int, Mapped]],
    due: Mapping[int, Sequence[int]],
    duplicates: Container[int],
    now_us: int,
) -> None:
    """What came from a critical source does not wait behind a backlog of other sources at its sinks."""
    for sink, indexes in due.items():
        if urgent.backlog(db, sink):
            new = {(mapped[i][1].document, mapped[i][1].key) for i in indexes if i not in duplicates}
            urgent.urge(db, sink, new, now_us)


def append(
    db: sqlite3.Connection,
    mapped: Sequence[tuple[int, Mapped]],
    packed: bodies.Packed,
    due: Mapping[int, Sequence[int]],
    *,
    now_us: int,
    holding: bool,
) -> list[int]:
    """Events of (input id, document) with bodies *packed*, and deliveries by `route_all`, in a transaction; those with
    holds are stopped (*holding*: there are such), those that waited for one of these go on.

    Returns the indexes of those whose id the log had already.
    """
    first = events.next_seq(db)
    places = bodies.add(db, packed)
    left_out = events.append(
        db,
        [
            (
                seq, m.event_id, m.document, m.key, input_id, m.locator.record, m.locator.line, m.records,
                m.locator.key or None, "\n".join(m.warnings) if m.warnings else None, chunk, start, length,
                m.version,
            )
            for seq, (input_id, m), (chunk, start, length) in zip(count(first), mapped, places, strict=False)
        ],
    )  # fmt: skip
    if len(left_out) == len(mapped):
        bodies.drop(db, places)
    for sink, indexes in due.items():
        if left_out:
            deliveries.add(db, sink, [first + i for i in indexes if first + i not in left_out])
        else:
            deliveries.add(db, sink, [first + i for i in indexes])
    stopping.settle(db, first, mapped, left_out, due, now_us, holding=holding)
    return sorted(seq - first for seq in left_out)


def _position_after(opened: Sequence[Opened], outcomes: Sequence[Outcomes]) -> Position:
    for batch, outcome in zip(opened, outcomes, strict=True):
        if outcome.open_records:
            return Position(batch.stored.sequence, batch.stored.records - outcome.open_records)
    return Position(opened[-1].stored.sequence + 1, 0)


def _collect(round_: Round, stream: StreamInfo, batch: Opened, outcome: Outcomes) -> None:
    decided = outcome.records() - outcome.open_records
    if not decided:
        return
    index = len(round_.rows)
    origin = batch.header.origin
    counts = Counts(
        records=decided,
        mapped=sum(m.records for m in outcome.mapped),
        dead=sum(d.records for d in outcome.dead),
        ignored=sum(i.records for i in outcome.ignored),
    )
    stored = batch.stored
    round_.rows.append(
        InputRow(stream.epoch, stored.sequence, stored.received_us, origin.kind, origin.name, origin.unit, counts)
    )
    round_.mapped += [(index, m) for m in outcome.mapped]
    round_.dead += [(index, d) for d in outcome.dead]
    round_.records += decided
    round_.holding = round_.holding or outcome.holding


def _set_scattered_aside(round_: Round, db: sqlite3.Connection) -> None:
    """A group whose key this file already made a document of, in an earlier round, would replace it with a part of
    itself. Read again, the same group is the same event: that is a duplicate and no part."""
    by_unit: dict[tuple[str, bytes], list[str]] = {}
    for _, m in round_.mapped:
        if m.locator.kind == "file":
            by_unit.setdefault((m.document, m.event_id[:UNIT_BYTES]), []).append(m.key)
    earlier = {
        (document, unit, key): ids
        for (document, unit), keys in by_unit.items()
        for key, ids in events.of_unit(db, document, keys, unit).items()
    }
    if not earlier:
        return
    kept = []
    for index, m in round_.mapped:
        ids = earlier.get((m.document, m.event_id[:UNIT_BYTES], m.key))
        # Its key may have been another when it was read first, and that of this mapping came with a replay of records.
        if m.locator.kind != "file" or ids is None or m.event_id in ids or events.has(db, m.event_id):
            kept.append((index, m))
            continue
        reason = f"{m.document} {m.key} began earlier in this file, and other records stand between"
        round_.dead.append((index, Dead("group_scattered", reason, "", m.records, m.locator, m.body[:SAMPLE_BYTES])))
        round_.rows[index].counts.mapped -= m.records
        round_.rows[index].counts.dead += m.records
    round_.mapped = kept


def _set_remainder_aside(round_: Round, db: sqlite3.Connection) -> None:
    """What follows a group that was given up as too long may be the rest of it, and no document of its own. It is not
    known whether it is: a dead letter can be looked at, a wrong document is believed."""
    if not round_.mapped:
        return
    index, m = round_.mapped[0]
    row = round_.rows[index]
    if row.origin_kind != "file" or m.locator.record not in dead_letters.ends_of_long_groups(db, row.unit):
        return
    reason = f"{m.document} {m.key} may be the rest of the group before it, which was too long"
    letter = Dead("group_too_long", reason, "", m.records, m.locator, m.body[:SAMPLE_BYTES])
    round_.dead.append((index, letter))
    row.counts.mapped -= m.records
    row.counts.dead += m.records
    del round_.mapped[0]
