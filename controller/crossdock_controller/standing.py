"""What a connected agent trusts, which certificate it shows, and what it is to be told about that."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from loguru import logger

from crossdock.v1.link_pb2 import Directive, Heartbeat, Hello, Trust
from crossdock.wire import TRUST, common
from crossdock_controller.authority import Authority
from crossdock_controller.store import audit, certificates
from crossdock_controller.store.certificates import Certificate

AGAIN_SECONDS = 60.0  # an agent that was told and still says otherwise is told again
MAX_AUTHORITIES = 100  # nobody trusts more
_DIGITS = frozenset("0123456789abcdef")


@dataclass(slots=True)
class Standing:
    """Of one session. *authorities*: the fingerprints of the CAs that this agent trusts for certain; *shown*: its
    certificate, of which `shown.authority` is empty when no trusted CA of ours made it."""

    agent: str
    able: bool = False  # it knows the directive Trust
    authorities: frozenset[str] = frozenset()
    shown: Certificate | None = None
    _told: tuple[object, ...] = ()
    _told_at: float = field(default=float("-inf"))

    @classmethod
    def of(cls, agent: str, hello: Hello, shown: Certificate | None) -> Standing:
        return cls(agent, TRUST in common(hello.capabilities), _fingerprints(hello.authorities), shown)

    def record(self, db: sqlite3.Connection, now_us: int) -> None:
        """The use of its certificate, and what it trusts. In a transaction; again changes nothing.

        A release that does not say what it trusts keeps its certificate and the bundle that came with it in one file:
        whoever shows the one has the other.
        """
        if self.shown is not None:
            row = certificates.used(db, self.shown, now_us)
            if row.first_used_us == now_us and row.how == "seen":
                self._unissued(db, row, now_us)
            if not self.authorities and not self.able:
                self.authorities = frozenset(row.bundle)
        if self.authorities:
            certificates.confirm(db, self.agent, self.authorities, now_us)

    def _unissued(self, db: sqlite3.Connection, row: Certificate, now_us: int) -> None:
        if any(row.serial == other.serial for other in certificates.unissued(db, now_us - 1)):
            logger.bind(agent=self.agent, serial=row.serial).error(
                "agent {} shows a certificate of our authority that was never issued here: who else has its key?",
                self.agent,
            )
            audit.append(
                db, actor="controller", action="agents.certificate_unissued", target=self.agent, now_us=now_us,
                details={"serial": row.serial, "authority": row.authority, "issued_us": row.issued_us},
            )  # fmt: skip

    def heard(self, beat: Heartbeat) -> bool:
        """Whether *beat* says something new of what the agent trusts: `record` it then."""
        said = _fingerprints(beat.authorities)
        if not said or said == self.authorities:
            return False
        self.authorities = said
        return True

    def due(self, authority: Authority, now: float) -> Directive | None:
        """What it is to be told, once (*now*: monotonic seconds): the bundle where it trusts anything else, and that it
        is to ask for a certificate of the CA that issues."""
        if not self.able:
            return None
        bundle = authority.bundle_fingerprints
        renew = self.shown is not None and self.shown.authority != authority.issuer
        if frozenset(bundle) == self.authorities and not renew:
            return None
        telling = (bundle, renew, authority.issuer)
        if telling == self._told and now - self._told_at < AGAIN_SECONDS:
            return None
        self._told, self._told_at = telling, now
        return Directive(trust=Trust(ca_bundle=authority.bundle, renew=renew))


def _fingerprints(said: object) -> frozenset[str]:
    """Those that can be one: a stranger's word is not stored otherwise."""
    found = [f for f in list(said)[:MAX_AUTHORITIES] if isinstance(f, str)]  # type: ignore[call-overload]
    return frozenset(f for f in found if len(f) == 64 and _DIGITS.issuperset(f))
