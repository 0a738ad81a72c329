"""Whatever happens in whatever order: no step that was not forced locks an agent out that could come back before it.

Agents enrol, connect, miss answers, sleep for days and come back; authorities are replaced meanwhile. The agents and
what they verify are written here; authority, ledger, needs and the judgement of who may come back are the real ones.
"""

import contextlib
import datetime as dt
import tempfile
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from crossdock.errors import ConfigError
from crossdock.proof import reenroll_bytes
from crossdock.v1.enrollment_pb2 import ReenrollRequest
from crossdock.v1.link_pb2 import Hello
from crossdock_controller import ledger, reenrolling
from crossdock_controller.authority import Authority
from crossdock_controller.authority import states as states_of
from crossdock_controller.commands import authorities
from crossdock_controller.paths import DataDirectory
from crossdock_controller.standing import Standing
from crossdock_controller.store import agents, certificates, connection, migrate
from support.authorities import old_release
from support.gateway import csr_of

HOUR_US = 3_600_000_000
GRACE_US = authorities.DEFAULT_GRACE_US
LIFE = dt.timedelta(hours=24)
NAMES = ("atl1", "rtm1", "ham1")


@dataclass
class Agent:
    """*able*: it knows Trust and says what it trusts; an older release does neither."""

    name: str
    able: bool
    key: ec.EllipticCurvePrivateKey
    certificate: bytes
    bundle: bytes

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)

    @property
    def roots(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(self.bundle)

    def verifies(self, chain: list[x509.Certificate], now: dt.datetime) -> bool:
        """As TLS does: the server's certificate by a CA it trusts, directly or by one certificate between them. Of
        several candidates of one name only the first is followed."""
        leaf, between = chain[0], [c for c in chain[1:] if c.subject == chain[0].issuer][:1]
        direct = any(made(root, leaf) and valid(root, now) for root in self.roots)
        crossed = any(
            made(cross, leaf) and made(root, cross) and valid(cross, now) and valid(root, now) and length(root) >= 1
            for cross in between
            for root in self.roots
        )
        return valid(leaf, now) and (direct or crossed)


def made(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError):
        return False
    return True


def valid(certificate: x509.Certificate, now: dt.datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def length(authority: x509.Certificate) -> int:
    found = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    return 99 if found is None else found


class Replacements(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._no_sync = patch("os.fsync", lambda _descriptor: None)  # nothing is cut off here
        self._no_sync.start()
        self.data = DataDirectory(Path(self._directory.name))
        migrate(self.data.state)
        self.db = connection.connect(self.data.state)
        self.now_us = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000
        self.agents: dict[str, Agent] = {}
        self.done: list[str] = []

    @initialize(old=st.booleans())
    def begin(self, *, old: bool) -> None:
        if old:
            old_release(self.data.authority)
        Authority.open(self.data.authority)

    @property
    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.now_us / 1e6, dt.UTC)

    # --- agents

    @rule(name=st.sampled_from(NAMES), able=st.booleans())
    def enrol(self, name: str, *, able: bool) -> None:
        if name not in self.agents:
            agent = self.agents[name] = self._new(name, "enrol", able=able)
            ends_us = int(agent.leaf.not_valid_after_utc.timestamp() * 1e6)
            agents.record_enrolled(
                self.db, name, name, host="h", platform="p", version="1", expires_us=ends_us, now_us=self.now_us
            )

    @rule(name=st.sampled_from(NAMES), heard=st.booleans(), stored=st.booleans())
    def connect(self, name: str, *, heard: bool, stored: bool) -> None:
        """*heard*: the controller hears that it took up what it was told; *stored*: it gets the answer to a renewal."""
        agent = self.agents.get(name)
        if agent is not None and self._arrive(agent):
            self._talk(agent, heard=heard, stored=stored)

    @rule(hours=st.integers(1, 10 * 24))
    def sleep(self, hours: int) -> None:
        self.now_us += hours * HOUR_US

    # --- the authority

    @rule()
    def step(self) -> None:
        """The next phase, as an operator goes on who does what `crossdock ca` says."""
        states = Authority.open(self.data.authority).states
        step = states_of.next_step(states).split()[2:] or ["add"]
        with contextlib.suppress(ConfigError):
            getattr(authorities, step[0])(self.data, *step[1:], self.now_us, "local:test")
            self.done.append(step[0])

    @rule()
    def hurry(self) -> None:
        """Up to a new authority that serves, while older ones have not retired yet."""
        if len([s for s in Authority.open(self.data.authority).states if s.trusted]) > 3:
            return
        for step in ("add", "issue", "switch"):
            with contextlib.suppress(ConfigError):
                getattr(authorities, step)(self.data, self.now_us, "local:test")
                self.done.append(step)

    # --- what must hold

    @invariant()
    def everybody_can_come_back(self) -> None:
        awaited = [agent for agent in self.agents.values() if self._within_grace(agent)]
        if not awaited:
            return
        authority = Authority.open(self.data.authority)
        chain = x509.load_pem_x509_certificates(authority.issue_server(["localhost"], self.now).certificate)
        for agent in awaited:
            assert self._can_arrive(agent, authority, chain), f"{agent.name} is locked out after {self.done}"

    def _within_grace(self, agent: Agent) -> bool:
        ended_us = self.now_us - int(agent.leaf.not_valid_after_utc.timestamp() * 1e6)
        return ended_us < GRACE_US

    def _can_arrive(self, agent: Agent, authority: Authority, chain: list[x509.Certificate]) -> bool:
        if not agent.verifies(chain, self.now) or not authority.maker_of(agent.leaf):
            return False
        shown = certificates.get(self.db, format(agent.leaf.serial_number, "x"))
        return shown is not None and certificates.newer_in_use(self.db, shown) is None

    def _arrive(self, agent: Agent) -> bool:
        """It connects, after it has asked for another certificate where its own has ended."""
        if not self._within_grace(agent):
            return False
        if valid(agent.leaf, self.now):
            return True
        authority, key, now_us = (
            Authority.open(self.data.authority),
            ec.generate_private_key(ec.SECP256R1()),
            self.now_us,
        )
        csr = csr_of(key)
        proof = agent.key.sign(reenroll_bytes(csr, agent.certificate, "", now_us), ec.ECDSA(hashes.SHA256()))
        request = ReenrollRequest(certificate=agent.certificate, csr=csr, proof=proof, clock_us=now_us)
        shown = reenrolling.judge(authority, request, now_us, GRACE_US)
        issued = authority.issue_agent(csr, agent.name, LIFE, self.now)
        row = ledger.of_issued(issued, agent.name, "reenrol", authority.bundle_fingerprints)
        with connection.transaction(self.db):
            reenrolling._record(self.db, shown, row, request, now_us)
        agent.key, agent.certificate, agent.bundle = key, issued.certificate, authority.bundle
        return True

    def _talk(self, agent: Agent, *, heard: bool, stored: bool) -> None:
        authority = Authority.open(self.data.authority)
        shown = ledger.of(agent.leaf, agent.name, authority.maker_of(agent.leaf))
        said = [c.fingerprint(hashes.SHA256()).hex() for c in agent.roots] if agent.able else []
        hello = Hello(capabilities=["trust"] if agent.able else [], authorities=said)
        standing = Standing.of(agent.name, hello, shown)
        with connection.transaction(self.db):
            standing.record(self.db, self.now_us)
        told = standing.due(authority, 0.0)
        if told is not None:
            agent.bundle = told.trust.ca_bundle
            if heard:
                taken = [c.fingerprint(hashes.SHA256()).hex() for c in agent.roots]
                with connection.transaction(self.db):
                    certificates.confirm(self.db, agent.name, taken, self.now_us)
        if told is None or told.trust.renew:
            self._renew(agent, stored=stored)

    def _renew(self, agent: Agent, *, stored: bool) -> None:
        new = self._new(agent.name, "renewal", able=agent.able)
        if stored:
            agent.key, agent.certificate, agent.bundle = new.key, new.certificate, new.bundle

    def _new(self, name: str, how: str, *, able: bool) -> Agent:
        authority, key = Authority.open(self.data.authority), ec.generate_private_key(ec.SECP256R1())
        issued = authority.issue_agent(csr_of(key), name, LIFE, self.now)
        with connection.transaction(self.db):
            certificates.record(self.db, ledger.of_issued(issued, name, how, authority.bundle_fingerprints))
        return Agent(name, able, key, issued.certificate, authority.bundle)

    def teardown(self) -> None:
        self.db.close()
        self._no_sync.stop()
        self._directory.cleanup()


Replacements.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestNobodyIsLockedOut = Replacements.TestCase
