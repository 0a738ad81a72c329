"""An agent over the real wire that only cares for trust: it takes up bundles, renews when told, and comes back.

It keeps everything in memory; the real agent's storing has tests of its own.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock.proof import reenroll_bytes
from crossdock.tls import CLIENT_OPTIONS, server_only_credentials
from crossdock.v1 import enrollment_pb2, enrollment_pb2_grpc, link_pb2
from support.gateway import Gateway, Identity, csr_of, pem, stub, wait_until

ABLE = ("config", "certificate", "trust")
OLD = ("config", "certificate")


def fingerprints(bundle: bytes) -> list[str]:
    return [c.fingerprint(hashes.SHA256()).hex() for c in x509.load_pem_x509_certificates(bundle)]


def signed_by(data: bytes, signature: bytes, bundle: bytes) -> list[str]:
    """The fingerprints of those in *bundle* whose key made *signature*."""
    found = []
    for certificate in x509.load_pem_x509_certificates(bundle):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        found.append(certificate.fingerprint(hashes.SHA256()).hex())
    return found


class TrustingAgent:
    """*capabilities*: OLD for a release that knows nothing of Trust and says nothing of what it trusts."""

    def __init__(self, gateway: Gateway, agent: str = "atl1", capabilities: tuple[str, ...] = ABLE) -> None:
        self.gateway = gateway
        self.agent = agent
        self.capabilities = capabilities
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.identity, _ = gateway.enroll(gateway.token(agent=agent, site=agent), self.key)
        self.directives: list[link_pb2.Directive] = []
        self.ended: grpc.RpcError | None = None
        self.renewals = 0
        self._outgoing: queue.Queue[link_pb2.Report | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._asked: ec.EllipticCurvePrivateKey | None = None

    # --- the control stream

    def connect(self) -> TrustingAgent:
        """Greets, and is welcomed; raises grpc.RpcError when it is not."""
        self.disconnect()
        self.directives, self.ended = [], None
        self._outgoing = queue.Queue()
        self._channel = self.gateway.link(self.identity)
        hello = link_pb2.Hello(
            protocol=1, version="1", instance=os.urandom(8), epoch=b"e" * 16, capabilities=self.capabilities,
            authorities=self.authorities,
        )  # fmt: skip
        self._outgoing.put(link_pb2.Report(hello=hello))
        call = stub(self._channel).Control(iter(self._outgoing.get, None))
        self._thread = threading.Thread(target=self._read, args=(call,), daemon=True)
        self._thread.start()
        wait_until(lambda: self.directives or self.ended, f"agent {self.agent} is answered")
        if self.ended is not None:
            raise self.ended
        return self

    def disconnect(self) -> None:
        if self._thread is not None:
            self._outgoing.put(None)
            self._thread.join(30)
            self._channel.close()
            self._thread = None

    @property
    def alive(self) -> bool:
        """Whether its control stream is open."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def authorities(self) -> list[str]:
        return fingerprints(self.identity.bundle) if "trust" in self.capabilities else []

    @property
    def maker(self) -> x509.Name:
        return x509.load_pem_x509_certificate(self.identity.certificate).issuer

    def heartbeat(self) -> None:
        beat = link_pb2.Heartbeat(clock_us=time.time_ns() // 1000, authorities=self.authorities)
        self._outgoing.put(link_pb2.Report(heartbeat=beat))

    def renew(self) -> None:
        self._asked = ec.generate_private_key(ec.SECP256R1())
        request = link_pb2.CertificateRequest(csr=csr_of(self._asked))
        self._outgoing.put(link_pb2.Report(certificate_request=request))

    def configs(self) -> list[link_pb2.ConfigOffer]:
        return [d.config for d in self.directives if d.WhichOneof("kind") == "config"]

    def _read(self, call: Any) -> None:
        try:
            for directive in call:
                self._take(directive)
                self.directives.append(directive)
        except grpc.RpcError as error:
            self.ended = error

    def _take(self, directive: link_pb2.Directive) -> None:
        kind = directive.WhichOneof("kind")
        if kind == "trust" and "trust" in self.capabilities:
            self.identity = Identity(self.identity.key, self.identity.certificate, directive.trust.ca_bundle)
            self.heartbeat()
            if directive.trust.renew:
                self.renew()
        elif kind == "certificate":
            assert self._asked is not None
            assert not directive.certificate.refused
            answer = directive.certificate
            self.key, self._asked = self._asked, None
            self.identity = Identity(pem(self.key), answer.certificate, answer.ca_bundle)
            self.renewals += 1
            if "trust" in self.capabilities:
                self.heartbeat()

    # --- coming back

    def reenroll(self, **changes: Any) -> enrollment_pb2.EnrollResponse:
        """Asks with its identity, whatever *changes* says otherwise, and takes the answer up. Raises grpc.RpcError."""
        new = ec.generate_private_key(ec.SECP256R1())
        request = self.reenroll_request(csr_of(new))
        for name, value in changes.items():
            setattr(request, name, value)
        credentials = server_only_credentials(self.identity.bundle)
        address = self.gateway.addresses.enrollment
        with grpc.secure_channel(address, credentials, options=CLIENT_OPTIONS) as channel:
            answer: enrollment_pb2.EnrollResponse = enrollment_pb2_grpc.EnrollmentStub(channel).Reenroll(  # type: ignore[no-untyped-call]
                request, timeout=60
            )
        self.key, self.identity = new, Identity(pem(new), answer.certificate, answer.ca_bundle)
        return answer

    def reenroll_request(self, csr: bytes) -> enrollment_pb2.ReenrollRequest:
        clock_us, machine = time.time_ns() // 1000, "m" * 64
        key = serialization.load_pem_private_key(self.identity.key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signed = reenroll_bytes(csr, self.identity.certificate, machine, clock_us)
        return enrollment_pb2.ReenrollRequest(
            certificate=self.identity.certificate, csr=csr, proof=key.sign(signed, ec.ECDSA(hashes.SHA256())),
            clock_us=clock_us, host="wms-01", platform="p", version="1", machine=machine,
        )  # fmt: skip
