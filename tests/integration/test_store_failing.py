"""A disk under the store that answers with errors, or lets nothing be written: waited for, as a full one is."""

import random
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest

from crossdock import codec
from crossdock.v1 import link_pb2
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.store import faults
from support.gateway import Gateway, Identity, running_gateway, stub, wait_until
from support.pipeline import Box

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="the harness limits the size of files (RLIMIT_FSIZE)")


@contextmanager
def writes_fail_beyond(size: int) -> Iterator[None]:
    """Every write of this process beyond *size* bytes of a file fails, with an error that is not "disk full"."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def batch(sequence: int) -> link_pb2.Batch:
    payload = random.Random(sequence).randbytes(300_000)
    sealed = codec.Sealer().seal(BatchHeader(format="csv", records=1, checkpoint=b"c"), payload)
    return link_pb2.Batch(
        source="wms", epoch=b"e" * 16, sequence=sequence, lane="standard", sealed=sealed.data, crc32=sealed.crc32
    )


def send(gateway: Gateway, identity: Identity, *batches: link_pb2.Batch) -> tuple[int, str]:
    last = 0
    with gateway.link(identity) as channel:
        try:
            for ack in stub(channel).Uplink(iter(batches), timeout=60):
                last = max([last, *(a.sequence for a in ack.acknowledged)])
        except grpc.RpcError as error:
            return last, error.details()
    return last, ""


@posix_only
def test_an_input_output_error_of_the_disk_acknowledges_nothing_and_is_outlived(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "controller", min_free_disk_bytes=0) as gateway:
        identity, _ = gateway.enroll(gateway.token())
        assert send(gateway, identity, batch(1)) == (1, "")
        with writes_fail_beyond(600_000):
            last, said = send(gateway, identity, *(batch(n) for n in range(2, 12)))
            assert "disk I/O error (SQLITE_IOERR_WRITE)" in said  # the fault was met
            assert "check the disk and its mount" in said
            assert last <= len(gateway.stored()["wms"])
        again = [batch(n) for n in range(last + 1, 12)]
        wait_until(lambda: send(gateway, identity, *again)[1] == "", "batches are taken again")
        assert [b.sequence for b in gateway.stored()["wms"]] == list(range(1, 12))


@posix_only
def test_a_round_that_meets_an_input_output_error_leaves_nothing_behind(tmp_path: Path) -> None:
    box = Box(tmp_path)
    for n in range(20):
        box.send(*(f"K{n}-{i};{i * 7919}" for i in range(500)))
    worker = box.normalizer()
    with writes_fail_beyond(box.data.state.stat().st_size), pytest.raises(sqlite3.OperationalError) as met:
        worker.step()
    found = faults.of(met.value, box.data.state)
    assert isinstance(found, faults.StoreUnavailable)
    assert not isinstance(found, faults.StoreFull)
    assert box.account().balanced
    while worker.step():
        pass
    worker.close()
    assert box.db.execute("SELECT count(*) FROM events").fetchone() == (10_000,)
    assert box.account().balanced
    box.close()


def test_a_store_that_may_only_be_read_is_no_damage_and_named(tmp_path: Path) -> None:
    box = Box(tmp_path)
    read_only = f"{box.data.state.as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(read_only, uri=True, isolation_level=None)) as db,
        pytest.raises(faults.StoreUnavailable, match=r"SQLITE_READONLY.*read-only\?"),
        faults.told(box.data.state),
    ):
        db.execute("DELETE FROM wakers")
    box.close()


def test_an_error_that_is_not_the_stores_is_left_as_it_is(tmp_path: Path) -> None:
    assert faults.of(ValueError("x"), tmp_path / "state.db") is None
    with closing(sqlite3.connect(":memory:")) as db:
        with pytest.raises(sqlite3.OperationalError) as met:
            db.execute("SELECT * FROM nothing")
        assert faults.of(met.value, tmp_path / "state.db") is None
