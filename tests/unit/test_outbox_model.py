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
LIMITS = OutboxConfig(max_bytes=4000, min_free_disk_bytes=0)


class OutboxModel(RuleBasedStateMachine):
    """*kept* is what must be unacknowledged, *controller* what the far side has stored; sequences start at 1."""

    @initialize()
    def open_first(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.kept: dict[str, list[tuple[int, bytes]]] = {}
        self.controller: dict[str, int] = {}
        self.last: dict[str, int] = {}
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
        payload = b"%d:" % sequence + bytes(size)
        held = sum(len(p) for kept in self.kept.values() for _, p in kept)
        on_ack = b"token %d" % sequence if token else None
        writer = self.outbox.writer(source)
        batch = Append(
            source=source, lane="standard", sealed=payload, crc32=zlib.crc32(payload), records=1, raw_bytes=size,
            read_at_us=sequence, checkpoint=b"%d" % sequence, remember=((key, b"%d" % sequence),), on_ack=on_ack,
        )  # fmt: skip
        try:
            writer.append(batch)
        except BufferFull:
            assert held + len(payload) > LIMITS.max_bytes * LANE_SHARES["standard"]
            return
        writer.flush()
        assert held == 0 or held + len(payload) <= LIMITS.max_bytes * LANE_SHARES["standard"]
        self.last[source] = sequence
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

    @rule(source=SOURCES, back=st.integers(0, 3))
    def acknowledge(self, source: str, back: int) -> None:
        """Late, repeated and out-of-date acknowledgements are all allowed."""
        sequence = self.controller.get(source, 0) - back
        if sequence < 1:
            return
        self.outbox.acknowledge(source, self.outbox.epoch, sequence)
        self.outbox.adopt({})  # any call that waits for a commit: the acknowledgement is in it or before it
        self.kept[source] = [item for item in self.kept.get(source, []) if item[0] > sequence]
        due = [token for s, token in self.pending_tokens.get(source, []) if s <= sequence]
        self.pending_tokens[source] = [item for item in self.pending_tokens.get(source, []) if item[0] > sequence]
        self.tokens.setdefault(source, []).extend(due)

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
            assert self.outbox.checkpoint(source) == b"%d" % last
            assert self.outbox.positions()[source].last_sequence == last
        for (source, key), value in self.ledger.items():
            assert self.outbox.recall(source, key) == value


TestOutboxModel = OutboxModel.TestCase
TestOutboxModel.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
