"""An agent whose certificate ended while it was away is let in again by itself: its old key proves who it is.

Whether the certificate has ended is judged twice: by this machine's clock, and by the controller hanging up on it, for
the clock here may be wrong. Nothing is asked while the control stream is connected. Until the new pair is whole, the
old one stays. Where the controller says no (the grace is over, the agent is revoked), a person is told what to do, and
it is asked again, rarely: they may change their mind there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

from crossdock.errors import ControllerUnavailable, CrossdockError, Refused
from crossdock.lifecycle import Stop
from crossdock.machine import key_code, machine_digest
from crossdock.proof import reenroll_bytes
from crossdock.retry import Backoff
from crossdock.v1.enrollment_pb2 import EnrollResponse, ReenrollRequest
from crossdock_agent import expiry, helper
from crossdock_agent.asking import about_here, again, ask, is_unknown_call, retry_seconds
from crossdock_agent.identity import Identity, IdentityStore
from crossdock_agent.problems import Problems
from crossdock_agent.renewal import RETRY_SHARE

LOOK_SECONDS = 2.0
TURNED_AWAY_TIMES = 3  # a controller that is just stopping hangs up, too
UNREACHED = Backoff(first_seconds=2.0, max_seconds=300.0)
REFUSED = Backoff(first_seconds=60.0, max_seconds=3600.0)


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of the link: *connected*, how often in a row the controller hung up on the certificate, and its
    clock minus ours in microseconds where a welcome told it."""

    connected: bool
    turned_away: int
    offset_us: int | None


class Reenrolment:
    """`run` is a supervised part. *on_certificate* is called when the streams are to use the new certificate."""

    def __init__(
        self,
        identities: IdentityStore,
        problems: Problems,
        sight: Callable[[], Sight],
        on_certificate: Callable[[], None],
        rng: random.Random,
        wall_us: Callable[[], int],
    ) -> None:
        self._identities = identities
        self._problems = problems
        self._sight = sight
        self._on_certificate = on_certificate
        self._rng = rng
        self._wall_us = wall_us
        self._request: tuple[bytes, bytes] | None = None  # key and CSR on their way
        self._code = ""  # of that key, once it waits for approval
        self._failures = 0
        self._fruitless = 0  # new certificates since it was connected: they are not what was wrong
        self._patient_until = float("-inf")

    def run(self, stop: Stop) -> None:
        delay = LOOK_SECONDS
        while not stop.wait(delay):
            delay = LOOK_SECONDS
            sight = self._sight()
            if sight.connected:
                self._let_in()
            elif self._due(sight):
                delay = self._attempt(sight)

    def _let_in(self) -> None:
        self._failures, self._request = 0, None
        self._fruitless, self._patient_until = 0, float("-inf")
        self._problems.clear(expiry.PROBLEM)

    def _due(self, sight: Sight) -> bool:
        """The certificate has ended by our clock, or the controller acts as if it had."""
        has_ended = self._identities.current().expires_us <= self._wall_us()
        return has_ended or (sight.turned_away >= TURNED_AWAY_TIMES and time.monotonic() >= self._patient_until)

    def _attempt(self, sight: Sight) -> float:
        """Asks once; seconds until the next time."""
        identity = self._identities.current()
        try:
            answer = self._ask(identity, sight)
            if answer.pending:
                self._pending(identity)
                return retry_seconds(answer)
            return self._store(identity, answer)
        except Refused as error:
            return self._refused(identity, error)
        except (CrossdockError, OSError) as error:
            return self._unreached(identity, error)

    def _ask(self, identity: Identity, sight: Sight) -> EnrollResponse:
        if self._request is None:
            self._request, self._code = helper.new_key_and_request(), ""
        machine, clock_us = machine_digest(), self._wall_us() + (sight.offset_us or 0)
        csr = self._request[1]
        proof = helper.prove(self._identities.key(), reenroll_bytes(csr, identity.certificate, machine, clock_us))
        request = ReenrollRequest(
            certificate=identity.certificate, csr=csr, proof=proof, clock_us=clock_us, **about_here(machine)
        )
        return ask(enrollment_address(identity), identity.ca_bundle, request)

    def _store(self, identity: Identity, answer: EnrollResponse) -> float:
        assert self._request is not None  # noqa: S101 - it was asked with
        key = self._request[0]
        agent, expires_us = helper.certificate_facts(answer.certificate, key)
        if agent != identity.agent:
            raise Refused(f"the certificate is for agent {agent}, this is {identity.agent}", hint="see the controller")
        if expires_us <= identity.expires_us:
            raise Refused("the new certificate ends before the old one did", hint="is the controller's clock right?")
        self._identities.save(again(identity, answer, expires_us), key)
        logger.bind(agent=agent).info("let in again with a new certificate, the old one had ended")
        self._request, self._failures = None, 0
        self._problems.clear(expiry.PROBLEM)
        self._fruitless += 1
        self._patient_until = time.monotonic() + REFUSED.delay(self._fruitless, self._rng)
        self._on_certificate()
        return self._soon(UNREACHED.delay(self._fruitless, self._rng), identity)

    def _pending(self, identity: Identity) -> None:
        assert self._request is not None  # noqa: S101 - it was asked with
        if not self._code:
            self._code = key_code(helper.public_key_of(self._request[1]))
        self._problems.report(expiry.PROBLEM, expiry.waiting(identity, self._wall_us(), self._code))

    def _refused(self, identity: Identity, error: CrossdockError) -> float:
        self._failures += 1
        now_us = self._wall_us()
        is_old = is_unknown_call(error)
        self._problems.report(
            expiry.PROBLEM,
            expiry.sentence(identity, now_us) if is_old else expiry.refused(identity, now_us, error.message),
        )
        self._request = None
        return self._soon(REFUSED.delay(self._failures, self._rng), identity)

    def _unreached(self, identity: Identity, error: Exception) -> float:
        self._failures += 1
        self._problems.report(expiry.PROBLEM, expiry.asking(identity, self._wall_us(), enrollment_address(identity)))
        if not isinstance(error, ControllerUnavailable) or self._failures == 1:
            logger.warning("not let in again yet: {}", error)
        return self._soon(UNREACHED.delay(self._failures, self._rng), identity)

    @staticmethod
    def _soon(delay: float, identity: Identity) -> float:
        """Not longer than a share of a certificate's life, however short that is."""
        life_seconds = (identity.expires_us - identity.issued_us) / 1e6
        return max(1.0, min(delay, life_seconds / RETRY_SHARE)) if life_seconds > 0 else delay


def enrollment_address(identity: Identity) -> str:
    """Where to ask. Where it was never told, the port after the link's: so they are by default."""
    if identity.enrollment_address:
        return identity.enrollment_address
    host, _, port = identity.link_address.rpartition(":")
    return f"{host}:{int(port) + 1}" if port.isdigit() else identity.link_address
