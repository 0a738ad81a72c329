"""The tracks of one aggregate, parent first: opened on one connection, kept as one checkpoint, marked together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from crossdock.errors import UNREADABLE, ConfigError
from crossdock_agent.sources.base import SourceContext
from crossdock_agent.sql.children import Aggregate
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.cursor import CHECKPOINT_VERSION, Checkpoint
from crossdock_agent.sql.families import Families, Family, child_settings
from crossdock_agent.sql.reading import connect, prepare
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.track import Ledger, Track

_RENAME = "give the source a new name to read the tables from their beginning"


class Position(msgspec.Struct, frozen=True, array_like=True):
    """What is stored with a batch: a checkpoint for each track, and the first order in it that waits."""

    version: int
    basis: str
    tracks: list[Checkpoint]
    holds: list[int | None]


class Tracks:
    """*members*[i] is the member of a family that track i follows; children without a watermark have none."""

    def __init__(self, settings: SqlTableSettings, aggregate: Aggregate, context: SourceContext) -> None:
        self._settings, self._aggregate, self._context = settings, aggregate, context
        self.members = [0, *(i for i, c in enumerate(aggregate.children, 1) if c.watermark)]
        extra = _extra(aggregate, incrementing=settings.mode == "incrementing")
        self._tracks = [Track(settings, context, "", extra)]
        for i in self.members[1:]:
            child = child_settings(settings, aggregate.children[i - 1])
            self._tracks.append(Track(child, context, f"child/{i}/", extra))
        self.families: Families | None = None
        self.database: Database | None = None
        self.key_at: list[tuple[int, ...]] = []  # for each track, where a row holds its parent's key
        self.detects_changes = False  # the database says when nothing was committed in any of the tables

    def __len__(self) -> int:
        return len(self._tracks)

    def __iter__(self) -> Iterator[Track]:
        return iter(self._tracks)

    def __getitem__(self, index: int) -> Track:
        return self._tracks[index]

    # --- the connection

    def connect(self) -> Database:
        return connect(self._settings, self._context.secret, self._context.wall_us)

    def open(self) -> Families:
        """Raises SourceUnavailable or ConfigError."""
        if self.database is not None and not self.database.is_current():
            self.close()
        if self.families is None:
            database = self.connect()
            try:
                self.families = self._prepared(database)
            except BaseException:
                database.close()
                raise
            self.database = database
        return self.families

    def close(self) -> None:
        if self.database is not None:
            self.database.close()
        self.database, self.families = None, None

    def _prepared(self, database: Database) -> Families:
        readings = [prepare(database, track.settings) for track in self._tracks]
        for track, reading in zip(self._tracks, readings, strict=True):
            track.open(reading)
        names = [self._aggregate.children[i - 1].name for i in self.members[1:]]
        families = Families(database, self._settings, readings[0], dict(zip(names, readings[1:], strict=True)))
        self.key_at = [families.key_at, *(families.members[i].parent_at for i in self.members[1:])]
        self.detects_changes = all(reading.detects_changes for reading in readings) and not any(
            member.table.is_view or member.statements.where for member in families.members
        )
        return families

    # --- what is kept

    def load(self, checkpoint: bytes | None) -> None:
        """Raises ConfigError for a checkpoint of another reading."""
        stored = self._decoded(checkpoint) if checkpoint is not None else None
        for i, track in enumerate(self._tracks):
            track.load(stored.tracks[i] if stored else None, stored.holds[i] if stored else None)

    def position(self, holds: Sequence[int | None]) -> bytes:
        tracks = [track.stored() for track in self._tracks]
        return msgspec.msgpack.encode(Position(CHECKPOINT_VERSION, self._basis, tracks, list(holds)))

    def keep(self) -> Ledger:
        """The marks made since the last batch, to be committed with the next one."""
        return tuple(row for track in self._tracks for row in track.keep())

    @property
    def _basis(self) -> str:
        children = (f"{child.name}={child.table} {child.on} {child.key}" for child in self._aggregate.children)
        return f"aggregate {self._settings.basis} {'; '.join(children)}"

    @property
    def _bases(self) -> list[str]:
        return [track.settings.basis for track in self._tracks]

    def _decoded(self, checkpoint: bytes) -> Position:
        name = self._context.name
        try:
            stored = msgspec.msgpack.decode(checkpoint, type=Position)
        except UNREADABLE as error:
            raise ConfigError(f"source {name}: its checkpoint cannot be read: {error}", hint=_RENAME) from error
        tracks = [track.basis for track in stored.tracks]
        if stored.version != CHECKPOINT_VERSION or stored.basis != self._basis or tracks != self._bases:
            said = "; ".join([stored.basis, *tracks])
            raise ConfigError(f"source {name} stands at a position of another reading ({said})", hint=_RENAME)
        return stored

    # --- marks

    def mark(self, family: Family, *, forced: bool) -> None:
        """The rows of *family* were sent. Of one that was *forced* its young rows count as unsent: they may have to
        wait, and lead to it again."""
        for track, member in zip(self._tracks, self.members, strict=True):
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

    def youngest(self, family: Family) -> float | None:
        """Age of its newest change by the database's clock."""
        ages = [
            track.age(track.order(stamp))
            for track, member in zip(self._tracks, self.members, strict=True)
            for stamp in set(family.parts[member].stamps)
        ]
        return min((age for age in ages if age is not None), default=None)


def _extra(aggregate: Aggregate, *, incrementing: bool) -> int | None:
    """How much older than the look-back a row must be so that nothing can wait for it any more, in microseconds; None
    where no clock tells."""
    if incrementing:
        return None if aggregate.settle_seconds or aggregate.expect else 0
    seconds = max(aggregate.settle_seconds, aggregate.incomplete_seconds if aggregate.expect else 0.0)
    return int(seconds * 1_000_000)
