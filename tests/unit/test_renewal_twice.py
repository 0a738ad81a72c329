"""A renewal that is asked for again while its answer is being looked at: key and certificate stay a pair."""

import datetime as dt
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from crossdock.v1.link_pb2 import CertificateIssued
from crossdock_agent import helper
from crossdock_agent.identity import Identity, IdentityStore
from crossdock_agent.problems import Problems
from crossdock_agent.renewal import Renewal
from support.agents import helpers_in_process
from support.pki import TestAuthority


@pytest.fixture
def identities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IdentityStore:
    helpers_in_process(monkeypatch)
    pair, now_us = TestAuthority().agent("atl1", dt.timedelta(seconds=1)), time.time_ns() // 1000
    store = IdentityStore(tmp_path)
    store.save(
        Identity(
            agent="atl1", site="atl1", link_address="here:1", certificate=pair.certificate, ca_bundle=b"", key_file="",
            issued_us=now_us - 10_000_000, expires_us=pair.expires_us,
        ),
        pair.key,
    )  # fmt: skip
    return store


def is_pair(store: IdentityStore) -> bool:
    """Whether what a new process would read belongs together."""
    again = IdentityStore(store._directory.parent)
    key = serialization.load_pem_private_key(again.key(), None)
    return x509.load_pem_x509_certificate(again.current().certificate).public_key() == key.public_key()


def test_a_second_request_while_the_first_answer_is_stored_leaves_key_and_certificate_a_pair(
    identities: IdentityStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = Problems()
    renewal = Renewal(identities, problems, lambda: time.time_ns() // 1000)
    first = renewal.request()
    assert first is not None
    authority, real = TestAuthority(), helper.certificate_facts
    again = []

    def slow(certificate: bytes, key: bytes) -> tuple[str, int]:
        again.append(renewal.request(at_once=True))  # the sending thread, meanwhile
        return real(certificate, key)

    monkeypatch.setattr(helper, "certificate_facts", slow)
    assert renewal.issued(CertificateIssued(certificate=authority.for_request(first.csr, "atl1")))
    assert is_pair(identities)
    monkeypatch.undo()
    kept = identities.current()
    assert again[0] is not None
    assert not renewal.issued(CertificateIssued(certificate=authority.for_request(again[0].csr, "atl1")))
    assert (identities.current(), problems.sentences()) == (kept, []), "the second answer changes nothing"
