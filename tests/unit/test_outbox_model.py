"""A Hypothesis state machine: the outbox against plain lists, through append, send, acknowledge and crash."""

import shutil
import tempfile
import zlib
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crossdock.errors import BufferFull
from crossdock.siteconfig import LANE_SHARES, OutboxConfig
from crossdock_agent.outbox import Append, Outbox

SOURCES = st.sampled_from(["wms", "erp"])
LIMITS = OutboxConfig(max_bytes=4000, min_free_disk_bytes=0, keep_acknowledged_bytes=300)


class OutboxModel(RuleBasedStateMachine):
    """*kept* is what must be unacknowledged, *acked* everything acknowledged in this epoch, *controller* what the far
    side has stored; sequences start at 1."""

    @initialize()
    def open_first(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.kept: dict[str, list[tuple[int, bytes]]] = {}
        self.controller: dict[str, int] = {}
        self.acked: dict[str, list[tuple[int, bytes]]] = {}
        self.last: dict[str, int] = {}
        self.checkpoints: dict[str, int] = {}
        self.ledger: dict[tuple[str, str], bytes] = {}
        self.tokens: dict[str, list[bytes]] = {}
        self.pending_tokens: dict[str, list[tuple[int, bytes]]] = {}
        self._open()

    def _open(self) -> None:
        self.outbox = Outbox(self.directory / "outbox.db", LIMITS)
        self.outbox.__enter__()
        assert self.outbox.quarantined is None

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.outbox.__exit__(None, None, None)
            shutil.rmtree(self.directory)

    @rule(source=SOURCES, size=st.integers(0, 900), key=st.sampled_from("ab"), token=st.booleans())
    def append(self, source: str, size: int, key: str, token: bool) -> None:
        sequence = self.last.get(source, 0) + 1
        checkpoint = self.checkpoints.get(source, 0) + 1
        payload = b"%d:" % checkpoint + bytes(size)
        held = sum(len(p) for kept in self.kept.values() for _, p in kept)
        on_ack = b"token %d" % checkpoint if token else None
        writer = self.outbox.writer(source)
        batch = Append(
            source=source, lane="standard", sealed=payload, crc32=zlib.crc32(payload), records=1, raw_bytes=size,
            read_at_us=sequence, checkpoint=b"%d" % checkpoint, remember=((key, b"%d" % sequence),), on_ack=on_ack,
        )  # fmt: skip
        try:
            writer.append(batch)
        except BufferFull:
            assert held + len(payload) > LIMITS.max_bytes * LANE_SHARES["standard"]
            return
        writer.flush()
        assert held == 0 or held + len(payload) <= LIMITS.max_bytes * LANE_SHARES["standard"]
        self.last[source] = sequence
        self.checkpoints[source] = checkpoint
        self.kept.setdefault(source, []).append((sequence, payload))
        self.ledger[source, key] = b"%d" % sequence
        if on_ack is not None:
            self.pending_tokens.setdefault(source, []).append((sequence, on_ack))

    @rule(source=SOURCES, after=st.integers(0, 5), limit=st.integers(0, 2000))
    def send(self, source: str, after: int, limit: int) -> None:
        """A reconnect: from the first unacknowledged batch on, some of it arrives."""
        page = self.outbox.page(source, after, limit)
        expected = [item for item in self.kept.get(source, []) if item[0] > after]
        assert [(b.sequence, b.sealed) for b in page] == expected[: len(page)]
        assert page or not expected
        for stored in page:
            if stored.sequence == self.controller.get(source, 0) + 1:
                self.controller[source] = stored.sequence

    @rule(source=SOURCES, batches=st.integers(1, 4), size=st.integers(20, 120))
    def transfer(self, source: str, batches: int, size: int) -> None:
        """All is well: what is read arrives and is acknowledged."""
        for number in range(batches):
            self.append(source, size, "a", token=number % 2 == 0)
        self.controller[source] = self.last.get(source, 0)
        self.acknowledge(source, 0)

    @rule(source=SOURCES, back=st.integers(0, 3))
    def acknowledge(self, source: str, back: int) -> None:
        """Late, repeated and out-of-date acknowledgements are all allowed."""
        sequence = self.controller.get(source, 0) - back
        if sequence < 1:
            return
        self.outbox.acknowledge(source, self.outbox.epoch, sequence)
        self.outbox.adopt({})  # any call that waits for a commit: the acknowledgement is in it or before it
        self._model_acknowledged(source, sequence)

    def _model_acknowledged(self, source: str, sequence: int) -> None:
        done = [item for item in self.kept.get(source, []) if item[0] <= sequence]
        self.acked.setdefault(source, []).extend(done)
        self.kept[source] = [item for item in self.kept.get(source, []) if item[0] > sequence]
        due = [token for s, token in self.pending_tokens.get(source, []) if s <= sequence]
        self.pending_tokens[source] = [item for item in self.pending_tokens.get(source, []) if item[0] > sequence]
        self.tokens.setdefault(source, []).extend(due)

    @precondition(lambda self: any(self.controller.values()))
    @rule(lose=st.dictionaries(SOURCES, st.integers(0, 6), min_size=1))
    def restore_controller(self, lose: dict[str, int]) -> None:
        """It comes back with less; what it lacks is sent again, or a new epoch begins with what is still here."""
        for source, batches in lose.items():
            self.controller[source] = max(0, self.controller.get(source, 0) - batches)
        for source in lose:
            has, acked = self.controller[source], self.acked.get(source, [])
            again = [item for item in acked if item[0] > has]
            here = self.outbox.positions()[source].kept_batches if source in self.outbox.positions() else 0
            assert sum(p.kept_bytes for p in self.outbox.positions().values()) <= 300
            back = self.outbox.rewind(source, has)
            if back is None:
                assert len(again) > here
                self._renew()
                return
            assert back == len(again)
            self.acked[source] = [item for item in acked if item[0] <= has]
            self.kept[source] = again + self.kept.get(source, [])

    def _renew(self) -> None:
        epoch, sources = self.outbox.epoch, list(self.last)
        here = {s: self.outbox.positions()[s].kept_batches for s in sources}
        known = {s: self.controller.get(s, 0) for s in sources}
        missing = {m.source: (m.first, m.last) for m in self.outbox.renew(known)}
        assert self.outbox.epoch != epoch
        for source in sources:
            before = len(self.acked.get(source, []))
            self._model_acknowledged(source, known[source])
            here[source] += len(self.acked.get(source, [])) - before
            acked = self.acked.get(source, [])
            again = [item for item in acked if item[0] > known[source]]
            left = again[-here[source] :] if here[source] else []
            gone = again[: len(again) - len(left)]
            assert missing.get(source) == ((gone[0][0], gone[-1][0]) if gone else None)
            kept = [*left, *self.kept.get(source, [])]
            shift = kept[0][0] - 1 if kept else self.last[source]
            self.kept[source] = [(n - shift, payload) for n, payload in kept]
            pending = self.pending_tokens.get(source, [])
            self.pending_tokens[source] = [(n - shift, token) for n, token in pending]
            self.last[source] -= shift
            self.acked[source], self.controller[source] = [], 0

    @precondition(lambda self: any(self.tokens.values()))
    @rule(source=SOURCES)
    def release(self, source: str) -> None:
        due = self.outbox.releases(source)
        assert [token for _, token in due] == self.tokens.get(source, [])
        if due:
            self.outbox.finish_releases([due[0][0]])
            self.tokens[source].pop(0)

    @rule()
    def crash(self) -> None:
        """What a power cut leaves: the files as they are now, opened by another process' eyes."""
        copy = Path(tempfile.mkdtemp())
        for file in self.directory.iterdir():
            if not file.name.endswith("-shm"):  # rebuilt from the WAL
                shutil.copy(file, copy / file.name)
        self.outbox.__exit__(None, None, None)
        shutil.rmtree(self.directory)
        self.directory = copy
        self._open()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "outbox"):
            return
        stats = self.outbox.stats()
        everything = [item for kept in self.kept.values() for item in kept]
        assert stats.batches == stats.records == len(everything)
        assert stats.bytes == sum(len(payload) for _, payload in everything)
        for source, last in self.last.items():
            assert self.outbox.checkpoint(source) == b"%d" % self.checkpoints[source]
            page = self.outbox.page(source, 0, 1_000_000, 1_000)
            assert [(b.sequence, b.sealed) for b in page] == self.kept.get(source, [])
            assert self.outbox.positions()[source].last_sequence == last
        for (source, key), value in self.ledger.items():
            assert self.outbox.recall(source, key) == value


TestOutboxModel = OutboxModel.TestCase
TestOutboxModel.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
