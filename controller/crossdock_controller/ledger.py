"""Rows of the ledger of certificates: of one that was just issued, and of the one that a caller shows."""

from __future__ import annotations

import hashlib
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from crossdock_controller.authority import BACKDATE, Authority, Issued
from crossdock_controller.store.certificates import Certificate

_PEER = "x509_pem_cert"  # as gRPC names the peer's certificate in the context of a call


def of_issued(issued: Issued, agent: str, how: str, bundle: tuple[str, ...]) -> Certificate:
    """*how* as in `store.certificates`; *bundle*: the authorities that travel with it."""
    return of(x509.load_pem_x509_certificate(issued.certificate), agent, issued.authority, how, bundle)


def shown(context: Any, agent: str, authority: Authority) -> Certificate | None:
    """What *agent* showed in its handshake; None on a connection without a certificate."""
    found = context.auth_context().get(_PEER, ())
    if not found:
        return None
    certificate = x509.load_pem_x509_certificate(found[0])
    return of(certificate, agent, authority.maker_of(certificate))


def of(
    certificate: x509.Certificate, agent: str, authority: str, how: str = "seen", bundle: tuple[str, ...] = ()
) -> Certificate:
    """When it was issued is read from its not-before, which is back-dated by always the same time."""
    key = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Certificate(
        serial=format(certificate.serial_number, "x"),
        agent=agent,
        authority=authority,
        key_sha256=hashlib.sha256(key).hexdigest(),
        issued_us=int((certificate.not_valid_before_utc + BACKDATE).timestamp() * 1_000_000),
        expires_us=int(certificate.not_valid_after_utc.timestamp() * 1_000_000),
        how=how,
        bundle=bundle,
    )
