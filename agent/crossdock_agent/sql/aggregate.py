"""Aggregates: a parent with its child rows is one record, read whenever either side changes.

An order without its lines is a wrong order, so a change only says *which* order to read; what is sent is the parent
and all its children as one snapshot shows them. Each table is followed by a track of its own (`sql.track`): cursor,
look-back window and page statements are those of the watermark modes, so late commits on either side are found, every
statement uses one table's index, and tables may write time differently. On the very first read only the parent is
walked through: that brings every child with it, and the children are followed from where they stood before.

What an aggregate must wait for (`settle_seconds`, `expect`) is in `sql.waiting`. A parent that is gone when it is read
makes no record: it is counted, and reconciliation reports deletes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loguru import logger

from crossdock_agent.sources.base import Draft, Finding, SourceContext
from crossdock_agent.sql.aggregate_batch import AggregateBatch, header_of
from crossdock_agent.sql.alarms import Alarms
from crossdock_agent.sql.cursor import Pass
from crossdock_agent.sql.families import Families, Family, Key, look
from crossdock_agent.sql.reader import TableReader
from crossdock_agent.sql.rows import Page
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.track import earliest
from crossdock_agent.sql.tracks import Tracks
from crossdock_agent.sql.waiting import MAX_WAITING, Patience, Verdict, Waiting
from crossdock_agent.sql.window import row_hash


@dataclass(frozen=True, slots=True)
class Change:
    """A row of a page whose aggregate has to be read. *hash* is None where the window will never reach back to it."""

    row: int
    key: Key
    hash: int | None
    order: int | None


class AggregateTable(TableReader):
    def __init__(self, settings: SqlTableSettings, context: SourceContext) -> None:
        assert settings.aggregate is not None  # noqa: S101 - how this class is chosen
        super().__init__(settings, context)
        self._aggregate = settings.aggregate
        self._log = logger.bind(source=context.name, table=settings.table)
        self._alarms = Alarms(settings, context, self._log)
        self._tracks = Tracks(settings, self._aggregate, context)
        self._patience = Patience(self._aggregate.settle_seconds, self._aggregate.incomplete_seconds)
        self._is_patient = bool(self._aggregate.settle_seconds or self._aggregate.expect)
        self._waiting = Waiting(len(self._tracks))
        self._known: bytes | None = None
        self._loaded = False
        self._quiet: object = None
        self._were_whole: list[bool] = []  # the passes of the last round, by track

    # --- the contract

    def check(self) -> Iterator[Finding]:
        from crossdock_agent.sql.family_doctor import examine_family

        yield from examine_family(self._settings, self._tracks.connect, self._context.wall_us)

    def close(self) -> None:
        """What was seen since the last batch is forgotten, and read again."""
        self._tracks.close()
        self._quiet, self._loaded = None, False

    # --- one pass

    def _read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        families = self._tracks.open()
        database = self._tracks.database
        assert database is not None  # noqa: S101 - opened just now
        if not self._loaded or checkpoint != self._known:
            self._tracks.load(checkpoint)
            self._waiting = Waiting(len(self._tracks))
            self._known, self._loaded, self._quiet = checkpoint, True, None
        changes = database.changes() if self._tracks.detects_changes else None
        if changes is not None and changes == self._quiet and not self._waiting:
            return
        clock = database.clock() if self._settings.mode == "timestamp" else (0, 0)
        for track in self._tracks:
            track.present(lambda: clock)
        if checkpoint is None and not self._tracks[0].cursor.settled_once:
            if self._settings.start == "now":
                anchor = self._anchor(families)
                if not self._context.stop.is_set():
                    yield anchor
                return
            for index in range(1, len(self._tracks)):
                self._tracks[index].begin_at_present()
        self._loaded = False  # until the pass has come to its end
        yield from self._whole_pass(families, checkpoint)
        if not self._loaded:
            return
        self._quiet = changes if all(self._were_whole) else None
        self._context.counters.set("aggregates_waiting", len(self._waiting))
        reading, parent = self._tracks[0].reading, self._tracks[0]
        if reading is not None and not self._alarms.report(reading, parent.cursor, parent.ceiling):
            self.close()

    def _whole_pass(self, families: Families, checkpoint: bytes | None) -> Iterator[Draft]:
        """Every track to its end, then what waited long enough; one batch behind, because the last one closes."""
        held: Draft | None = None
        resumed = any(track.cursor.under_way for track in self._tracks)
        batch = AggregateBatch()
        for draft in self._drafts(families, batch):
            if held is not None:
                yield held
            held = draft
        if self._context.stop.is_set():
            return
        if not batch.is_empty:
            if held is not None:
                yield held
            held = self._draft(families, batch)
        if held is None and resumed:  # what was left of a broken-off pass has vanished: close what it opened
            held = Draft(header_of(families, self._settings), b"", self._tracks.keep())
        if held is not None:
            held.header.closes = True
            held.header.checkpoint = checkpoint = self._tracks.position(self._holds())
        self._known, self._loaded = checkpoint, True
        if held is not None:
            yield held

    def _drafts(self, families: Families, batch: AggregateBatch) -> Iterator[Draft]:
        """Drafts of full batches; what is left stays in *batch*."""
        self._were_whole = []
        for index, track in enumerate(self._tracks):
            done = track.start()
            last = None
            for page in track.pages(done):
                last = page.position(page.ends[-1])
                yield from self._page(families, index, page, done, batch)
            if self._context.stop.is_set():
                return
            track.finish(done, last, lambda index=index: self._hold(index))  # type: ignore[misc]
            self._were_whole.append(done.whole)
            reading = track.reading
            if reading is not None and done.whole and last is None and not track.settings.purged:
                self._alarms.refuse_a_step_back(reading, track.cursor)
        yield from self._look_again(families, batch)

    def _page(self, families: Families, index: int, page: Page, done: Pass, batch: AggregateBatch) -> Iterator[Draft]:
        track, at, count = self._tracks[index], 0, page.ends[-1]
        while at < count:
            end, changes = self._gather(families, index, page, at)
            found, gone = look(families, list(dict.fromkeys(change.key for change in changes)))
            done_keys: set[Key] = set()
            for change in changes:
                if change.hash is not None and change.order is not None and change.key in self._waiting:
                    self._waits(index, change.key, change.hash, change.order)
                elif change.key not in done_keys and change.key in found:
                    sent = self._sent(found[change.key], index, change)
                    if sent and not batch.fits(sent[0]):
                        if change.row:
                            track.passed(done, page.position(change.row))
                        yield self._draft(families, batch)
                    for family in sent:
                        batch.add(family, families)
                        self._tracks.mark(family, forced=change.hash is None)
                    if sent:
                        done_keys.add(change.key)
                if change.hash is not None and change.key not in self._waiting:
                    track.mark_hash(change.hash, change.order)
            self._context.counters.add("changes_without_parent", gone) if gone else None
            track.passed(done, page.position(end))
            at = end

    def _gather(self, families: Families, index: int, page: Page, at: int) -> tuple[int, list[Change]]:
        """Changes among the rows from *at* on, of as many aggregates as are read at once; and the row after them."""
        track = self._tracks[index]
        changes: list[Change] = []
        keys: set[Key] = set()
        stamp, count = families.members[self._tracks.members[index]].stamp or 0, page.ends[-1]
        for row in range(at, count):
            order = track.order(page.cells(row, (stamp,))[0])
            settled = track.settled is not None and order is not None and order <= track.settled
            value = None if settled else row_hash(page.packed[row])
            if value is not None and track.knows(value):
                continue
            key = page.cells(row, self._tracks.key_at[index])
            if value is not None and order is not None and self._waits(index, key, value, order):
                continue
            if key not in keys and len(keys) >= families.keys_at_once:
                return row, changes
            keys.add(key)
            changes.append(Change(row, key, value, order))
        return count, changes

    def _waits(self, index: int, key: Key, value: int, order: int) -> bool:
        """True when this change's aggregate is looked at later: it waits already, or the change itself is too young."""
        now = self._context.monotonic()
        if key in self._waiting:
            self._waiting.add(key, index, value, order, now, now)
            return True
        age = self._tracks[index].age(order)
        if age is None or not 0 <= age < self._aggregate.settle_seconds or len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.add(key, index, value, order, now, now + self._aggregate.settle_seconds - age)
        return True

    def _sent(self, families: list[Family], index: int, change: Change) -> list[Family]:
        """Those of *families* to be sent now; none when they are to wait."""
        if not self._is_patient or change.hash is None or change.order is None or len(self._waiting) >= MAX_WAITING:
            return families
        now = self._context.monotonic()
        for family in families:
            state = family.state()
            verdict = self._patience.judge(family, self._tracks.youngest(family), None, state, now)
            if verdict.incomplete:
                self._context.counters.add("aggregates_incomplete")
            if verdict.wait_seconds > 0:
                self._waiting.add(change.key, index, change.hash, change.order, now, now)
                self._waiting.note(change.key, state, verdict, now)
                return []
            self._tell(family, verdict)
        return families

    def _look_again(self, families: Families, batch: AggregateBatch) -> Iterator[Draft]:
        """Those that waited and are due: sent, or left to wait on."""
        now = self._context.monotonic()
        due = self._waiting.due(now)
        while due and not self._context.stop.is_set():
            some, due = due[: families.keys_at_once], due[families.keys_at_once :]
            found, gone = look(families, some)
            self._context.counters.add("changes_without_parent", gone) if gone else None
            for key in some:
                ready = found.get(key, [])
                if any(self._keeps_waiting(key, family, now) for family in ready):
                    continue
                if ready and not batch.fits(ready[0]):
                    yield self._draft(families, batch)
                for family in ready:
                    batch.add(family, families)
                    self._tracks.mark(family, forced=False)
                for track, value, order in self._waiting.take(key):
                    self._tracks[track].mark_hash(value, order)

    def _keeps_waiting(self, key: Key, family: Family, now: float) -> bool:
        entry, state = self._waiting.entries[key], family.state()
        verdict = self._patience.judge(family, self._tracks.youngest(family), entry, state, now)
        if verdict.incomplete and not entry.incomplete:
            self._context.counters.add("aggregates_incomplete")
        if verdict.wait_seconds > 0:
            self._waiting.note(key, state, verdict, now)
            return True
        self._tell(family, verdict)
        return False

    def _tell(self, family: Family, verdict: Verdict) -> None:
        if verdict.incomplete:
            self._context.counters.add("aggregates_sent_incomplete")
            self._log.warning(
                "{} is sent with {} rows, although it says {}: it did not become complete in time",
                ", ".join(map(str, family.key)), [len(part.packed) for part in family.parts[1:]], family.expected,
            )  # fmt: skip

    def _holds(self) -> list[int | None]:
        return [self._hold(index) for index in range(len(self._tracks))]

    def _hold(self, index: int) -> int | None:
        """The lowest order in a track that waits, or waited when the process before this one ended."""
        return earliest([self._waiting.hold(index), self._tracks[index].inherited])

    # --- drafts and state

    def _draft(self, families: Families, batch: AggregateBatch) -> Draft:
        """What is in *batch*, which is empty afterwards; the marks of its rows are committed with it."""
        remember = self._tracks.keep()
        header = header_of(families, self._settings)
        payload = batch.pour(header)
        header.checkpoint = self._tracks.position(self._holds())
        return Draft(header, payload, remember)

    def _anchor(self, families: Families) -> Draft:
        """An empty batch that makes `start: now` survive a restart before the first change."""
        for track in self._tracks:
            track.begin_at_present()
            track.remember_window()
        header = header_of(families, self._settings)
        header.closes, header.checkpoint = True, self._tracks.position(self._holds())
        self._known = header.checkpoint
        return Draft(header, b"", tuple(row for track in self._tracks for row in track.whole_window()))

    def _cancel(self) -> None:
        database = self._tracks.database
        if database is not None:
            database.cancel()
