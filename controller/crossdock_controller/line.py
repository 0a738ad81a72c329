"""One sink's line: deliveries go out in order, and what the sink said of each is persisted before the cursor passes it.

What was sent but not persisted when the process dies is sent again with the same idempotency key (event id and sink).
Runs that went well are persisted together when the lock is free, so that a busy normalizer does not slow a sink down;
nothing later of a key is sent before a failure of it is persisted.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loguru import logger

from crossdock.errors import SinkUnavailable
from crossdock.retry import Backoff
from crossdock_controller import replaying, sieve
from crossdock_controller.judging import Judged, Policy, judge, no_verdict
from crossdock_controller.meter import Meter
from crossdock_controller.sinks.base import DONE, Outgoing, Sink, Verdict
from crossdock_controller.store import connection, dead_letters, deliveries, runs, sinks, superseding
from crossdock_controller.store.bodies import Bodies
from crossdock_controller.store.connection import begin, begun, transaction
from crossdock_controller.store.deliveries import Picked, chain_of
from crossdock_controller.store.inputs import Sites
from crossdock_controller.store.leases import LeaseLost

UNSAVED_RUNS = 16  # so many may be done and not persisted yet, and ...
UNSAVED_SECONDS = 0.5  # ... for so long; a crash repeats them
_LEAST_WAIT_SECONDS, _MOST_WAIT_SECONDS = 0.002, 60.0
CLOCK_STEP_US = 2_000_000  # a clock that is so far behind what it showed was set back
PROBES_BEFORE_PUTTING_BEHIND = 3  # a single delivery may keep a failing sink's line waiting so often


def now_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class _Sent:
    """A call of the sink. *verdicts* is None when it gave none; then *problem* says why."""

    run: Sequence[Picked]
    verdicts: Sequence[Verdict] | None
    started_us: int
    ended_us: int
    problem: str = ""
    after_seconds: float | None = None


@dataclass(slots=True)
class Line:
    """Used from one thread, under the sink's lease in the name of *owner*; *cursor* is where `sinks.claim` found it."""

    db: sqlite3.Connection
    sink_id: int
    name: str
    sink: Sink
    run_size: int
    owner: str
    cursor: int
    policy: Policy = field(default_factory=Policy)
    circuit: Backoff = field(default_factory=lambda: Backoff(0.5, 2.0, 30.0))
    rng: random.Random = field(default_factory=random.Random)
    clock_us: Callable[[], int] = now_us
    failures: int = 0  # calls in a row by which the sink as a whole seemed down
    next_try_us: int = 0
    served_us: int | None = None  # when the sink last took or refused something
    _bodies: Bodies = field(init=False)
    _sites: Sites = field(init=False)
    _ahead: int = field(init=False)
    _unsaved: list[_Sent] = field(default_factory=list)
    _stuck: bool = False  # a save failed: it comes before anything else is sent
    _owed: tuple[_Sent | None, Judged, int] | None = None  # judged and not persisted: the store could not be written
    _seen_us: int = field(init=False)  # by the clock, lately
    _meter: Meter = field(init=False)
    _replaying: replaying.Replaying = field(default_factory=replaying.Replaying)

    def __post_init__(self) -> None:
        self._bodies, self._sites, self._ahead = Bodies(self.db), Sites(self.db), self.cursor
        self._seen_us = runs.last_us(self.db)
        self._meter = Meter(self.policy.rate)
        self.served_us = runs.last_done_us(self.db, self.sink_id) or None

    def step(self) -> bool:
        """Send what is due now, then fresh ones; False when nothing was to do: `seconds_to_wait` says how long.

        Raises what the store raises; then nothing is sent before the next call could persist what was sent already.
        """
        if self._owed is not None:
            self._persist(*self._owed)
        elif self._stuck:
            self.save()
        connection.check_fence(self.db)
        self._mind_the_clock()
        orders = sinks.orders(self.db, self.sink_id)
        if orders.paused or self.clock_us() < self.next_try_us:
            self.save()
            return False
        up_to = orders.drain_seq or deliveries.LAST
        busy = self._send(up_to)
        if not busy and orders.drain_seq and not self.failures:
            self._drained(up_to)
        return busy

    def _send(self, up_to: int) -> bool:
        """What is due of events up to *up_to*, then what is fresh; False when there was nothing."""
        replayed = up_to == deliveries.LAST and self._replay()
        due = self._due(up_to)
        if due and self._unsaved:  # some of them may be among what was just sent
            self.save()
            due = self._due(up_to)
        if due:
            self._send_due(due)
            if self.failures:
                return True
        fresh = deliveries.pick_fresh(self.db, self._bodies, self.sink_id, self._ahead, self._limit(), up_to)
        if fresh:
            self._send_fresh(fresh)
        else:
            self.save()
        return bool(due or fresh or replayed)

    def _due(self, up_to: int) -> list[Picked]:
        now, limit = self.clock_us(), self._limit()
        return deliveries.pick_due(self.db, self._bodies, self.sink_id, now, limit, self._ahead, up_to)

    def _limit(self) -> int:
        """Deliveries of the next call: one for a sink that was down, and no more than its rate allows."""
        return self._meter.allows(1 if self.failures else self.run_size, self.clock_us())

    def _replay(self) -> bool:
        """Make the next of what is sent again due; under the sink's lease, after all that was sent is persisted."""
        if not self._replaying.wanted(self.db, self.sink_id, self.clock_us()):
            return False
        self.save()
        with transaction(self.db):
            sinks.move(self.db, self.sink_id, self.owner, at=self.cursor, to=self.cursor)
            return self._replaying.step(self.db, self.sink_id, self.clock_us())

    def _drained(self, up_to: int) -> None:
        """Nothing is due any more of what was when a person said so; what the sink put off for later waits."""
        with transaction(self.db):
            if not sinks.left_to_drain(self.db, self.sink_id, up_to, self.clock_us()):
                sinks.drained(self.db, self.sink_id, self.owner, up_to)
                logger.bind(sink=self.name).info("sink is drained, and paused")

    def seconds_to_wait(self, at_most: float) -> float:
        """Until the next delivery is due or may go by the sink's rate, or the sink is tried again."""
        due_us = deliveries.next_due_us(self.db, self.sink_id)
        moments = [at_most, *([] if due_us is None else [(due_us - self.clock_us()) / 1_000_000])]
        until_due = max(min(moments), (self.next_try_us - self.clock_us()) / 1_000_000, self._meter.seconds())
        return min(max(_LEAST_WAIT_SECONDS, until_due), _MOST_WAIT_SECONDS)

    def save(self, *, wait: bool = True) -> None:
        """Persist what is done. Raises LeaseLost; without *wait* another process's transaction is left in peace."""
        if self._owed is not None:
            self._persist(*self._owed)
        if not self._unsaved:
            return
        self._stuck = True
        if wait:
            with transaction(self.db):
                self._persist_unsaved()
        elif begin(self.db):
            with begun(self.db):
                self._persist_unsaved()
        else:
            self._stuck = False
            return
        self._saved()

    def _mind_the_clock(self) -> None:
        """A clock that was set back by hours does not put off by hours what waits to be tried again."""
        now = self.clock_us()
        back_us, self._seen_us = self._seen_us - now, now
        if back_us <= CLOCK_STEP_US:
            return
        with transaction(self.db):
            deliveries.bring_forward(self.db, self.sink_id, now, back_us)
        self.next_try_us -= back_us
        logger.bind(sink=self.name, seconds=back_us // 1_000_000).warning(
            "the clock was set back, retries move with it"
        )

    def _sifted(self, picked: list[Picked]) -> list[Picked]:
        """Those to send; what is not to be sent at all is settled before anything else is."""
        policy = self.policy
        if not (policy.supersede or policy.ttl_us or policy.versions or any(p.again == 0 for p in picked)):
            return picked
        sifted = sieve.sift(self.db, self.sink_id, picked, policy, self.clock_us())
        if not sifted.idle:
            self._stuck = True
            with transaction(self.db):
                self._persist_unsaved()
                sieve.settle(self.db, self.sink_id, sifted, policy, self.clock_us())
            self._saved()
        return sifted.rest

    def _send_due(self, due: list[Picked]) -> None:
        self.save()
        due = self._sifted(due)
        if not due:
            return
        sent = self._write(due)
        if sent.verdicts is None:
            self._no_verdict(sent, self._ahead)
            return
        judged = self._judged(due, sent, sent.verdicts)
        if judged is None:
            self._no_verdict(self._put_off(sent, sent.verdicts), self._ahead)
            return
        self._count_circuit(judged)
        self._persist(sent, judged, self._ahead)

    def _send_fresh(self, fresh: list[Picked]) -> None:
        fresh = self._sifted(fresh)
        if not fresh:
            return
        last = fresh[-1].event_seq
        run, held = self._split(fresh)
        if not run:
            self._persist(None, Judged(held=held), last)
            return
        sent = self._write(run)
        if sent.verdicts is None:
            self._no_verdict(sent, last)
            return
        if not held and not self.failures and all(v is DONE or v.outcome == "done" for v in sent.verdicts):
            self._unsaved.append(sent)
            self._ahead, self.served_us = last, sent.ended_us
            oldest_us = self.clock_us() - self._unsaved[0].ended_us
            self.save(wait=len(self._unsaved) >= UNSAVED_RUNS or oldest_us > UNSAVED_SECONDS * 1_000_000)
            return
        judged = self._judged(run, sent, sent.verdicts)
        if judged is None:
            self._no_verdict(self._put_off(sent, sent.verdicts), last)
            return
        self._count_circuit(judged)
        judged.held += held
        self._persist(sent, judged, last)

    def _judged(self, run: Sequence[Picked], sent: _Sent, verdicts: Sequence[Verdict]) -> Judged | None:
        """What follows from *verdicts*; None when they say that the sink is down, not what is wrong with documents:
        all of several are to be retried, or the one that a sink that was down is asked with."""
        judged = judge(run, verdicts, self.policy, sent.ended_us, self.rng, self.served_us)
        if judged.all_retry and (self.failures or len(judged.failures) > 1):
            return None
        if not judged.all_retry:
            self.served_us = sent.ended_us
        return judged

    @staticmethod
    def _put_off(sent: _Sent, verdicts: Sequence[Verdict]) -> _Sent:
        first = next(v for v in verdicts if v.outcome == "retry")
        longest = max((v.after_seconds or 0.0 for v in verdicts), default=0.0)
        text = f"every delivery of a run is to be retried: {first.code} {first.reason}"
        return _Sent(sent.run, None, sent.started_us, sent.ended_us, text, longest or None)

    def _split(self, fresh: list[Picked]) -> tuple[list[Picked], list[tuple[int, int]]]:
        """Those to send, and (event seq, chain) of those that stand behind an unresolved delivery of their key."""
        if not deliveries.has_chains(self.db, self.sink_id):
            return fresh, []
        chains = [chain_of(p.document, p.key) for p in fresh]
        blocked = deliveries.blocked(self.db, self.sink_id, set(chains))
        if not blocked:
            return fresh, []
        run, held = [], []
        for p, chain in zip(fresh, chains, strict=True):
            if blocked.get(chain, p.event_seq) < p.event_seq:
                held.append((p.event_seq, chain))
            else:
                run.append(p)
        return run, held

    def _write(self, run: Sequence[Picked]) -> _Sent:
        outgoing = [
            Outgoing(
                p.event_id, p.document, p.key, p.body, p.event_seq, p.attempt + 1, p.version,
                p.again if p.again and p.was_done else 0, self._sites.of(p.input_id),
            )
            for p in run
        ]  # fmt: skip
        self._meter.take(len(run))
        started_us = self.clock_us()
        try:
            verdicts = self.sink.write(outgoing)
        except SinkUnavailable as error:
            return _Sent(run, None, started_us, self.clock_us(), str(error), error.after_seconds)
        except Exception as error:  # noqa: BLE001 - a fault of the sink's code is no verdict either; it is on view, and tried again
            logger.bind(sink=self.name).opt(exception=error).error("sink failed unexpectedly: {}", error)
            return _Sent(run, None, started_us, self.clock_us(), f"{type(error).__name__}: {error}")
        if len(verdicts) != len(run):
            problem = f"the sink gave {len(verdicts)} verdicts for {len(run)} deliveries"
            logger.bind(sink=self.name).error(problem)
            return _Sent(run, None, started_us, self.clock_us(), problem)
        return _Sent(run, verdicts, started_us, self.clock_us())

    def _no_verdict(self, sent: _Sent, last: int) -> None:
        """Back the sink off, not its deliveries; but one that fails alone again and again makes room for the others."""
        self.failures += 1
        delay = self.circuit.delay(self.failures, self.rng, at_least=sent.after_seconds)
        self.next_try_us = sent.ended_us + int(delay * 1_000_000)
        alone = len(sent.run) == 1 and self.failures > PROBES_BEFORE_PUTTING_BEHIND
        judged = Judged()
        if alone:
            judged = no_verdict(sent.run[0], sent.problem, self.policy, sent.ended_us, self.rng, failures=self.failures)
        self._persist(sent, judged, last if alone else self._ahead)
        log = logger.bind(sink=self.name, deliveries=len(sent.run), failures=self.failures)
        log.warning("sink gives no verdict, next try in {:.1f} s: {}", delay, sent.problem)

    def _count_circuit(self, judged: Judged) -> None:
        """The sink answered: it is up, unless it was down and still says nothing but "later"."""
        if self.failures and judged.all_retry:
            self.failures += 1
            delay = self.circuit.delay(self.failures, self.rng)
            self.next_try_us = self.clock_us() + int(delay * 1_000_000)
        else:
            if self.failures:
                logger.bind(sink=self.name).info("sink answers again")
            self.failures, self.next_try_us = 0, 0

    def _persist(self, sent: _Sent | None, judged: Judged, to: int) -> None:
        """One transaction: everything done before, this run, and the cursor at *to*."""
        db, sink = self.db, self.sink_id
        chains = {f.chain for f in judged.failures} | {chain for _, chain in judged.held}
        chains |= {p.chain for p in judged.done if p.chain is not None}
        done = [p.event_seq for p in judged.done]
        at_us = self.clock_us()
        self._owed = (sent, judged, to)
        with transaction(db):
            self._persist_unsaved()
            if to != self._ahead:
                sinks.move(db, sink, self.owner, at=self._ahead, to=to)
            if sent is not None:
                run_id = self._add_run(sent, len(judged.done))
                deliveries.fail(db, sink, judged.failures)
                chains |= set(deliveries.joined(db, sink, done).values())
                deliveries.close(db, sink, done, run_id)
                runs.add_attempts(db, sink, judged.attempts)
                dead_letters.add_deliveries(db, sink, judged.letters, at_us)
                sinks.report(
                    db, sink, self.owner, failures=self.failures, next_try_us=self.next_try_us,
                    problem=sent.problem or ("the sink says to come later" if self.failures else ""), now_us=at_us,
                )  # fmt: skip
            deliveries.hold(db, sink, judged.held)
            if self.policy.supersede and (judged.letters or judged.held):
                superseding.pass_dead(db, sink, chains, self.policy.supersede, at_us)
            deliveries.settle(db, sink, chains, at_us)
        self._ahead = to
        self._owed = None
        self._saved()
        if judged.letters:
            logger.bind(sink=self.name, dead=len(judged.letters)).warning(
                "deliveries refused, see: crossdock dead list"
            )

    def _persist_unsaved(self) -> None:
        """Also proves that the lease and the cursor are still ours."""
        sinks.move(self.db, self.sink_id, self.owner, at=self.cursor, to=self._ahead)
        for sent in self._unsaved:
            run_id = self._add_run(sent, len(sent.run))
            first, last = sent.run[0].event_seq, sent.run[-1].event_seq
            closed = deliveries.close_range(self.db, self.sink_id, first, last, run_id)
            if closed != len(sent.run):
                closed += self._close_joined(sent, run_id)
            if closed != len(sent.run):  # someone else served the sink meanwhile
                raise LeaseLost(f"{closed} of {len(sent.run)} deliveries of sink {self.name} were still open")

    def _close_joined(self, sent: _Sent, run_id: int) -> int:
        """Deliveries that were fresh when they were sent, and were told to hurry meanwhile; how many."""
        joined = deliveries.joined(self.db, self.sink_id, [p.event_seq for p in sent.run])
        deliveries.close(self.db, self.sink_id, joined, run_id)
        deliveries.settle(self.db, self.sink_id, joined.values(), self.clock_us())
        return len(joined)

    def _add_run(self, sent: _Sent, done: int) -> int:
        return runs.add(
            self.db, self.sink_id, started_us=sent.started_us, ended_us=sent.ended_us, deliveries=len(sent.run),
            done=done, problem=sent.problem,
        )  # fmt: skip

    def _saved(self) -> None:
        for sent in self._unsaved:
            logger.bind(sink=self.name, deliveries=len(sent.run), ms=(sent.ended_us - sent.started_us) // 1000).debug(
                "delivered"
            )
        self._unsaved.clear()
        self._stuck = False
        self.cursor = self._ahead
