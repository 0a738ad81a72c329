"""One certificate authority: its key and its certificate, and what it signs.

The server sets every name itself; a CSR contributes its public key, no more. Agent certificates carry one SPIFFE URI
and client authentication only; the controller's carries `SERVER_NAME` and the names it is reached by. Not-before is
back-dated a week for clocks that are wrong.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crossdock.errors import Refused
from crossdock.tls import SERVER_NAME, TRUST_DOMAIN, agent_uri

BACKDATE = dt.timedelta(days=7)  # so far a clock may be wrong, here when it is issued or there when it is looked at
CA_LIFE = dt.timedelta(days=3650)
SERVER_LIFE = dt.timedelta(days=30)
UNREADABLE = (  # what `cryptography` raises for bytes that are no certificate and no request, or an odd one
    ValueError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType,
)  # fmt: skip
MAX_CSR_BYTES = 16 * 1024
PATH_LENGTH = 1  # one cross certificate may stand between an authority and the server's certificate

_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Issued:
    """PEM *certificate*, the moment it ends (microseconds UTC), and the fingerprint of the CA that made it."""

    certificate: bytes
    expires_us: int
    authority: str


@dataclass(frozen=True, slots=True)
class ServerPair:
    """*certificate*: PEM, the server's own and those that lead from it to what agents trust."""

    certificate: bytes
    key: bytes
    expires_us: int


class Signer:
    """A certificate authority that can sign."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate
        self.fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        self.pem = certificate.public_bytes(_PEM)

    @classmethod
    def make(cls, now: dt.datetime, life: dt.timedelta = CA_LIFE) -> Signer:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"crossdock CA {secrets.token_hex(4)}")
        builder = _builder(name, name, key.public_key(), now, now + life)
        return cls(key, _as_ca(builder, PATH_LENGTH).sign(key, hashes.SHA256()))

    @property
    def key_pem(self) -> bytes:
        return _key_pem(self._key)

    @property
    def ends(self) -> dt.datetime:
        return self.certificate.not_valid_after_utc

    @property
    def vouches(self) -> bool:
        """Whether it may make cross certificates: those of the first releases carry a path length of 0, which forbids
        it (RFC 5280 4.2.1.9)."""
        length = self.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        return length is None or length >= 1

    def cross(self, other: Signer, now: dt.datetime) -> bytes:
        """A certificate (PEM) for *other*'s name and key, by this one: who trusts only this one can follow it."""
        builder = _builder(
            other.certificate.subject, self.certificate.subject, other.certificate.public_key(), now,
            min(self.ends, other.ends),
        )  # fmt: skip
        return _as_ca(builder, 0).sign(self._key, hashes.SHA256()).public_bytes(_PEM)

    def made(self, certificate: x509.Certificate) -> bool:
        """Whether *certificate* carries this authority's name and signature."""
        try:
            if certificate.issuer != self.certificate.subject:
                return False
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True

    def issue_agent(self, csr_pem: bytes, agent: str, life: dt.timedelta, now: dt.datetime) -> Issued:
        """A client certificate for *agent*. Raises Refused when the CSR is not one, or not signed by its own key."""
        name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(agent_uri(agent))])
        return self._leaf(
            f"agent {agent}", _public_key_of(csr_pem), name, ExtendedKeyUsageOID.CLIENT_AUTH, now, now + life
        )

    def issue_server(self, names: Sequence[str], now: dt.datetime) -> ServerPair:
        key = ec.generate_private_key(ec.SECP256R1())
        sans = x509.SubjectAlternativeName([_general_name(n) for n in dict.fromkeys([SERVER_NAME, *names])])
        issued = self._leaf(
            "crossdock controller", key.public_key(), sans, ExtendedKeyUsageOID.SERVER_AUTH, now, now + SERVER_LIFE
        )
        return ServerPair(issued.certificate, _key_pem(key), issued.expires_us)

    def sign(self, data: bytes) -> bytes:
        """ECDSA P-256 with SHA-256 over *data*, DER; agents check it with the CA certificate's key."""
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def _leaf(
        self,
        common_name: str,
        public_key: ec.EllipticCurvePublicKey,
        names: x509.SubjectAlternativeName,
        use: x509.ObjectIdentifier,
        now: dt.datetime,
        end: dt.datetime,
    ) -> Issued:
        end = min(end, self.ends)  # beyond it nobody would accept it
        builder = (
            _builder(_name(common_name), self.certificate.subject, public_key, now, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(_PEM), int(end.timestamp() * 1_000_000), self.fingerprint)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: object, now: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - BACKDATE)
        .not_valid_after(end)
    )


def _as_ca(builder: x509.CertificateBuilder, path_length: int) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    return builder.add_extension(constraints, critical=True).add_extension(usage, critical=True)


def public_key_of(csr_pem: bytes) -> bytes:
    """The public key in a CSR, DER SubjectPublicKeyInfo. Raises Refused as `issue_agent` does."""
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _public_key_of(csr_pem).public_bytes(*form)


def _public_key_of(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    if len(csr_pem) > MAX_CSR_BYTES:
        raise Refused(f"certificate request has {len(csr_pem)} bytes, the limit is {MAX_CSR_BYTES}")
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        valid = csr.is_signature_valid
        key = csr.public_key()
    except (*UNREADABLE, InvalidSignature) as error:
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
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
