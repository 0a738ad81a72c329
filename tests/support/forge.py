"""Certificates as an attacker would have them: any names, any use, any dates, of our authority or of another one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crossdock.tls import agent_uri
from support.gateway import Identity, pem

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
_PEM = serialization.Encoding.PEM


class Forger:
    """Signs anything with the CA key and certificate of an `authority` directory: what whoever stole it could make."""

    def __init__(self, authority: Path) -> None:
        key = serialization.load_pem_private_key((authority / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = key
        self.certificate = x509.load_pem_x509_certificate((authority / "ca.pem").read_bytes())
        self.bundle = self.certificate.public_bytes(_PEM)

    def identity(
        self,
        names: Sequence[str | x509.GeneralName] = (),
        *,
        use: x509.ObjectIdentifier | None = CLIENT,
        begins: dt.timedelta = dt.timedelta(hours=-1),
        ends: dt.timedelta = dt.timedelta(hours=1),
        ca: bool = False,
        issuer: Identity | None = None,
    ) -> Identity:
        """A key and its certificate. *names*: URIs, or names of any kind; *issuer* signs in place of the CA."""
        key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
        signer, above = self.key, self.certificate
        if issuer is not None:
            loaded = serialization.load_pem_private_key(issuer.key, None)
            assert isinstance(loaded, ec.EllipticCurvePrivateKey)
            signer, above = loaded, x509.load_pem_x509_certificate(issuer.certificate)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "forged")]))
            .issuer_name(above.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        sans = [x509.UniformResourceIdentifier(n) if isinstance(n, str) else n for n in names]
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        if use is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        certificate = builder.sign(signer, hashes.SHA256()).public_bytes(_PEM)
        chain = certificate if issuer is None else certificate + issuer.certificate
        return Identity(pem(key), chain, self.bundle)

    def authority_itself(self) -> Identity:
        """The CA's own key and certificate, used as if it were an agent's."""
        return Identity(pem(self.key), self.bundle, self.bundle)


def self_signed(agent: str, bundle: bytes) -> Identity:
    """A certificate with the right name that nobody signed but itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(agent_uri(agent))]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([CLIENT]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Identity(pem(key), certificate.public_bytes(_PEM), bundle)
