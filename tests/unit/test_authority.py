"""The authority names agents itself, and signs only what it should."""

import base64
import datetime as dt
import json
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from crossdock.errors import Corrupt, Refused
from crossdock_controller.authority import Authority, token_hash

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def csr(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str = "CN=administrator") -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name.from_rfc4514_string(name))
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://crossdock/agent/someone-else")]), False
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_certificate_carries_our_name_whatever_the_request_says(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue_agent(csr(key), "atl1", DAY, NOW)
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://crossdock/agent/atl1"]
    assert "administrator" not in certificate.subject.rfc4514_string()
    assert certificate.public_key() == key.public_key()
    assert certificate.not_valid_before_utc < NOW - dt.timedelta(minutes=30)
    assert issued.expires_us == int((NOW + DAY).timestamp() * 1_000_000)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.bundle))


def test_a_request_that_is_noise_or_of_a_weak_key_is_refused(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    for request in (
        b"",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
        b"x" * 20_000,
    ):
        with pytest.raises(Refused):
            authority.issue_agent(request, "atl1", DAY, NOW)
    with pytest.raises(Refused, match="P-256"):
        authority.issue_agent(csr(rsa.generate_private_key(65537, 2048)), "atl1", DAY, NOW)


def test_the_authority_is_the_same_after_a_restart_and_its_key_is_private(tmp_path: Path) -> None:
    first = Authority.open(tmp_path / "authority")
    assert Authority.open(tmp_path / "authority").fingerprint == first.fingerprint
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "authority" / "ca.key").stat().st_mode) == 0o600


def test_key_and_certificate_of_different_authorities_are_corrupt(tmp_path: Path) -> None:
    Authority.open(tmp_path / "a")
    Authority.open(tmp_path / "b")
    (tmp_path / "b" / "ca.key").replace(tmp_path / "a" / "ca.key")
    with pytest.raises(Corrupt, match="not the key"):
        Authority.open(tmp_path / "a")


def test_a_join_token_carries_address_and_authority_and_only_its_hash_is_stored(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    token, stored = authority.join_token("controller.example:7444")
    body = json.loads(base64.urlsafe_b64decode(token.removeprefix("cd1_") + "==="))
    assert body["a"] == "controller.example:7444"
    carried = x509.load_der_x509_certificate(base64.b64decode(body["c"]))
    assert carried == x509.load_pem_x509_certificate(authority.bundle)
    assert token_hash(body["t"]) == stored
    assert body["t"] not in stored
