"""What a normalizer does about batches that make the mapping fail, or that kill it.

A record on which the mapping fails becomes a dead letter, and its neighbours go on; where the mapping fails whatever
the records are, the source waits. A batch at which workers die again and again is tried in processes of their own
(`inquiry`), while every other stream goes on.
"""

from __future__ import annotations

import faulthandler
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from loguru import logger

from crossdock_controller import rounds
from crossdock_controller.culprits import NotFound, culprits
from crossdock_controller.inquiry import TRIAL_SECONDS, Inquiry
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import poison
from crossdock_controller.store.intake import StoredBatch, StreamInfo
from crossdock_controller.store.normalizer import Position
from crossdock_controller.store.poison import Hand, Suspect

DEATHS_BEFORE_INQUIRY = 2  # one may be anybody's doing
DEATHS_BEFORE_GIVING_UP = 5  # although every inquiry found it innocent
_LEFT_OUT = "left out of a trial"

Aside = Mapping[int, Mapping[int, str]]  # reasons by sequence and position


class Suspicion:
    """Of one worker, used from its thread. *round_seconds*: the process ends when a round takes longer; 0: no limit."""

    def __init__(self, data: DataDirectory, db: sqlite3.Connection, hand: Hand, round_seconds: float) -> None:
        self._data, self._db, self._hand, self._round_seconds = data, db, hand, round_seconds
        self._inquiries: dict[int, Inquiry] = {}
        self._cleared: set[int] = set()  # streams whose suspects were tried in this life of the worker
        self.look_again()

    def look_again(self) -> None:
        """Other workers may have died meanwhile."""
        self._suspects = poison.suspects(self._db)

    def close(self) -> None:
        for inquiry in self._inquiries.values():
            inquiry.close()

    @contextmanager
    def in_hand(self, stream: StreamInfo, at: Position, until_sequence: int) -> Iterator[None]:
        """Whatever happens to this process meanwhile is put down to these batches; and it may not take for ever."""
        self._hand.take(stream.id, at.sequence, at.record, until_sequence)
        if self._round_seconds:
            # A regular expression that never ends holds the interpreter's lock: only this thread is outside of it.
            faulthandler.dump_traceback_later(self._round_seconds, exit=True)
        try:
            yield
        finally:
            if self._round_seconds:
                faulthandler.cancel_dump_traceback_later()
            self._hand.put_down()

    def of(self, stream: StreamInfo, at: Position) -> Suspect | None:
        """The suspect at the place where *stream* is; one that it has left behind is forgotten."""
        suspect = self._suspects.get(stream.id)
        if suspect is not None and not suspect.sequence <= at.sequence <= suspect.until_sequence:
            poison.clear(self._db, stream.id)
            del self._suspects[stream.id]
            return None
        return suspect

    def untried(self, stream: StreamInfo, at: Position, suspect: Suspect) -> str:
        """Why the stream must wait: it is being tried elsewhere. Empty when it may go on."""
        if suspect.deaths < DEATHS_BEFORE_INQUIRY or stream.id in self._cleared:
            return ""
        if suspect.deaths >= DEATHS_BEFORE_GIVING_UP:
            reason = f"the worker died {suspect.deaths} times at it"
            poison.set_aside(self._db, stream.id, at.sequence, {poison.WHOLE: reason})
            self._cleared.add(stream.id)
            return ""
        inquiry = self._inquiries.get(stream.id)
        if inquiry is None:
            seconds = min(TRIAL_SECONDS, self._round_seconds or TRIAL_SECONDS)
            inquiry = self._inquiries[stream.id] = Inquiry(self._data, suspect, seconds)
        if not inquiry.done:
            died = f"the worker died {suspect.deaths} times at batch {suspect.sequence}"
            return f"{died}; the records at fault are looked for"
        self._heed(stream, self._inquiries.pop(stream.id))
        return ""

    def _heed(self, stream: StreamInfo, inquiry: Inquiry) -> None:
        self._cleared.add(stream.id)
        log = logger.bind(source=stream.source, site=stream.site)
        if not inquiry.verdict:
            log.warning("nothing is wrong with what the worker died at; it is tried again, batch by batch")
        for sequence, reasons in inquiry.verdict.items():
            poison.set_aside(self._db, stream.id, sequence, reasons)
            log.error("what killed the worker is set aside, of batch {}: {}", sequence, next(iter(reasons.values())))

    def aside(self, stream: StreamInfo, at: Position) -> tuple[Aside, set[int]]:
        """What is not to be mapped from *at* on, and the sequences of batches that are not to be opened even."""
        found = poison.aside(self._db, stream.id, at.sequence)
        return found, {sequence for sequence, reasons in found.items() if poison.WHOLE in reasons}

    def letter(self, stream: StreamInfo, at: Position, bad: StoredBatch, aside: Aside) -> rounds.Round:
        """A batch that cannot be opened, or must not be, as one dead letter."""
        log = logger.bind(source=stream.source, batch=bad.sequence)
        reason = aside.get(bad.sequence, {}).get(poison.WHOLE)
        if reason is None:
            log.error("batch is damaged, set aside as a dead letter")
            return rounds.damaged(stream, at, bad)
        log.error("batch is set aside as a dead letter: {}", reason)
        return rounds.poisoned(stream, at, bad, reason)

    def set_culprits_aside(
        self,
        stream: StreamInfo,
        at: Position,
        opened: Sequence[rounds.Opened],
        engine: rounds.Engine,
        fault: rounds.EngineFault,
        aside: Aside,
    ) -> None:
        """Of the records that the mapping fails on. Raises *fault* when it is the mapping's fault, not the records'."""
        if isinstance(fault.__cause__, MemoryError):  # the next try may take us along: elsewhere
            until = opened[-1].stored.sequence
            self._suspects[stream.id] = Suspect(stream.id, at.sequence, at.record, until, DEATHS_BEFORE_INQUIRY)
            self._cleared.discard(stream.id)
            return
        for batch in opened:
            begin = at if batch.stored.sequence == at.sequence else Position(batch.stored.sequence, 0)
            trial = _Trial(stream, begin, batch, engine, self._db, aside.get(batch.stored.sequence, {}))
            reason = trial(frozenset(trial.positions))
            if reason:
                self._set_found_aside(stream, trial, reason, fault)
                return
        raise fault from fault.__cause__

    def _set_found_aside(self, stream: StreamInfo, trial: _Trial, reason: str, fault: rounds.EngineFault) -> None:
        try:
            found = culprits(trial.positions, trial, reason)
        except NotFound:
            raise fault from fault.__cause__
        sequence = trial.batch.stored.sequence
        poison.set_aside(self._db, stream.id, sequence, {p: f"the mapping fails on it: {r}" for p, r in found.items()})
        log = logger.bind(source=stream.source, site=stream.site, batch=sequence, records=len(found))
        log.opt(exception=fault.__cause__).error("records are set aside, the mapping fails on them: {}", reason)


class _Trial:
    """Maps one batch in this process, but for some of its records; why that fails."""

    def __init__(
        self,
        stream: StreamInfo,
        begin: Position,
        batch: rounds.Opened,
        engine: rounds.Engine,
        db: sqlite3.Connection,
        known: Mapping[int, str],
    ) -> None:
        self.batch = batch
        self.positions = [p for p in range(begin.record, batch.stored.records) if p not in known]
        self._stream, self._begin, self._engine, self._db, self._known = stream, begin, engine, db, known

    def __call__(self, kept: frozenset[int]) -> str:
        left_out = {p: self._known.get(p, _LEFT_OUT) for p in range(self.batch.stored.records) if p not in kept}
        aside = {self.batch.stored.sequence: left_out}
        return rounds.fault_of(self._stream, self._begin, [self.batch], self._engine, self._db, aside)
