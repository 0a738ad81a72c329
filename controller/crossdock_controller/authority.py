"""The private certificate authority. The server sets every name itself; a CSR contributes its public key, no more.

Agent certificates carry one SPIFFE URI and client authentication only; the controller's carries `SERVER_NAME` and the
names it is reached by. Not-before is back-dated a week for clocks that are wrong. Files: `ca.key` (owner only),
`ca.pem`, in the data directory's `authority/`.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crossdock.disk import sync_directory
from crossdock.errors import Corrupt, Refused
from crossdock.tls import SERVER_NAME, TRUST_DOMAIN, agent_uri

BACKDATE = dt.timedelta(days=7)  # so far a clock may be wrong, here when it is issued or there when it is looked at
CA_LIFE = dt.timedelta(days=3650)
SERVER_LIFE = dt.timedelta(days=30)
MAX_CSR_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Issued:
    """PEM *certificate*, and the moment it ends (microseconds UTC)."""

    certificate: bytes
    expires_us: int


@dataclass(frozen=True, slots=True)
class ServerPair:
    certificate: bytes
    key: bytes
    expires_us: int


class Authority:
    """Opened from a directory; `open` makes the CA at the first start."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    @classmethod
    def open(cls, directory: Path) -> Authority:
        """Raises Corrupt when key and certificate are damaged or do not belong together."""
        key_file, certificate_file = directory / "ca.key", directory / "ca.pem"
        if not certificate_file.exists():
            directory.mkdir(parents=True, exist_ok=True)
            sync_directory(directory.parent)
            key, certificate = _make_ca(dt.datetime.now(dt.UTC))
            write_private(key_file, _key_pem(key))
            write_private(certificate_file, certificate.public_bytes(serialization.Encoding.PEM))
        try:
            loaded = serialization.load_pem_private_key(key_file.read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        except (OSError, ValueError) as error:
            raise Corrupt(
                f"certificate authority in {directory} cannot be read: {error}",
                hint="restore 'authority' from a backup; without it every agent must enrol anew",
            ) from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != certificate.public_key():
            raise Corrupt(f"{key_file} is not the key of {certificate_file}", hint="restore both from one backup")
        return cls(loaded, certificate)

    @property
    def bundle(self) -> bytes:
        """The CA certificates an agent trusts, PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        return self._certificate.fingerprint(hashes.SHA256()).hex()

    def issue_agent(self, csr_pem: bytes, agent: str, life: dt.timedelta, now: dt.datetime) -> Issued:
        """A client certificate for *agent*. Raises Refused when the CSR is not one, or not signed by its own key."""
        public_key = _public_key_of(csr_pem)
        builder = (
            self._builder(f"agent {agent}", now, now + life)
            .public_key(public_key)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(agent_uri(agent))]), critical=False
            )
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        )
        return self._sign(builder, now + life)

    def issue_server(self, names: Sequence[str], now: dt.datetime) -> ServerPair:
        key = ec.generate_private_key(ec.SECP256R1())
        sans = [_general_name(n) for n in dict.fromkeys([SERVER_NAME, *names])]
        builder = (
            self._builder("crossdock controller", now, now + SERVER_LIFE)
            .public_key(key.public_key())
            .add_extension(x509.SubjectAlternativeName(sans), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        issued = self._sign(builder, now + SERVER_LIFE)
        return ServerPair(issued.certificate, _key_pem(key), issued.expires_us)

    def sign(self, data: bytes) -> bytes:
        """ECDSA P-256 with SHA-256 over *data*, DER; agents check it with the CA certificate's key."""
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def join_token(self, enrollment_address: str) -> tuple[str, str]:
        """(the token to paste at the site, the hash to store). It carries the CA: nothing is trusted blindly."""
        secret = secrets.token_urlsafe(24)
        body = {
            "a": enrollment_address,
            "c": base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode(),
            "t": secret,
        }
        packed = base64.urlsafe_b64encode(json.dumps(body, separators=(",", ":")).encode()).rstrip(b"=")
        return "cd1_" + packed.decode(), token_hash(secret)

    def _builder(self, common_name: str, now: dt.datetime, end: dt.datetime) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self._certificate.subject)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )

    def _sign(self, builder: x509.CertificateBuilder, end: dt.datetime) -> Issued:
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), int(end.timestamp() * 1_000_000))


def token_hash(secret: str) -> str:
    """What the store keeps of a join token: enough to recognise it, not to use it (192 random bits: no stretching)."""
    return hashlib.sha256(secret.encode()).hexdigest()


def write_private(path: Path, data: bytes) -> None:
    """Write *data* durably, readable by the owner only from its first byte, and put it in place at once."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def _make_ca(now: dt.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"crossdock CA {secrets.token_hex(4)}")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_ca_usage(), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _public_key_of(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    if len(csr_pem) > MAX_CSR_BYTES:
        raise Refused(f"certificate request has {len(csr_pem)} bytes, the limit is {MAX_CSR_BYTES}")
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        valid = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise Refused(f"certificate request cannot be read: {error}") from error
    if not valid:
        raise Refused("certificate request is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise Refused("certificate request must hold a P-256 key")
    return key


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, TRUST_DOMAIN),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),
        ]
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
