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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from loguru import logger

from crossdock.errors import ConfigError, CrossdockError
from crossdock_agent.sources.base import Draft, Finding, SourceContext
from crossdock_agent.sql.aggregate_batch import AggregateBatch, Ledger, header_of
from crossdock_agent.sql.alarms import Alarms
from crossdock_agent.sql.children import Aggregate
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.cursor import CHECKPOINT_VERSION, Checkpoint, Pass
from crossdock_agent.sql.families import Families, Family, Key, child_settings
from crossdock_agent.sql.reading import connect, prepare
from crossdock_agent.sql.rows import Page
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.track import Track, earliest
from crossdock_agent.sql.waiting import MAX_WAITING, Patience, Verdict, Waiting, state_of
from crossdock_agent.sql.window import row_hash

_RENAME = "give the source a new name to read the tables from their beginning"


class Position(msgspec.Struct, frozen=True, array_like=True):
    """What is stored with a batch: a checkpoint for each track, and the first order in it that waits."""

    version: int
    basis: str
    tracks: list[Checkpoint]
    holds: list[int | None]


@dataclass(frozen=True, slots=True)
class Change:
    """A row of a page whose aggregate has to be read. *hash* is None where the window will never reach back to it."""

    row: int
    key: Key
    hash: int | None
    order: int | None


class AggregateTable:
    def __init__(self, settings: SqlTableSettings, context: SourceContext) -> None:
        assert settings.aggregate is not None  # noqa: S101 - how this class is chosen
        self._settings, self._aggregate, self._context = settings, settings.aggregate, context
        self._log = logger.bind(source=context.name, table=settings.table)
        self._alarms = Alarms(settings, context, self._log)
        self._members = [0, *(i for i, c in enumerate(self._aggregate.children, 1) if c.watermark)]
        extra = _extra(self._aggregate, incrementing=settings.mode == "incrementing")
        self._tracks = [Track(settings, context, "", extra)]
        for i in self._members[1:]:
            child = child_settings(settings, self._aggregate.children[i - 1])
            self._tracks.append(Track(child, context, f"child/{i}/", extra))
        self._patience = Patience(self._aggregate.settle_seconds, self._aggregate.incomplete_seconds)
        self._is_patient = bool(self._aggregate.settle_seconds or self._aggregate.expect)
        self._waiting = Waiting(len(self._tracks))
        self._families: Families | None = None
        self._key_at: list[tuple[int, ...]] = []  # for each track, where a row holds its parent's key
        self._known: bytes | None = None
        self._loaded = False
        self._quiet: object = None
        self._were_whole: list[bool] = []  # the passes of the last round, by track

    # --- the contract

    def read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        self._context.stop.on_set(self._cancel)
        try:
            yield from self._read(checkpoint)
        except CrossdockError:
            self.close()
            if not self._context.stop.is_set():  # a statement broken off by the stop is no failure
                raise
        finally:
            self._context.stop.forget(self._cancel)

    def release(self, token: bytes) -> None:
        """Nothing was promised: a table is never written to."""

    def check(self) -> Iterator[Finding]:
        from crossdock_agent.sql.family_doctor import examine_family

        yield from examine_family(self._settings, self._connect, self._context.wall_us)

    def watch(self) -> list[Path]:
        return []

    def poll_seconds(self) -> float:
        return self._settings.poll_seconds

    def close(self) -> None:
        reading = self._tracks[0].reading
        if reading is not None:
            reading.database.close()
        for track in self._tracks:
            track.reading = None
        self._families, self._quiet, self._loaded = None, None, False

    # --- one pass

    def _read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        families = self._open()
        if not self._loaded or checkpoint != self._known:
            self._load(checkpoint)
        database = self._database()
        detects = all(track.reading is not None and track.reading.detects_changes for track in self._tracks)
        detects &= not any(member.table.is_view or member.statements.where for member in families.members)
        changes = database.changes() if detects else None
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
            for track in self._tracks[1:]:
                track.begin_at_present()
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
            held = Draft(header_of(families, self._settings), b"", self._marks())
        if held is not None:
            held.header.closes = True
            held.header.checkpoint = checkpoint = self._position()
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
            found, gone = self._look(families, list(dict.fromkeys(change.key for change in changes)))
            done_keys: set[Key] = set()
            for change in changes:
                if change.hash is not None and change.order is not None and change.key in self._waiting:
                    self._waits(index, change.key, change.hash, change.order)
                elif change.key not in done_keys and change.key in found:
                    sent = self._sent(found[change.key], index, change)
                    for family in sent or ():
                        if not batch.fits(family):
                            if change.row:
                                track.passed(done, page.position(change.row))
                            yield self._draft(families, batch)
                        batch.add(family, families)
                        self._mark(family, forced=change.hash is None)
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
        stamp, count = families.members[self._members[index]].stamp or 0, page.ends[-1]
        for row in range(at, count):
            order = track.order(page.cells(row, (stamp,))[0])
            settled = track.settled is not None and order is not None and order <= track.settled
            value = None if settled else row_hash(page.packed[row])
            if value is not None and track.knows(value):
                continue
            key = page.cells(row, self._key_at[index])
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

    def _look(self, families: Families, keys: Sequence[Key]) -> tuple[dict[Key, list[Family]], int]:
        """The families of *keys*, by the key that was asked for; how many keys have none.

        The database may know a key in another spelling than ours; a family of no spelling we know goes to the first.
        """
        found: dict[Key, list[Family]] = {}
        for family in families.of(keys) if keys else ():
            found.setdefault(family.key, []).append(family)
        if all(key in found for key in keys):
            return found, 0
        wanted = dict.fromkeys(keys)
        spelled = {_spelling(key): key for key in reversed(keys) if key not in found}
        for strange in [key for key in found if key not in wanted]:
            found.setdefault(spelled.get(_spelling(strange), keys[0]), []).extend(found.pop(strange))
        return found, sum(1 for key in keys if key not in found)

    def _sent(self, families: list[Family], index: int, change: Change) -> list[Family]:
        """Those of *families* to be sent now; none when they are to wait."""
        if not self._is_patient or change.hash is None or change.order is None or len(self._waiting) >= MAX_WAITING:
            return families
        now = self._context.monotonic()
        for family in families:
            state = self._state(family)
            verdict = self._patience.judge(family, self._youngest(family), None, state, now)
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
            found, gone = self._look(families, some)
            self._context.counters.add("changes_without_parent", gone) if gone else None
            for key in some:
                for family in found.get(key, ()):
                    if self._keeps_waiting(key, family, now):
                        break
                    if not batch.fits(family):
                        yield self._draft(families, batch)
                    batch.add(family, families)
                    self._mark(family, forced=False)
                else:
                    for track, value, order in self._waiting.take(key):
                        self._tracks[track].mark_hash(value, order)

    def _keeps_waiting(self, key: Key, family: Family, now: float) -> bool:
        entry, state = self._waiting.entries[key], self._state(family)
        verdict = self._patience.judge(family, self._youngest(family), entry, state, now)
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

    # --- marks

    def _mark(self, family: Family, *, forced: bool) -> None:
        """The rows of *family* were sent. Of one that was *forced* its young rows count as unsent: they may have to
        wait, and lead to it again."""
        for track, member in zip(self._tracks, self._members, strict=True):
            part = family.parts[member]
            orders = list(map(track.order, part.stamps))
            packed = part.packed
            if forced and self._aggregate.settle_seconds:
                old = [i for i, order in enumerate(orders) if not self._is_young(track, order)]
                orders, packed = [orders[i] for i in old], [packed[i] for i in old]
            track.mark(packed, orders)

    def _is_young(self, track: Track, order: int | None) -> bool:
        age = track.age(order)
        return age is not None and age < self._aggregate.settle_seconds

    def _youngest(self, family: Family) -> float | None:
        """Age of its newest change by the database's clock."""
        ages = [
            track.age(track.order(stamp))
            for track, member in zip(self._tracks, self._members, strict=True)
            for stamp in set(family.parts[member].stamps)
        ]
        return min((age for age in ages if age is not None), default=None)

    def _state(self, family: Family) -> int:
        return state_of([row_hash(row) for part in family.parts for row in part.packed])

    def _hold(self, index: int) -> int | None:
        return earliest([self._waiting.hold(index), self._tracks[index].inherited])

    def _marks(self) -> Ledger:
        return tuple(row for track in self._tracks for row in track.keep())

    # --- drafts and state

    def _draft(self, families: Families, batch: AggregateBatch) -> Draft:
        """What is in *batch*, which is empty afterwards; the marks of its rows are committed with it."""
        remember = self._marks()
        header = header_of(families, self._settings)
        payload = batch.pour(header)
        header.checkpoint = self._position()
        return Draft(header, payload, remember)

    def _anchor(self, families: Families) -> Draft:
        """An empty batch that makes `start: now` survive a restart before the first change."""
        for track in self._tracks:
            track.begin_at_present()
            track.remember_window()
        header = header_of(families, self._settings)
        header.closes, header.checkpoint = True, self._position()
        self._known = header.checkpoint
        return Draft(header, b"", tuple(row for track in self._tracks for row in track.whole_window()))

    def _position(self) -> bytes:
        holds = [self._hold(index) for index in range(len(self._tracks))]
        tracks = [track.stored() for track in self._tracks]
        return msgspec.msgpack.encode(Position(CHECKPOINT_VERSION, self._basis, tracks, holds))

    @property
    def _basis(self) -> str:
        children = (f"{child.name}={child.table} {child.on} {child.key}" for child in self._aggregate.children)
        return f"aggregate {self._settings.basis} {'; '.join(children)}"

    def _load(self, checkpoint: bytes | None) -> None:
        stored = self._decoded(checkpoint) if checkpoint is not None else None
        for i, track in enumerate(self._tracks):
            track.load(stored.tracks[i] if stored else None, stored.holds[i] if stored else None)
        self._waiting = Waiting(len(self._tracks))
        self._known, self._loaded, self._quiet = checkpoint, True, None

    def _decoded(self, checkpoint: bytes) -> Position:
        name = self._context.name
        try:
            stored = msgspec.msgpack.decode(checkpoint, type=Position)
        except msgspec.DecodeError as error:
            raise ConfigError(f"source {name}: its checkpoint cannot be read: {error}", hint=_RENAME) from error
        if stored.version != CHECKPOINT_VERSION or stored.basis != self._basis:
            raise ConfigError(f"source {name} stands at a position of another reading ({stored.basis})", hint=_RENAME)
        return stored

    # --- the connection

    def _connect(self) -> Database:
        return connect(self._settings, self._context.secret, self._context.wall_us)

    def _open(self) -> Families:
        reading = self._tracks[0].reading
        if reading is not None and not reading.database.is_current():
            self.close()
        if self._families is None:
            database = self._connect()
            try:
                self._prepare(database)
            except BaseException:
                database.close()
                raise
        assert self._families is not None  # noqa: S101 - prepared just now
        return self._families

    def _prepare(self, database: Database) -> None:
        for track in self._tracks:
            track.open(prepare(database, track.settings))
        parent = self._tracks[0].reading
        assert parent is not None  # noqa: S101 - opened just now
        self._families = families = Families(database, self._settings, parent)
        self._key_at = [families.key_at, *(families.members[i].parent_at for i in self._members[1:])]

    def _database(self) -> Database:
        reading = self._tracks[0].reading
        assert reading is not None  # noqa: S101 - opened before
        return reading.database

    def _cancel(self) -> None:
        reading = self._tracks[0].reading
        if reading is not None:
            reading.database.cancel()


def _extra(aggregate: Aggregate, *, incrementing: bool) -> int | None:
    """How much older than the look-back a row must be so that nothing can wait for it any more, in microseconds; None
    where no clock tells."""
    if incrementing:
        return None if aggregate.settle_seconds or aggregate.expect else 0
    seconds = max(aggregate.settle_seconds, aggregate.incomplete_seconds if aggregate.expect else 0.0)
    return int(seconds * 1_000_000)


def _spelling(key: Key) -> tuple[str, ...]:
    """What databases may take for the same key: other capitals, padding, a number for its text."""
    return tuple(str(value).rstrip(" \x00").casefold() for value in key)
