"""The agent against a controller that is not its own, and against configurations that its own did not sign for it."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from crossdock import siteconfig
from crossdock.errors import ConfigError, ControllerUnavailable, CrossdockError
from crossdock.siteconfig import SiteConfig, SourceConfig
from crossdock.tls import SERVER_NAME, agent_uri
from crossdock.v1 import enrollment_pb2, link_pb2, link_pb2_grpc
from crossdock_agent import enrolment
from crossdock_agent.configuration import Configuration, read_last_good
from crossdock_agent.identity import Identity, IdentityStore
from crossdock_agent.link import open_channel
from crossdock_agent.problems import Problems
from crossdock_controller.authority import Authority
from support.agents import helpers_in_process
from support.forge import CLIENT, SERVER, Forger, self_signed
from support.gateway import Identity as Pair
from support.wire import hello

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def ours(tmp_path: Path) -> Forger:
    Authority.open(tmp_path / "ours")
    return Forger(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Forger:
    Authority.open(tmp_path / "theirs")
    return Forger(tmp_path / "theirs")


class Impostor(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio ships no types
    """Answers anything, and keeps what it was told."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def stream(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
            for request in requests:
                self.heard.append(request)
                yield link_pb2.Directive(welcome=link_pb2.Welcome(protocol=1)).SerializeToString()

        def unary(request: bytes, _context: grpc.ServicerContext) -> bytes:
            self.heard.append(request)
            return enrollment_pb2.EnrollResponse(agent="atl1").SerializeToString()

        if "Enroll" in details.method:
            return grpc.unary_unary_rpc_method_handler(unary)
        return grpc.stream_stream_rpc_method_handler(stream)


@contextmanager
def serving(pair: Pair) -> Iterator[tuple[Impostor, str]]:
    """An impostor with the server certificate *pair*, who takes any client; and its address."""
    impostor = Impostor()
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(impostor,))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pair.key, pair.certificate)]))
    server.start()
    try:
        yield impostor, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait(10)


def enrolled(state: Path, ours: Forger, address: str) -> IdentityStore:
    pair, store = ours.identity([agent_uri("atl1")]), IdentityStore(state)
    identity = Identity(
        agent="atl1", site="atl1", link_address=address, certificate=pair.certificate, ca_bundle=ours.bundle,
        key_file="", issued_us=1, expires_us=2**60,
    )  # fmt: skip
    store.save(identity, pair.key)
    return store


NAME = x509.DNSName(SERVER_NAME)
SERVERS: dict[str, Callable[[Forger, Forger], Pair]] = {
    "of another authority": lambda _ours, theirs: theirs.identity([NAME], use=SERVER),
    "signed by itself": lambda ours, _theirs: self_signed("atl1", ours.bundle),
    "expired": lambda ours, _theirs: ours.identity([NAME], use=SERVER, begins=-2 * HOUR, ends=-HOUR),
    "not yet valid": lambda ours, _theirs: ours.identity([NAME], use=SERVER, begins=HOUR, ends=2 * HOUR),
    "an agent's": lambda ours, _theirs: ours.identity([agent_uri("atl1")], use=CLIENT),
    "an agent's that somehow may serve": lambda ours, _theirs: ours.identity([agent_uri("atl1")], use=SERVER),
    "with our name for clients only": lambda ours, _theirs: ours.identity([NAME], use=CLIENT),
    "of another server of ours": lambda ours, _theirs: ours.identity([x509.DNSName("other.internal")], use=SERVER),
    "signed by an agent": lambda ours, _theirs: ours.identity(
        [NAME], use=SERVER, issuer=ours.identity([agent_uri("atl1")])
    ),
    "the authority's own": lambda ours, _theirs: ours.authority_itself(),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_the_agent_says_nothing_to_a_server_whose_certificate_is(
    kind: str, ours: Forger, theirs: Forger, tmp_path: Path
) -> None:
    with serving(SERVERS[kind](ours, theirs)) as (impostor, address):
        store = enrolled(tmp_path / "state", ours, address)
        with open_channel(store) as channel, pytest.raises(grpc.RpcError) as error:
            list(link_pb2_grpc.LinkStub(channel).Control(iter([hello()]), timeout=3))  # type: ignore[no-untyped-call]
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        assert impostor.heard == []


def test_it_speaks_to_the_right_one_so_that_every_silence_here_has_its_own_reason(ours: Forger, tmp_path: Path) -> None:
    with serving(ours.identity([NAME], use=SERVER)) as (impostor, address):
        store = enrolled(tmp_path / "state", ours, address)
        with open_channel(store) as channel:
            list(link_pb2_grpc.LinkStub(channel).Control(iter([hello()]), timeout=30))  # type: ignore[no-untyped-call]
        assert len(impostor.heard) == 1


def token_for(address: str, authority: Forger) -> str:
    der = authority.certificate.public_bytes(serialization.Encoding.DER)
    body = json.dumps({"a": address, "c": base64.b64encode(der).decode(), "t": "canary-join-secret"})
    return "cd1_" + base64.urlsafe_b64encode(body.encode()).decode()


@pytest.mark.parametrize("kind", SERVERS)
def test_a_join_token_is_shown_to_nobody_but_the_controller_it_names(
    kind: str, ours: Forger, theirs: Forger, tmp_path: Path
) -> None:
    with serving(SERVERS[kind](ours, theirs)) as (impostor, address):
        with pytest.raises(ControllerUnavailable) as error:
            enrolment.enroll(token_for(address, ours), tmp_path / "state")
        assert impostor.heard == []
    assert "canary-join-secret" not in str(error.value)


# --- configurations


class Untouched:
    """Pumps that must not be told of anything."""

    def apply(self, config: SiteConfig) -> None:
        raise AssertionError(f"{config} was run")

    resume = apply


def sound(site: str = "atl1", revision: int = 1) -> bytes:
    source = SourceConfig(name="wms", kind="file_drop", settings={"directory": "d"})
    return siteconfig.encode(SiteConfig(site=site, revision=revision, sources=[source]))


def offer(config: bytes, signature: bytes, **changes: object) -> link_pb2.ConfigOffer:
    fields = {"revision": 1, "hash": siteconfig.digest(config), "config": config, "signature": signature} | changes
    return link_pb2.ConfigOffer(**fields)  # type: ignore[arg-type]


def sign(forger: Forger, data: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return forger.key.sign(data, ec.ECDSA(hashes.SHA256()))


DEEP = b'{"site":"atl1","revision":1,"sources":[{"name":"w","kind":"k","settings":{"a":' + b"[" * 200_000
OFFERS: dict[str, Callable[[Forger, Forger], link_pb2.ConfigOffer]] = {
    "signed by another authority": lambda _ours, theirs: offer(sound(), sign(theirs, sound())),
    "signed by nobody": lambda _ours, _theirs: offer(sound(), b""),
    "with noise for a signature": lambda _ours, _theirs: offer(sound(), b"\x30\x06\x02\x01\x00\x02\x01\x00"),
    "with the signature of another one": lambda ours, _theirs: offer(sound(revision=2), sign(ours, sound())),
    "for another site": lambda ours, _theirs: offer(sound("rtm1"), sign(ours, sound("rtm1"))),
    "with another hash": lambda ours, _theirs: offer(sound(), sign(ours, sound()), hash="0" * 64),
    "empty": lambda ours, _theirs: offer(b"", sign(ours, b"")),
    "without any source": lambda ours, _theirs: offer(
        b'{"site":"atl1","revision":1,"sources":[]}', sign(ours, b'{"site":"atl1","revision":1,"sources":[]}')
    ),
    "nested without end": lambda ours, _theirs: offer(DEEP, sign(ours, DEEP)),
    "no text": lambda ours, _theirs: offer(b'{"site":"\xff"}', sign(ours, b'{"site":"\xff"}')),
    "signed by the agent's own key": lambda ours, _theirs: offer(sound(), b"own"),
}


@pytest.mark.parametrize("kind", OFFERS)
def test_a_configuration_is_neither_run_nor_kept_that_is(
    kind: str, ours: Forger, theirs: Forger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helpers_in_process(monkeypatch)
    state = tmp_path / "state"
    store = enrolled(state, ours, "127.0.0.1:1")
    made = OFFERS[kind](ours, theirs)
    if made.signature == b"own":
        from crossdock_agent import crypto

        made.signature = crypto.prove(store.key(), made.config)
    problems = Problems()
    configuration = Configuration(state / "last-good.json", store, Untouched(), problems)  # type: ignore[arg-type]
    status = configuration.offer(made)
    assert status.state == "failed"
    assert status.reason
    assert read_last_good(state / "last-good.json") is None
    assert configuration.hash == ""


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 100_000, b'{"revision":1}', b"\0" * 4096, b'"\\ud800"'])
def test_a_damaged_file_of_the_agents_own_is_a_problem_and_no_crash(tmp_path: Path, data: bytes) -> None:
    """A configuration that is damaged is asked for again; an identity that is damaged is enrolled again."""
    state = tmp_path / "state"
    (state / "identity").mkdir(parents=True)
    (state / "identity" / "identity.json").write_bytes(data)
    (state / "last-good.json").write_bytes(data)
    with pytest.raises(ConfigError) as error:
        IdentityStore(state).current()
    assert error.value.hint
    with pytest.raises(CrossdockError):
        read_last_good(state / "last-good.json")
    configuration = Configuration(state / "last-good.json", IdentityStore(state), Untouched(), Problems())  # type: ignore[arg-type]
    configuration.resume()
    assert configuration.hash == ""
