"""The agent's identity over its life: approval, another machine, other CAs, an end while it was away."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import msgspec
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock import siteconfig
from crossdock.errors import Refused, Retryable
from crossdock.machine import VARIABLE, key_code, machine_digest
from crossdock.proof import reenroll_bytes
from crossdock.retry import Backoff
from crossdock.v1 import enrollment_pb2, link_pb2
from crossdock_agent import expiry, health, reenrolment, streams, trust
from crossdock_agent.enrolment import enroll
from crossdock_agent.identity import Identity, IdentityStore
from crossdock_agent.keystore import CREDENTIAL
from support.agents import RunningAgent, eventually, helpers_in_process, site_config
from support.fleet_controller import FleetController
from support.pki import TestAuthority
from support.processes import Process, command

QUICK = Backoff(first_seconds=0.05, max_seconds=0.2)
ONE, TWO, THREE = "1" * 32, "2" * 32, "3" * 32  # ids of machines


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "WRITE_SECONDS", 0.05)
    monkeypatch.setattr(streams.Stream.__init__, "__defaults__", (QUICK,))
    monkeypatch.setattr(reenrolment, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(reenrolment, "UNREACHED", QUICK)
    monkeypatch.setattr(reenrolment, "REFUSED", QUICK)
    monkeypatch.setenv(VARIABLE, ONE)
    helpers_in_process(monkeypatch)


@pytest.fixture
def controller() -> Iterator[FleetController]:
    fake = FleetController()
    fake.start()
    yield fake
    fake.stop()


def token(controller: FleetController, secret: str = "token-1") -> str:
    ca = base64.b64encode(controller.authority.der).decode()
    fields = {"a": f"127.0.0.1:{controller.enrollment_port}", "c": ca, "t": secret}
    return "cd1_" + base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def fingerprint(authority: TestAuthority) -> str:
    return x509.load_der_x509_certificate(authority.der).fingerprint(hashes.SHA256()).hex()


def ended(controller: FleetController, state: Path, seconds: float = 5) -> IdentityStore:
    """An identity whose certificate ended so many seconds ago."""
    store = controller.identity(state)
    pair = controller.authority.agent("atl1", dt.timedelta(seconds=-seconds))
    issued_us = pair.expires_us - 10_000_000
    store.save(
        msgspec.structs.replace(
            store.current(), certificate=pair.certificate, expires_us=pair.expires_us, issued_us=issued_us,
            enrollment_address=f"127.0.0.1:{controller.enrollment_port}", machine=machine_digest(ONE),
        ),
        pair.key,
    )  # fmt: skip
    return store


# --- enrolling


def test_an_agent_that_waits_for_approval_shows_a_code_and_sends_the_same_request_until_it_is_approved(
    controller: FleetController, tmp_path: Path
) -> None:
    controller.pending = 2
    said: list[str] = []
    pauses: list[float] = []
    identity = enroll(token(controller), tmp_path, say=said.append, sleep=pauses.append)
    assert identity.agent == "atl1"
    assert len(said) == 1
    assert "code " in said[0]
    assert "crossdock" in said[0]
    assert pauses == [1.0, 1.0]
    assert len({request.csr for request in controller.enrolments}) == 1
    assert {request.machine for request in controller.enrolments} == {machine_digest(ONE)}
    assert identity.enrollment_address == f"127.0.0.1:{controller.enrollment_port}"
    assert identity.machine == machine_digest(ONE)
    assert sorted(p.name[:4] for p in (tmp_path / "identity").iterdir()) == ["iden", "key-"]


def test_waiting_for_approval_goes_on_after_a_restart_with_the_same_key(
    controller: FleetController, tmp_path: Path
) -> None:
    controller.pending = 2
    with pytest.raises(Retryable, match="not approved yet"):
        enroll(token(controller), tmp_path, wait_seconds=0)
    assert (tmp_path / "identity" / "request.json").stat().st_mode & 0o077 == 0 or sys.platform == "win32"
    enroll(token(controller), tmp_path, wait_seconds=60, sleep=lambda _seconds: None)
    assert len(controller.enrolments) == 3
    assert len({request.csr for request in controller.enrolments}) == 1


def test_a_request_that_was_denied_is_forgotten_and_the_next_has_a_key_of_its_own(
    controller: FleetController, tmp_path: Path
) -> None:
    for secret in ("denied", "denied"):
        with pytest.raises(Refused):
            enroll(token(controller, secret), tmp_path)
    enroll(token(controller), tmp_path)
    assert len({request.csr for request in controller.enrolments}) == 3


def test_an_outage_of_the_controller_does_not_end_the_waiting(controller: FleetController, tmp_path: Path) -> None:
    controller.pending = 1
    said: list[str] = []
    naps = 0

    def nap(_seconds: float) -> None:
        nonlocal naps
        naps += 1
        controller.stop() if naps == 1 else controller.start() if naps == 2 else None

    enroll(token(controller), tmp_path, say=said.append, sleep=nap)
    assert any("cannot be asked just now" in sentence for sentence in said)


def test_a_person_sees_the_code_and_the_next_step_at_the_terminal(controller: FleetController, tmp_path: Path) -> None:
    controller.pending = 1
    arguments = [command("crossdock-agent"), "enroll", "--token", token(controller), "--state", str(tmp_path)]
    first = subprocess.run(
        [*arguments, "--wait", "0"], capture_output=True, encoding="utf-8", timeout=60, check=False
    )  # fmt: skip
    assert first.returncode == 1
    assert "waiting for approval, code" in first.stdout
    assert "give the same command again" in first.stderr
    second = subprocess.run(arguments, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert second.returncode == 0, second.stderr
    assert len({request.csr for request in controller.enrolments}) == 1
    wrong = subprocess.run(
        [*arguments, "--wait", "soon"], capture_output=True, encoding="utf-8", timeout=60, check=False
    )  # fmt: skip
    assert "not a time to wait" in wrong.stderr


# --- the machine


def test_a_state_directory_copied_to_another_machine_is_refused_before_anything_is_sent(
    controller: FleetController, tmp_path: Path
) -> None:
    """Real processes: LESSONS row 33."""
    state = tmp_path / "state"
    controller.identity(state)
    controller.offer(site_config(1, stop_all=True), 1)
    run = [command("crossdock-agent"), "run", "--state", str(state)]
    first = Process("first", run, tmp_path, {VARIABLE: ONE}).start()
    try:
        controller.wait(lambda: (1, "applied") in controller.statuses(), "the first machine runs")
    finally:
        first.stop()
    heard = len(controller.reports)
    assert controller.reports[0].hello.machine == machine_digest(ONE)
    second = Process("second", run, tmp_path, {VARIABLE: TWO}).start()
    try:
        eventually(lambda: second.code is not None, "the copy gives up", 60)
    finally:
        second.stop()
    assert second.code == 1
    assert "made on another machine" in second.tail()
    assert "Next: for a new agent here" in second.tail()
    assert len(controller.reports) == heard
    done = subprocess.run(
        [command("crossdock-agent"), "enroll", "--token", token(controller), "--state", str(state)],
        env={**os.environ, VARIABLE: TWO}, capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    third = Process("third", run, tmp_path, {VARIABLE: TWO}).start()
    try:
        controller.wait(lambda: controller.reports[-1:] and len(controller.reports) > heard, "it runs here now")
    finally:
        third.stop()
    assert controller.reports[heard].hello.machine == machine_digest(TWO)
    heard = len(controller.reports)
    done = subprocess.run(  # and the third machine replaces the second, as a person says
        [command("crossdock-agent"), "bind", "--state", str(state)],
        env={**os.environ, VARIABLE: THREE}, capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "crossdock agents move atl1" in done.stdout
    fourth = Process("fourth", run, tmp_path, {VARIABLE: THREE}).start()
    try:
        controller.wait(lambda: len(controller.reports) > heard, "it runs on the third")
    finally:
        fourth.stop()
    assert controller.reports[heard].hello.machine == machine_digest(THREE)


def test_a_service_with_a_credential_wraps_the_key_and_never_loads_cryptography(
    controller: FleetController, tmp_path: Path
) -> None:
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    credentials.mkdir()
    (credentials / CREDENTIAL).write_bytes(b"s" * 32)
    controller.identity(state)
    run = [command("crossdock-agent"), "run", "--state", str(state)]
    controller.offer(site_config(1, stop_all=True), 1)
    service = Process("service", run, tmp_path, {"CREDENTIALS_DIRECTORY": str(credentials)}).start()
    try:
        controller.wait(lambda: (1, "applied") in controller.statuses(), "it is welcomed with the wrapped key")
        (key,) = (state / "identity").glob("key-*")
        assert b"PRIVATE KEY" not in key.read_bytes()
        loaded = {part for m in psutil.Process(service.pid).memory_maps() for part in Path(m.path).parts}
        assert "cryptography" not in loaded
        assert "grpc" in "".join(loaded)
        said = subprocess.run(
            [command("crossdock-agent"), "check", "--state", str(state)],
            capture_output=True, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip
        assert f"ok    private key: wrapped under the systemd credential {CREDENTIAL}" in said.stdout
    finally:
        service.stop()
    said = subprocess.run(
        [command("crossdock-agent"), "check", "--state", str(state)],
        capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip
    assert "FAIL  private key" in said.stdout
    assert "systemctl start crossdock-agent" in said.stdout
    by_hand = Process("by-hand", run, tmp_path).start()
    try:
        eventually(lambda: by_hand.code is not None, "it ends", 60)
    finally:
        by_hand.stop()
    assert "Next: start it by its service" in by_hand.tail()
    assert "Traceback" not in by_hand.tail()


# --- CAs


def test_hello_and_heartbeat_say_what_is_trusted_and_what_runs(controller: FleetController, tmp_path: Path) -> None:
    controller.identity(tmp_path)
    config = site_config(1, stop_all=True)
    controller.offer(config, 1)
    with RunningAgent(tmp_path):
        controller.wait(lambda: any(beat.revision == 1 for beat in controller.heartbeats()), "a heartbeat says it")
    hello = controller.reports[0].hello
    assert hello.machine == machine_digest(ONE)
    assert list(hello.authorities) == [fingerprint(controller.authority)]
    beat = next(beat for beat in controller.heartbeats() if beat.revision == 1)
    assert beat.config_hash == siteconfig.digest(config)
    assert list(beat.authorities) == [fingerprint(controller.authority)]
    assert "trust" in hello.capabilities


def test_a_ca_is_exchanged_under_a_running_agent_in_phases(controller: FleetController, tmp_path: Path) -> None:
    old, new = controller.authority, TestAuthority()
    controller.identity(tmp_path)
    both = old.bundle + new.bundle
    with RunningAgent(tmp_path) as agent:
        controller.wait(controller.heartbeats, "it is welcomed")
        controller.order(both)
        controller.wait(
            lambda: list(controller.heartbeats()[-1].authorities) == [fingerprint(old), fingerprint(new)],
            "both are trusted",
        )
        assert IdentityStore(tmp_path).current().ca_bundle == both
        controller.order(both, renew=True)
        controller.wait(
            lambda: any(r.WhichOneof("kind") == "certificate_request" for r in controller.reports),
            "a certificate is asked for at once",
        )
        heard = len(controller.reports)
        _issue_by(controller, new, both)
        controller.wait(lambda: IdentityStore(tmp_path).current().certificate != b"", "stored")
        eventually(lambda: _issuer(tmp_path) == "new", "the new certificate is stored")
        controller.become(new)
        controller.wait(
            lambda: any(r.WhichOneof("kind") == "hello" for r in controller.reports[heard:]), "it comes back", 60
        )

        def forgotten() -> bool:
            controller.order(new.bundle)  # again: the stream of before may have taken it with it
            with controller.changed:
                return controller.changed.wait_for(
                    lambda: list(controller.heartbeats()[-1].authorities) == [fingerprint(new)], 2
                )

        eventually(forgotten, "the old one is forgotten")
        assert agent.problems() == ""


def _issue_by(controller: FleetController, authority: TestAuthority, bundle: bytes) -> None:
    request = next(r.certificate_request for r in reversed(controller.reports) if r.HasField("certificate_request"))
    issued = authority.for_request(request.csr, "atl1", dt.timedelta(hours=2))
    _ISSUED["new"] = issued
    controller.send(
        link_pb2.Directive(certificate=link_pb2.CertificateIssued(certificate=issued, ca_bundle=bundle))
    )  # fmt: skip


_ISSUED: dict[str, bytes] = {}


def _issuer(state: Path) -> str:
    return "new" if IdentityStore(state).current().certificate == _ISSUED.get("new") else "old"


@pytest.mark.parametrize("kind", ["stranger", "garbage", "leaf"])
def test_a_bundle_that_would_lock_the_agent_out_is_not_taken_up(
    controller: FleetController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(trust, "PROBE_SECONDS", 1.0)
    store = controller.identity(tmp_path)
    bundle = {
        "stranger": TestAuthority().bundle,
        "garbage": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "leaf": controller.authority.bundle + store.current().certificate,
    }[kind]
    with RunningAgent(tmp_path) as agent:
        controller.wait(controller.heartbeats, "it is welcomed")
        controller.order(bundle)
        eventually(lambda: "are not taken up" in agent.problems(), "a person is told")
        assert IdentityStore(tmp_path).current().ca_bundle == controller.authority.bundle
        controller.order(controller.authority.bundle)
        eventually(lambda: agent.problems() == "", "a good one clears it")
    assert {tuple(beat.authorities) for beat in controller.heartbeats()} == {(fingerprint(controller.authority),)}


# --- the end of a certificate


def test_an_agent_whose_certificate_ended_while_it_was_away_is_let_in_by_its_old_key(
    controller: FleetController, tmp_path: Path
) -> None:
    store = ended(controller, tmp_path)
    old = store.current()
    with RunningAgent(tmp_path) as agent:
        controller.wait(controller.heartbeats, "it is welcomed")
        eventually(lambda: (s := agent.status()) and s.link == "connected" and not s.problems, "all is well")
    request = controller.reenrolments[0]
    assert request.certificate == old.certificate
    assert request.machine == machine_digest(ONE)
    assert abs(request.clock_us - time.time_ns() // 1000) < 60_000_000
    key = x509.load_pem_x509_certificate(old.certificate).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signed = reenroll_bytes(request.csr, request.certificate, request.machine, request.clock_us)
    key.verify(request.proof, signed, ec.ECDSA(hashes.SHA256()))
    new = IdentityStore(tmp_path).current()
    assert new.expires_us > old.expires_us
    assert new.agent == old.agent


def test_an_agent_whose_own_clock_says_the_certificate_is_good_asks_when_it_is_turned_away(
    controller: FleetController, tmp_path: Path
) -> None:
    store = ended(controller, tmp_path)
    store.update(expires_us=time.time_ns() // 1000 + 3_600_000_000)  # so it looks to a clock that is behind
    controller.life = dt.timedelta(hours=3)
    with RunningAgent(tmp_path):
        controller.wait(controller.heartbeats, "it is let in")
    assert len(controller.reenrolments) >= 1


def test_where_a_new_certificate_changes_nothing_the_controller_is_not_asked_for_one_after_the_other(
    controller: FleetController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall that hangs up on the link, say, and leaves the enrollment port open."""
    monkeypatch.setattr(reenrolment, "REFUSED", Backoff(first_seconds=3600.0, max_seconds=3600.0))
    store = controller.identity(tmp_path)
    with socket.socket() as rude:
        rude.bind(("127.0.0.1", 0))
        rude.listen(64)
        store.update(
            link_address=f"127.0.0.1:{rude.getsockname()[1]}",
            enrollment_address=f"127.0.0.1:{controller.enrollment_port}",
        )
        controller.again = lambda request, _context: enrollment_pb2.EnrollResponse(
            agent="atl1", site="atl1", ca_bundle=controller.authority.bundle,
            certificate=controller.authority.for_request(request.csr, "atl1", dt.timedelta(hours=3)),
        )  # fmt: skip
        hung_up = 0
        over = threading.Event()

        def hang_up() -> None:
            nonlocal hung_up
            rude.settimeout(0.1)
            while not over.is_set():
                try:
                    rude.accept()[0].close()
                    hung_up += 1
                except TimeoutError:
                    continue

        thread = threading.Thread(target=hang_up)
        thread.start()
        try:
            with RunningAgent(tmp_path):
                controller.wait(lambda: controller.reenrolments, "it asks once")
                at = hung_up
                eventually(lambda: hung_up > at + 20, "it is hung up on again and again")
            assert len(controller.reenrolments) == 1
        finally:
            over.set()
            thread.join(10)


def test_what_a_person_reads_says_whose_clock_it_is_by() -> None:
    identity = Identity(
        agent="atl1", site="s", link_address="h:1", certificate=b"", ca_bundle=b"", key_file="", issued_us=0,
        expires_us=1_700_000_000_000_000,
    )  # fmt: skip
    assert "ended on 2023-11-14 22:13 UTC by this machine's clock" in expiry.asking(identity, 1 << 60, "h:2")
    assert "hangs up on the certificate of agent atl1, which is good until 2023" in expiry.refused(identity, 5, "no")
    assert "code ABC" in expiry.waiting(identity, 5, "ABC")


def test_an_agent_that_is_connected_never_asks_though_its_clock_says_the_certificate_ended(
    controller: FleetController, tmp_path: Path
) -> None:
    store = controller.identity(tmp_path)
    store.update(expires_us=1, issued_us=0)  # by a clock that is ahead
    with RunningAgent(tmp_path):
        controller.wait(lambda: len(controller.heartbeats()) >= 3, "it is connected for a while")
    assert controller.reenrolments == []


@pytest.mark.parametrize(
    ("code", "details", "said"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "the grace of 14 days is over", "the grace of 14 days is over"),
        (grpc.StatusCode.PERMISSION_DENIED, "agent atl1 was revoked", "agent atl1 was revoked"),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", "the controller does not let it in"),
    ],
)
def test_a_controller_that_says_no_leaves_the_old_pair_and_a_person_is_told_what_to_do(
    controller: FleetController, tmp_path: Path, code: grpc.StatusCode, details: str, said: str
) -> None:
    store = ended(controller, tmp_path)

    def no(_request: object, context: grpc.ServicerContext) -> enrollment_pb2.EnrollResponse:
        context.abort(code, details)
        raise AssertionError

    controller.again = no
    with RunningAgent(tmp_path) as agent:
        eventually(lambda: said in agent.problems(), "it is told")
        assert "crossdock token create --site atl1 --agent atl1" in agent.problems()
        assert IdentityStore(tmp_path).current() == store.current()
        controller.again = lambda request, _context: controller.certificate(request.csr)  # they change their mind
        controller.wait(controller.heartbeats, "it is let in")
        eventually(lambda: agent.problems() == "", "and nothing is told any more")


def test_an_agent_that_must_be_approved_to_come_back_says_its_code_and_sends_the_same_request(
    controller: FleetController, tmp_path: Path
) -> None:
    ended(controller, tmp_path)
    pending = enrollment_pb2.EnrollResponse(agent="atl1", site="atl1", pending=True, retry_seconds=1)
    controller.again = lambda _request, _context: pending
    with RunningAgent(tmp_path) as agent:
        controller.wait(lambda: len(controller.reenrolments) >= 2, "it asks again")
        csr = controller.reenrolments[0].csr
        request = x509.load_pem_x509_csr(csr)
        der = request.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        eventually(lambda: f"under the code {key_code(der)}" in agent.problems(), "a person is told the code")
        controller.again = lambda request, _context: controller.certificate(request.csr)
        controller.wait(controller.heartbeats, "it is let in")
        eventually(lambda: agent.problems() == "", "and nothing is told any more")
    assert {request.csr for request in controller.reenrolments} == {csr}


def test_a_new_certificate_for_another_agent_or_key_is_not_taken(controller: FleetController, tmp_path: Path) -> None:
    store = ended(controller, tmp_path)
    before = store.current()
    answers = [
        lambda request, _c: controller.certificate(request.csr, "someone-else"),
        lambda _r, _c: enrollment_pb2.EnrollResponse(
            agent="atl1", site="atl1", certificate=controller.authority.agent("atl1").certificate
        ),
    ]  # fmt: skip
    for answer in answers:
        controller.again = answer
        asked = len(controller.reenrolments)
        with RunningAgent(tmp_path):
            controller.wait(lambda n=asked: len(controller.reenrolments) > n + 1, "it asked twice")  # type: ignore[misc]
        assert IdentityStore(tmp_path).current() == before


def test_an_identity_that_was_never_told_where_to_ask_tries_the_next_port() -> None:
    known = Identity(
        agent="a", site="s", link_address="10.0.0.5:7443", certificate=b"", ca_bundle=b"", key_file="", issued_us=0,
        expires_us=1,
    )  # fmt: skip
    assert reenrolment.enrollment_address(known) == "10.0.0.5:7444"
    told = msgspec.structs.replace(known, enrollment_address="10.0.0.5:9")
    assert reenrolment.enrollment_address(told) == "10.0.0.5:9"


def test_the_welcome_tells_where_to_ask(controller: FleetController, tmp_path: Path) -> None:
    controller.identity(tmp_path)
    controller.welcome.enrollment_address = "centre.example:7444"
    with RunningAgent(tmp_path):
        controller.wait(controller.heartbeats, "it is welcomed")
        eventually(
            lambda: IdentityStore(tmp_path).current().enrollment_address == "centre.example:7444", "it is kept"
        )  # fmt: skip
