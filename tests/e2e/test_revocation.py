"""A revoked agent is cut off at once, whatever it has open, and stays out: a real controller, real agent processes."""

import queue
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from crossdock import codec
from crossdock.v1 import link_pb2
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.authority import Authority
from crossdock_controller.commands import enrolment
from crossdock_controller.paths import DataDirectory, read_addresses
from support.gateway import Gateway, wait_until
from support.gateway import stub as link_stub
from support.processes import Centre

BY = "local:test"
pytestmark = pytest.mark.slow


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Centre(tmp_path) as running:
        yield running


def batch() -> link_pb2.Batch:
    sealed = codec.Sealer().seal(BatchHeader(format="csv", records=1, checkpoint=b"c"), b"1;2\n")
    return link_pb2.Batch(
        source="wms", epoch=b"e" * 16, sequence=1, lane="standard", sealed=sealed.data, crc32=sealed.crc32
    )


def state_of(centre: Centre, agent: str) -> str:
    return next((str(a["state"]) for a in centre.json("agents")["agents"] if a["agent"] == agent), "")


def test_a_revocation_cuts_every_live_stream_of_the_agent_and_no_other(
    centre: Centre, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataDirectory(centre.data)
    gateway = Gateway(data, read_addresses(data), Authority.open(data.authority))
    cut_after: list[float] = []
    for n in range(5):
        name = f"atl{n}"
        identity, _ = gateway.enroll(gateway.token(name, name))
        reports: queue.Queue[link_pb2.Report | None] = queue.Queue()
        batches: queue.Queue[link_pb2.Batch | None] = queue.Queue()
        hello = link_pb2.Hello(protocol=1, version="1", instance=b"i", epoch=b"e" * 16)
        reports.put(link_pb2.Report(hello=hello))
        with gateway.link(identity) as channel:
            control = link_stub(channel).Control(iter(reports.get, None), timeout=60)
            assert next(control).HasField("welcome")
            uplink = link_stub(channel).Uplink(iter(batches.get, None), timeout=60)
            batches.put(batch())
            assert next(uplink).acknowledged[0].sequence == 1
            started = time.monotonic()
            enrolment.revoke(data, name, time.time_ns() // 1000, by=BY, because="measured")
            for call in (control, uplink):
                with pytest.raises(grpc.RpcError) as cut:
                    next(call)
                assert cut.value.code() == grpc.StatusCode.PERMISSION_DENIED
            cut_after.append(time.monotonic() - started)
            reports.put(None)
            batches.put(None)
    with capsys.disabled():
        worst, mean = max(cut_after) * 1000, sum(cut_after) / len(cut_after) * 1000
        print(f"\nrevoked, until Control and Uplink were cut: {worst:.0f} ms at most, {mean:.0f} ms on average of 5")


def test_a_real_agent_that_is_revoked_is_cut_off_and_its_neighbour_stays(
    centre: Centre, capsys: pytest.CaptureFixture[str]
) -> None:
    revoked, neighbour = centre.enrol("rtm1").start(), centre.enrol("ldn1").start()
    for site in ("rtm1", "ldn1"):
        wait_until(lambda s=site: state_of(centre, s) == "connected", f"{site} is connected", 120)  # type: ignore[misc]
    started = time.monotonic()
    enrolment.revoke(DataDirectory(centre.data), "rtm1", time.time_ns() // 1000, by=BY, because="a laptop was stolen")
    wait_until(lambda: "its live stream is cut" in centre.process.log.read_text("utf-8"), "its streams are cut")
    with capsys.disabled():
        print(f"\na real agent was cut off {(time.monotonic() - started) * 1000:.0f} ms after it was revoked")
    wait_until(lambda: "revoked" in revoked.log.read_text("utf-8"), "the agent says so", 120)
    assert state_of(centre, "rtm1") == "revoked"
    assert (state_of(centre, "ldn1"), neighbour.alive()) == ("connected", True)
    assert revoked.alive()  # it collects on: the outbox keeps everything
