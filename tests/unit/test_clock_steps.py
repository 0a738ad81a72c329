"""A wall clock that is set by hours or days, at either end, never shuts anyone out for longer than it is wrong."""

import datetime as dt
from pathlib import Path

import msgspec
import pytest
import time_machine
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock.v1.link_pb2 import CertificateIssued
from crossdock_agent.identity import Identity, IdentityStore
from crossdock_agent.problems import Problems
from crossdock_agent.renewal import Renewal
from crossdock_controller.authority import Authority
from crossdock_controller.processes import ServerCredentials
from support.agents import helpers_in_process
from support.gateway import csr_of, pem

NOW = dt.datetime(2026, 1, 30, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def valid_at(certificate: bytes, moment: dt.datetime) -> bool:
    found = x509.load_pem_x509_certificate(certificate)
    return found.not_valid_before_utc <= moment <= found.not_valid_after_utc


@pytest.mark.parametrize("ahead", [dt.timedelta(hours=3), dt.timedelta(hours=20), 6 * DAY])
def test_what_is_issued_by_a_clock_that_is_ahead_is_valid_once_the_clock_is_right(
    tmp_path: Path, ahead: dt.timedelta
) -> None:
    with time_machine.travel(NOW + ahead, tick=False):
        authority = Authority.open(tmp_path)
        server = authority.issue_server(["localhost"], NOW + ahead)
        agent = authority.issue_agent(csr_of(ec.generate_private_key(ec.SECP256R1())), "atl1", DAY, NOW + ahead)
    for certificate in (authority.bundle, server.certificate, agent.certificate):
        assert valid_at(certificate, NOW)


def test_a_controller_whose_clock_was_years_ahead_makes_its_certificate_anew(tmp_path: Path) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        authority = Authority.open(tmp_path)
        clock.move_to(NOW + 4000 * DAY)
        credentials = ServerCredentials(authority, ["localhost"])
        clock.move_to(NOW)
        assert valid_at(credentials._current().certificate, NOW)
        clock.move_to(NOW + 29 * DAY)
        assert valid_at(credentials._current().certificate, NOW + 31 * DAY)


class Site:
    """An agent's identity, issued by *authority*, and its renewal under a clock of the test."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.authority, self.now = authority, NOW
        self.identities = IdentityStore(directory)
        self.problems = Problems()
        key = ec.generate_private_key(ec.SECP256R1())
        issued = authority.issue_agent(csr_of(key), "atl1", DAY, NOW)
        identity = Identity(
            agent="atl1", site="atl1", link_address="x:1", certificate=issued.certificate, ca_bundle=authority.bundle,
            key_file="", issued_us=us(NOW), expires_us=issued.expires_us,
        )  # fmt: skip
        self.identities.save(identity, pem(key))
        self.renewal = Renewal(self.identities, self.problems, lambda: us(self.now))

    def answer(
        self, controllers_clock: dt.datetime, life: dt.timedelta = DAY, *, at_once: bool = False
    ) -> CertificateIssued:
        request = self.renewal.request(at_once=at_once)
        assert request is not None
        issued = self.authority.issue_agent(request.csr, "atl1", life, controllers_clock)
        return CertificateIssued(certificate=issued.certificate, ca_bundle=self.authority.bundle)


def us(moment: dt.datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    helpers_in_process(monkeypatch)
    return Site(tmp_path / "state", Authority.open(tmp_path / "authority"))


def test_a_certificate_that_has_ended_before_the_one_in_use_is_not_taken(site: Site) -> None:
    site.now = NOW + dt.timedelta(hours=17)
    assert not site.renewal.issued(site.answer(site.now - dt.timedelta(hours=30)))
    assert site.identities.current().expires_us == us(NOW + DAY)
    assert "controller's clock" in "; ".join(site.problems.sentences())


def test_a_shorter_life_that_the_centre_gives_is_taken_and_not_asked_for_again_and_again(site: Site) -> None:
    """A CA takes over after the life of certificates was shortened: who refused would hold the old CA for ever."""
    site.now = NOW + dt.timedelta(hours=1)
    assert site.renewal.issued(site.answer(site.now, dt.timedelta(hours=2), at_once=True))
    assert site.identities.current().expires_us == us(site.now + dt.timedelta(hours=2))
    assert site.problems.sentences() == []


def test_a_certificate_that_lasts_longer_is_taken(site: Site) -> None:
    site.now = NOW + dt.timedelta(hours=17)
    assert site.renewal.issued(site.answer(site.now))
    assert site.identities.current().expires_us == us(site.now + DAY)


@pytest.mark.parametrize(("life", "at_most"), [(dt.timedelta(seconds=60), 3.5), (DAY, 300.5)])
def test_a_renewal_that_was_not_answered_is_asked_for_again_within_the_certificates_life(
    site: Site, monkeypatch: pytest.MonkeyPatch, life: dt.timedelta, at_most: float
) -> None:
    ticks = [1000.0]
    monkeypatch.setattr("crossdock_agent.renewal.time.monotonic", lambda: ticks[0])
    identity = site.identities.current()
    site.identities.save(msgspec.structs.replace(identity, expires_us=us(NOW + life)), site.identities.key())
    site.now = NOW + life * 0.7
    assert site.renewal.request() is not None
    assert site.renewal.request() is None
    ticks[0] += at_most
    assert site.renewal.request() is not None
