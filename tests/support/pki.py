"""A small CA for tests: server and agent certificates as the controller's authority would issue them."""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crossdock.tls import SERVER_NAME, agent_uri

_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Pair:
    key: bytes
    certificate: bytes
    expires_us: int


class TestAuthority:
    """Signs what it is asked for: good, expired or for somebody else."""

    __test__ = False

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test CA {secrets.token_hex(4)}")])
        builder = self._builder(self._name, self._key.public_key(), dt.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._certificate = builder.sign(self._key, hashes.SHA256())
        self.bundle = self._certificate.public_bytes(_PEM)
        self.der = self._certificate.public_bytes(serialization.Encoding.DER)

    def server(self) -> Pair:
        return self._pair(x509.DNSName(SERVER_NAME), ExtendedKeyUsageOID.SERVER_AUTH, dt.timedelta(hours=1))

    def agent(self, agent: str, life: dt.timedelta = dt.timedelta(hours=1)) -> Pair:
        return self._pair(x509.UniformResourceIdentifier(agent_uri(agent)), ExtendedKeyUsageOID.CLIENT_AUTH, life)

    def for_request(self, csr: bytes, agent: str, life: dt.timedelta = dt.timedelta(hours=1)) -> bytes:
        """A certificate, PEM, for the key in *csr*."""
        public = x509.load_pem_x509_csr(csr).public_key()
        name = x509.UniformResourceIdentifier(agent_uri(agent))
        return self._sign(public, name, ExtendedKeyUsageOID.CLIENT_AUTH, life).public_bytes(_PEM)

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def _pair(self, name: x509.GeneralName, use: x509.ObjectIdentifier, life: dt.timedelta) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key.public_key(), name, use, life)
        pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        expires_us = int(certificate.not_valid_after_utc.timestamp() * 1_000_000)
        return Pair(pem, certificate.public_bytes(_PEM), expires_us)

    def _sign(self, public, name: x509.GeneralName, use: x509.ObjectIdentifier, life: dt.timedelta) -> x509.Certificate:  # type: ignore[no-untyped-def]
        builder = self._builder(x509.Name([]), public, life)
        builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _builder(self, subject: x509.Name, public, life: dt.timedelta) -> x509.CertificateBuilder:  # type: ignore[no-untyped-def]
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=2))
            .not_valid_after(now + life)
        )
