"""Order and completeness of one sink's line, against a model that is a plain list of versions by key.

Verdicts, time, crashes and people are random; so are critical events, documents of which only the newest matters,
documents that expire, and replays. Whatever happens: a version is never applied before every earlier one of its key was
applied or given up; nobody else is held; and once the sink accepts, nothing is missing.
"""

import random
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crossdock.errors import Refused, SinkUnavailable
from crossdock.retry import Backoff
from crossdock_controller.judging import Policy
from crossdock_controller.line import Line
from crossdock_controller.outcomes import Hold
from crossdock_controller.sinks.base import DONE, Outgoing, Verdict
from crossdock_controller.store import (
    bodies,
    connection,
    dead_letters,
    deliveries,
    events,
    holds,
    inputs,
    replays,
    sinks,
    urgent,
)
from crossdock_controller.store.account import account
from crossdock_controller.store.deliveries import State
from support.pipeline import FakeSink, template

KEYS = "abcd"
NEWEST_ONLY, SHORT_LIVED = "StockLevel", "Shipment"
DOCUMENTS = ["SalesOrder", NEWEST_ONLY, SHORT_LIVED]
TTL_US = 30_000_000
OPEN = (State.PENDING, State.RETRYING, State.HELD, State.DEAD, State.STOPPED)
VERDICTS = [DONE, Verdict("retry", "http_500", "later"), Verdict("rejected", "http_400", "no")]


class LineAgainstList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        shutil.copyfile(template(), self.root / "state.db")
        self.db = connection.connect(self.root / "state.db")
        self.db.execute("PRAGMA synchronous=OFF")  # crashes here are of processes, not of machines
        # The model: event seqs by document and key, in order.
        self.versions: dict[tuple[str, str], list[int]] = {(d, key): [] for d in DOCUMENTS for key in KEYS}
        self.applied: set[int] = set()
        self.ever_expired: set[int] = set()
        self.received_us: dict[int, int] = {}
        self.discarded: set[int] = set()
        self.held: set[int] = set()  # by a rule, and not released yet
        self.overtaken: list[str] = []
        self.now_us = 1_000_000
        self.plan: dict[str, Verdict] = {}
        self.sink = FakeSink(self.decide)
        self.sink_id = sinks.sink_id(self.db, "finance")
        self.size = 3

    @initialize(size=st.integers(1, 6), seed=st.integers(0, 99), attempts=st.sampled_from([None, 3]))
    def begin(self, size: int, seed: int, attempts: int | None) -> None:
        self.size = size
        self.policy = Policy(
            Backoff(1.0, 2.0, 8.0), max_age_us=60_000_000, max_attempts=attempts,
            supersede=frozenset({NEWEST_ONLY}), ttl_us={SHORT_LIVED: TTL_US},
        )  # fmt: skip
        self.rng = random.Random(seed)
        self.source = inputs.source_id(self.db, "atl1", "a1", "wms")
        self.batches = 0
        self.restart()

    def restart(self) -> None:
        """As after kill -9: whatever was in memory is gone; the lease is free because its owner is dead."""
        cursor = sinks.claim(self.db, self.sink_id, "me", self.now_us)
        assert cursor is not None
        self.line = Line(
            self.db, self.sink_id, "finance", self.sink, self.size, "me", cursor, self.policy,
            Backoff(0.5, 2.0, 4.0), self.rng, lambda: self.now_us,
        )  # fmt: skip

    def decide(self, delivery: Outgoing) -> Verdict:
        verdict = self.plan.get(delivery.key, DONE)
        if verdict.outcome == "done":
            versions = self.versions[delivery.document, delivery.key]
            earlier = {s for s in versions if s < delivery.sequence}
            over = self.applied | self.discarded
            if delivery.document == NEWEST_ONLY:  # an older one need not come, but never after this one
                over |= earlier
            if not earlier <= over | self.expired():  # the line would take an exception here for the sink's
                self.overtaken.append(f"{delivery.sequence} overtook one of {earlier}")
            later = {s for s in versions if s > delivery.sequence} & self.applied
            again_after_a_crash = delivery.sequence in self.applied and not delivery.replay
            if later and not again_after_a_crash:
                self.overtaken.append(f"{delivery.sequence} came after {later}")
            if delivery.sequence in self.held:
                self.overtaken.append(f"{delivery.sequence} went out while a rule held it")
            self.applied.add(delivery.sequence)
        return verdict

    def expired(self) -> set[int]:
        rows = self.db.execute("SELECT event_seq FROM deliveries WHERE state = ?", (State.EXPIRED,))
        found = {seq for (seq,) in rows}
        self.ever_expired |= found
        return found

    @rule(
        keys=st.lists(st.tuples(st.sampled_from(DOCUMENTS), st.sampled_from(KEYS)), min_size=1, max_size=8),
        stopped=st.sets(st.integers(0, 7), max_size=2),
        waits=st.booleans(),
        critical=st.booleans(),
        routed=st.sampled_from([True, True, True, False]),
    )
    def append(self, keys: list[tuple[str, str]], stopped: set[int], waits: bool, critical: bool, routed: bool) -> None:
        """As a round of the normalizer. Some are held by a rule: for a person, or for a master that may come. What is
        critical does not wait behind the fresh ones of other keys. What is not
        *routed* is of no concern to the sink."""
        self.batches += 1
        with connection.transaction(self.db):
            row = inputs.InputRow(b"e", self.batches, self.now_us, "file", "f.csv")
            (input_id,) = inputs.reserve(self.db, self.source, 1, [row], 0)
            first = events.next_seq(self.db)
            places = bodies.add(self.db, bodies.pack([b"{}" for _ in keys]))
            rows: list[events.Row] = [
                (seq, seq.to_bytes(16, "big"), document, key, input_id, 0, 0, 1, None, None, *place, 1)
                for seq, ((document, key), place) in enumerate(zip(keys, places, strict=True), first)
            ]
            events.append(self.db, rows)
            if routed:
                self.make_due(rows, stopped, waits=waits)
            if routed and critical:
                urgent.urge(self.db, self.sink_id, keys, self.now_us)
        for row in rows:
            if routed:
                self.versions[row[2], row[3]].append(row[0])
            self.received_us[row[0]] = self.now_us

    def make_due(self, rows: list[events.Row], stopped: set[int], *, waits: bool) -> None:
        deliveries.add(self.db, self.sink_id, [row[0] for row in rows])
        held = [row for i, row in enumerate(rows) if i in stopped]
        deliveries.stop(self.db, self.sink_id, [(row[0], deliveries.chain_of(row[2], row[3])) for row in held])
        why = Hold("unknown_product", "sku", "no Product A is known", (("Product", "A"),) if waits else ())
        holds.add(self.db, [(row[0], [why]) for row in held], self.now_us)
        self.held |= {row[0] for row in held}

    @rule(document=st.sampled_from(["", *DOCUMENTS]), again=st.booleans())
    def replay(self, document: str, again: bool) -> None:
        chosen = replays.Chosen(document=document, again=again, unrouted=False)
        until = replays.last_seq(self.db)
        with connection.transaction(self.db):
            replays.add(
                self.db, self.sink_id, chosen, because="a test", by="me", rate=0.0,
                total=replays.count(self.db, self.sink_id, chosen, until).send, until_seq=until, now_us=self.now_us,
            )  # fmt: skip

    @rule()
    @precondition(lambda self: replays.running(self.db, self.sink_id) is not None)
    def cancel(self) -> None:
        number, _ = replays.running(self.db, self.sink_id) or (0, 0.0)
        with connection.transaction(self.db):
            replays.cancel(self.db, number, "me", self.now_us)

    @rule(how=st.sampled_from(["pause", "drain", "resume"]))
    def a_person_gives_an_order(self, how: str) -> None:
        seq = replays.last_seq(self.db) if how == "drain" else 0
        with connection.transaction(self.db):
            sinks.order(self.db, self.sink_id, sinks.Orders(how == "pause", seq))

    @rule(plan=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VERDICTS)), steps=st.integers(1, 3))
    def work(self, plan: dict[str, Verdict], steps: int) -> None:
        self.plan = plan
        for _ in range(steps):
            self.line.step()

    @rule(steps=st.integers(1, 6))
    def outage(self, steps: int) -> None:
        self.sink.down = SinkUnavailable("no route to host")
        for _ in range(steps):
            self.line.step()
            self.now_us += 2_000_000
        self.sink.down = None

    @rule(seconds=st.sampled_from([1, 5, 40]))
    def time_passes(self, seconds: int) -> None:
        self.now_us += seconds * 1_000_000

    @rule()
    def crash(self) -> None:
        self.restart()

    @rule(choice=st.randoms(use_true_random=False), retry=st.booleans())
    @precondition(lambda self: bool(dead_letters.list_all(self.db)))
    def a_person_decides(self, choice: random.Random, retry: bool) -> None:
        letter = choice.choice(dead_letters.list_all(self.db))
        assert letter.event_seq is not None
        if retry:
            self.retry(letter)
        else:
            dead_letters.discard(self.db, letter, "me", "", self.now_us)
            self.discarded.add(letter.event_seq)

    def retry(self, letter: dead_letters.DeadLetter) -> None:
        """One that expired is refused once the sink has a newer version; a person gives it up then."""
        assert letter.event_seq is not None
        try:
            dead_letters.retry_delivery(self.db, letter, "me", "", self.now_us)
        except Refused:
            assert letter.code == "expired"
            dead_letters.discard(self.db, letter, "me", "", self.now_us)
            self.discarded.add(letter.event_seq)

    @rule(choice=st.randoms(use_true_random=False), release=st.booleans())
    @precondition(lambda self: bool(self.held))
    def a_person_decides_what_is_held(self, choice: random.Random, release: bool) -> None:
        seq = choice.choice(sorted(self.held))
        with connection.transaction(self.db):
            if release:
                holds.release(self.db, seq, by="me", note="", now_us=self.now_us)
            else:
                holds.discard(self.db, seq, by="me", note="", now_us=self.now_us)
                self.discarded.add(seq)
        self.held.discard(seq)

    @rule()
    @precondition(lambda self: bool(self.held))
    def the_master_comes(self) -> None:
        with connection.transaction(self.db):
            self.held -= set(holds.arrived(self.db, {"Product": ["A"]}, self.now_us))

    @invariant()
    def no_version_overtakes_an_earlier_one_of_its_key(self) -> None:
        assert not self.overtaken

    @invariant()
    def only_what_follows_an_unresolved_delivery_of_its_key_is_held(self) -> None:
        states = {
            seq: State(state)
            for seq, state in self.db.execute(
                "SELECT event_seq, state FROM deliveries WHERE sink_id = ?", (self.sink_id,)
            )
        }
        for seqs in self.versions.values():
            for i, seq in enumerate(seqs):
                before = [states[s] for s in seqs[:i]]
                if states[seq] is State.HELD:
                    assert any(s in OPEN for s in before), f"{seq} is held by nobody"
                assert (states[seq] is State.STOPPED) == (seq in self.held)
                if states[seq] is State.EXPIRED:
                    assert self.now_us - self.received_us[seq] > TTL_US
                if states[seq] is State.DONE:
                    assert seq in self.applied
                if states[seq] is State.DISCARDED:
                    assert seq in self.discarded
        self.expired()
        (row,) = account(self.root / "state.db", self.root / "none.db") or [None]
        assert (row.accounted if row else 0) == len(self.received_us)

    def teardown(self) -> None:
        """The sink accepts everything and a person retries what is dead: then nothing may be missing."""
        self.plan = {}
        self.a_person_gives_an_order("resume")
        with connection.transaction(self.db):
            for seq in self.held:
                holds.release(self.db, seq, by="me", note="", now_us=self.now_us)
        self.held.clear()
        for _ in range(500):
            for letter in dead_letters.list_all(self.db):
                self.retry(letter)
            if not self.line.step():
                self.now_us += 10_000_000
                if not self.line.step() and deliveries.next_due_us(self.db, self.sink_id) is None:
                    break
        everything = {seq for seqs in self.versions.values() for seq in seqs}
        states = self.db.execute("SELECT event_seq, state, chain, due_us FROM deliveries").fetchall()
        superseded = {seq for seq, state, _, _ in states if state == State.SUPERSEDED}
        assert everything == self.applied | self.discarded | superseded
        assert replays.running(self.db, self.sink_id) is None
        final = (State.DONE, State.DISCARDED, State.SUPERSEDED)
        assert all(state in final and c is d is None for _, state, c, d in states)
        for (document, _), seqs in self.versions.items():
            assert document == NEWEST_ONLY or not superseded & set(seqs) & (set(seqs) - self.ever_expired)
            assert not seqs or seqs[-1] not in superseded, "the newest is never superseded"
        self.db.close()
        shutil.rmtree(self.root)


LineAgainstList.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
test_a_line_keeps_order_and_loses_nothing = LineAgainstList.TestCase
