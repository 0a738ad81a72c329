"""Keys, requests and signatures. Imported by enrolment and the short helper process only: `cryptography` is heavy."""

from __future__ import annotations

import os

from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import NameOID

from crossdock.errors import ConfigError, Refused
from crossdock.tls import agent_of

_UNREADABLE = (
    ValueError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType,
)  # fmt: skip
_KEY_FORM = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
_SALT_BYTES = 16
_NONCE_BYTES = 12
_WRAPPING = b"crossdock-agent key 1"


def new_key_and_request() -> tuple[bytes, bytes]:
    """A P-256 key and a CSR for it, both PEM. The subject says nothing: the controller sets every name itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "crossdock-agent")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, request.public_bytes(serialization.Encoding.PEM)


def certificate_facts(certificate: bytes, key: bytes) -> tuple[str, int]:
    """Agent id and expiry (microseconds UTC) of a PEM *certificate*.

    Raises Refused when it is not for *key*, or names not exactly one agent of ours.
    """
    try:
        leaf = x509.load_pem_x509_certificates(certificate)[0]
        own = serialization.load_pem_private_key(key, password=None)
        uris = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.UniformResourceIdentifier
        )
        theirs, ours = leaf.public_key().public_bytes(*_KEY_FORM), own.public_key().public_bytes(*_KEY_FORM)
        until = leaf.not_valid_after_utc
    except (*_UNREADABLE, TypeError, x509.ExtensionNotFound) as error:
        raise Refused(f"the certificate issued cannot be used: {error}", hint="enrol again with a new token") from error
    if theirs != ours:
        raise Refused("the certificate issued is for another key", hint="enrol again with a new token")
    agents = [agent for agent in map(agent_of, uris) if agent is not None]
    if len(agents) != 1:
        raise Refused(f"the certificate issued names {len(agents)} agents", hint="enrol again with a new token")
    return agents[0], int(until.timestamp() * 1_000_000)


def public_key_of(csr: bytes) -> bytes:
    """The key that *csr* (PEM) is for: DER, SubjectPublicKeyInfo. Raises Refused when it cannot be read."""
    try:
        key = x509.load_pem_x509_csr(csr).public_key()
    except _UNREADABLE as error:
        raise Refused(f"the certificate request cannot be read: {error}", hint="enrol again") from error
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def wrap_key(key: bytes, secret: bytes) -> bytes:
    """*key* under AES-256-GCM; its key is HKDF-SHA256 of *secret*. Salt, nonce and the rest, in this order."""
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    return salt + nonce + AESGCM(_derived(secret, salt)).encrypt(nonce, key, _WRAPPING)


def unwrap_key(data: bytes, secret: bytes) -> bytes:
    """Raises ConfigError when *secret* is not what *data* was wrapped with, or *data* was changed."""
    salt, rest = data[:_SALT_BYTES], data[_SALT_BYTES:]
    try:
        return AESGCM(_derived(secret, salt)).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _WRAPPING)
    except (InvalidTag, ValueError) as error:
        raise ConfigError(
            "the systemd credential is not the one it was wrapped with, or the file is damaged",
            hint="give the service its earlier credential again; if that is lost, enrol again with a new token",
        ) from error


def _derived(secret: bytes, salt: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, _WRAPPING).derive(secret)


def check_authorities(bundle: bytes) -> None:
    """Raises ConfigError unless *bundle* (PEM) is one or more certificates, each of a CA."""
    try:
        found = x509.load_pem_x509_certificates(bundle)
        are_authorities = [a.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for a in found]
    except (*_UNREADABLE, x509.ExtensionNotFound) as error:
        raise ConfigError(f"these are no CA certificates to trust: {error}", hint="see 'crossdock ca' there") from error
    if not all(are_authorities):
        raise ConfigError("a certificate to trust is not one of a CA", hint="see 'crossdock ca' there")


def prove(key: bytes, data: bytes) -> bytes:
    """ECDSA with SHA-256 by *key* (PEM, P-256) over *data*, DER. Raises ConfigError when *key* is no such key."""
    own = serialization.load_pem_private_key(key, password=None)
    if not isinstance(own, ec.EllipticCurvePrivateKey):
        raise ConfigError("the private key of this agent is not a P-256 key", hint="enrol again with a new token")
    return own.sign(data, ec.ECDSA(hashes.SHA256()))


def verify_config(config: bytes, signature: bytes, ca_bundle: bytes) -> None:
    """Raises ConfigError unless a CA in *ca_bundle* (PEM) signed *config* (ECDSA, SHA-256, DER)."""
    try:
        keys = [authority.public_key() for authority in x509.load_pem_x509_certificates(ca_bundle)]
    except _UNREADABLE as error:
        raise ConfigError(
            f"the CA certificates of this agent cannot be read: {error}", hint="enrol again with a new token"
        ) from error
    for key in keys:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            continue
        try:
            key.verify(signature, config, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return
    raise ConfigError(
        "the configuration is not signed by this agent's controller", hint="was the controller's CA replaced?"
    )


def pem_of_der(certificate: bytes) -> bytes:
    """Raises Refused when *certificate* is not DER."""
    try:
        return x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)
    except _UNREADABLE as error:
        raise Refused("the join token carries no readable CA certificate", hint="copy the whole token") from error
