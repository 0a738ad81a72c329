"""A Hypothesis state machine: outbox, line and intake of the product against plain lists, through every worst moment.

CROSSDOCK_MODEL=large runs many more and longer examples.
"""

import copy
import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crossdock.codec import Sealer, open_sealed
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock.v1.link_pb2 import Welcome
from crossdock_agent import transfer
from crossdock_agent.outbox import Append
from crossdock_agent.problems import Problems
from support.protocol_site import AgentSide, Clock, ControllerSide, Line, new_directory, power_cut

LARGE = os.environ.get("CROSSDOCK_MODEL") == "large"
SOURCES = ("wms", "erp")
SOURCE = st.sampled_from(SOURCES)
FEW = st.integers(1, 4)

Row = tuple[str, bytes, int]  # source, epoch, sequence


@dataclass
class FileModel:
    """What one outbox file must hold. It is copied when the file is copied."""

    log: dict[str, list[bytes]] = field(default_factory=dict)  # sealed, from sequence 1, acknowledged ones too
    acked: dict[str, int] = field(default_factory=dict)
    checkpoint: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)  # of batches not yet acknowledged
    due: dict[str, list[bytes]] = field(default_factory=dict)


def numbers(sealed: bytes) -> list[int]:
    return [int(n) for n in open_sealed(sealed)[1].split()]


class ProtocolModel(RuleBasedStateMachine):
    """Record *n* of a source is the number n: a lost one is a number that is nowhere."""

    @initialize(
        life=st.lists(st.tuples(SOURCE, FEW, st.booleans(), FEW, st.booleans(), st.booleans()), max_size=5),
        copied=st.integers(0, 4),
    )
    def begin(self, life: list[tuple[str, int, bool, int, bool, bool]], copied: int) -> None:
        """Some of it went well already, and both sides were copied in between."""
        self._begin()
        for at, (source, records, token, count, committed, heard) in enumerate(life):
            self.append(source, [records] * 2, token)
            self.all_goes_well(count, committed, heard)
            if at == copied:
                self.the_promise_is_kept()
                self.copy_the_outbox()
                self.back_the_controller_up()

    def _begin(self) -> None:
        self.clock = Clock()
        self.real_time, transfer.time = transfer.time, self.clock  # type: ignore[assignment, attr-defined]
        self.rng = random.Random(1)
        self.problems = Problems()
        self.sealer = Sealer()
        self.lines: list[Line] = []
        self.agent = AgentSide(new_directory())
        self.controller = ControllerSide(new_directory(), b"store 0")
        self.file = FileModel()
        self.produced: dict[Row, set[bytes]] = {}
        self.durable: dict[Row, bytes] = {}  # every row the intake was ever seen to hold
        self.purged: set[Row] = set()
        self.welcoming: tuple[AgentSide, Welcome] | None = None
        self.backup: tuple[Path, FileModel] | None = None  # of the agent
        self.night: tuple[Path, set[Row]] | None = None  # of the controller, and what it held
        self.struck = ""  # "agent" or "controller": disasters strike one side only, two at once are not survived
        self.owed = False  # the controller was restored, and may not have been given back everything yet
        self.worse = 2  # how many disasters are left
        self._meet()

    def teardown(self) -> None:
        if not hasattr(self, "agent"):
            return
        try:
            self.everything_is_delivered_in_the_end()
        finally:
            transfer.time = self.real_time  # type: ignore[attr-defined]
            self.controller.close()
            self.agent.close()
            copies = [*(self.backup or ())[:1], *(self.night or ())[:1]]
            for directory in (self.agent.directory, self.controller.directory, *copies):
                shutil.rmtree(directory)  # type: ignore[arg-type]

    # --- the source

    @precondition(lambda self: not self.agent.outbox.fresh)
    @rule(source=SOURCE, batches=st.lists(FEW, min_size=1, max_size=3), token=st.booleans())
    def append(self, source: str, batches: list[int], token: bool) -> None:
        for records in batches:
            self._append(source, records, token)

    def _append(self, source: str, records: int, token: bool) -> None:
        at = int(self.agent.outbox.checkpoint(source) or b"0")
        payload = b" ".join(b"%d" % n for n in range(at + 1, at + records + 1))
        checkpoint = b"%d" % (at + records)
        sealed = self.sealer.seal(BatchHeader(format="lines", records=records, checkpoint=checkpoint), payload)
        log = self.file.log.setdefault(source, [])
        on_ack = b"file %d" % len(log) if token else None
        writer = self.agent.outbox.writer(source)
        writer.append(Append(source, "standard", sealed.data, sealed.crc32, records, 1, 1, checkpoint, on_ack=on_ack))
        writer.flush()
        log.append(sealed.data)
        self.file.checkpoint[source] = at + records
        self.produced.setdefault((source, self.agent.outbox.epoch, len(log)), set()).add(sealed.data)
        if on_ack is not None:
            self.file.tokens.setdefault(source, []).append((len(log), on_ack))

    @rule(source=SOURCE)
    def release(self, source: str) -> None:
        due = self.agent.outbox.releases(source)
        if due:
            self.agent.outbox.finish_releases([due[0][0]])
            self.file.due[source].pop(0)

    # --- the link

    @rule(answered=st.booleans())
    def greet(self, answered: bool) -> None:
        """Control connects, for the first time or again; the answer is here, or on its way."""
        self.welcoming = self.agent, self.controller.welcome(self.agent.control.hello())
        if answered:
            self.welcome()

    @precondition(lambda self: self.welcoming is not None)
    @rule()
    def welcome(self) -> None:
        assert self.welcoming is not None
        (agent, welcome), self.welcoming = self.welcoming, None
        if agent is not self.agent:
            return
        fresh = self.agent.outbox.fresh
        self.agent.control.welcome(welcome, 0)
        if fresh:
            self.file.checkpoint = {c.source: int(c.checkpoint) for c in welcome.checkpoints}
        if self.agent.given_back:
            self.agent.given_back = False
            self._leave()
        self._mind_condemned()
        self._acknowledged()

    @precondition(lambda self: self.agent.welcomed and not any(line.mine for line in self.lines))
    @rule()
    def connect(self) -> None:
        self.lines = [line for line in self.lines if line.mine or line.theirs][-2:]
        self.lines.append(Line(self.agent, self.controller, self.problems, self.rng))

    @rule(count=FEW, committed=st.booleans(), heard=st.booleans(), damaged=st.integers(0, 6))
    def all_goes_well(self, count: int, committed: bool, heard: bool, damaged: int = 6) -> None:
        """For once, and perhaps not to the end; but for one message, perhaps."""
        if not self.agent.welcomed:
            self._meet()
        if not any(line.mine and line.theirs for line in self.lines):
            self._leave()
            self.connect()
        self.send(count)
        for line in self._of_the_agent():
            if damaged < len(line.up):
                line.up[damaged].crc32 ^= 1
            line.arrive(count)
        if committed and self.controller.busy():
            self.controller.commit()
        if heard:
            self.hear(count)

    @precondition(lambda self: not self.agent.outbox.fresh)
    @rule(source=SOURCE, records=FEW, count=FEW, token=st.booleans())
    def all_goes_well_to_the_end(self, source: str, records: int, count: int, token: bool) -> None:
        self.append(source, [records], token)
        self.all_goes_well(count, committed=True, heard=True)

    @precondition(lambda self: any(line.mine for line in self.lines))
    @rule(count=FEW)
    def send(self, count: int) -> None:
        for line in self._of_the_agent():
            line.send(count)

    @precondition(lambda self: any(line.up for line in self.lines))
    @rule(which=st.integers(0, 2), count=FEW)
    def arrive(self, which: int, count: int) -> None:
        waiting = [line for line in self.lines if line.up and line.theirs]
        if waiting:
            waiting[which % len(waiting)].arrive(count)

    @precondition(lambda self: any(line.up for line in self.lines))
    @rule(which=st.integers(0, 20), how=st.sampled_from(["damage", "double", "all again"]))
    def disturb(self, which: int, how: str) -> None:
        for line in self.lines:
            if not line.up:
                continue
            if how == "damage":
                line.up[which % len(line.up)].crc32 ^= 1
            elif how == "double":
                line.up.insert(which % len(line.up), line.up[which % len(line.up)])
            else:
                line.up.extend(list(line.up))

    @precondition(lambda self: self.controller.busy())
    @rule(fails=st.sampled_from([False, False, False, True]))
    def commit(self, fails: bool) -> None:
        if fails:
            self.controller.commit_fails()
        else:
            self.controller.commit()

    @precondition(lambda self: any(line.down for line in self.lines))
    @rule(count=FEW)
    def hear(self, count: int) -> None:
        for line in self._of_the_agent():
            line.hear(count)
        self._mind_condemned()
        self._acknowledged()

    @precondition(lambda self: any(line.mine for line in self.lines))
    @rule(half_open=st.booleans())
    def cut(self, half_open: bool) -> None:
        for line in self._of_the_agent():
            line.leave()
            if not half_open:
                line.drop()

    @rule()
    def time_passes(self) -> None:
        self.clock.now += 1000.0

    # --- crashes and worse

    @rule()
    def agent_crashes(self) -> None:
        self._leave()
        self.agent = self.agent.crashed()

    @rule(committing=st.booleans())
    def controller_crashes(self, committing: bool) -> None:
        self.controller = self.controller.crashed(committing=committing)
        for line in self.lines:
            line.drop()

    @precondition(lambda self: self.file.log and self.backup is None)
    @rule()
    def copy_the_outbox(self) -> None:
        self.backup = power_cut(self.agent.directory), copy.deepcopy(self.file)

    @precondition(lambda self: self.backup is not None and self._may_strike("agent"))
    @rule(long_ago=st.booleans(), source=SOURCE, batches=st.lists(FEW, max_size=3), restarted=st.booleans())
    def restore_the_outbox(self, long_ago: bool, source: str, batches: list[int], restarted: bool) -> None:
        """The machine is an older one again; what the later one sent may still be on its way.

        Its sources may read, and it may be restarted, before it reaches the controller; which may no longer have the
        bytes of what it knows.
        """
        assert self.backup is not None
        self._strike("agent")
        self._leave()
        self.agent.close()
        shutil.rmtree(self.agent.directory)
        self.agent, self.file = AgentSide(self.backup[0]), self.backup[1]
        self.backup = None
        if long_ago:
            self.purge()
        if not self.agent.outbox.fresh:
            self.append(source, batches, token=False)
        if restarted:
            self.agent_crashes()

    @precondition(lambda self: self._may_strike("agent"))
    @rule()
    def the_outbox_is_damaged(self) -> None:
        self._strike("agent")
        self.agent.outbox.condemn("as the test wants")
        self._mind_condemned()

    @precondition(lambda self: self.durable and self.night is None)
    @rule()
    def back_the_controller_up(self) -> None:
        self.night = power_cut(self.controller.directory), set(self.durable)

    @precondition(lambda self: self.night is not None and self._may_strike("controller"))
    @rule()
    def restore_the_controller(self) -> None:
        """It is as it was last night; what its later self answered may still be on its way."""
        assert self.night is not None
        self._strike("controller")
        self.owed = True
        directory, held = self.night
        store = b"store after %d batches" % len(self.durable)
        self.controller.close()
        shutil.rmtree(self.controller.directory)
        self.controller, self.night = ControllerSide(directory, store), None
        self.durable = {row: sealed for row, sealed in self.durable.items() if row in held}
        for line in self.lines:
            line.drop()

    @precondition(lambda self: self.durable)
    @rule()
    def purge(self) -> None:
        """Retention: the intake forgets the bytes, and not the sequences."""
        streams = self.controller.reader.streams()
        self.controller.writer.purge(2**60, {s.id: s.last_sequence for s in streams})
        self.purged |= set(self.durable)

    # --- what must hold

    @invariant()
    def the_promise_is_kept(self) -> None:
        if hasattr(self, "agent"):
            self.the_intake_is_gapless_in_order_and_what_was_sent()
            self.what_is_acknowledged_is_in_the_intake_with_the_same_bytes()
            self.nothing_is_lost()
            self.tokens_are_due_once_and_only_for_what_is_acknowledged()

    def the_intake_is_gapless_in_order_and_what_was_sent(self) -> None:
        rows = {}
        for stream in self.controller.reader.streams():
            stored = self.controller.reader.batches(stream.id, 1, 1000)
            first = stream.last_sequence - len(stored) + 1
            assert [b.sequence for b in stored] == list(range(first, stream.last_sequence + 1))
            rows |= {(stream.source, stream.epoch, b.sequence): b.sealed for b in stored}
            whole = self.durable | rows
            held = [whole[stream.source, stream.epoch, n] for n in range(1, stream.last_sequence + 1)]
            records = [n for sealed in held for n in numbers(sealed)]
            assert records == list(range(records[0], records[0] + len(records))) if records else True
            if held:
                assert stream.checkpoint == b"%d" % records[-1]
        assert all(sealed in self.produced[row] for row, sealed in rows.items())
        gone = set(self.durable) - set(rows) - self.purged
        assert not gone, f"{gone} were on disk and are not"
        assert all(self.durable[row] == sealed for row, sealed in rows.items() if row in self.durable)
        self.durable |= rows

    def what_is_acknowledged_is_in_the_intake_with_the_same_bytes(self) -> None:
        epoch = self.agent.outbox.epoch
        for source, at in self.agent.outbox.positions().items():
            log = self.file.log.get(source, [])
            assert at.last_sequence == len(log)
            assert at.acked_sequence == self.file.acked.get(source, 0)
            assert at.kept_batches == at.acked_sequence
            for sequence in range(1, at.acked_sequence + 1):
                assert self.durable.get((source, epoch, sequence)) == log[sequence - 1] or self.owed
            page = self.agent.outbox.page(source, at.acked_sequence, 10**9, 1000)
            assert [b.sealed for b in page] == log[at.acked_sequence :]

    def nothing_is_lost(self) -> None:
        """Each record up to the checkpoint is in the intake or in the outbox; a fresh outbox asks where to begin."""
        if self.agent.outbox.fresh:
            return
        for source in SOURCES:
            at = int(self.agent.outbox.checkpoint(source) or b"0")
            assert at == self.file.checkpoint.get(source, 0)
            kept = self.file.log.get(source, [])[0 if self.owed else self.file.acked.get(source, 0) :]
            stored = [sealed for (name, _, _), sealed in self.durable.items() if name == source]
            safe = {n for sealed in [*kept, *stored] for n in numbers(sealed)}
            assert set(range(1, at + 1)) <= safe, f"{source}: {set(range(1, at + 1)) - safe} are lost"

    def tokens_are_due_once_and_only_for_what_is_acknowledged(self) -> None:
        for source in SOURCES:
            assert [t for _, t in self.agent.outbox.releases(source)] == self.file.due.get(source, [])

    def everything_is_delivered_in_the_end(self) -> None:
        """The world is kind from now on: what was read arrives, whatever happened before."""
        self._meet()
        for _ in range(60):
            self.time_passes()
            if not self.agent.welcomed:
                self._meet()
                continue
            if not any(line.mine and line.theirs for line in self.lines):
                self._leave()
                self.connect()
            for line in self.lines:
                line.send(100) if line.mine else None
                line.arrive(100) if line.theirs else None
            while self.controller.busy():
                self.controller.commit()
            self.the_intake_is_gapless_in_order_and_what_was_sent()
            self.hear(100)
            self.the_promise_is_kept()
            if self.agent.welcomed and self.agent.outbox.stats().batches == 0:
                self.owed = False
                self.the_promise_is_kept()
                return
        raise AssertionError(f"{self.agent.outbox.stats()} are still not delivered")

    # ---

    def _meet(self) -> None:
        self.greet(answered=True)

    def _may_strike(self, side: str) -> bool:
        return self.struck in ("", side) and self.worse > 0 and bool(self.durable)

    def _strike(self, side: str) -> None:
        self.struck = side
        self.worse -= 1

    def _of_the_agent(self) -> list[Line]:
        return [line for line in self.lines if line.mine]

    def _leave(self) -> None:
        for line in self._of_the_agent():
            line.leave()

    def _mind_condemned(self) -> None:
        if self.agent.condemned:
            self._leave()
            self.agent, self.file = self.agent.set_aside(), FileModel()

    def _acknowledged(self) -> None:
        """Take over what the outbox says is acknowledged now; that it may say so is judged by the invariants."""
        self.agent.settle()
        for source, at in self.agent.outbox.positions().items():
            self.file.acked[source] = at.acked_sequence
            pending = self.file.tokens.get(source, [])
            self.file.due.setdefault(source, []).extend(t for n, t in pending if n <= at.acked_sequence)
            self.file.tokens[source] = [(n, t) for n, t in pending if n > at.acked_sequence]


TestProtocolModel = pytest.mark.timeout(3600 if LARGE else 600)(ProtocolModel.TestCase)
TestProtocolModel.settings = settings(
    max_examples=2000 if LARGE else 100,
    stateful_step_count=80 if LARGE else 30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
