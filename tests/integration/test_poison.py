"""A record that breaks the mapping, or kills the worker: it is set aside with its reason, and all others arrive."""

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from crossdock.codec import Sealer
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.mappings.engine import Engine
from crossdock_controller.normalize import Normalizer
from crossdock_controller.store import dead_letters, normalizer, poison
from crossdock_controller.store.dead_letters import DeadLetter
from support.gateway import wait_until
from support.orders import Orders, delivered, tree
from support.pipeline import Box
from support.processes import Process, command

WEAKNESS = Path(__file__).parents[1] / "support" / "poison"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "controller")
    yield box
    box.close()


@pytest.fixture
def start(box: Box, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts the controller on the box's data, its workers with a weakness for certain texts."""
    started: list[Process] = []

    def run(*arguments: str, weak: bool = True) -> Process:
        listen = ["--listen", "127.0.0.1:0", "--enroll-listen", "127.0.0.1:0", "--api-listen", "none"]
        base = [command("crossdock"), "controller", "run", "--data", str(box.data.root), *listen, *arguments]
        path = os.pathsep.join([*([str(WEAKNESS)] if weak else []), os.environ.get("PYTHONPATH", "")])
        started.append(Process("controller", base, tmp_path, {"PYTHONPATH": path}).start())
        return started[-1]

    yield run
    for process in started:
        process.stop()


def work(box: Box) -> None:
    worker = Normalizer(box.data, Runtime.from_tree)
    while worker.step():
        pass
    worker.close()


def letters(box: Box) -> list[DeadLetter]:
    return dead_letters.list_all(box.db)


def keys(box: Box) -> list[str]:
    return [key for (key,) in box.db.execute("SELECT key FROM events ORDER BY seq")]


# --- a mapping that raises


@pytest.fixture
def raises(monkeypatch: pytest.MonkeyPatch) -> None:
    assemble = Engine._assemble

    def weak(self: Engine, rows: Any, firsts: Sequence[int], lasts: Sequence[int], *, text_only: bool) -> Any:
        for i in range(len(rows.rows)):
            if "RAISE" in str(rows.fields(i)):
                raise ZeroDivisionError("a fault in the mapping")
        return assemble(self, rows, firsts, lasts, text_only=text_only)

    monkeypatch.setattr(Engine, "_assemble", weak)


def test_a_record_on_which_the_mapping_raises_is_dead_and_its_neighbours_go_on(box: Box, raises: None) -> None:
    box.apply(tree())
    orders = Orders(box)
    orders.send_many(1, 300)
    orders.send(*((f"n{i}", "RAISE" if i == 70 else "plain") for i in range(100)))
    orders.send_many(401, 100)
    work(box)
    (letter,) = letters(box)
    assert (letter.code, letter.records, letter.locator.text()) == ("poison", 1, "orders.csv line 372")
    assert "ZeroDivisionError" in letter.reason
    assert letter.rows == [{"NO": "n70", "NOTE": "RAISE"}]
    assert len(keys(box)) == 499
    assert box.account("orders").balanced
    assert normalizer.problems(box.db) == []


def test_a_poisoned_line_takes_its_whole_document_along_and_no_other(box: Box, raises: None) -> None:
    files = tree()
    files["mappings/orders.yaml"] = (
        "mapping: orders\ndocument: Shipment\neach: NO\nfields:\n  number: NO\n"
        "  lines: {sku: NOTE, quantity: {value: 1}}\n"
    )
    box.apply(files)
    orders = Orders(box)
    orders.send(("A", "x"), ("A", "y"), ("B", "x"), ("B", "RAISE"), ("B", "z"), ("C", "x"), ("D", "x"))
    work(box)
    assert keys(box) == ["A", "C"]  # D is open
    (letter,) = letters(box)
    assert (letter.code, letter.records) == ("poison", 3)


def test_a_mapping_that_raises_on_every_record_makes_the_source_wait_as_it_is(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a fault in the mapping")

    monkeypatch.setattr(Engine, "_assemble", broken)
    box.apply(tree())
    Orders(box).send_many(1, 50)
    work(box)
    assert letters(box) == []
    (problem,) = normalizer.problems(box.db)
    assert "ZeroDivisionError" in problem.problem
    monkeypatch.undo()
    work(box)
    assert len(keys(box)) == 50


# --- bytes made to hurt

JSON_TREE = tree()
JSON_TREE["sources/orders.yaml"] = (
    "source: orders\non: {}\nkind: file_drop\ndirectory: /nowhere\npattern: '*'\nformat: {kind: jsonl}\n"
)
JSON_TREE["mappings/orders.yaml"] = """mapping: orders
document: StockLevel
fields:
  location: {value: ATL1}
  sku: NO
  on_hand: {from: QTY, as: decimal}
"""
HOSTILE = {
    "deep nesting": b'{"NO": "bad", "QTY": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep objects": b'{"NO": "bad", "QTY": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "huge exponent": b'{"NO": "bad", "QTY": 1e999999999}',
    "tiny exponent": b'{"NO": "bad", "QTY": 1e-999999999}',
    "exponent as text": b'{"NO": "bad", "QTY": "1e999999999"}',
    "many digits": b'{"NO": "bad", "QTY": ' + b"9" * 3_000_000 + b"}",
    "not a number": b'{"NO": "bad", "QTY": "NaN"}',
    "a key of 20 MB": b'{"NO": "' + b"k" * 20_000_000 + b'", "QTY": 1, "X": "bad"}',
    "a field of 30 MB": b'{"NO": "bad", "QTY": "' + b"7" * 30_000_000 + b'"}',
    "surrogates": b'{"NO": "bad\\ud800", "QTY": "x"}',
    "zeros": b"\x00" * 1_000_000,
}


@pytest.mark.parametrize("record", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_record_is_dead_or_mapped_and_its_neighbours_go_on(box: Box, record: bytes) -> None:
    box.apply(JSON_TREE)
    before, after = b'{"NO": "first", "QTY": 1}', b'{"NO": "last", "QTY": 2}'
    origin = Origin(kind="file", name="o.jsonl", unit=b"u" * 16, first_record=0, first_line=1)
    header = BatchHeader(format="jsonl", records=3, origin=origin)
    sealed = Sealer().seal(header, b"\n".join((before, record, after)) + b"\n")
    box.store(sealed.data, sealed.crc32, 3, source="orders")
    work(box)
    assert len([key for key in keys(box) if "first" in key or "last" in key]) == 2
    assert box.account("orders").balanced
    assert box.account("orders").waiting == 0


def bomb() -> bytes:
    """A few KB that say 1 MB and unpack to 64 MB."""
    header = BatchHeader(format="csv", records=1)
    sealed = Sealer().seal(header, b"\x00" * 64 * 1024 * 1024).data
    header.raw_bytes = 1024 * 1024
    head = header.SerializeToString()
    old = int.from_bytes(sealed[4:8], "big")
    return sealed[:4] + len(head).to_bytes(4, "big") + head + sealed[8 + old :]


SEALED = {
    "a decompression bomb": bomb(),
    "nothing of ours": b"CDB1" + b"\xff" * 500,
    "half a frame": Sealer().seal(BatchHeader(format="csv", records=1), os.urandom(10_000)).data[:5_000],
}


@pytest.mark.parametrize("sealed", SEALED.values(), ids=SEALED.keys())
def test_a_batch_whose_bytes_are_broken_although_its_checksum_fits_is_one_dead_letter(box: Box, sealed: bytes) -> None:
    box.apply(tree())
    orders = Orders(box)
    orders.send_many(1, 10)
    box.store(sealed, zlib.crc32(sealed), 1, source="orders")
    orders.send_many(11, 10)
    work(box)
    assert len(keys(box)) == 20
    (letter,) = letters(box)
    assert (letter.code, letter.records) == ("batch_corrupt", 1)
    assert box.account("orders").balanced


# --- records that kill


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("text", "reason"),
    [("CRASH-ME", "was killed by signal 11"), ("FEED-ME", "MemoryError")],
)
def test_a_record_that_kills_the_worker_is_set_aside_and_all_others_arrive(
    box: Box, start: Callable[..., Process], text: str, reason: str
) -> None:
    box.apply(tree("orders", "other"))
    orders, other = Orders(box), Orders(box, "other")
    numbers = orders.send_many(1, 50)
    orders.send(*((f"p{i:02d}", text if i == 5 else "plain") for i in range(8)))
    numbers += [f"p{i:02d}" for i in range(8) if i != 5]
    numbers += orders.send_many(51, 50)
    numbers += other.send_many(1, 200)
    controller = start()
    wait_until(lambda: sum(n.startswith("other") for n in delivered(box.data.root)) == 200, "others go on", 120)
    wait_until(lambda: delivered(box.data.root) == sorted(numbers), "all but the culprit arrive", 180)
    (letter,) = letters(box)
    assert (letter.code, letter.records, letter.locator.text()) == ("poison", 1, "orders.csv line 57")
    assert reason in letter.reason, letter
    assert letter.rows == [{"NO": "p05", "NOTE": text}]
    assert box.account("orders").balanced
    assert controller.alive()
    assert controller.tail(500).count("normalize worker is up") <= 4
    assert poison.suspects(box.db) == {}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_regular_expression_that_never_ends_is_ended_and_its_record_set_aside(
    box: Box, start: Callable[..., Process]
) -> None:
    rules = "rules:\n  - pattern: {field: description, matches: '(x+x+)+y'}\n    severity: warn\n"
    box.apply(tree("orders", "other", rules=rules))
    orders, other = Orders(box), Orders(box, "other")
    orders.send(("p0", "xxy"), ("p1", "x" * 64), ("p2", "xxy"))
    others = other.send_many(1, 100)
    controller = start("--round-seconds", "3", weak=False)
    wait_until(lambda: delivered(box.data.root) == sorted([*others, "p0", "p2"]), "all others arrive", 180)
    (letter,) = letters(box)
    assert (letter.code, letter.rows[0]["NO"]) == ("poison", "p1")
    assert "did not answer in time" in letter.reason
    assert box.account("orders").balanced
    assert "Timeout" in controller.tail(1000)  # where it was stuck, for the one who mends it


@pytest.mark.timeout(180)
def test_a_worker_that_others_kill_again_and_again_sets_nothing_aside(box: Box, start: Callable[..., Process]) -> None:
    """The batch is innocent: found so by a trial, and mapped."""
    box.apply(tree())
    numbers = Orders(box).send_many(1, 100)
    with normalizer_in_hand(box):
        pass
    with normalizer_in_hand(box):
        pass
    assert dict(box.db.execute("SELECT stream_id, deaths FROM suspects")) == {1: 1}
    controller = start()
    wait_until(lambda: delivered(box.data.root) == numbers, "all arrive", 120)
    assert letters(box) == []
    assert "nothing is wrong with what the worker died at" in controller.tail(100)


class normalizer_in_hand:  # noqa: N801 - used as a block
    """A process that has the first batch in hand, and is killed; the next that starts finds it dead."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def __enter__(self) -> None:
        program = (
            "import sys, time; from pathlib import Path; from crossdock_controller.paths import DataDirectory\n"
            "from crossdock_controller.station import Station\n"
            "station = Station(DataDirectory(Path(sys.argv[1])), 'normalize')\n"
            "station.hand.take(1, 1, 0, 1); print('in hand', flush=True); time.sleep(600)\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(self._box.data.root)], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"in hand\n"

    def __exit__(self, *_: object) -> None:
        psutil.Process(self._process.pid).send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
