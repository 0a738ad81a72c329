"""A whole rotation against a real controller process while batches flow, with certificates that live seconds."""

import contextlib
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from crossdock import codec
from crossdock.v1 import link_pb2
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.authority import Authority
from crossdock_controller.paths import DataDirectory, read_addresses
from support.gateway import Gateway, stub, wait_until
from support.processes import Centre
from support.trusting_agent import TrustingAgent, fingerprints

EPOCH = b"e" * 16
LIFE_HOURS = 0.0015  # 5.4 seconds


class Traffic:
    """One Uplink stream from the first batch to the last; *cuts* counts how often it had to be opened again, from the
    first batch that was not acknowledged, as an agent does."""

    def __init__(self, agent: TrustingAgent) -> None:
        self.sent = self.acknowledged = self.cuts = 0
        self.failure: BaseException | None = None
        self._over = threading.Event()
        self._agent = agent
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the stream did not end"

    def _run(self) -> None:
        try:
            while not self._over.is_set() or self.acknowledged < self.sent:
                self._stream()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.failure = error

    def _stream(self) -> None:
        try:
            with self._agent.gateway.link(self._agent.identity) as channel:
                for ack in stub(channel).Uplink(self._batches(self.acknowledged)):
                    assert not ack.refused
                    self.acknowledged = max(a.sequence for a in ack.acknowledged)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            self.cuts += 1

    def _batches(self, number: int) -> Iterator[link_pb2.Batch]:
        sealer = codec.Sealer()
        while number < self.sent or not self._over.wait(0.02):
            number += 1
            self.sent = max(self.sent, number)
            sealed = sealer.seal(BatchHeader(format="csv", records=1, checkpoint=b"c%d" % number), b"%d;2\n" % number)
            yield link_pb2.Batch(
                source="wms", epoch=EPOCH, sequence=number, lane="standard", sealed=sealed.data,
                crc32=zlib.crc32(sealed.data),
            )  # fmt: skip


@pytest.mark.slow
def test_a_full_rotation_under_traffic_cuts_no_stream_and_an_agent_that_slept_through_it_comes_back(
    tmp_path: Path,
) -> None:
    with Centre(tmp_path, "--certificate-hours", str(LIFE_HOURS)) as centre:
        data = DataDirectory(centre.data)
        gateway = Gateway(data, read_addresses(data), Authority.open(data.authority))
        old = gateway.authority.fingerprint
        busy, away = TrustingAgent(gateway, "busy1"), TrustingAgent(gateway, "away1")
        away.connect().disconnect()  # it has used its certificate, and sleeps from now on
        busy.connect()
        traffic = Traffic(busy)
        wait_until(lambda: traffic.acknowledged > 0, "batches flow")
        slept_from = time.monotonic()

        steps = [centre.json("ca", step) for step in ("add", "issue", "switch")]
        assert all(step["taken_up"] for step in steps)
        new = steps[0]["fingerprint"]
        wait_until(lambda: busy.renewals >= 1, "the connected agent has a certificate of the new authority")
        before = traffic.acknowledged
        wait_until(lambda: traffic.acknowledged > before, "batches flow on")
        busy.renew()
        wait_until(lambda: busy.renewals >= 2, "it renews as it would by itself")
        back(busy)  # it ends its control stream, and makes a new one under the new authority
        refused = blocked(centre, old)
        assert "away1 holds a certificate of it" in refused
        assert "busy1" not in refused

        wait_until(lambda: time.monotonic() - slept_from > LIFE_HOURS * 3600 + 1, "its certificate has ended")
        assert fingerprints(away.identity.bundle) == [old], "it knows the old authority alone"
        back(away)
        assert (traffic.failure, traffic.cuts) == (None, 0), "nothing was cut while the new one took over"
        centre.run("ca", "retire", old[:12])
        back(busy)
        for agent in (busy, away):
            wait_until(lambda agent=agent: fingerprints(agent.identity.bundle) == [new], "it trusts the new one alone")  # type: ignore[misc]
        traffic.end()
        assert traffic.failure is None
        assert traffic.acknowledged == traffic.sent > 100
        assert [b.sequence for b in gateway.stored()["wms"]] == list(range(1, traffic.sent + 1))
        listed = centre.json("ca")
        assert [(a["state"], a["held_by"]) for a in listed["authorities"]] == [
            ("retired", 0), ("issuing, serving", 2),
        ]  # fmt: skip
        assert listed["next_step"] == ""
        busy.disconnect()
        away.disconnect()


def back(agent: TrustingAgent) -> None:
    """It connects; where its certificate has ended meanwhile, it asks for another first."""

    def connected() -> bool:
        try:
            agent.connect()
        except grpc.RpcError:
            with contextlib.suppress(grpc.RpcError):
                agent.reenroll()
            return False
        return True

    wait_until(connected, f"{agent.agent} is back")


def blocked(centre: Centre, fingerprint: str) -> str:
    """What `crossdock ca retire` says when it refuses."""
    with pytest.raises(AssertionError) as refused:
        centre.run("ca", "retire", fingerprint[:12])
    return str(refused.value)
