"""`try`: the first records of a source and what they suggest, without a trace.

The source is real, all around it is thrown away: its memory, its checkpoint, its clock. Nothing is released, so nothing
is archived, deleted or marked; nothing enters the outbox. It knows sources only by their contract, so that every kind
can be tried, and stops at a number of records, bytes or seconds, whichever comes first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from crossdock.lifecycle import Stop
from crossdock.siteconfig import SourceConfig
from crossdock_agent import sampling
from crossdock_agent.guessing import files
from crossdock_agent.guessing.files import FileGuess
from crossdock_agent.sources import base
from crossdock_agent.sources.base import Counters, Draft, SourceContext
from crossdock_agent.sql import survey
from crossdock_agent.sql.suggest import Suggestion, Watermark, suggest, watermarks
from crossdock_agent.sql.survey import TableSurvey

MAX_BYTES = 4_000_000
SETTLED_SECONDS = 1_000_000.0  # the second pass sees files that have not changed for so long


class Rejected(Struct, frozen=True):
    record: int
    code: str
    reason: str
    begins: str


class TableTrial(Struct, frozen=True):
    survey: TableSurvey
    watermarks: list[Watermark]
    suggestion: Suggestion


class Trial(Struct, frozen=True, kw_only=True):
    """*more* when the source had not come to its end. *checkpoint* is shown as far as it can be understood."""

    source: str
    kind: str
    format: str
    origins: list[str]
    names: list[str]
    types: list[str]
    rows: list[list[Any]]
    records: int
    bytes: int
    more: bool
    rejects: list[Rejected]
    checkpoint: Any
    counters: dict[str, int]
    notes: list[str]
    file: FileGuess | None = None
    table: TableTrial | None = None


def attempt(
    config: SourceConfig, secret: Callable[[str], str], wall_us: Callable[[], int], *, records: int, seconds: float
) -> Trial:
    """Read up to *records* records of *config*'s source from its beginning. Raises what the source raises."""
    sample = _Sample(config, secret, wall_us, records)
    timer = threading.Timer(seconds, sample.stop.set)
    timer.daemon = True
    timer.start()
    try:
        sample.take()
    finally:
        timer.cancel()
    format_ = config.settings.get("format")
    shape = sampling.records(sample.drafts, format_ if isinstance(format_, dict) else {}, records)
    begins = sampling.raw(sample.drafts)
    return Trial(
        source=config.name,
        kind=config.kind,
        format=sample.drafts[0].header.format if sample.drafts else "",
        origins=list(dict.fromkeys(draft.header.origin.name for draft in sample.drafts)),
        names=shape.names,
        types=shape.types,
        rows=shape.rows,
        records=sum(draft.header.records for draft in sample.drafts),
        bytes=sum(len(draft.payload) for draft in sample.drafts),
        more=sample.more,
        rejects=[_rejected(reject) for draft in sample.drafts for reject in draft.header.rejects],
        checkpoint=_checkpoint(sample.checkpoint),
        counters=sample.counters.snapshot(),
        notes=_notes(sample, seconds),
        file=files.guess(begins, whole=not sample.more and len(sample.drafts) == 1) if begins else None,
        table=_table(config, secret, wall_us, seconds),
    )


class _Sample:
    """The source and its throw-away surroundings."""

    def __init__(
        self, config: SourceConfig, secret: Callable[[str], str], wall_us: Callable[[], int], wanted: int
    ) -> None:
        self.stop, self.counters = Stop(), Counters()
        self.drafts: list[Draft] = []
        self.checkpoint: bytes | None = None
        self.more = False
        self.from_beginning = config.settings.get("start") in ("now", "end")
        self._wanted = wanted
        self._ahead = 0.0
        self._ledger: dict[str, bytes] = {}
        self._tokens: list[bytes] = []
        context = SourceContext(
            config.name, self, self.counters, self.stop, secret, lambda: time.monotonic() + self._ahead, wall_us
        )
        settings = {**config.settings, "start": "beginning"} if self.from_beginning else config.settings
        if settings.get("claim"):  # it would rename the files that it shows
            settings = {**settings, "claim": False}
        self._source = base.build(config.kind, settings, context)

    def recall(self, key: str) -> bytes | None:
        return self._ledger.get(key)

    def rows(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        return sorted((key, value) for key, value in self._ledger.items() if key > after)[:limit]

    def unreleased(self) -> list[bytes]:
        return list(self._tokens)

    def take(self) -> None:
        """A pass, and another when the first only saw files that might still be written to."""
        try:
            for ahead in (0.0, SETTLED_SECONDS):
                self._ahead = ahead
                self._pass()
                if any(draft.header.records or draft.header.rejects for draft in self.drafts) or self.stop.is_set():
                    break
        finally:
            self._source.close()

    def _remember(self, draft: Draft) -> None:
        for key, value in draft.remember:
            if value is None:
                self._ledger.pop(key, None)
            else:
                self._ledger[key] = value

    def _pass(self) -> None:
        reading = self._source.read(self.checkpoint)
        try:
            for draft in reading:
                self.drafts.append(draft)
                self.checkpoint = draft.header.checkpoint
                self._remember(draft)
                self._tokens += [draft.on_ack] if draft.on_ack is not None else []
                if self._is_enough():
                    self.more = next(reading, None) is not None
                    break
        finally:
            close = getattr(reading, "close", None)
            if close is not None:
                close()

    def _is_enough(self) -> bool:
        records = sum(draft.header.records for draft in self.drafts)
        return records >= self._wanted or sum(len(draft.payload) for draft in self.drafts) >= MAX_BYTES


def _table(
    config: SourceConfig, secret: Callable[[str], str], wall_us: Callable[[], int], seconds: float
) -> TableTrial | None:
    """What the database says of the table, for every kind whose settings name a connection and a table."""
    connection, name = config.settings.get("connection"), config.settings.get("table")
    if not isinstance(connection, dict) or not isinstance(name, str):
        return None
    database = survey.opened(survey.connection_of(connection), secret, wall_us, seconds)
    try:
        found = survey.survey(database, name)
    finally:
        database.close()
    return TableTrial(found, watermarks(found), suggest(found, connection))


def _notes(sample: _Sample, seconds: float) -> list[str]:
    notes = []
    if sample.from_beginning:
        notes.append("with its 'start' it would show nothing: it was read from the beginning")
    if sample.stop.is_set():
        notes.append(f"broken off after {seconds:g} s; --seconds gives it more")
    waiting = sample.counters.snapshot().get("files_waiting", 0)
    if waiting:
        notes.append(f"{waiting} file(s) are not complete yet by these settings")
    if not sample.drafts and not sample.stop.is_set():
        notes.append("there is nothing to read; are pattern, folder or 'where' right?")
    return notes


def _rejected(reject: Any) -> Rejected:
    return Rejected(reject.record, reject.code, reject.reason, reject.sample[:80].decode("latin-1"))


def _checkpoint(data: bytes | None) -> Any:
    """A checkpoint is the source's own business; most are msgpack or text, and then say something to a person."""
    if data is None:
        return None
    if data.isascii() and data.decode().isprintable():
        return data.decode()
    try:
        return _plain(msgspec.msgpack.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return data.hex()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
