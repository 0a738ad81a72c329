"""The store's disk is full, really: nothing acknowledged is lost, nobody spins, and all goes on by itself."""

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import grpc
import pytest
from loguru import logger

from crossdock import codec
from crossdock.lifecycle import Stop
from crossdock.v1 import link_pb2
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.commands.storage import storage
from crossdock_controller.dispatch import Dispatcher
from crossdock_controller.sinks.base import DONE
from crossdock_controller.store import faults, views
from support.dispatch_process import Runtime as SinkRuntime
from support.gateway import Gateway, Identity, running_gateway, stub, wait_until
from support.pipeline import Box, FakeRuntime, FakeSink
from support.small_disk import MIB, SmallDisk, small_disk

EPOCH = b"e" * 16


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 24) as small:
        yield small


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What was logged."""
    found: list[str] = []
    sink = logger.add(lambda message: found.append(str(message)), level="INFO")
    yield found
    logger.remove(sink)


def batch(sequence: int, size: int = 200_000) -> link_pb2.Batch:
    payload = random.Random(sequence).randbytes(size)
    sealed = codec.Sealer().seal(BatchHeader(format="csv", records=1, checkpoint=b"c%d" % sequence), payload)
    return link_pb2.Batch(
        source="wms", epoch=EPOCH, sequence=sequence, lane="standard", sealed=sealed.data, crc32=sealed.crc32
    )


def send(gateway: Gateway, identity: Identity, *batches: link_pb2.Batch) -> tuple[int, str]:
    """(last sequence acknowledged, why the stream was ended: empty when it was not)."""
    last = 0
    with gateway.link(identity) as channel:
        try:
            for ack in stub(channel).Uplink(iter(batches), timeout=60):
                last = max([last, *(a.sequence for a in ack.acknowledged)])
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return last, error.details()
    return last, ""


def send_until_taken(gateway: Gateway, identity: Identity, *batches: link_pb2.Batch) -> None:
    wait_until(lambda: send(gateway, identity, *batches)[1] == "", "batches are taken again")


def whole(path: Path) -> bool:
    with sqlite3.connect(path) as db:
        return db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_disk_that_fills_up_while_batches_come_acknowledges_none_that_is_not_on_it(
    disk: SmallDisk, lines: list[str]
) -> None:
    intake = disk.root / "controller" / "intake.db"
    with running_gateway(disk.root / "controller", min_free_disk_bytes=0) as gateway:
        identity, _ = gateway.enroll(gateway.token())
        acknowledged, said = send(gateway, identity, *(batch(n) for n in range(1, 200)))
        assert "intake.db cannot grow: database or disk is full" in said  # the fault was met
        assert f"free disk space under {intake.parent}" in said
        assert 0 < acknowledged <= len(gateway.stored()["wms"])
        assert all(send(gateway, identity, batch(acknowledged + 1))[1] for _ in range(20))
        assert 1 <= len([line for line in lines if "agents keep it and resend" in line]) <= 3, lines
        disk.grow(64)
        send_until_taken(gateway, identity, *(batch(n) for n in range(acknowledged + 1, acknowledged + 20)))
        assert [b.sequence for b in gateway.stored()["wms"]] == list(range(1, acknowledged + 20))
    assert whole(intake)
    assert any("batches are stored again" in line for line in lines)


def test_intake_stops_at_the_floor_before_the_disk_is_full_and_goes_on_above_it(
    disk: SmallDisk, lines: list[str]
) -> None:
    with running_gateway(disk.root / "controller", min_free_disk_bytes=8 * MIB) as gateway:
        identity, _ = gateway.enroll(gateway.token())
        assert send(gateway, identity, batch(1)) == (1, "")
        disk.fill(leave=6 * MIB)
        wait_until(lambda: "are kept free; intake stops" in send(gateway, identity, batch(1))[1], "the floor is seen")
        said = send(gateway, identity, batch(2))[1]
        assert "--min-free-disk" in said
        assert len(gateway.stored()["wms"]) == 1
        view = storage(gateway.data, 0)
        assert (view.state, view.floor_bytes) == ("low", 8 * MIB)
        assert "nothing is taken in, deliveries go on" in view.problem
        disk.empty()
        send_until_taken(gateway, identity, batch(2))
        assert storage(gateway.data, 0).state == "ok"


def test_an_intake_alone_on_a_full_disk_stops_nothing_else(tmp_path: Path, disk: SmallDisk) -> None:
    data = tmp_path / "controller"
    data.mkdir()
    (data / "intake.db").symlink_to(disk.root / "intake.db")
    with running_gateway(data, min_free_disk_bytes=0) as gateway:
        identity, _ = gateway.enroll(gateway.token())
        disk.fill()
        assert "cannot grow" in send(gateway, identity, batch(1))[1]
        assert (storage(gateway.data, 0).state, storage(gateway.data, 0).path) == ("full", str(data / "intake.db"))
        assert gateway.enroll(gateway.token(agent="atl2"))[1]  # state.db is written
        disk.empty()
        send_until_taken(gateway, identity, batch(1))


def test_a_state_alone_on_a_full_disk_leaves_intake_and_links_working(
    tmp_path: Path, disk: SmallDisk, lines: list[str]
) -> None:
    data = tmp_path / "controller"
    data.mkdir()
    (data / "state.db").symlink_to(disk.root / "state.db")
    with running_gateway(data, min_free_disk_bytes=0) as gateway:
        identity, _ = gateway.enroll(gateway.token())
        token = gateway.token(agent="atl2")
        disk.fill()
        wait_until(lambda: any("sign of life: failed and goes on" in line for line in lines), "state.db is full")
        assert any("state.db cannot grow" in line for line in lines)
        assert send(gateway, identity, batch(1)) == (1, "")
        with pytest.raises(grpc.RpcError, match="cannot grow"):
            gateway.enroll(token)
        disk.empty()
        wait_until(lambda: any("sign of life: works again" in line for line in lines), "state.db is written again")
        assert gateway.enroll(token)[1]
    assert whole(disk.root / "state.db")


class Worker(Protocol):
    def run(self, stop: Stop) -> None: ...

    def close(self) -> None: ...


@contextmanager
def running(make: Callable[[], Worker], before: Callable[[], None]) -> Iterator[None]:
    """A worker on a thread of its own until the block ends: made, then *before*, then run."""
    stop = Stop()

    def work() -> None:
        worker = make()
        before()
        worker.run(stop)
        worker.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def box(disk: SmallDisk) -> Iterator[Box]:
    box = Box(disk.root / "controller")
    yield box
    disk.empty()
    box.close()


def test_a_normalizer_waits_out_a_full_disk_and_decides_every_record_once(
    box: Box, disk: SmallDisk, lines: list[str]
) -> None:
    for n in range(40):
        box.send(*(f"K{n}-{i};{'text' * 50}" for i in range(500)), lane="bulk")
    with running(box.normalizer, disk.fill):
        wait_until(lambda: any("nothing is normalized now" in line for line in lines), "the full disk is met")
        assert any("cannot grow" in line for line in lines)
        assert box.account().waiting > 0
        disk.empty()
        wait_until(lambda: box.account().waiting == 0, "all is decided")
    assert box.account().balanced
    assert box.db.execute("SELECT count(*) FROM events").fetchone() == (20_000,)
    assert len([line for line in lines if "nothing is normalized now" in line]) == 1
    assert whole(box.data.state)


def test_what_was_sent_while_the_disk_is_full_is_recorded_later_and_not_sent_again(
    box: Box, disk: SmallDisk, lines: list[str]
) -> None:
    """The store is full between the sink's verdict and its recording."""
    box.send(*(f"K{i};text" for i in range(300)))
    box.normalize(FakeRuntime("finance"))
    sink = FakeSink()
    sink.decide = lambda _delivery: (disk.fill(), DONE)[1]

    def dispatcher() -> Dispatcher:
        return Dispatcher(box.data, lambda _tree, _number: SinkRuntime("finance"), lambda _name, _of: (sink, 50))

    with running(dispatcher, lambda: None):
        wait_until(lambda: any("deliveries cannot be recorded now" in line for line in lines), "the full disk is met")
        sent = len(sink.applied)
        box_view = views.sinks(box.db)[0]
        assert box_view.pending == 300
        sink.decide = lambda _delivery: DONE
        disk.empty()
        wait_until(lambda: box.account().pending == 0, "all is delivered and recorded")
    assert sent
    assert len(sink.keys()) == len(set(sink.keys())) == 300
    assert [line for line in lines if "deliveries are recorded and sent again" in line]


def test_a_purge_that_met_a_full_disk_leaves_the_intake_usable(box: Box, disk: SmallDisk) -> None:
    for n in range(30):
        box.send(*(f"K{n}-{i};{'text' * 50}" for i in range(200)))
    box.normalize()
    finished = {1: 30}
    box.writer._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    disk.fill()
    with pytest.raises(sqlite3.OperationalError, match="full"):
        box.writer.purge(2**62, finished)
    disk.empty()
    assert box.writer.purge(2**62, finished) == 30
    box.send("K;text")
    assert box.account().balanced


def test_at_a_checkpoint_that_cannot_grow_the_file_nothing_is_lost(box: Box, disk: SmallDisk) -> None:
    """What is committed is in the log; it is moved into the file when there is room."""
    for n in range(20):
        box.send(*(f"K{n}-{i};{'text' * 50}" for i in range(200)))
    disk.fill()
    with pytest.raises(sqlite3.OperationalError) as met:
        box.writer._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert isinstance(faults.of(met.value, box.data.intake), faults.StoreFull)
    disk.empty()
    box.normalize()
    assert box.account().balanced
    assert box.account().received == 4_000
