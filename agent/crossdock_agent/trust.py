"""Which CA certificates this agent trusts. The controller may change them while it rotates its own.

A new bundle is tried on the controller before it is kept: one that the controller itself does not pass would lock this
agent out until a person came.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable

import grpc
from loguru import logger

from crossdock.errors import CrossdockError
from crossdock.v1.link_pb2 import Trust as Order
from crossdock.v1.link_pb2 import Welcome
from crossdock_agent import helper
from crossdock_agent.identity import IdentityStore
from crossdock_agent.link import open_channel
from crossdock_agent.problems import Problems

PROBE_SECONDS = 15.0
PROBLEM = "trust"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s(.+?)-----END CERTIFICATE-----", re.DOTALL)


def fingerprints(bundle: bytes) -> list[str]:
    """SHA-256, hex, of each certificate in *bundle* (PEM), in its order; what cannot be read is left out."""
    found = []
    for body in _CERTIFICATE.findall(bundle):
        try:
            der = base64.b64decode(b"".join(body.split()), validate=True)
        except binascii.Error:
            continue  # the controller sees by the missing fingerprint that it is not trusted here
        found.append(hashlib.sha256(der).hexdigest())
    return found


def probe(identities: IdentityStore, bundle: bytes) -> None:
    """Raises CrossdockError when the controller cannot be reached by trusting *bundle* alone."""
    with open_channel(identities, bundle) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=PROBE_SECONDS)
        except grpc.FutureTimeoutError:
            raise CrossdockError(
                f"the controller is not reached by trusting only {_named(bundle)}; what was trusted before is kept",
                hint="see 'crossdock ca' there: its own certificate must be signed by one of them",
            ) from None


class Trust:
    """Stores what the controller says of itself in the identity."""

    def __init__(
        self,
        identities: IdentityStore,
        problems: Problems,
        probe: Callable[[IdentityStore, bytes], None] = probe,
    ) -> None:
        self._identities = identities
        self._problems = problems
        self._probe = probe

    def authorities(self) -> list[str]:
        """Fingerprints of what is trusted now."""
        return fingerprints(self._identities.current().ca_bundle)

    def welcomed(self, welcome: Welcome) -> None:
        """Remember where to ask for a certificate once this one has ended. An older controller does not say.

        On a full disk it is not remembered before the next welcome: nothing could leave the outbox otherwise, and the
        disk would stay full.
        """
        if not welcome.enrollment_address:
            return
        try:
            self._identities.update(enrollment_address=welcome.enrollment_address)
        except OSError as error:
            logger.warning("the enrollment address {} cannot be stored: {}", welcome.enrollment_address, error)

    def take(self, order: Order) -> bool:
        """True when *order*'s certificates are trusted from now on; else all stays, and a problem says why."""
        try:
            helper.check_authorities(order.ca_bundle)
            if fingerprints(order.ca_bundle) != self.authorities():
                self._probe(self._identities, order.ca_bundle)
                self._identities.update(ca_bundle=order.ca_bundle)
                logger.bind(authorities=_named(order.ca_bundle)).info("other CA certificates are trusted from now on")
        except (CrossdockError, OSError) as error:
            self._problems.report(PROBLEM, f"the controller's CA certificates are not taken up: {error}")
            return False
        self._problems.clear(PROBLEM)
        return True


def _named(bundle: bytes) -> str:
    return ", ".join(f"CA {fingerprint[:12]}" for fingerprint in fingerprints(bundle)) or "nothing"
