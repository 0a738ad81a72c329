"""The middle of the controller without its ends: batches straight into a real intake, written fakes of engine and sink.

A record is one line "KEY;TEXT"; "KEY;bad" dies, a line that begins with "#" is ignored.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec

from crossdock.codec import Sealer
from crossdock.errors import SinkUnavailable
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_controller.mappings.answered import People
from crossdock_controller.mappings.rules import Lookup
from crossdock_controller.normalize import Normalizer
from crossdock_controller.outcomes import Dead, Ignored, Locator, Mapped, Outcomes
from crossdock_controller.paths import DataDirectory
from crossdock_controller.routing import RouteProblem
from crossdock_controller.sinks.base import DONE, Outgoing, Verdict
from crossdock_controller.store import connection, migrate, revisions
from crossdock_controller.store.account import AccountRow, account
from crossdock_controller.store.intake import Incoming, IntakeWriter

EPOCH = b"e" * 16


class Document(msgspec.Struct, frozen=True):
    number: str
    text: str

    def key(self) -> str:
        return self.number


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.005)


@functools.cache
def template() -> Path:
    """An empty migrated state.db, made once a test process: making one takes most of a second."""
    directory = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    migrate(directory / "state.db")
    return directory / "state.db"


class Box:
    """A data directory with an intake that a test fills. One site "atl1", one agent "a1"."""

    def __init__(self, root: Path) -> None:
        self.data = DataDirectory(root)
        self.data.prepare()
        shutil.copyfile(template(), self.data.state)
        self.writer = IntakeWriter(self.data.intake)
        self.db = connection.connect(self.data.state)
        self._sequences: Counter[tuple[str, bytes]] = Counter()
        self._ordinals: Counter[tuple[str, bytes]] = Counter()
        self._sealer = Sealer()
        self.apply()

    def apply(self, tree: Mapping[str, str] | None = None) -> int:
        hash_ = revisions.digest(revisions.dumps(tree or {}))
        return revisions.append(self.db, tree or {}, hash_=hash_, author="test", message="", now_us=1)

    def send(
        self,
        *records: str,
        source: str = "wms",
        lane: str = "standard",
        unit: bytes = b"file-1",
        closes: bool = False,
        epoch: bytes = EPOCH,
        first: int | None = None,
    ) -> None:
        """One batch of *records*; *first* is the ordinal of the first one within the unit (default: what follows)."""
        begin = self._ordinals[source, unit] if first is None else first
        self._ordinals[source, unit] = begin + len(records)
        origin = Origin(kind="file", name=f"{unit.decode()}.csv", unit=unit, first_record=begin, first_line=begin + 1)
        payload = "".join(f"{r}\n" for r in records).encode()
        header = BatchHeader(format="csv", records=len(records), origin=origin, closes=closes)
        sealed = self._sealer.seal(header, payload)
        self.store(sealed.data, sealed.crc32, len(records), source=source, lane=lane, epoch=epoch)

    def store(
        self,
        sealed: bytes,
        crc32: int,
        records: int,
        *,
        source: str = "wms",
        lane: str = "standard",
        epoch: bytes = EPOCH,
    ) -> None:
        self._sequences[source, epoch] += 1
        sequence = self._sequences[source, epoch]
        batch = Incoming("a1", "atl1", source, epoch, sequence, lane, records, b"", sealed, crc32)
        assert [a.state for a in self.writer.commit([batch], time.time_ns() // 1000)] == ["stored"]

    def normalizer(self, runtime: FakeRuntime | None = None) -> Normalizer:
        ready = runtime or FakeRuntime()
        return Normalizer(self.data, lambda _tree, number: ready.numbered(number))

    def normalize(self, runtime: FakeRuntime | None = None) -> None:
        """Until nothing more moves."""
        normalizer = self.normalizer(runtime)
        while normalizer.step():
            pass
        normalizer.close()

    def account(self, source: str = "wms") -> AccountRow:
        rows = {row.source: row for row in account(self.data.state, self.data.intake)}
        return rows[source]

    def close(self) -> None:
        self.writer.close()
        self.db.close()


class FakeEngine:
    """Maps "KEY;TEXT" lines one by one. *known* makes it refuse keys the lookup does not know."""

    grouped = False
    columns = ("KEY", "TEXT")
    line_columns = ()

    def __init__(self, *, fault: Exception | None = None, lose: int = 0) -> None:
        self.fault = fault
        self.lose = lose
        self.calls: list[str] = []

    def run(
        self, batches: Sequence[tuple[BatchHeader, bytes, int]], lookup: Lookup, *, cap_reached: bool = False
    ) -> list[Outcomes]:
        if self.fault is not None:
            raise self.fault
        return [self._batch(header, payload, skip) for header, payload, skip in batches]

    def remap(
        self, rows: list[dict[str, object]], locator: Locator, lookup: Lookup, *, unit: bytes = b""
    ) -> Mapped | Dead:
        row = rows[0]
        result = self._record(locator, unit, f"{row['KEY']};{row['TEXT']}")
        assert not isinstance(result, Ignored)
        return result

    def _batch(self, header: BatchHeader, payload: bytes, skip: int) -> Outcomes:
        self.calls.append(header.origin.name)
        outcomes = Outcomes()
        lines = payload.decode().splitlines()
        for i, line in enumerate(lines[skip : len(lines) - self.lose], skip):
            ordinal = header.origin.first_record + i
            locator = Locator("file", header.origin.name, ordinal, header.origin.first_line + i)
            result = self._record(locator, header.origin.unit, line)
            if isinstance(result, Mapped):
                outcomes.mapped.append(result)
            elif isinstance(result, Dead):
                outcomes.dead.append(result)
            else:
                outcomes.ignored.append(result)
        return outcomes

    def _record(self, locator: Locator, unit: bytes, line: str) -> Mapped | Dead | Ignored:
        if line.startswith("#"):
            return Ignored(1, "comment")
        key, _, text = line.partition(";")
        if text == "bad":
            row: dict[str, object] = {"KEY": key, "TEXT": text}
            return Dead("bad_text", f"{text!r} is no text", "TEXT", 1, locator, line.encode(), (row,))
        place = blake2b(unit, digest_size=6).digest() + locator.record.to_bytes(5, "big")
        event_id = place + blake2b(line.encode(), digest_size=5).digest()
        document = Document(key, text)
        return Mapped(event_id, "SalesOrder", key, msgspec.json.encode(document), 1, locator, document)


class FakeRouter:
    """Every document to *sinks*, or where *choose* says."""

    def __init__(self, *sinks: str, choose: Callable[[str], tuple[str, ...]] | None = None) -> None:
        self._choose = choose or (lambda _key: sinks)

    def route(
        self, document: str, key: str, site: str, source: str, labels: Mapping[str, str], fields: msgspec.Struct
    ) -> tuple[str, ...]:
        return self._choose(key)

    def take_problems(self) -> Sequence[RouteProblem]:
        return []


class FakeRuntime:
    """One revision: the same engine for every source in *engines* (None: for all)."""

    def __init__(
        self, *sinks: str, engine: FakeEngine | None = None, engines: Mapping[str, FakeEngine] | None = None,
        choose: Callable[[str], tuple[str, ...]] | None = None,
    ) -> None:  # fmt: skip
        self.number = 0
        self.router = FakeRouter(*(sinks or ("finance",)), choose=choose)
        self._engine = engine or FakeEngine()
        self._engines = engines

    def numbered(self, number: int) -> FakeRuntime:
        self.number = number
        return self

    def engine(self, site: str, source: str) -> FakeEngine | None:
        return self._engine if self._engines is None else self._engines.get(source)

    def asks(self, people: People) -> None:
        """Its engines know no codes."""

    def labels(self, site: str) -> Mapping[str, str]:
        return {}


class FakeSink:
    """Applies what *decide* says is done, keeps its own contract about order, and can be down."""

    def __init__(self, decide: Callable[[Outgoing], Verdict] | None = None) -> None:
        self.decide = decide or (lambda _delivery: DONE)
        self.down: SinkUnavailable | None = None
        self.applied: list[Outgoing] = []
        self.calls: list[list[Outgoing]] = []
        self.closed = False

    def write(self, run: Sequence[Outgoing]) -> Sequence[Verdict]:
        self.calls.append(list(run))
        if self.down is not None:
            raise self.down
        verdicts: list[Verdict] = []
        stopped: set[str] = set()
        for delivery in run:
            verdict = self.decide(delivery) if delivery.key not in stopped else Verdict("retry", "held")
            verdicts.append(verdict)
            if verdict.outcome == "done":
                self.applied.append(delivery)
            else:
                stopped.add(delivery.key)
        return verdicts

    def keys(self) -> list[str]:
        return [d.key for d in self.applied]

    def texts(self) -> list[str]:
        return [msgspec.json.decode(d.body)["text"] for d in self.applied]

    def check(self) -> str:
        return "a fake"

    def close(self) -> None:
        self.closed = True
