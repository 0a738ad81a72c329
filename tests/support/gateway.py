"""A real gateway on loopback, with its real authority, for tests that speak the wire themselves."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock.lifecycle import Stop
from crossdock.tls import CLIENT_OPTIONS, mutual_credentials, server_only_credentials
from crossdock.v1 import enrollment_pb2, enrollment_pb2_grpc, link_pb2_grpc
from crossdock_controller.authority import Authority
from crossdock_controller.paths import Addresses, DataDirectory, read_addresses
from crossdock_controller.processes import ControllerSettings, run_controller
from crossdock_controller.store import connection, tokens
from crossdock_controller.store.intake import IntakeReader, StoredBatch


@dataclass(frozen=True)
class Identity:
    key: bytes
    certificate: bytes
    bundle: bytes


@dataclass(frozen=True)
class Gateway:
    data: DataDirectory
    addresses: Addresses
    authority: Authority

    def token(
        self, site: str = "atl1", agent: str = "atl1", seconds: float = 60, *, uses: int = 1, approve: bool = False
    ) -> str:
        _, secret = self._token(site, agent, seconds, uses, approve)
        return secret

    def enroll(self, token: str, key: ec.EllipticCurvePrivateKey | None = None) -> tuple[Identity, str]:
        """The identity and the link's address. Raises grpc.RpcError."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        answer = self.ask(token, key)
        return Identity(pem(key), answer.certificate, answer.ca_bundle), answer.link_address

    def ask(
        self, token: str, key: ec.EllipticCurvePrivateKey, address: str = "", **fields: object
    ) -> enrollment_pb2.EnrollResponse:
        """The answer to one request to enrol, over the port at *address* (by default its own). Raises grpc.RpcError."""
        said = {"token": token, "csr": csr_of(key), "host": "h", "platform": "p", "version": "1"} | fields
        credentials = server_only_credentials(self.authority.bundle)
        with self.channel(address or self.addresses.enrollment, credentials) as channel:
            request = enrollment_pb2.EnrollRequest(**said)  # type: ignore[arg-type]
            return enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(request, timeout=60)  # type: ignore[no-untyped-call]

    def link(self, identity: Identity, address: str = "") -> grpc.Channel:
        """*address*: where to reach it, by default its own."""
        credentials = mutual_credentials(identity.bundle, identity.certificate, identity.key)
        return self.channel(address or self.addresses.link, credentials)

    def stored(self) -> dict[str, list[StoredBatch]]:
        reader = IntakeReader(self.data.intake)
        try:
            return {s.source: reader.batches(s.id, 1, 10_000) for s in reader.streams()}
        finally:
            reader.close()

    @staticmethod
    def channel(address: str, credentials: grpc.ChannelCredentials) -> grpc.Channel:
        return grpc.secure_channel(address, credentials, options=CLIENT_OPTIONS)

    def _token(self, site: str, agent: str, seconds: float, uses: int, approve: bool) -> tuple[str, str]:
        import base64
        import json

        token, digest = self.authority.join_token(self.addresses.enrollment)
        now_us = time.time_ns() // 1000
        row = tokens.Token(
            digest, site, agent, uses, uses, now_us + int(seconds * 1e6), now_us, approve, "local:test", 0
        )
        with closing(connection.connect(self.data.state)) as db:
            tokens.create(db, row)
        return token, json.loads(base64.urlsafe_b64decode(token.removeprefix("cd1_") + "==="))["t"]


@contextmanager
def running_gateway(directory: Path, **settings: object) -> Iterator[Gateway]:
    stop = Stop()
    config = ControllerSettings(
        data=directory, listen="127.0.0.1:0", enroll_listen="127.0.0.1:0", workers=False,
        **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    failure: list[BaseException] = []

    def run() -> None:
        try:
            run_controller(config, stop)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failure.append(error)

    data = DataDirectory(directory)
    data.addresses.unlink(missing_ok=True)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: data.addresses.exists() or bool(failure), "the gateway listens")
    if failure:
        raise failure[0]
    try:
        yield Gateway(data, read_addresses(data), Authority.open(data.authority))
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive(), "the gateway did not stop"
        if failure:
            raise failure[0]


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def stub(channel: grpc.Channel) -> link_pb2_grpc.LinkStub:
    return link_pb2_grpc.LinkStub(channel)  # type: ignore[no-untyped-call]


def csr_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def stranger(directory: Path, agent: str = "atl1") -> Identity:
    """An identity with the right name, signed by an authority that is not ours."""
    key = ec.generate_private_key(ec.SECP256R1())
    other = Authority.open(directory)
    issued = other.issue_agent(csr_of(key), agent, dt.timedelta(hours=1), dt.datetime.now(dt.UTC))
    return Identity(pem(key), issued.certificate, other.bundle)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Poll *condition* until it holds; fails the test, naming *what*, when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
        time.sleep(0.02)
