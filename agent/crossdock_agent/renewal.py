"""A certificate is replaced at two thirds of its life, with a new key. The old pair stays until the new is whole, and
when the new has ended already: a controller whose clock is behind hands that out. One that only ends sooner is taken:
the life of certificates was shortened there, and who refused would ask again and again."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from loguru import logger

from crossdock.errors import CrossdockError
from crossdock.v1.link_pb2 import CertificateIssued, CertificateRequest
from crossdock_agent import helper
from crossdock_agent.identity import IdentityStore
from crossdock_agent.problems import Problems

RETRY_SECONDS = 300.0
RETRY_SHARE = 20  # ... but this often in a certificate's life, however short it is
PROBLEM = "certificate"


class Renewal:
    """Asks over the control stream, and stores the answer. *wall_us* is this machine's clock."""

    def __init__(self, identities: IdentityStore, problems: Problems, wall_us: Callable[[], int]) -> None:
        self._identities = identities
        self._problems = problems
        self._wall_us = wall_us
        self._asked: tuple[bytes, bytes] | None = None  # key and CSR of the request that is on its way
        self._next_attempt = float("-inf")

    def request(self, *, at_once: bool = False) -> CertificateRequest | None:
        """A request when one is due, or *at_once*; not again for a while, whatever comes of it.

        Until it is answered, the same one: an answer may be on its way, or just being stored by another thread.
        """
        identity = self._identities.current()
        due = identity.renewal_due(self._wall_us()) and time.monotonic() >= self._next_attempt
        if not due and not at_once:
            return None
        life_seconds = (identity.expires_us - identity.issued_us) / 1e6
        self._next_attempt = time.monotonic() + max(1.0, min(RETRY_SECONDS, life_seconds / RETRY_SHARE))
        asked = self._asked
        if asked is None:
            try:
                asked = self._asked = helper.new_key_and_request()
            except CrossdockError as error:
                self._problems.report(PROBLEM, f"the certificate cannot be renewed: {error}")
                return None
        return CertificateRequest(csr=asked[1])

    def issued(self, answer: CertificateIssued) -> bool:
        """True when the answer is stored as the new identity; the channels are to be rebuilt then."""
        asked = self._asked
        if asked is None and not answer.refused:  # the second answer to a request that was sent twice
            logger.info("a certificate that was not asked for, or came twice, was ignored")
            return False
        try:
            self._store(answer, asked)
        except (CrossdockError, OSError) as error:
            self._problems.report(PROBLEM, f"the certificate cannot be renewed: {error}")
            return False
        self._problems.clear(PROBLEM)
        return True

    def _store(self, answer: CertificateIssued, asked: tuple[bytes, bytes] | None) -> None:
        if answer.refused or asked is None:
            self._asked = None
            raise CrossdockError(answer.refused, hint="see the controller's log")
        current = self._identities.current()
        agent, expires_us = helper.certificate_facts(answer.certificate, asked[0])
        if agent != current.agent:
            raise CrossdockError(f"the certificate is for agent {agent}, this is {current.agent}")
        if expires_us < current.expires_us and expires_us <= self._wall_us():
            raise CrossdockError(
                "the new certificate has ended already, and the one in use is kept",
                hint="is the controller's clock right?",
            )
        renewed = msgspec.structs.replace(
            current,
            certificate=answer.certificate,
            ca_bundle=answer.ca_bundle or current.ca_bundle,
            issued_us=self._wall_us(),
            expires_us=expires_us,
        )
        self._identities.save(renewed, asked[0])
        if self._asked is asked:
            self._asked = None
        logger.bind(agent=agent).info("certificate renewed")
