"""The gateway over real mutual TLS: who may speak, what is stored, and what is answered."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from crossdock import codec
from crossdock.v1 import link_pb2
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.fleet import Fleet
from crossdock_controller.store import agents, connection
from support.gateway import Gateway, Identity, running_gateway, stranger, stub, wait_until

EPOCH = b"e" * 16


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path / "controller") as running:
        yield running


@pytest.fixture
def identity(gateway: Gateway) -> Identity:
    return gateway.enroll(gateway.token())[0]


def batch(sequence: int, /, *, payload: bytes = b"1;2\n", **changes: object) -> link_pb2.Batch:
    sealed = codec.Sealer().seal(BatchHeader(format="csv", records=1, checkpoint=b"c%d" % sequence), payload)
    fields = {
        "source": "wms", "epoch": EPOCH, "sequence": sequence, "lane": "standard",
        "sealed": sealed.data, "crc32": sealed.crc32,
    } | changes  # fmt: skip
    return link_pb2.Batch(**fields)  # type: ignore[arg-type]


def send(gateway: Gateway, identity: Identity, *batches: link_pb2.Batch) -> list[link_pb2.Ack]:
    with gateway.link(identity) as channel:
        return list(stub(channel).Uplink(iter(batches), timeout=20))


def acknowledged(acks: list[link_pb2.Ack]) -> dict[str, int]:
    return {a.source: a.sequence for ack in acks for a in ack.acknowledged}


def hello(**changes: object) -> link_pb2.Report:
    fields = {"protocol": 1, "version": "1", "instance": b"i1", "epoch": EPOCH} | changes
    return link_pb2.Report(hello=link_pb2.Hello(**fields))  # type: ignore[arg-type]


class ControlStream:
    """A Control stream that stays open until closed."""

    def __init__(self, gateway: Gateway, identity: Identity, first: link_pb2.Report) -> None:
        self._outgoing: queue.Queue[link_pb2.Report | None] = queue.Queue()
        self._outgoing.put(first)
        self._channel = gateway.link(identity)
        self.call = stub(self._channel).Control(iter(self._outgoing.get, None), timeout=30)

    def send(self, report: link_pb2.Report) -> None:
        self._outgoing.put(report)

    def close(self) -> None:
        self._outgoing.put(None)
        self._channel.close()


def test_batches_are_on_disk_when_they_are_acknowledged(gateway: Gateway, identity: Identity) -> None:
    acks = send(gateway, identity, *(batch(n) for n in range(1, 51)))
    assert acknowledged(acks) == {"wms": 50}
    stored = gateway.stored()["wms"]
    assert [b.sequence for b in stored] == list(range(1, 51))
    assert stored[0].sealed == batch(1).sealed


def test_what_was_sent_before_is_acknowledged_again_and_stored_once(gateway: Gateway, identity: Identity) -> None:
    send(gateway, identity, batch(1), batch(2))
    assert acknowledged(send(gateway, identity, batch(1), batch(2), batch(3))) == {"wms": 3}
    assert len(gateway.stored()["wms"]) == 3


def test_no_acknowledgement_leaves_when_the_commit_fails_and_the_batch_is_taken_when_it_works_again(
    gateway: Gateway, identity: Identity
) -> None:
    with closing(sqlite3.connect(gateway.data.intake, isolation_level=None)) as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON batches BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        acks: list[link_pb2.Ack] = []
        with gateway.link(identity) as channel, pytest.raises(grpc.RpcError) as cut:
            acks.extend(stub(channel).Uplink(iter([batch(1)]), timeout=20))
        assert cut.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "disk full" in cut.value.details()
        assert acks == []
        db.execute("DROP TRIGGER full")
    assert acknowledged(send(gateway, identity, batch(1))) == {"wms": 1}


def test_a_known_sequence_with_other_bytes_is_refused_as_a_conflict(gateway: Gateway, identity: Identity) -> None:
    send(gateway, identity, batch(1))
    refused = [r for ack in send(gateway, identity, batch(1, payload=b"9;9\n")) for r in ack.refused]
    assert [(r.code, r.sequence) for r in refused] == [("conflict", 1)]


def test_a_batch_behind_a_conflict_is_not_acknowledged_nor_stored_and_other_sources_and_streams_go_on(
    gateway: Gateway, identity: Identity
) -> None:
    send(gateway, identity, batch(1))
    acks = send(gateway, identity, batch(1, payload=b"9;9\n"), batch(2), batch(1, source="erp"))
    assert [(r.source, r.code, r.sequence) for a in acks for r in a.refused] == [
        ("wms", "conflict", 1), ("wms", "conflict", 2),
    ]  # fmt: skip
    assert acknowledged(acks) == {"erp": 1}
    assert [b.sequence for b in gateway.stored()["wms"]] == [1]
    assert acknowledged(send(gateway, identity, batch(2))) == {"wms": 2}


def test_a_gap_is_refused_and_names_the_batch_that_is_expected(gateway: Gateway, identity: Identity) -> None:
    refused = [r for ack in send(gateway, identity, batch(1), batch(3)) for r in ack.refused]
    assert [(r.code, r.sequence, r.expected) for r in refused] == [("gap", 3, 2)]


def test_a_batch_with_a_broken_checksum_is_refused_and_its_neighbours_are_stored(
    gateway: Gateway, identity: Identity
) -> None:
    acks = send(gateway, identity, batch(1, crc32=1), batch(1, source="erp"))
    assert [(r.source, r.code) for ack in acks for r in ack.refused] == [("wms", "checksum")]
    assert acknowledged(acks) == {"erp": 1}
    assert list(gateway.stored()) == ["erp"]


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "../etc"},
        {"source": ""},
        {"source": "x" * 101},
        {"epoch": b"short"},
        {"sequence": 0},
        {"lane": "fast"},
    ],
)
def test_a_malformed_envelope_is_refused_by_name(
    gateway: Gateway, identity: Identity, changes: dict[str, object]
) -> None:
    refused = [r for ack in send(gateway, identity, batch(1, **changes)) for r in ack.refused]
    assert [r.code for r in refused] == ["malformed"]
    assert gateway.stored() == {}


def test_a_token_works_once(gateway: Gateway) -> None:
    token = gateway.token()
    gateway.enroll(token)
    with pytest.raises(grpc.RpcError) as refused:
        gateway.enroll(token)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "crossdock token create" in refused.value.details()


def test_two_at_once_with_one_token_get_one_certificate(gateway: Gateway) -> None:
    token = gateway.token()
    results: list[object] = []

    def enroll() -> None:
        try:
            results.append(gateway.enroll(token))
        except grpc.RpcError as error:
            results.append(error.code())

    threads = [threading.Thread(target=enroll) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(str(r) for r in results).count("StatusCode.PERMISSION_DENIED") == 3


def test_an_expired_token_and_an_invented_one_are_refused(gateway: Gateway) -> None:
    for token in (gateway.token(seconds=-1), "invented"):
        with pytest.raises(grpc.RpcError) as refused:
            gateway.enroll(token)
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_the_certificate_of_a_stranger_does_not_get_in(gateway: Gateway, identity: Identity, tmp_path: Path) -> None:
    outsider = stranger(tmp_path / "other-authority")
    mixed = Identity(outsider.key, outsider.certificate, identity.bundle)
    with pytest.raises(grpc.RpcError) as refused:
        send(gateway, mixed, batch(1))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE  # the handshake fails
    assert gateway.stored() == {}


def test_a_certificate_of_ours_that_is_not_on_the_allow_list_is_refused(gateway: Gateway, identity: Identity) -> None:
    db = connection.connect(gateway.data.state)
    agents.revoke(db, "atl1")
    db.close()

    def refused() -> bool:
        try:
            send(gateway, identity)
        except grpc.RpcError as error:
            return error.code() == grpc.StatusCode.PERMISSION_DENIED
        return False

    wait_until(refused, "the revoked agent is refused")


def test_revoking_an_agent_cuts_its_live_stream(gateway: Gateway, identity: Identity) -> None:
    control = ControlStream(gateway, identity, hello())
    assert next(control.call).WhichOneof("kind") == "welcome"
    db = connection.connect(gateway.data.state)
    agents.revoke(db, "atl1")
    db.close()
    with pytest.raises(grpc.RpcError) as cut:
        next(control.call)
    assert cut.value.code() == grpc.StatusCode.PERMISSION_DENIED
    control.close()


def test_a_revoked_agent_loses_every_live_stream_and_nothing_more_of_it_is_stored(
    gateway: Gateway, identity: Identity
) -> None:
    control = ControlStream(gateway, identity, hello())
    assert next(control.call).WhichOneof("kind") == "welcome"
    outgoing: queue.Queue[link_pb2.Batch | None] = queue.Queue()
    outgoing.put(batch(1))
    with gateway.link(identity) as channel:
        uplink = stub(channel).Uplink(iter(outgoing.get, None), timeout=20)
        assert acknowledged([next(uplink)]) == {"wms": 1}
        db = connection.connect(gateway.data.state)
        agents.revoke(db, "atl1")
        db.close()
        for call in (control.call, uplink):
            with pytest.raises(grpc.RpcError) as cut:
                next(call)
            assert cut.value.code() == grpc.StatusCode.PERMISSION_DENIED
        outgoing.put(batch(2))
        outgoing.put(None)
    control.close()
    assert [b.sequence for b in gateway.stored()["wms"]] == [1]


def test_a_second_process_with_one_identity_is_refused_while_the_first_lives(
    gateway: Gateway, identity: Identity
) -> None:
    first = ControlStream(gateway, identity, hello())
    next(first.call)
    clone = ControlStream(gateway, identity, hello(instance=b"i2"))
    with pytest.raises(grpc.RpcError) as refused:
        next(clone.call)
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
    clone.close()
    first.close()

    def accepted() -> bool:
        again = ControlStream(gateway, identity, hello(instance=b"i2"))
        try:
            return next(again.call).WhichOneof("kind") == "welcome"
        except grpc.RpcError:
            return False
        finally:
            again.close()

    wait_until(accepted, "the identity is free again")


def test_an_agent_that_hangs_up_while_its_greeting_is_recorded_does_not_bar_the_next_process(
    gateway: Gateway, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is slow (a backup, a checkpoint, a full disk), the agent gives up, and is restarted."""
    recording, heard, go_on = threading.Event(), threading.Event(), threading.Event()
    record, note = agents.record_hello, Fleet.note

    def slow(*args: Any, **fields: Any) -> None:
        recording.set()
        assert go_on.wait(60)
        record(*args, **fields)

    async def watched(fleet: Fleet, call: Any) -> None:
        try:
            await note(fleet, call)
        except asyncio.CancelledError:
            heard.set()
            raise

    monkeypatch.setattr(agents, "record_hello", slow)
    monkeypatch.setattr(Fleet, "note", watched)
    first = ControlStream(gateway, identity, hello())
    assert recording.wait(60)
    first.close()
    assert heard.wait(60)
    go_on.set()

    def accepted() -> bool:
        again = ControlStream(gateway, identity, hello(instance=instance))
        try:
            return next(again.call).WhichOneof("kind") == "welcome"
        except grpc.RpcError:
            return False
        finally:
            again.close()

    for instance in (b"i1", b"i2"):
        wait_until(accepted, f"{instance!r} is let in", 20)


def test_an_agent_that_lost_its_disk_is_told_its_last_acknowledged_checkpoints(
    gateway: Gateway, identity: Identity
) -> None:
    send(gateway, identity, batch(1), batch(2), batch(1, source="erp"))
    control = ControlStream(gateway, identity, hello(wants_checkpoints=True))
    welcome = next(control.call).welcome
    assert {(c.source, c.sequence, c.checkpoint) for c in welcome.checkpoints} == {("wms", 2, b"c2"), ("erp", 1, b"c1")}
    control.close()


def test_a_heartbeat_is_seen_by_the_operator_and_a_renewal_is_answered_on_control(
    gateway: Gateway, identity: Identity
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    from support.gateway import csr_of

    control = ControlStream(gateway, identity, hello())
    next(control.call)
    control.send(link_pb2.Report(heartbeat=link_pb2.Heartbeat(outbox_records=42)))
    db = connection.connect(gateway.data.state)

    def seen() -> bool:
        row = agents.get(db, "atl1")
        return row is not None and row.connected and '"records":42' in row.health

    wait_until(seen, "the heartbeat is stored")
    db.close()
    csr = csr_of(ec.generate_private_key(ec.SECP256R1()))
    control.send(link_pb2.Report(certificate_request=link_pb2.CertificateRequest(csr=csr)))
    assert next(control.call).certificate.certificate.startswith(b"-----BEGIN CERTIFICATE")
    control.send(link_pb2.Report(certificate_request=link_pb2.CertificateRequest(csr=b"noise")))
    assert "cannot be read" in next(control.call).certificate.refused
    control.close()


def test_a_second_controller_on_the_same_data_is_refused(gateway: Gateway) -> None:
    from crossdock.errors import Refused

    with pytest.raises(Refused, match="in use by a controller at"), running_gateway(gateway.data.root):
        pass
