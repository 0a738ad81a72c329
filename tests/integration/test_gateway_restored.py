"""What the gateway of a restored controller tells its agents, and what becomes of those it does not know."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from crossdock import codec
from crossdock.v1 import link_pb2
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.commands import enrolment, fleet
from crossdock_controller.store import connection, facts, strangers
from support.gateway import Gateway, Identity, running_gateway, stub, wait_until

EPOCH = b"e" * 16
NOW_US = 1_700_000_000_000_000


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path / "controller") as running:
        yield running


def batch(sequence: int, source: str = "wms", epoch: bytes = EPOCH) -> link_pb2.Batch:
    sealed = codec.Sealer().seal(BatchHeader(format="csv", records=1, checkpoint=b"c%d" % sequence), os.urandom(9))
    return link_pb2.Batch(
        source=source, epoch=epoch, sequence=sequence, lane="standard", sealed=sealed.data, crc32=sealed.crc32
    )


def send(gateway: Gateway, identity: Identity, *batches: link_pb2.Batch, seconds: float = 60.0) -> list[link_pb2.Ack]:
    with gateway.link(identity) as channel:
        return list(stub(channel).Uplink(iter(batches), timeout=seconds))


def welcome(gateway: Gateway, identity: Identity, epoch: bytes = EPOCH) -> link_pb2.Welcome:
    hello = link_pb2.Hello(
        protocol=1, capabilities=["give-back"], version="1", instance=os.urandom(16), epoch=epoch
    )  # fmt: skip
    with gateway.link(identity) as channel:
        (directive,) = list(stub(channel).Control(iter([link_pb2.Report(hello=hello)]), timeout=60))[:1]
    return directive.welcome


def delist(gateway: Gateway, agent: str) -> None:
    """What a restore to before its enrolment leaves."""
    with closing(connection.connect(gateway.data.state)) as db:
        db.execute("DELETE FROM agents WHERE agent = ?", (agent,))


def refused(gateway: Gateway, identity: Identity) -> bool:
    try:
        send(gateway, identity, batch(1, epoch=os.urandom(16)), seconds=5.0)  # a stream that is cut just now may hang
    except grpc.RpcError as error:
        return isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.PERMISSION_DENIED
    return False


def test_every_welcome_says_how_far_it_has_the_agents_epoch_and_which_store_it_is(gateway: Gateway) -> None:
    identity = gateway.enroll(gateway.token())[0]
    assert [(y.source, y.sequence) for y in welcome(gateway, identity).yours] == []
    send(gateway, identity, batch(1), batch(2), batch(1, "erp"), batch(1, epoch=b"x" * 16))
    for _ in range(2):
        said = welcome(gateway, identity)
        assert "give-back" in said.capabilities
        assert sorted((y.source, y.sequence, y.epoch) for y in said.yours) == [("erp", 1, EPOCH), ("wms", 2, EPOCH)]
        with closing(connection.connect(gateway.data.state)) as db:
            assert said.store == facts.store_id(db)
        assert len(said.store) == facts.STORE_BYTES


def test_an_agent_on_no_list_is_refused_shown_and_let_in_by_a_person(gateway: Gateway) -> None:
    identity = gateway.enroll(gateway.token())[0]
    delist(gateway, "atl1")
    wait_until(lambda: refused(gateway, identity), "the list without it is taken up")

    def shown() -> bool:  # who was cut in the middle of a stream knocks again
        return refused(gateway, identity) and [a.state for a in fleet.agents(gateway.data, NOW_US)] == ["unknown"]

    wait_until(shown, "it is shown")
    assert fleet.adopt(gateway.data, "atl1", "", NOW_US, by="local:ann") == "atl1"
    wait_until(lambda: not refused(gateway, identity), "it is let in, with the certificate it has")


def test_a_revoked_agent_is_no_stranger_that_could_be_adopted(gateway: Gateway) -> None:
    identity = gateway.enroll(gateway.token())[0]
    enrolment.revoke(gateway.data, "atl1", 1, by="local:test")
    wait_until(lambda: refused(gateway, identity), "it is cut off")
    with closing(connection.connect(gateway.data.state)) as db:
        assert strangers.list_all(db) == []
