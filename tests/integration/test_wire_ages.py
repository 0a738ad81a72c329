"""An agent of one release and a controller of another: everything arrives once, or both say why not."""

import json
import queue
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from crossdock.codec import open_sealed
from crossdock.retry import Backoff
from crossdock.tls import server_only_credentials
from crossdock.v1 import link_pb2
from crossdock_agent import health, pump, streams
from crossdock_agent.outbox import inspect
from crossdock_controller.commands import fleet
from support import sources
from support.agents import RunningAgent, eventually, helpers_in_process, site_config
from support.controller import FakeController
from support.gateway import Gateway, Identity, csr_of, pem, running_gateway, wait_until
from support.sources import config, reel
from support.wire_controller import WireController
from support.wires import FROZEN, UNKNOWN, Wire

OLD = Wire.frozen("v1_0")
NEWER = Wire.newer()
EPOCH = b"e" * 16
QUICK = Backoff(first_seconds=0.05, max_seconds=0.2)
GOLDEN = [path.read_bytes() for path in sorted((FROZEN / "v1_0" / "batches").glob("*.batch"))]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path / "controller") as running:
        yield running


def lines(count: int, word: str = "line") -> list[bytes]:
    return [f"{word} {i}".encode() for i in range(count)]


# --- agents of other releases against this controller


class OtherAgent:
    """An agent that speaks *wire*: it enrols, greets, sends, and reads only what it knows."""

    def __init__(self, gateway: Gateway, wire: Wire) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        self.gateway, self.wire = gateway, wire
        key = ec.generate_private_key(ec.SECP256R1())
        bundle = gateway.authority.bundle
        with gateway.channel(gateway.addresses.enrollment, server_only_credentials(bundle)) as channel:
            request = wire.EnrollRequest(token=gateway.token(), csr=csr_of(key), host="wms-01", version="0.1.0")
            answer = wire.call(channel, "Enroll")(request, timeout=60)
        assert (answer.agent, answer.site) == ("atl1", "atl1")
        self.identity = Identity(pem(key), answer.certificate, answer.ca_bundle)

    def hello(self, **changes: object) -> Any:
        fields = {"protocol": 1, "capabilities": ["config", "certificate"], "version": "0.1.0", "host": "wms-01"}
        return self.wire.Report(hello=self.wire.Hello(**{**fields, "instance": b"i", "epoch": EPOCH, **changes}))

    def batches(self, *sealed: bytes, **changes: object) -> list[Any]:
        return [
            self.wire.Batch(
                source="wms", epoch=EPOCH, sequence=n, lane="standard", sealed=data, crc32=zlib.crc32(data), **changes
            )
            for n, data in enumerate(sealed, 1)
        ]

    def send(self, batches: list[Any]) -> list[Any]:
        with self.gateway.link(self.identity) as channel:
            return list(self.wire.call(channel, "Uplink")(iter(batches), timeout=60))

    @contextmanager
    def control(self, *reports: Any) -> Iterator[Any]:
        outgoing: queue.Queue[Any] = queue.Queue()
        for report in reports:
            outgoing.put(report)
        with self.gateway.link(self.identity) as channel:
            yield self.wire.call(channel, "Control")(iter(outgoing.get, None), timeout=60)
            outgoing.put(None)

    def seen(self) -> fleet.AgentView:
        (agent,) = fleet.agents(self.gateway.data, 0)
        return agent


def test_an_old_agent_enrols_is_welcomed_and_its_batches_are_stored_byte_for_byte(gateway: Gateway) -> None:
    agent = OtherAgent(gateway, OLD)
    beat = OLD.Report(heartbeat=OLD.Heartbeat(outbox_records=42, sources=[OLD.SourceHealth(source="wms", records=9)]))
    with agent.control(agent.hello(wants_checkpoints=True), beat) as call:
        welcome = next(call).welcome
        assert (welcome.protocol, list(welcome.checkpoints)) == (1, [])
        wait_until(lambda: agent.seen().outbox.records == 42, "its heartbeat is seen")
        assert agent.seen().version == "0.1.0"
    done = [a for ack in agent.send(agent.batches(*GOLDEN)) for a in ack.acknowledged][-1]
    assert (done.source, done.epoch, done.sequence) == ("wms", EPOCH, len(GOLDEN))
    assert [b.sealed for b in gateway.stored()["wms"]] == GOLDEN
    with agent.control(agent.hello(wants_checkpoints=True)) as call:
        (known,) = next(call).welcome.checkpoints
        assert (known.sequence, known.checkpoint) == (3, b"2")  # as the last of them says
    refused = [r for ack in agent.send([agent.batches(*GOLDEN, GOLDEN[0], GOLDEN[0])[4]]) for r in ack.refused]
    assert [(r.code, r.expected) for r in refused] == [("gap", 4)]


def test_what_an_agent_did_not_announce_is_not_sent_to_it(gateway: Gateway) -> None:
    agent = OtherAgent(gateway, Wire.today())
    agent.send(agent.batches(*GOLDEN))
    with agent.control(agent.hello()) as call:
        assert list(next(call).welcome.yours) == []
    with agent.control(agent.hello(capabilities=["give-back", "of tomorrow"])) as call:
        welcome = next(call).welcome
        assert [(y.source, y.sequence) for y in welcome.yours] == [("wms", 3)]
        assert "give-back" in welcome.capabilities


def test_a_newer_agents_unknown_fields_and_reports_change_nothing(gateway: Gateway) -> None:
    agent = OtherAgent(gateway, NEWER)
    unknown = NEWER.Report(novelty=NEWER.Receipt(reason="what is this?"))
    beat = NEWER.Report(heartbeat=NEWER.Heartbeat(outbox_records=7, novelty="new"))
    newest = agent.hello(protocol=9, capabilities=["config", "of tomorrow"], novelty="new")
    with agent.control(newest, unknown, beat) as call:
        assert next(call).welcome.protocol == 1  # what is spoken here: whether that will do, the newer one decides
        wait_until(lambda: agent.seen().outbox.records == 7, "the heartbeat behind the unknown report is seen")
    assert [a for ack in agent.send(agent.batches(*GOLDEN, novelty="new")) for a in ack.acknowledged][-1].sequence == 3
    assert [b.sealed for b in gateway.stored()["wms"]] == GOLDEN


def test_an_agent_that_is_too_old_is_refused_by_name_seen_by_the_operator_and_welcome_once_upgraded(
    gateway: Gateway,
) -> None:
    agent = OtherAgent(gateway, OLD)
    with agent.control(agent.hello(protocol=0, version="0.0.9")) as call, pytest.raises(grpc.RpcError) as refused:
        next(call)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT  # what agents of every release show to a person
    said = refused.value.details()
    assert "agent atl1 (crossdock 0.0.9) speaks protocol 0, this controller (crossdock " in said
    assert "upgrade agent atl1" in said
    assert (agent.seen().version, agent.seen().problems) == ("0.0.9", [said])
    with agent.control(agent.hello(), OLD.Report(heartbeat=OLD.Heartbeat(clock_us=time.time_ns() // 1000))) as call:
        assert next(call).WhichOneof("kind") == "welcome"
        wait_until(lambda: agent.seen().problems == [], "the note is gone")
        assert agent.seen().version == "0.1.0"


# --- controllers of other releases against this agent


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "RETRY", QUICK)
    monkeypatch.setattr(health, "WRITE_SECONDS", 0.05)
    monkeypatch.setattr(streams.Stream.__init__, "__defaults__", (QUICK,))
    helpers_in_process(monkeypatch)
    sources.install()


@contextmanager
def controller_of(wire: Wire, state: Path) -> Iterator[WireController]:
    controller = WireController(wire)
    controller.start()
    controller.identity(state)
    try:
        yield controller
    finally:
        controller.stop()


def received(controller: FakeController, source: str) -> list[bytes]:
    batches = [b for (name, _), kept in controller.stored.items() if name == source for b in kept]
    return [line for batch in batches for line in open_sealed(batch.sealed)[1].split(b"\n")]


@pytest.mark.usefixtures("quick")
def test_an_old_controller_configures_this_agent_and_gets_every_record_once(tmp_path: Path) -> None:
    reel("wms").lines = lines(20)
    with controller_of(OLD, tmp_path / "state") as controller:
        controller.offer(site_config(1, config("wms", batch=3)), 1)
        with RunningAgent(tmp_path / "state") as agent:
            controller.wait(lambda: len(received(controller, "wms")) == 20, "all lines arrived")
            controller.wait(lambda: (1, "applied") in controller.statuses(), "it says so")
            eventually(lambda: agent.holds() == 0, "all is acknowledged")
            controller.wait(lambda: any(r.HasField("heartbeat") for r in controller.reports), "it is well")
        controller.stop()
        controller.start()
        reel("wms").lines += lines(5, "later")
        with RunningAgent(tmp_path / "state") as agent:
            controller.wait(lambda: received(controller, "wms") == lines(20) + lines(5, "later"), "the rest too")
            assert agent.problems() == ""
        assert controller.hellos[0].protocol == 1
        assert {"config", "certificate"} <= set(controller.hellos[0].capabilities)


@pytest.mark.usefixtures("quick")
def test_a_newer_controllers_unknown_fields_directives_and_capabilities_change_nothing(tmp_path: Path) -> None:
    reel("wms").lines = lines(10)
    with controller_of(NEWER, tmp_path / "state") as controller:
        controller.extra = NEWER.Directive(novelty=NEWER.Delivery(writer="what is this?"))
        controller.welcome.capabilities.append("of tomorrow")
        controller.welcome.MergeFromString(NEWER.Welcome(novelty="new").SerializeToString())
        controller.offer(site_config(1, config("wms")), 1)
        with RunningAgent(tmp_path / "state") as agent:
            controller.wait(lambda: received(controller, "wms") == lines(10), "all lines arrived")
            hellos = len(controller.hellos)
            assert agent.problems() == ""
        assert hellos == 1  # nothing made it end the stream


@pytest.mark.usefixtures("quick")
def test_a_refusal_with_a_code_of_tomorrow_pauses_its_source_and_is_told(tmp_path: Path) -> None:
    def refuse(batch: Any) -> link_pb2.Ack | None:
        name = {"source": batch.source, "epoch": batch.epoch, "sequence": batch.sequence}
        refused = link_pb2.Refused(**name, code="quota", reason="too much today")
        return link_pb2.Ack(refused=[refused]) if batch.source == "wms" else None

    reel("wms").lines, reel("erp").lines = lines(3), lines(3, "erp")
    with controller_of(NEWER, tmp_path / "state") as controller:
        controller.answer = refuse
        controller.offer(site_config(1, config("wms"), config("erp")), 1)
        with RunningAgent(tmp_path / "state") as agent:
            controller.wait(lambda: received(controller, "erp") == lines(3, "erp"), "the other source goes on")
            eventually(lambda: "(quota): too much today" in agent.problems(), "a person is told")
            eventually(lambda: inspect(agent.settings.outbox_path)[0] > 0, "its batches are kept")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("protocol", "upgrade"), [(0, "upgrade the controller"), (2, "upgrade this agent")])
def test_while_the_protocols_do_not_fit_the_agent_says_so_keeps_collecting_and_sends_nothing(
    tmp_path: Path, protocol: int, upgrade: str
) -> None:
    reel("wms").lines = lines(5)
    with controller_of(Wire.today(), tmp_path / "state") as controller:
        controller.offer(site_config(1, config("wms")), 1)
        with RunningAgent(tmp_path / "state") as agent:
            controller.wait(lambda: received(controller, "wms") == lines(5), "the first lines arrived")
            eventually(lambda: inspect(agent.settings.outbox_path)[0] == 0, "and are acknowledged")
        controller.welcome.protocol, controller.welcome.version = protocol, "7.8.9"
        reel("wms").lines += lines(5, "meanwhile")
        with RunningAgent(tmp_path / "state") as agent:
            said = f"the controller (crossdock 7.8.9) speaks protocol {protocol}, this agent (crossdock "
            eventually(lambda: said in agent.problems() and upgrade in agent.problems(), "a person is told")
            eventually(lambda: (s := agent.status()) and s.outbox_records == 5, "the new lines are in the outbox")
            assert received(controller, "wms") == lines(5)
            controller.welcome.protocol = 1  # upgraded
            controller.wait(lambda: received(controller, "wms") == lines(5) + lines(5, "meanwhile"), "all arrived")
            eventually(lambda: agent.problems() == "", "the problem is gone")


def test_the_number_of_what_nobody_knows_is_free() -> None:
    today = Wire.today()
    assert all(field.number < UNKNOWN for file in today.files.file for m in file.message_type for field in m.field)
    assert json.loads((FROZEN / "v1_0" / "batches" / "expected.json").read_text()).keys() == {"csv", "rows", "xml"}
