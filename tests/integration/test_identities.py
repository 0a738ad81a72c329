"""Clones, stolen certificates and machines that change: who is refused, who is let in, and what a person is shown."""

import datetime as dt
import queue
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock import codec
from crossdock.errors import ConfigError
from crossdock.machine import machine_digest
from crossdock.proof import reenroll_bytes
from crossdock.tls import server_only_credentials
from crossdock.v1 import enrollment_pb2, enrollment_pb2_grpc, link_pb2
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller import identities
from crossdock_controller.commands import enrolment, fleet
from crossdock_controller.store import connection, machines, refusals
from support.gateway import Gateway, Identity, csr_of, new_key, pem, running_gateway, stub, wait_until
from support.relay import Relay

BY = "local:test"
ELSEWHERE = "127.0.0.9"
two_addresses = pytest.mark.skipif(sys.platform == "darwin", reason="only 127.0.0.1 answers there")
HERE, THERE = machine_digest("here"), machine_digest("there")
NOW_US = int(dt.datetime.now(dt.UTC).timestamp() * 1e6)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path / "controller") as running:
        yield running


def greeting(**fields: object) -> link_pb2.Report:
    said = {"protocol": 1, "version": "1", "instance": b"i", "epoch": b"e" * 16, "host": "wms-01"} | fields
    return link_pb2.Report(hello=link_pb2.Hello(**said))  # type: ignore[arg-type]


def refusal(error: grpc.RpcError) -> str:
    """What it was refused for; fails when it is not a refusal."""
    assert isinstance(error, grpc.Call)
    assert error.code() in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.ALREADY_EXISTS}, error
    return str(error.details())


def greet(gateway: Gateway, identity: Identity, address: str = "", **fields: object) -> str:
    """ "welcome", or why it is refused."""
    with gateway.link(identity, address) as channel:
        try:
            first = next(iter(stub(channel).Control(iter([greeting(**fields)]), timeout=60)))
        except grpc.RpcError as error:
            return refusal(error)
    assert first.HasField("welcome")
    return "welcome"


def uplink(gateway: Gateway, identity: Identity, address: str = "") -> str:
    """ "open", or why it is refused."""
    with gateway.link(identity, address) as channel:
        try:
            list(stub(channel).Uplink(iter([]), timeout=60))
        except grpc.RpcError as error:
            return refusal(error)
    return "open"


def renewed(gateway: Gateway, identity: Identity) -> Identity:
    """A newer certificate of the same agent, received and not yet used."""
    key = new_key()
    request = link_pb2.Report(certificate_request=link_pb2.CertificateRequest(csr=csr_of(key)))
    with gateway.link(identity) as channel:
        answers = iter(stub(channel).Control(iter([greeting(), request]), timeout=60))
        assert next(answers).HasField("welcome")
        issued = next(answers).certificate
    return Identity(pem(key), issued.certificate, issued.ca_bundle)


def enrolled(gateway: Gateway, **fields: object) -> Identity:
    key = new_key()
    answer = gateway.ask(gateway.token(), key, **fields)
    return Identity(pem(key), answer.certificate, answer.ca_bundle)


def problems(gateway: Gateway) -> str:
    return " ".join(problem for agent in fleet.agents(gateway.data, NOW_US) for problem in agent.problems)


def test_another_machine_with_the_identity_is_refused_and_shown_until_a_person_moves_it(gateway: Gateway) -> None:
    identity = enrolled(gateway, machine=HERE, host="wms-01")
    assert greet(gateway, identity, machine=HERE) == "welcome"
    refused = greet(gateway, identity, machine=THERE, host="wms-copy")
    assert "belongs to another machine (host wms-01)" in refused
    assert "crossdock agents move atl1" in refused
    wait_until(lambda: "wms-copy at 127.0.0.1" in problems(gateway), "it is shown")
    assert greet(gateway, identity, machine=HERE) == "welcome"
    assert enrolment.move(gateway.data, "atl1", int(dt.datetime.now(dt.UTC).timestamp() * 1e6), by=BY) == "wms-01"
    assert greet(gateway, identity, machine=HERE) == "welcome"  # until the other one comes
    assert greet(gateway, identity, machine=THERE, host="wms-02") == "welcome"
    assert "belongs to another machine (host wms-02)" in greet(gateway, identity, machine=HERE)
    with closing(connection.connect(gateway.data.state)) as db:
        told = db.execute("SELECT actor, action FROM audit WHERE action LIKE 'agents.move%' ORDER BY seq").fetchall()
    assert told == [(BY, "agents.move"), ("agent:atl1", "agents.moved")]


def test_a_move_that_nobody_makes_use_of_ends_after_a_day(gateway: Gateway) -> None:
    identity = enrolled(gateway, machine=HERE)
    a_day_ago = int(dt.datetime.now(dt.UTC).timestamp() * 1e6) - machines.MOVE_SECONDS * 1_000_000
    enrolment.move(gateway.data, "atl1", a_day_ago, by=BY)
    assert "another machine" in greet(gateway, identity, machine=THERE)


def test_an_agent_of_an_older_release_says_nothing_of_its_machine_and_is_let_in(gateway: Gateway) -> None:
    identity = enrolled(gateway)
    assert greet(gateway, identity) == "welcome"
    with pytest.raises(ConfigError, match="bound to no machine"):
        enrolment.move(gateway.data, "atl1", NOW_US, by=BY)
    assert greet(gateway, identity, machine=HERE) == "welcome"  # it was upgraded: the first that it names has it
    assert greet(gateway, identity) == "welcome"  # and downgraded
    assert "another machine" in greet(gateway, identity, machine=THERE)


def test_enrolling_anew_gives_the_name_to_the_new_machine(gateway: Gateway) -> None:
    old = enrolled(gateway, machine=HERE)
    assert greet(gateway, old, machine=HERE) == "welcome"
    new = enrolled(gateway, machine=THERE)
    assert greet(gateway, new, machine=THERE) == "welcome"
    assert greet(gateway, old, machine=HERE) != "welcome"


def test_an_older_certificate_is_refused_everywhere_once_a_newer_one_was_used(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "SETTLE_SECONDS", -1)
    old = enrolled(gateway)
    new = renewed(gateway, old)
    assert greet(gateway, old) == "welcome"  # the newer one may never have been stored: a crash
    newest = renewed(gateway, old)
    assert uplink(gateway, old) == "open"
    assert greet(gateway, newest) == "welcome"
    for outdated in (old, new):
        assert "stolen or cloned, or this machine was restored" in greet(gateway, outdated)
        assert "crossdock token create --site atl1 --agent atl1" in uplink(gateway, outdated)
    assert (greet(gateway, newest), uplink(gateway, newest)) == ("welcome", "open")
    wait_until(
        lambda: "an older certificate than its newest is used from 127.0.0.1" in problems(gateway), "it is shown"
    )


def test_an_agents_own_streams_that_change_over_to_a_new_certificate_raise_no_alarm(gateway: Gateway) -> None:
    old = enrolled(gateway)
    new = renewed(gateway, old)
    assert greet(gateway, new) == "welcome"
    assert "newer certificate" in uplink(gateway, old)
    enrolled_again = renewed(gateway, new)
    assert greet(gateway, enrolled_again) == "welcome"
    assert "older certificate" not in problems(gateway)


def test_a_clone_is_still_shown_after_the_controller_was_restarted(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "controller") as gateway:
        identity = enrolled(gateway)
        with gateway.link(identity) as channel:
            outgoing: queue.Queue[link_pb2.Report | None] = queue.Queue()
            outgoing.put(greeting())
            call = stub(channel).Control(iter(outgoing.get, None), timeout=60)
            assert next(call).HasField("welcome")
            assert "connected from another process" in greet(gateway, identity, instance=b"copy", host="wms-copy")
            outgoing.put(None)
        wait_until(lambda: "a second process, on wms-copy" in problems(gateway), "it is shown")
    with running_gateway(tmp_path / "controller") as gateway:
        assert "a second process, on wms-copy" in problems(gateway)


class Open:
    """A stream that stays open until it is closed, or cut."""

    def __init__(self, gateway: Gateway, identity: Identity, rpc: str, first: object, address: str = "") -> None:
        self._outgoing: queue.Queue[object] = queue.Queue()
        self._outgoing.put(first)
        self._channel = gateway.link(identity, address)
        self.call = getattr(stub(self._channel), rpc)(iter(self._outgoing.get, None), timeout=60)
        next(self.call)  # it is served

    def cut(self) -> str:
        """Waits until it is cut; why."""
        with pytest.raises(grpc.RpcError) as ended:
            next(self.call)
        return refusal(ended.value)

    def close(self) -> None:
        self._outgoing.put(None)
        self._channel.close()


def batch(sequence: int) -> link_pb2.Batch:
    sealed = codec.Sealer().seal(BatchHeader(format="csv", records=1, checkpoint=b"c"), b"1;2\n")
    return link_pb2.Batch(
        source="wms", epoch=b"e" * 16, sequence=sequence, lane="standard", sealed=sealed.data, crc32=sealed.crc32
    )


@two_addresses
@pytest.mark.parametrize("said", [{"machine": THERE, "host": "copy"}, {"machine": HERE, "instance": b"copy"}])
def test_a_copy_whose_greeting_is_refused_sends_nothing_either_and_the_agent_goes_on(
    gateway: Gateway, said: dict[str, object]
) -> None:
    identity = enrolled(gateway, machine=HERE)
    agent = Open(gateway, identity, "Control", greeting(machine=HERE))
    data = Open(gateway, identity, "Uplink", batch(1))
    with Relay(gateway.addresses.link, source=ELSEWHERE) as relay:
        elsewhere = f"127.0.0.1:{relay.port}"
        thief = Open(gateway, identity, "Uplink", batch(2), elsewhere)  # before anybody knows
        assert greet(gateway, identity, elsewhere, **said) != "welcome"
        assert "another machine or process uses the identity" in thief.cut()
        assert "may not send from this address" in uplink(gateway, identity, elsewhere)
        assert uplink(gateway, identity) == "open"
        data._outgoing.put(batch(3))
        assert next(data.call).acknowledged[0].sequence == 3
        agent.close()
        wait_until(lambda: greet(gateway, identity, elsewhere, machine=HERE) == "welcome", "it moved to that address")
        assert uplink(gateway, identity, elsewhere) == "open"
        thief.close()
    data.close()


def test_what_is_open_under_an_older_certificate_ends_when_the_newer_one_is_used(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "OVERLAP_SECONDS", 0.0)
    old = enrolled(gateway)
    new = renewed(gateway, old)
    thief = Open(gateway, old, "Uplink", batch(1))
    agent = Open(gateway, new, "Control", greeting())
    data = Open(gateway, new, "Uplink", batch(2))
    assert "uses a newer certificate now" in thief.cut()
    data._outgoing.put(batch(3))
    assert next(data.call).acknowledged[0].sequence == 3
    for stream in (agent, data, thief):
        stream.close()


def reenrol(gateway: Gateway, identity: Identity, machine: str = "") -> str:
    """ "back", or why it is refused: as an agent that was away would ask, with its old certificate."""
    csr, clock_us = csr_of(new_key()), int(time.time() * 1e6)
    key = serialization.load_pem_private_key(identity.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signed = reenroll_bytes(csr, identity.certificate, machine, clock_us)
    request = enrollment_pb2.ReenrollRequest(
        certificate=identity.certificate, csr=csr, proof=key.sign(signed, ec.ECDSA(hashes.SHA256())),
        clock_us=clock_us, host="wms-01", machine=machine,
    )  # fmt: skip
    credentials = server_only_credentials(gateway.authority.bundle)
    with gateway.channel(gateway.addresses.enrollment, credentials) as channel:
        try:
            enrollment_pb2_grpc.EnrollmentStub(channel).Reenroll(request, timeout=60)  # type: ignore[no-untyped-call]
        except grpc.RpcError as error:
            return refusal(error)
    return "back"


def test_who_may_not_greet_may_not_come_back_either(gateway: Gateway) -> None:
    old = enrolled(gateway, machine=HERE)
    assert greet(gateway, old, machine=HERE) == "welcome"
    wait_until(lambda: reenrol(gateway, old, HERE) == "back", "it is away, and comes back")
    assert "another machine" in reenrol(gateway, old, THERE)
    assert reenrol(gateway, old) == "back"  # an older release says nothing
    assert greet(gateway, renewed(gateway, old), machine=HERE) == "welcome"
    wait_until(lambda: "newer certificate" in reenrol(gateway, old, HERE), "its older certificate is no proof")
    enrolment.revoke(gateway.data, "atl1", NOW_US, by=BY)
    assert "revoked" in reenrol(gateway, old, HERE)
    again = enrolled(gateway, machine=HERE)
    assert "before agent atl1 was revoked" in reenrol(gateway, old, HERE)
    assert reenrol(gateway, again, HERE) == "back"
    with closing(connection.connect(gateway.data.state)) as db:
        wait_until(lambda: {r.kind for r in refusals.since(db, 0)} >= {"machine", "outdated", "reenrol"}, "all counted")
