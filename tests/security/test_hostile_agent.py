"""An enrolled agent in a thief's hands: it may say what it likes of its own site, and harm nobody else's."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import itertools
import json
import queue
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock import codec
from crossdock.errors import Refused
from crossdock.tls import MESSAGE_LIMIT_BYTES
from crossdock.v1 import link_pb2
from crossdock.v1.batch_pb2 import BatchHeader, Column
from crossdock_controller import gateway as gateway_module
from crossdock_controller.fleet import Caller, Session
from crossdock_controller.gateway import IN_FLIGHT_BYTES, ITEM_BYTES, MAX_STREAMS, UNREAD_SECONDS, _UplinkStream
from crossdock_controller.reports import MAX_REPORT_BYTES, MAX_UNANSWERED
from crossdock_controller.store import agents, connection
from crossdock_controller.store.intake import Incoming, Stored
from support.gateway import Gateway, Identity, csr_of, running_gateway, stub, wait_until
from support.http2 import DATA, END_HEADERS, HEADERS, PREFACE, SETTINGS, connect, frame, request_headers, tls_context
from support.wire import EPOCH, acknowledged, batch, hello, refusals

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway") / "controller") as running:
        yield running


_counted = itertools.count()


@pytest.fixture
def name(gateway: Gateway) -> str:
    return f"site{next(_counted)}"


@pytest.fixture
def thief(gateway: Gateway, name: str) -> Identity:
    return gateway.enroll(gateway.token(name, name))[0]


@pytest.fixture(scope="module")
def honest(gateway: Gateway) -> Identity:
    return gateway.enroll(gateway.token("honest", "honest"))[0]


@pytest.fixture(autouse=True)
def the_honest_one_is_served(gateway: Gateway, honest: Identity) -> Iterator[None]:
    """After every attack."""
    yield
    source = f"after-attack-{next(_counted)}"
    assert acknowledged(uplink(gateway, honest, batch(1, source=source))) == {source: 1}


def uplink(gateway: Gateway, identity: Identity, *batches: link_pb2.Batch) -> list[link_pb2.Ack]:
    with gateway.link(identity) as channel:
        return list(stub(channel).Uplink(iter(batches), timeout=60))


def ends(gateway: Gateway, identity: Identity, *reports: link_pb2.Report) -> grpc.RpcError:
    """How a control stream ends that sends *reports* and then waits."""
    hold = threading.Event()

    def sent() -> Iterator[link_pb2.Report]:
        yield from reports
        hold.wait(60)

    with gateway.link(identity) as channel:
        call = stub(channel).Control(sent(), timeout=60)
        with pytest.raises(grpc.RpcError) as error:
            list(call)
        hold.set()
    return error.value


def row(gateway: Gateway, name: str) -> agents.AgentRow:
    db = connection.connect(gateway.data.state)
    try:
        found = agents.get(db, name)
        assert found is not None
        return found
    finally:
        db.close()


# --- batches


def resealed(header: BatchHeader, payload: bytes = b"1;2\n") -> dict[str, object]:
    sealed = codec.Sealer().seal(header, payload)
    return {"sealed": sealed.data, "crc32": sealed.crc32}


def test_a_batch_that_claims_four_billion_records_is_refused(gateway: Gateway, thief: Identity) -> None:
    """The normalizer would make a list of them to look for the one at fault."""
    greedy = batch(1, **resealed(BatchHeader(format="csv", records=2**32 - 1)))
    assert refusals(uplink(gateway, thief, greedy)) == [("checksum", 1)]
    assert "wms" not in gateway.stored()


def test_a_header_nested_deeper_than_protobuf_reads_is_refused(gateway: Gateway, thief: Identity) -> None:
    column = b""
    for _ in range(5000):  # Column.columns is field 3
        column = b"\x1a" + varint(len(column)) + column
    head = b"\x3a" + varint(len(column)) + column
    sealed = codec.MAGIC + len(head).to_bytes(4, "big") + head
    assert refusals(uplink(gateway, thief, signed(1, sealed))) == [("checksum", 1)]


def test_a_header_of_a_hundred_thousand_columns_costs_no_more_than_its_bytes(gateway: Gateway, thief: Identity) -> None:
    wide = BatchHeader(format="rows", records=1, columns=[Column(name="c", type="text")] * 100_000)
    assert acknowledged(uplink(gateway, thief, batch(1, **resealed(wide)))) == {"wms": 1}


def test_a_batch_one_byte_over_the_limit_is_refused_and_the_one_behind_it_is_taken(
    gateway: Gateway, thief: Identity
) -> None:
    acks = uplink(gateway, thief, signed(1, bytes(codec.MAX_SEALED_BYTES + 1)), batch(1, source="erp"))
    assert refusals(acks) == [("too_large", 1)]
    assert acknowledged(acks) == {"erp": 1}


def test_a_message_one_byte_over_the_limit_of_the_wire_ends_its_stream_only(gateway: Gateway, thief: Identity) -> None:
    plain = batch(1).ByteSize() - len(batch(1).sealed)
    with pytest.raises(grpc.RpcError) as error, gateway_that_sends_anything(gateway, thief) as channel:
        list(stub(channel).Uplink(iter([signed(1, bytes(MESSAGE_LIMIT_BYTES - plain + 8))]), timeout=60))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("sequence", [0, 2**63, 2**64 - 1])
def test_a_sequence_that_no_store_can_hold_is_refused_and_spoils_no_commit(
    gateway: Gateway, thief: Identity, sequence: int
) -> None:
    acks = uplink(gateway, thief, batch(sequence, source="high"), batch(1, source=f"low-{sequence}"))
    assert [code for code, _ in refusals(acks)] in (["gap"], ["malformed"])
    assert acknowledged(acks) == {f"low-{sequence}": 1}


@pytest.mark.parametrize(
    "source",
    ["../../etc/passwd", "/etc/passwd", "C:\\x", "a/b", "a\\b", "", ".", "..", ".x", "a\0b", "a\nb", "x" * 101],
)
def test_a_source_name_that_is_a_path_is_refused(gateway: Gateway, thief: Identity, source: str) -> None:
    assert refusals(uplink(gateway, thief, batch(1, source=source))) == [("malformed", 1)]


def test_a_batch_is_filed_under_the_site_of_the_certificate_whatever_source_it_names(
    gateway: Gateway, thief: Identity, honest: Identity, name: str
) -> None:
    """The same source, epoch and sequence as another agent's: neither replaces the other, nor is taken for it."""
    uplink(gateway, honest, batch(1, source="shared", payload=b"honest\n"))
    acks = uplink(gateway, thief, batch(1, source="shared", payload=b"forged\n"), batch(2, source="shared"))
    assert acknowledged(acks) == {"shared": 2}
    from crossdock_controller.store.intake import IntakeReader

    reader = IntakeReader(gateway.data.intake)
    try:
        streams = {s.agent: s for s in reader.streams() if s.source == "shared"}
        assert {a: (s.site, s.last_sequence) for a, s in streams.items()} == {"honest": ("honest", 1), name: (name, 2)}
        assert codec.open_sealed(reader.batches(streams["honest"].id, 1, 9)[0].sealed)[1] == b"honest\n"
    finally:
        reader.close()


def test_an_agent_is_told_nothing_of_anothers_epochs_and_checkpoints(
    gateway: Gateway, thief: Identity, honest: Identity
) -> None:
    epoch = b"h" * 16
    uplink(gateway, honest, batch(1, source="secret-source", epoch=epoch))
    with gateway.link(thief) as channel:
        first = next(stub(channel).Control(iter([hello(epoch=epoch, wants_checkpoints=True)]), timeout=60))
    assert (list(first.welcome.checkpoints), list(first.welcome.yours)) == ([], [])


def test_a_replayed_batch_is_acknowledged_and_stored_once(gateway: Gateway, thief: Identity, name: str) -> None:
    source = f"replayed-{name}"
    for _ in range(3):
        assert acknowledged(uplink(gateway, thief, batch(1, source=source))) == {source: 1}
    assert len(gateway.stored()[source]) == 1


def test_a_message_that_gzip_made_small_unpacks_to_the_limit_of_the_wire_and_no_further(
    gateway: Gateway, thief: Identity, tmp_path: Path
) -> None:
    """gRPC unpacks it before anything of ours sees it: half a megabyte would be half a gigabyte."""
    (tmp_path / "key").write_bytes(thief.key)
    (tmp_path / "certificate").write_bytes(thief.certificate)
    context = tls_context()
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    packing = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packing.compress(bytes(2**20)) for _ in range(500)) + packing.flush()
    message = b"\x01" + len(bomb).to_bytes(4, "big") + bomb
    headers = request_headers("/crossdock.v1.Link/Uplink", {"grpc-encoding": "gzip"})
    process, done, peak = psutil.Process(), threading.Event(), 0

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, process.memory_info().rss)

    with connect(gateway.addresses.link, context) as sock:
        before, watching = process.memory_info().rss, threading.Thread(target=watch)
        watching.start()
        sock.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, headers))
        for at in range(0, len(message), 16_000):
            sock.sendall(frame(DATA, 0, 1, message[at : at + 16_000]))
        said = b""
        while b"grpc-status" not in said:  # "larger than max", or the plain end of a stream that holds no message
            said += sock.recv(65_536) or pytest.fail(f"hung up after {said[-200:]!r}")
        done.set()
        watching.join()
    assert peak - before < 3 * MESSAGE_LIMIT_BYTES


# --- endless streams of a sender that does not read


class _Taken:
    """A committer that stores at once."""

    def submit(self, batch: Incoming) -> asyncio.Future[Stored]:
        future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        future.set_result(Stored("stored", batch.sequence))
        return future


@pytest.mark.parametrize(
    "item", [batch(1), batch(1, source="../x"), batch(1, crc32=0)], ids=["good", "malformed", "damaged"]
)
def test_what_waits_for_a_sender_that_never_reads_is_bounded(item: link_pb2.Batch) -> None:
    taken = 0

    async def endless() -> AsyncIterator[link_pb2.Batch]:
        nonlocal taken
        while taken < 1_000_000:
            taken += 1
            yield item
            await asyncio.sleep(0)

    async def attack() -> None:
        stream = _UplinkStream(Caller("atl1", "atl1"), _Taken(), lambda _agent: True)  # type: ignore[arg-type]
        task = asyncio.create_task(stream.receive(endless()))
        before = -1
        while taken != before:  # until a hundred turns of the loop bring nothing more
            before = taken
            for _ in range(100):
                await asyncio.sleep(0)
        task.cancel()

    asyncio.run(attack())
    assert 1000 < taken <= IN_FLIGHT_BYTES // ITEM_BYTES + 2


def test_an_agent_cannot_open_streams_without_end(gateway: Gateway, thief: Identity) -> None:
    hold = threading.Event()

    def silent() -> Iterator[link_pb2.Batch]:
        hold.wait(60)
        yield from ()

    refused: queue.Queue[grpc.StatusCode] = queue.Queue()
    with gateway.link(thief) as channel:
        calls = [stub(channel).Uplink(silent(), timeout=60) for _ in range(MAX_STREAMS + 5)]
        try:
            for call in calls:
                said = functools.partial(lambda call: refused.put(call.code()), call)
                if not call.add_callback(said):  # it is over already
                    said()
            assert {refused.get(timeout=60) for _ in range(5)} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert refused.empty()
        finally:
            hold.set()
            for call in calls:
                call.cancel()
    wait_until(lambda: gateway_answers(gateway, thief), "its streams are free again")


def gateway_answers(gateway: Gateway, identity: Identity) -> bool:
    try:
        return bool(uplink(gateway, identity, batch(1, source="again")))
    except grpc.RpcError:
        return False


def test_who_does_not_say_hello_is_not_waited_for_for_ever(
    gateway: Gateway, thief: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "HELLO_SECONDS", 0.2)
    assert ends(gateway, thief).code() == grpc.StatusCode.FAILED_PRECONDITION


class _Issues:
    """A fleet that answers whoever asks for a certificate, and counts them."""

    def __init__(self) -> None:
        self.issued = 0
        self.bundle = b""

    def issue(self, _agent: str, _csr: bytes) -> None:
        self.issued += 1
        raise Refused("that is no request")

    def allows(self, _agent: str) -> bool:
        return True

    async def note(self, _call: object) -> None:
        return None

    async def read(self, _call: object) -> int:
        return 0


def test_who_asks_for_certificates_and_reads_none_is_not_listened_to_until_it_reads() -> None:
    async def endless() -> AsyncIterator[link_pb2.Report]:
        while True:
            yield link_pb2.Report(certificate_request=link_pb2.CertificateRequest(csr=b"x"))

    async def attack() -> tuple[int, int]:
        fleet = _Issues()
        service = gateway_module.LinkService(fleet, None, None)  # type: ignore[arg-type]
        session = Session(Caller("atl1", "atl1"), b"", None)  # type: ignore[arg-type]
        hearing = asyncio.create_task(service._hear(session, endless(), None))
        while session.outgoing.qsize() < MAX_UNANSWERED:
            assert not hearing.done(), hearing
            await asyncio.sleep(0.01)
        await asyncio.sleep(3 * UNREAD_SECONDS)
        at_most = fleet.issued
        for _ in range(MAX_UNANSWERED):
            session.outgoing.get_nowait()
        while fleet.issued == at_most:
            assert not hearing.done(), hearing
            await asyncio.sleep(0.01)
        hearing.cancel()
        return at_most, session.outgoing.qsize()

    issued, left = asyncio.run(attack())
    assert issued == MAX_UNANSWERED
    assert left <= MAX_UNANSWERED


def test_a_thief_who_reads_nothing_cannot_keep_others_from_being_cut(
    gateway: Gateway, thief: Identity, name: str
) -> None:
    """gRPC's end of a stream waits behind what its peer does not read."""
    csr = csr_of(ec.generate_private_key(ec.SECP256R1()))
    asked = link_pb2.Report(certificate_request=link_pb2.CertificateRequest(csr=csr))
    sent, hold = 0, threading.Event()

    def reports() -> Iterator[link_pb2.Report]:
        nonlocal sent
        yield hello()
        while not hold.is_set():
            sent += 1
            yield asked

    def revoke(agent: str) -> None:
        db = connection.connect(gateway.data.state)
        assert agents.revoke(db, agent)
        db.close()

    other = gateway.enroll(gateway.token(f"{name}-other", f"{name}-other"))[0]
    with gateway.link(thief) as channel, gateway.link(other) as second:
        stuck = stub(channel).Control(reports(), timeout=120)
        before = -1
        while sent != before or not sent:  # until nothing more goes through
            before = sent
            time.sleep(0.5)
        revoke(name)
        quiet = stub(second).Uplink(iter(queue.Queue().get, None), timeout=120)
        wait_until(lambda: not gateway_answers(gateway, thief), "the thief is off the list")
        revoke(f"{name}-other")
        with pytest.raises(grpc.RpcError) as error:
            next(quiet)
        assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED
        hold.set()
        stuck.cancel()


# --- reports


def test_a_report_over_the_limit_ends_its_stream_and_is_not_kept(gateway: Gateway, thief: Identity, name: str) -> None:
    beat = link_pb2.Heartbeat(problems=["x" * 1000] * (MAX_REPORT_BYTES // 1000 + 1))
    error = ends(gateway, thief, hello(), link_pb2.Report(heartbeat=beat))
    assert error.code() == INVALID
    assert str(MAX_REPORT_BYTES) in str(error.details())
    assert len(row(gateway, name).health) < 1000


@pytest.mark.parametrize(
    "first",
    [
        hello(revision=2**64 - 1), hello(instance=bytes(65)), hello(epoch=bytes(100_000)), hello(store=bytes(65)),
        hello(version="x" * MAX_REPORT_BYTES),
    ],
    ids=["revision", "instance", "epoch", "store", "size"],
)  # fmt: skip
def test_a_hello_that_cannot_be_one_is_refused(gateway: Gateway, thief: Identity, first: link_pb2.Report) -> None:
    assert ends(gateway, thief, first).code() == INVALID


def test_numbers_that_no_store_can_hold_do_not_spoil_what_others_report(
    gateway: Gateway, thief: Identity, honest: Identity, name: str
) -> None:
    """A fleet's heartbeats are stored in one transaction."""
    reports: queue.Queue[link_pb2.Report | None] = queue.Queue()
    reports.put(hello(instance=b"h" * 16))
    with gateway.link(honest) as channel:
        call = stub(channel).Control(iter(reports.get, None), timeout=60)
        next(call)
        for wrong in (
            link_pb2.Heartbeat(revision=2**64 - 1, config_hash="0" * 64),
            link_pb2.Heartbeat(revision=1, config_hash="x" * 100_000),
        ):
            reports.put(link_pb2.Report(heartbeat=link_pb2.Heartbeat(problems=[f"seen beside {name}"])))
            assert ends(gateway, thief, hello(), link_pb2.Report(heartbeat=wrong)).code() == INVALID
        wait_until(lambda: f"seen beside {name}" in row(gateway, "honest").health, "the honest one is stored")
        for wrong_status in (
            link_pb2.ConfigStatus(revision=2**63, state="applied"), link_pb2.ConfigStatus(state="x" * 1000),
            link_pb2.ConfigStatus(hash="x" * 1000),
        ):  # fmt: skip
            assert ends(gateway, thief, hello(), link_pb2.Report(config=wrong_status)).code() == INVALID
        reports.put(None)


def test_a_report_before_the_hello_and_one_of_no_kind_are_refused(gateway: Gateway, thief: Identity) -> None:
    for first in (link_pb2.Report(), link_pb2.Report(heartbeat=link_pb2.Heartbeat())):
        assert ends(gateway, thief, first).code() == grpc.StatusCode.FAILED_PRECONDITION


def test_bytes_that_are_no_message_end_their_stream_only(gateway: Gateway, thief: Identity) -> None:
    with gateway.link(thief) as channel:
        for method in ("Uplink", "Control"):
            raw = channel.stream_stream(f"/crossdock.v1.Link/{method}")
            with pytest.raises(grpc.RpcError):
                list(raw(iter([b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f"]), timeout=60))


def test_the_names_in_a_hello_and_a_report_change_no_row_but_its_own(
    gateway: Gateway, thief: Identity, honest: Identity, name: str
) -> None:
    before = row(gateway, "honest")
    said = link_pb2.ConfigStatus(revision=9, state="failed", reason="said by another")
    with gateway.link(thief) as channel:
        reports: queue.Queue[link_pb2.Report | None] = queue.Queue()
        reports.put(hello(host="honest", version="honest"))
        call = stub(channel).Control(iter(reports.get, None), timeout=60)
        next(call)
        reports.put(link_pb2.Report(config=said))
        wait_until(lambda: row(gateway, name).config_state == "failed", "the status is recorded")
        reports.put(None)
        list(call)
    assert row(gateway, "honest") == before


RISKS_FOUND = 5  # how `fleet risks` ends when there are some
HOSTILE = "[/red]\x1b]0;owned\x07\x1b[2J\u202egnp.exe\r\nERROR forged line\x9b31m"
EXTREME_U, EXTREME_I = 2**64 - 1, -(2**63)


def hostile_heartbeat() -> link_pb2.Heartbeat:
    source = link_pb2.SourceHealth(
        source=HOSTILE, state=HOSTILE, records=EXTREME_U, batches=EXTREME_U, pending_records=EXTREME_U,
        last_read_us=EXTREME_I, error=HOSTILE, hint=HOSTILE, counters={HOSTILE: EXTREME_U}, blocked_since_us=EXTREME_I,
        throttled_by=HOSTILE,
    )  # fmt: skip
    limit = link_pb2.LimitHealth(
        resource=HOSTILE, limit=HOSTILE, used=HOSTILE, throttling=True, waiting_bytes=EXTREME_U,
        throttled_seconds=EXTREME_U,
    )  # fmt: skip
    return link_pb2.Heartbeat(
        clock_us=EXTREME_I, outbox_batches=EXTREME_U, outbox_records=EXTREME_U, outbox_bytes=EXTREME_U,
        outbox_limit_bytes=1, disk_free_bytes=EXTREME_U, oldest_us=EXTREME_I, sources=[source], problems=[HOSTILE],
        certificate_expires_us=EXTREME_I, fills_at_us=2**63 - 1, drained_at_us=EXTREME_I,
        in_bytes_per_hour=EXTREME_U, out_bytes_per_hour=0, limits=[limit],
    )  # fmt: skip


def test_what_an_agent_says_of_itself_cannot_write_on_the_operators_screen_nor_break_a_command(
    gateway: Gateway, thief: Identity, name: str
) -> None:
    reports: queue.Queue[link_pb2.Report | None] = queue.Queue()
    reports.put(hello(host=HOSTILE, version=HOSTILE, platform=HOSTILE))
    with gateway.link(thief) as channel:
        call = stub(channel).Control(iter(reports.get, None), timeout=60)
        next(call)
        reports.put(link_pb2.Report(config=link_pb2.ConfigStatus(revision=1, state="failed", reason=HOSTILE)))
        reports.put(link_pb2.Report(heartbeat=hostile_heartbeat()))
        wait_until(lambda: "owned" in row(gateway, name).health, "the heartbeat is stored")
        for words in (["agents"], ["status"], ["top"], ["fleet", "risks"], ["account"]):
            shown = command(gateway, *words)
            assert not set(shown) & FORBIDDEN, (words, shown)
            assert name in shown or words in (["top"], ["status"], ["account"])
            said = command(gateway, *words, "--json")
            assert not set(said) & FORBIDDEN, (words, said)
            assert json.loads(said) is not None
        reports.put(None)


FORBIDDEN = {
    chr(c) for c in (*range(0x20), 0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
} - {"\n"}


def command(gateway: Gateway, *words: str) -> str:
    """Output of a command as on a terminal of no colours."""
    arguments = [sys.executable, "-m", "crossdock_controller", *words, "--data", str(gateway.data.root)]
    done = subprocess.run(arguments, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode in (0, RISKS_FOUND), f"{words}: {done.stdout}\n{done.stderr}"
    return done.stdout


# --- tools


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def signed(sequence: int, sealed: bytes, source: str = "wms") -> link_pb2.Batch:
    return link_pb2.Batch(
        source=source, epoch=EPOCH, sequence=sequence, lane="standard", sealed=sealed, crc32=zlib.crc32(sealed)
    )


def gateway_that_sends_anything(gateway: Gateway, identity: Identity) -> grpc.Channel:
    from crossdock.tls import CLIENT_OPTIONS, mutual_credentials

    credentials = mutual_credentials(identity.bundle, identity.certificate, identity.key)
    options = [*(o for o in CLIENT_OPTIONS if "message_length" not in o[0]), ("grpc.max_send_message_length", -1)]
    return grpc.secure_channel(gateway.addresses.link, credentials, options=options)


def test_the_life_of_a_certificate_is_the_controllers_choice(gateway: Gateway, thief: Identity) -> None:
    from cryptography import x509

    leaf = x509.load_pem_x509_certificate(thief.certificate)
    assert leaf.not_valid_after_utc - dt.datetime.now(dt.UTC) <= dt.timedelta(hours=24)
