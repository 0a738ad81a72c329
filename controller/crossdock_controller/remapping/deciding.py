"""What a window of batches becomes when it is mapped again: which documents are new versions, which dead letters heal.

A record gives the same event id whatever its mapping, so what is new has an id of its own: of the first id, the version
it replaces and the new body. A document of which a later record made a version is left alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from crossdock_controller import rounds
from crossdock_controller.outcomes import Mapped
from crossdock_controller.store import poison, projection, remaps
from crossdock_controller.store.bodies import Bodies
from crossdock_controller.store.intake import IntakeReader, StreamInfo
from crossdock_controller.store.normalizer import Position
from crossdock_controller.store.remaps import LetterAt, Part, RemapCounts

BATCHES = 16
MOST_BATCHES = 128
RAW_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class Window:
    """*mapped* are events to append, with their input; *healed* dead letters to resolve. *more*: nothing could be
    decided, a group needs more batches. *seen*: the last event of the log when it was decided."""

    to: Position
    counts: RemapCounts
    finished: bool = False
    more: bool = False
    mapped: list[tuple[int, Mapped]] = field(default_factory=list)
    healed: list[LetterAt] = field(default_factory=list)
    seen: int = 0


def decide(
    db: sqlite3.Connection,
    bodies: Bodies,
    intake: IntakeReader,
    stream: StreamInfo,
    part: Part,
    engine: rounds.Engine,
    batches: int = BATCHES,
) -> Window:
    """The window from `part.at` on, of at most *batches*. Reads only. Raises EngineFault."""
    at, end = part.at, part.end
    last = end.sequence if end.record else end.sequence - 1
    limit = min(batches, last - at.sequence + 1)
    if limit <= 0:
        return Window(at, RemapCounts(), finished=True)
    stored = intake.batches(stream.id, at.sequence, limit)
    if not stored:  # removed meanwhile: their time is over
        return Window(end, RemapCounts(), finished=True)
    if stored[0].sequence != at.sequence:
        return Window(Position(stored[0].sequence, 0), RemapCounts())
    seen = projection.newest(db)
    aside = poison.aside(db, stream.id, at.sequence)
    whole = {sequence for sequence, reasons in aside.items() if poison.WHOLE in reasons}
    opened, bad = rounds.open_batches(stored, RAW_BYTES * max(1, batches // BATCHES), whole)
    if not opened:
        unread = RemapCounts(records=stored[0].records - at.record, unread=stored[0].records - at.record)
        return Window(Position(at.sequence + 1, 0), unread)
    reaches = opened[-1].stored.sequence == last
    cap = bad is not None or (batches >= MOST_BATCHES and not reaches)
    round_ = rounds.decide(stream, at, opened, engine, db, cap_reached=cap, aside=aside)
    if round_.to == at:
        return Window(end, RemapCounts(), finished=True) if reaches else Window(at, RemapCounts(), more=True)
    to = min(round_.to, end, key=lambda p: (p.sequence, p.record))
    window = Window(to, RemapCounts(), finished=to == end or to.sequence > last, seen=seen)
    _compare(db, bodies, stream, part, opened, round_, window)
    return window


def _compare(
    db: sqlite3.Connection,
    bodies: Bodies,
    stream: StreamInfo,
    part: Part,
    opened: Sequence[rounds.Opened],
    round_: rounds.Round,
    window: Window,
) -> None:
    sequences = [row.sequence for row in round_.rows]
    ids = remaps.input_ids(db, part.source_id, stream.epoch, sequences)
    letters = _Letters(remaps.letters_of(db, ids.values()))
    counts, limit = window.counts, _ordinal_of_end(opened, part.end)
    counts.records = sum(row.counts.records for row in round_.rows)
    for index, dead in round_.dead:
        if letters.settled(ids.get(sequences[index], 0), dead.locator.record, dead.records):
            counts.kept += 1
        else:
            counts.dead += dead.records
    counts.ignored = sum(row.counts.ignored for row in round_.rows)
    documents: list[tuple[int, Mapped]] = []
    for index, m in round_.mapped:
        sequence = sequences[index]
        input_id = ids.get(sequence)
        if input_id is not None and not (sequence == part.end.sequence and m.locator.record >= limit):
            documents.append((input_id, m))
    letters.cover(documents)
    verdict = _Verdict(db, bodies, letters, window)
    for input_id, m in documents:
        verdict.on(input_id, m)


def _ordinal_of_end(opened: Sequence[rounds.Opened], end: Position) -> int:
    """The ordinal, in its unit, of the first record that is not normalized yet."""
    for batch in opened:
        if batch.stored.sequence == end.sequence:
            return int(batch.header.origin.first_record) + end.record
    return 0


class _Letters:
    """Dead letters by the records they hold."""

    def __init__(self, letters: Sequence[LetterAt]) -> None:
        self._at: dict[tuple[int, int], list[LetterAt]] = {}
        self._letters = letters
        for letter in letters:
            for record in range(letter.record, letter.record + letter.records):
                self._at.setdefault((letter.input_id, record), []).append(letter)
        self._whole: dict[tuple[int, int], list[LetterAt]] = {}

    def cover(self, documents: Sequence[tuple[int, Mapped]]) -> None:
        """Find the open ones whose every record is in one of *documents* now."""
        if not self._letters:
            return
        covered = {
            (input_id, record): (input_id, m.locator.record)
            for input_id, m in documents
            for record in range(m.locator.record, m.locator.record + m.records)
        }
        for letter in self._letters:
            span = [(letter.input_id, r) for r in range(letter.record, letter.record + letter.records)]
            if letter.state == "open" and span and all(record in covered for record in span):
                self._whole.setdefault(covered[span[0]], []).append(letter)

    def healed_by(self, input_id: int, m: Mapped) -> list[LetterAt]:
        """By the first document of the records: those beside it count none, and a letter is settled once."""
        return self._whole.get((input_id, m.locator.record), []) if m.records else []

    def settled(self, input_id: int, record: int, records: int) -> bool:
        """Whether a person corrected or gave up one of *records* from *record* on."""
        found = (self._at.get((input_id, r), ()) for r in range(record, record + records))
        return any(letter.state != "open" for letters in found for letter in letters)


class _Verdict:
    """On one document after the other."""

    def __init__(self, db: sqlite3.Connection, bodies: Bodies, letters: _Letters, window: Window) -> None:
        self._db, self._bodies, self._letters, self._window = db, bodies, letters, window
        self._records = 0  # of the first document of the same records: those beside it come after it

    def on(self, input_id: int, m: Mapped) -> None:
        counts = self._window.counts
        self._records = m.records or self._records
        first = remaps.by_id(self._db, m.event_id)
        if first is None and self._letters.settled(input_id, m.locator.record, self._records):
            counts.kept += 1
            return
        if first is not None:  # read twice, it is where it was read first
            input_id = first.input_id
        record = first.record if first is not None else m.locator.record
        newest = remaps.latest(self._db, m.document, m.key)
        mine = newest if newest is not None and (newest.input_id, newest.record) == (input_id, record) else None
        if newest is not None and mine is None:
            if remaps.has_later(self._db, m.document, m.key, input_id, record):
                self._replaced(first, m)
                return
            mine = remaps.latest_of(self._db, m.document, m.key, input_id, record)
        if mine is not None and self._bodies.get(*mine.body) == m.body:
            counts.unchanged += 1
            return
        self._make(input_id, m, mine or first)

    def _replaced(self, first: remaps.Version | None, m: Mapped) -> None:
        same = first is not None and first.key == m.key and self._bodies.get(*first.body) == m.body
        if same:
            self._window.counts.unchanged += 1
        else:
            self._window.counts.superseded += 1

    def _make(self, input_id: int, m: Mapped, before: remaps.Version | None) -> None:
        """Its records are counted where they are counted already; those of dead letters go over to it."""
        window = self._window
        healed = self._letters.healed_by(input_id, m) if before is None else []
        window.healed += healed
        event_id = m.event_id if before is None else version_id(m, before.id)
        records = sum(letter.records for letter in healed)
        window.mapped.append((input_id, msgspec.structs.replace(m, event_id=event_id, records=records)))
        if healed:
            window.counts.healed += 1
        elif before is None or before.key != m.key:
            window.counts.added += 1
        else:
            window.counts.changed += 1


def version_id(m: Mapped, before: bytes) -> bytes:
    """Of the document *m* in the place of the event *before*: the same again after a crash, another for another body.
    It begins as that of its record, with what names the file."""
    content = b"\x00".join((m.event_id, before, m.document.encode(), m.key.encode(), m.body))
    return m.event_id[: rounds.UNIT_BYTES] + blake2b(content, digest_size=16 - rounds.UNIT_BYTES).digest()


def inputs_of(healed: Sequence[LetterAt]) -> Mapping[int, int]:
    """{input id: records} that were dead and are no more."""
    found: dict[int, int] = {}
    for letter in healed:
        found[letter.input_id] = found.get(letter.input_id, 0) + letter.records
    return found
