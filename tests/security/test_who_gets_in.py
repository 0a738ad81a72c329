"""The link port against certificates that are not an enrolled agent's: each is refused, and nothing of it is stored."""

from __future__ import annotations

import datetime as dt
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock.errors import Refused
from crossdock.tls import agent_uri
from crossdock.v1 import link_pb2
from crossdock_controller.authority import BACKDATE, Authority
from crossdock_controller.store import agents, connection
from support.forge import CLIENT, SERVER, Forger, self_signed
from support.gateway import Gateway, Identity, csr_of, running_gateway, stub, wait_until
from support.wire import acknowledged, batch, batches_of, hello

HOUR = dt.timedelta(hours=1)
NOT_AT_ALL = grpc.StatusCode.UNAVAILABLE  # the handshake failed
_counted = itertools.count()
NOT_YOU = grpc.StatusCode.PERMISSION_DENIED  # the handshake was made, the name is on no list


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway") / "controller") as running:
        yield running


@pytest.fixture(scope="module")
def enrolled(gateway: Gateway) -> Identity:
    gateway.enroll(gateway.token("rtm1", "rtm1"))
    return gateway.enroll(gateway.token("atl1", "atl1"))[0]


@pytest.fixture
def ours(gateway: Gateway) -> Forger:
    return Forger(gateway.data.authority)


def refused(gateway: Gateway, identity: Identity, *, seconds: float = 3) -> grpc.StatusCode:
    """How a call of both kinds ends; the same for both. A handshake that fails is tried until *seconds* are over."""
    source = f"stolen-{next(_counted)}"
    with gateway.link(identity) as channel:
        codes = set()
        for call in (
            lambda: list(stub(channel).Uplink(iter([batch(1, source=source)]), timeout=seconds)),
            lambda: next(stub(channel).Control(iter([hello()]), timeout=seconds)),
        ):
            with pytest.raises(grpc.RpcError) as error:
                call()
            codes.add(error.value.code())
    assert source not in gateway.stored()
    assert len(codes) == 1, codes
    return codes.pop()


def name(agent: str = "atl1") -> list[str | x509.GeneralName]:
    return [agent_uri(agent)]


def test_a_certificate_as_ours_would_be_is_taken_so_that_every_refusal_here_has_its_own_reason(
    gateway: Gateway, enrolled: Identity, ours: Forger
) -> None:
    with gateway.link(ours.identity(name())) as channel:
        assert acknowledged(stub(channel).Uplink(iter([batch(1, source="control")]), timeout=20)) == {"control": 1}


def other_authority(_: Forger, directory: Path, bundle: bytes) -> Identity:
    Authority.open(directory)
    made = Forger(directory).identity(name())
    return Identity(made.key, made.certificate, bundle)  # it trusts our server: that is not why it fails


def an_authority_of_the_same_name(ours: Forger, directory: Path, bundle: bytes) -> Identity:
    """Another CA key under the very subject of ours."""
    Authority.open(directory)
    other = Forger(directory)
    twin = other.identity(name(), issuer=ours_as_issuer(ours, other))
    return Identity(
        twin.key, twin.certificate.split(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n", bundle
    )


def ours_as_issuer(ours: Forger, other: Forger) -> Identity:
    return Identity(other.authority_itself().key, ours.bundle, ours.bundle)


NEVER_ENTER: dict[str, Callable[[Forger, Path, bytes], Identity]] = {
    "of another authority": other_authority,
    "of another authority with our authority's name": an_authority_of_the_same_name,
    "signed by itself": lambda _ours, _directory, bundle: self_signed("atl1", bundle),
    "expired": lambda ours, _directory, _bundle: ours.identity(name(), begins=-2 * HOUR, ends=-dt.timedelta(seconds=1)),
    "not yet valid": lambda ours, _directory, _bundle: ours.identity(name(), begins=HOUR, ends=2 * HOUR),
    "the controller's kind": lambda ours, _directory, _bundle: ours.identity(name(), use=SERVER),
    "signed by an agent's certificate": lambda ours, _directory, _bundle: ours.identity(
        name(), issuer=ours.identity(name("rtm1"))
    ),
    "signed by a lesser authority": lambda ours, _directory, _bundle: ours.identity(
        name(), issuer=ours.identity(name("rtm1"), ca=True)
    ),
}


@pytest.mark.parametrize("kind", NEVER_ENTER)
def test_a_certificate_that_is_wrong_makes_no_handshake(
    gateway: Gateway, enrolled: Identity, ours: Forger, tmp_path: Path, kind: str
) -> None:
    identity = NEVER_ENTER[kind](ours, tmp_path / "authority", ours.bundle)
    assert refused(gateway, identity) == NOT_AT_ALL


WRONG_NAMES: dict[str, list[str | x509.GeneralName]] = {
    "none": [],
    "of no agent": name("nobody"),
    "two agents": [agent_uri("atl1"), agent_uri("rtm1")],
    "one that is enrolled and one that is not": [agent_uri("nobody"), agent_uri("atl1")],
    "an agent and a stranger": [agent_uri("atl1"), "spiffe://elsewhere/agent/atl1"],
    "of another trust domain": ["spiffe://crossdock.example/agent/atl1"],
    "in capitals": ["spiffe://crossdock/agent/ATL1"],
    "with a path behind it": ["spiffe://crossdock/agent/atl1/x"],
    "with a path before it": ["spiffe://crossdock/x/agent/atl1"],
    "with dots": ["spiffe://crossdock/agent/../agent/atl1"],
    "with a query": ["spiffe://crossdock/agent/atl1?"],
    "empty": ["spiffe://crossdock/agent/"],
    "as a host": [x509.DNSName("spiffe://crossdock/agent/atl1")],
    "as a mailbox": [x509.RFC822Name("atl1@crossdock")],
    "as a host beside a stranger": [x509.DNSName("atl1"), "spiffe://elsewhere/agent/rtm1"],
}


@pytest.mark.parametrize("kind", WRONG_NAMES)
def test_a_certificate_of_ours_with_names_that_are_not_exactly_one_enrolled_agents_is_refused(
    gateway: Gateway, enrolled: Identity, ours: Forger, kind: str
) -> None:
    assert refused(gateway, ours.identity(WRONG_NAMES[kind]), seconds=20) in (NOT_YOU, NOT_AT_ALL)


def test_the_authoritys_own_certificate_is_no_agents(gateway: Gateway, enrolled: Identity, ours: Forger) -> None:
    assert refused(gateway, ours.authority_itself(), seconds=20) in (NOT_YOU, NOT_AT_ALL)


def test_a_certificate_without_a_use_is_judged_by_its_name_alone_and_ours_always_have_one(
    gateway: Gateway, enrolled: Identity, ours: Forger
) -> None:
    assert refused(gateway, ours.identity(name("nobody"), use=None), seconds=20) == NOT_YOU
    leaf = x509.load_pem_x509_certificate(enrolled.certificate)
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [CLIENT]
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


@pytest.mark.parametrize("agent", ["", "atl1\0.example", "a/b", "..", "atl1?", "atl1#x", "a b", "ätl1", "x" * 101])
def test_our_authority_signs_no_name_that_could_be_read_as_another(gateway: Gateway, agent: str) -> None:
    """gRPC shows a name up to its first NUL."""
    csr = csr_of(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(Refused, match="is no name for an agent"):
        gateway.authority.issue_agent(csr, agent, HOUR, dt.datetime.now(dt.UTC))


def test_not_before_is_back_dated_and_no_further_than_it_says(gateway: Gateway, enrolled: Identity) -> None:
    leaf = x509.load_pem_x509_certificate(enrolled.certificate)
    age = dt.datetime.now(dt.UTC) - leaf.not_valid_before_utc
    assert BACKDATE <= age < BACKDATE + HOUR


def test_without_a_certificate_there_is_no_handshake_at_the_link(gateway: Gateway, enrolled: Identity) -> None:
    credentials = grpc.ssl_channel_credentials(gateway.authority.bundle)
    with gateway.channel(gateway.addresses.link, credentials) as channel, pytest.raises(grpc.RpcError) as error:
        list(stub(channel).Uplink(iter([batch(1, source="stolen")]), timeout=3))
    assert error.value.code() == NOT_AT_ALL
    with grpc.insecure_channel(gateway.addresses.link) as channel, pytest.raises(grpc.RpcError) as error:
        list(stub(channel).Uplink(iter([batch(1, source="stolen")]), timeout=3))
    assert "stolen" not in gateway.stored()


class Streams:
    """An Uplink and a Control that stay open; *ends* gets the code of each one's end."""

    def __init__(self, gateway: Gateway, identity: Identity) -> None:
        self.ends: queue.Queue[grpc.StatusCode] = queue.Queue()
        self.greeted = threading.Event()
        self._channel = gateway.link(identity)
        self._hold = threading.Event()
        self.acks = 0
        for call in (
            stub(self._channel).Uplink(self._then_wait(batch(1, source="live")), timeout=60),
            stub(self._channel).Control(self._then_wait(hello()), timeout=60),
        ):
            threading.Thread(target=self._listen, args=(call,), daemon=True).start()

    def _then_wait(self, first: object) -> Iterator[object]:
        yield first
        self._hold.wait(60)

    def _listen(self, call: grpc.Call) -> None:
        try:
            for _ in call:  # type: ignore[attr-defined]
                self.acks += 1
        except grpc.RpcError as error:
            self.ends.put(error.code())

    def close(self) -> None:
        self._hold.set()
        self._channel.close()


def test_a_revoked_agents_streams_are_cut_at_once_and_its_next_calls_refused(gateway: Gateway) -> None:
    """A second on a quiet machine (it is looked at twice a second); the limit here is what a loaded one needs."""
    identity = gateway.enroll(gateway.token("par1", "par1"))[0]
    streams = Streams(gateway, identity)
    try:
        deadline = time.monotonic() + 60
        while streams.acks < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        db = connection.connect(gateway.data.state)
        assert agents.revoke(db, "par1")
        db.close()
        assert [streams.ends.get(timeout=30) for _ in range(2)] == [NOT_YOU, NOT_YOU]
    finally:
        streams.close()
    assert refused(gateway, identity, seconds=20) == NOT_YOU
    assert len(batches_of(gateway, "live")) == 1


def gets_in(gateway: Gateway, identity: Identity) -> bool:
    with gateway.link(identity) as channel:
        try:
            return bool(list(stub(channel).Uplink(iter([batch(1, source="probe")]), timeout=20)))
        except grpc.RpcError:
            return False


def test_what_was_stolen_before_a_revocation_stays_worthless_when_the_site_enrols_again(gateway: Gateway) -> None:
    """Under the same name, which is the usual case. The thief tries all the time, the new agent starts minutes later:
    a certificate of before that got in first could renew itself, and lock the new one out as the older of the two."""
    stolen = gateway.enroll(gateway.token("bos1", "bos1"))[0]
    with gateway.link(stolen) as channel:
        next(stub(channel).Control(iter([hello()]), timeout=60))
    db = connection.connect(gateway.data.state)
    agents.revoke(db, "bos1")
    db.close()
    wait_until(lambda: not gets_in(gateway, stolen), "it is off the list")
    new = gateway.enroll(gateway.token("bos1", "bos1"))[0]
    assert refused(gateway, stolen, seconds=20) == NOT_YOU
    with gateway.link(new) as channel:
        assert acknowledged(stub(channel).Uplink(iter([batch(1, source="new")]), timeout=60)) == {"new": 1}
    assert refused(gateway, stolen, seconds=20) == NOT_YOU


def test_a_stream_opened_before_the_revocation_that_greets_after_it_gets_nothing(gateway: Gateway) -> None:
    """The name is looked up when the stream opens; a thief could open one early and wait."""
    identity = gateway.enroll(gateway.token("sea1", "sea1"))[0]
    go = threading.Event()

    def late() -> Iterator[link_pb2.Report]:
        go.wait(60)
        yield hello()

    with gateway.link(identity) as channel:
        call = stub(channel).Control(late(), timeout=60)
        grpc.channel_ready_future(channel).result(30)
        time.sleep(0.2)  # so that the handler most likely waits for the hello; the outcome is the same if it does not
        db = connection.connect(gateway.data.state)
        agents.revoke(db, "sea1")
        db.close()
        time.sleep(1.2)  # two looks at the list, at the least
        go.set()
        with pytest.raises(grpc.RpcError) as error:
            next(call)
        assert error.value.code() == NOT_YOU


def test_a_token_made_before_a_name_was_taken_does_not_take_it_from_another_site(gateway: Gateway) -> None:
    """Whoever may make tokens for one site could make one for a name that another site will have, and wait."""
    waiting = gateway.token("theirs", "fra1")
    owner = gateway.enroll(gateway.token("fra1", "fra1"))[0]
    with pytest.raises(grpc.RpcError) as error:
        gateway.enroll(waiting)
    assert error.value.code() == NOT_YOU
    assert "fra1" in str(error.value.details())
    db = connection.connect(gateway.data.state)
    row = agents.get(db, "fra1")
    db.close()
    assert row is not None
    assert row.site == "fra1"
    assert gets_in(gateway, owner)
