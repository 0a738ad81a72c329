"""One uplink stream's bookkeeping: which batch next, what is under way, what each answer means.

Order per source is kept: a source sends on only from the batch after its last one under way, and after a refusal it
first waits until nothing of it is under way, then goes back. Whatever a refusal stops, it stops for one source; but a
conflict says that the outbox is not the one that was sent from before, and ends it.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from loguru import logger

from crossdock.errors import CrossdockError
from crossdock.retry import Backoff
from crossdock.v1.link_pb2 import Ack, Acknowledged, Batch
from crossdock.v1.link_pb2 import Refused as Refusal
from crossdock_agent.limits import OPEN, Gate
from crossdock_agent.outbox import Outbox, Position, StoredBatch
from crossdock_agent.problems import Problems
from crossdock_agent.window import Turns, Window

TURN_BYTES = 512 * 1024  # what one source sends before another has its turn
TURN_BATCHES = 32
PAUSE = Backoff(first_seconds=5.0, max_seconds=300.0)  # for a source that the controller refuses
SETTLE_SECONDS = 10.0  # answers to what was under way at a refusal should be here by then


@dataclass(slots=True)
class _Flow:
    """One source on this stream."""

    sent: int  # the last sequence sent
    under_way: deque[tuple[int, int, float]] = field(default_factory=deque)  # (sequence, bytes, sent at)
    refusals: int = 0  # in a row
    back_to: int | None = None  # after a refusal: send again from this one, and not before ...
    resume_at: float = 0.0  # ... this, or ...
    settling: bool = False  # ... as soon as nothing is under way

    def resumes(self, now: float) -> bool:
        return now >= self.resume_at or (self.settling and not self.under_way)


class Transfer:
    """A session of the uplink (see `streams.Session`)."""

    def __init__(
        self,
        outbox: Outbox,
        problems: Problems,
        rng: random.Random,
        on_behind: Callable[[], None],
        gate: Gate = OPEN,
    ) -> None:
        self.ended = False
        self.answered = False
        self.failure: CrossdockError | None = None
        self.on_failure: Callable[[], object] = self.end
        self._outbox = outbox
        self._problems = problems
        self._rng = rng
        self._on_behind = on_behind
        self._generation = outbox.generation
        self._epoch = outbox.epoch
        self._gate = gate
        self._changed = threading.Condition()
        self._window = Window()
        self._turns = Turns()
        self._flows: dict[str, _Flow] = {}

    def wake(self) -> None:
        """Look again: something was committed."""
        with self._changed:
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    # --- the sending thread

    def requests(self) -> Iterator[Batch]:
        """Batches as they may go, until `end`. Blocks without a timer while there is nothing to send."""
        unsubscribe = self._outbox.subscribe(self.wake)
        try:
            while True:
                turn = self._next_turn()
                if turn is None:
                    return
                yield from self._send(*turn)
        except CrossdockError as error:  # gRPC would turn it into "exception iterating requests"
            self.failure = error
            self.on_failure()
        finally:
            unsubscribe()

    def _next_turn(self) -> tuple[str, str, _Flow] | None:
        """The lane, source and flow whose turn it is; None at the end."""
        with self._changed:
            while not self.ended:
                now = time.monotonic()
                seconds = self._seconds_to_resume(now)
                for lane, source in self._turns.order(self._ready(now)):
                    if not self._window.open(lane):
                        continue
                    wait = self._gate.send_wait(lane, self._window.bytes)
                    if not wait:
                        return lane, source, self._flows[source]
                    seconds = min(wait, seconds) if seconds is not None else wait
                self._changed.wait(seconds)
        return None

    def _send(self, lane: str, source: str, flow: _Flow) -> Iterator[Batch]:
        page = self._outbox.page(source, flow.sent, min(TURN_BYTES, self._gate.send_room(lane)), TURN_BATCHES)
        if not page:  # acknowledged between the look and the read
            flow.sent = max(flow.sent, self._outbox.positions()[source].acked_sequence)
        if self._outbox.generation != self._generation:  # other numbers, or another beginning: not on this stream
            self.end()
        for stored in page:
            with self._changed:
                if self.ended or flow.back_to is not None or not self._may_go(lane):
                    return
                self._took(lane, source, flow, stored)
            yield Batch(
                source=source,
                epoch=self._epoch,
                sequence=stored.sequence,
                lane=lane,
                sealed=stored.sealed,
                crc32=stored.crc32,
            )

    def _may_go(self, lane: str) -> bool:
        return self._window.open(lane) and not self._gate.send_wait(lane, self._window.bytes)

    def _took(self, lane: str, source: str, flow: _Flow, stored: StoredBatch) -> None:
        size = len(stored.sealed)
        flow.sent = stored.sequence
        flow.under_way.append((stored.sequence, size, time.monotonic()))
        self._window.sent(size)
        self._gate.sent(lane, size)
        self._turns.took(lane, source, size)

    def _ready(self, now: float) -> dict[str, list[str]]:
        ready: dict[str, list[str]] = {}
        for source, position in self._outbox.positions().items():
            flow = self._flow(source, position)
            if flow.back_to is not None and flow.resumes(now):
                for _, size, _ in flow.under_way:  # never answered
                    self._window.forget(size)
                flow.under_way.clear()
                flow.sent = max(flow.back_to - 1, position.acked_sequence)
                flow.back_to = None
            if flow.back_to is None and position.last_sequence > flow.sent:
                ready.setdefault(position.lane, []).append(source)
        return ready

    def _flow(self, source: str, position: Position) -> _Flow:
        if source not in self._flows:
            self._flows[source] = _Flow(position.acked_sequence)
        return self._flows[source]

    def _seconds_to_resume(self, now: float) -> float | None:
        waits = [flow.resume_at - now for flow in self._flows.values() if flow.back_to is not None]
        return max(0.0, min(waits)) if waits else None

    # --- the receiving thread

    def received(self, ack: Ack) -> None:
        for done in ack.acknowledged:
            self._acknowledge(done)
        for refusal in ack.refused:
            self._refuse(refusal)
        self.wake()

    def _acknowledge(self, done: Acknowledged) -> None:
        flow = self._flows.get(done.source)
        if flow is None or done.epoch != self._epoch:
            return
        now = time.monotonic()
        with self._changed:
            while flow.under_way and flow.under_way[0][0] <= done.sequence:
                _, size, sent_at = flow.under_way.popleft()
                self._window.acknowledged(size, now - sent_at)
                self.answered = True
            flow.refusals = 0
        self._outbox.acknowledge(done.source, done.epoch, done.sequence, self._generation)
        self._problems.clear(_problem_key(done.source))

    def _refuse(self, refusal: Refusal) -> None:
        flow = self._flows.get(refusal.source)
        if flow is None or refusal.epoch != self._epoch:
            return
        if refusal.code == "conflict":
            self._outbox.condemn(
                f"source {refusal.source}: the controller has batch {refusal.sequence} with other content; was this"
                " machine restored from a backup, or cloned?"
            )
            return
        if refusal.code == "gap":
            self._give_back(refusal)
        position = self._outbox.positions()[refusal.source]
        with self._changed:
            self._drop(flow, refusal.sequence)
            if flow.back_to is not None:  # it was under way behind the first one refused
                return
            flow.refusals += 1
            asked_for = refusal.expected if refusal.code == "gap" else refusal.sequence
            flow.back_to = max(asked_for, position.acked_sequence + 1)
            known = position.acked_sequence < asked_for <= position.last_sequence
            flow.settling = known and refusal.code in ("gap", "checksum") and flow.refusals == 1
            # settling: answers to what is under way must not be taken for answers to the second sending
            wait = SETTLE_SECONDS if flow.settling else PAUSE.delay(flow.refusals, self._rng)
            flow.resume_at = time.monotonic() + wait
        if flow.settling:
            log = logger.bind(source=refusal.source, sequence=refusal.sequence, code=refusal.code)
            log.warning("controller refused a batch, sending again from {}", asked_for)
        else:
            self._problems.report(_problem_key(refusal.source), _sentence(refusal, position))

    def _give_back(self, refusal: Refusal) -> None:
        """The controller expects what it has acknowledged once: it was restored. It gets it again (see `giveback`)."""
        acked = self._outbox.positions()[refusal.source].acked_sequence
        if not 1 <= refusal.expected <= acked or self._outbox.generation != self._generation:
            return
        again = self._outbox.rewind(refusal.source, refusal.expected - 1)
        self._generation += 1
        log = logger.bind(source=refusal.source, batches=again)
        if again is None:
            log.warning("the controller expects batch {} again, which is not kept any more", refusal.expected)
            self._on_behind()
        else:
            log.warning("the controller expects batch {} again: it is sent from there on", refusal.expected)

    def _drop(self, flow: _Flow, sequence: int) -> None:
        """Take what is under way up to the refused *sequence* out: answers come in order, so none of it is awaited."""
        while flow.under_way and flow.under_way[0][0] <= sequence:
            self._window.forget(flow.under_way.popleft()[1])


def _problem_key(source: str) -> str:
    return f"refused:{source}"


def _sentence(refusal: Refusal, position: Position) -> str:
    if refusal.code == "gap":
        return (
            f"source {refusal.source}: the controller expects batch {refusal.expected}, the outbox holds "
            f"{position.acked_sequence + 1} to {position.last_sequence}; was the controller's intake restored from a "
            "backup? its sending is paused and tried again; see 'crossdock agents' on the controller"
        )
    if refusal.code == "checksum":
        return (
            f"source {refusal.source}: batch {refusal.sequence} arrived damaged twice, though the outbox has it whole; "
            "check the memory and network adapters of both machines; it is tried again"
        )
    return (
        f"source {refusal.source}: the controller refused batch {refusal.sequence} ({refusal.code}): {refusal.reason}; "
        "its sending is paused and tried again, other sources go on"
    )
