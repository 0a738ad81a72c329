"""An agent whose certificate ended while it was away comes back by itself: its old key proves who it is.

Let in is who shows the newest certificate that its agent ever used, made by a CA that is trusted still, ended no longer
ago than the grace, and signs with its key. Whoever shows an older one is a copy: of a machine, or of a backup.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import sqlite3
import time
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from loguru import logger

from crossdock.errors import CrossdockError, Refused
from crossdock.machine import is_machine_digest
from crossdock.proof import reenroll_bytes
from crossdock.tls import agent_of
from crossdock.v1.enrollment_pb2 import EnrollResponse, ReenrollRequest
from crossdock_controller import ledger
from crossdock_controller.authority import SERVER_LIFE, UNREADABLE, Authority, short
from crossdock_controller.fleet import Fleet
from crossdock_controller.identities import elsewhere, void
from crossdock_controller.paths import Addresses
from crossdock_controller.reports import one_line
from crossdock_controller.store import agents, audit, certificates, machines, revocations
from crossdock_controller.store.certificates import Certificate
from crossdock_controller.throttle import address_of, proved

MAX_CERTIFICATE_BYTES = 16 * 1024
MAX_MACHINE = 255
REFUSAL_SECONDS = 0.5  # a guess costs its guesser time
CLOCK_US = int(SERVER_LIFE.total_seconds() * 1e6)  # further off, an agent cannot have accepted our own certificate
_ANEW = "enrol it anew: 'crossdock token create'"

_Context = Any  # grpc.aio.ServicerContext; grpcio ships no types


class NotLetIn(Refused):
    """With the *code* of the answer, which says the reason and the next step."""

    def __init__(self, code: grpc.StatusCode, message: str, hint: str = _ANEW) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Copied(NotLetIn):
    """The certificate shown is older than the newest its agent uses."""


class Elsewhere(NotLetIn):
    """The identity belongs to another machine."""


def judge(authority: Authority, request: ReenrollRequest, now_us: int, grace_us: int) -> Certificate:
    """The certificate in *request*, whose holder just proved to have its key. Raises NotLetIn."""
    certificate = _readable(request)
    maker = authority.maker_of(certificate)  # first: nothing that a stranger made is read any further
    if not maker:
        raise NotLetIn(
            grpc.StatusCode.UNAUTHENTICATED,
            "the certificate was made by no authority that this controller trusts; was that one retired?",
        )
    shown = ledger.of(certificate, _agent_in(certificate), maker)
    _prove(certificate, request)
    if abs(request.clock_us - now_us) > CLOCK_US:
        off = (request.clock_us - now_us) / 86400e6
        raise NotLetIn(
            grpc.StatusCode.FAILED_PRECONDITION, f"this machine's clock is {off:+.0f} days off the controller's",
            "set it right, and the agent comes back by itself",
        )  # fmt: skip
    ended_us = now_us - shown.expires_us
    if ended_us > grace_us:
        raise NotLetIn(
            grpc.StatusCode.PERMISSION_DENIED,
            f"the certificate of agent {shown.agent} ended {ended_us / 86400e6:.1f} days ago, and an agent may come "
            f"back by itself for {grace_us / 86400e6:g} days",
        )
    return shown


class Reenrolling:
    """Answers the RPC Reenroll. *grace_us*: so long after its end a certificate is still a proof."""

    def __init__(self, fleet: Fleet, addresses: Addresses, grace_us: int) -> None:
        self._fleet = fleet
        self._addresses = addresses
        self._grace_us = grace_us

    async def answer(self, request: ReenrollRequest, context: _Context) -> EnrollResponse:
        try:
            return await self._let_in(request, address_of(str(context.peer())))
        except NotLetIn as error:
            logger.bind(peer=context.peer()).warning("an agent that wants to come back was refused: {}", error)
            await asyncio.sleep(REFUSAL_SECONDS)
            if error.code is grpc.StatusCode.PERMISSION_DENIED:  # what was shown is of ours, and so is its key
                proved(context)
            await context.abort(error.code, str(error))
        except Refused as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except CrossdockError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        raise AssertionError("abort raises")

    async def _let_in(self, request: ReenrollRequest, address: str) -> EnrollResponse:
        now_us = time.time_ns() // 1000
        shown = await asyncio.to_thread(judge, self._fleet.authority, request, now_us, self._grace_us)
        agent = shown.agent
        if agent in self._fleet.sessions:
            self._fleet.refusals.add("twin", agent, address, one_line(request.host, 255))
            raise NotLetIn(
                grpc.StatusCode.ALREADY_EXISTS, f"agent {agent} is connected now, from another process",
                "is this machine a copy of another one? then enrol it under a name of its own",
            )  # fmt: skip
        issued = await asyncio.to_thread(self._fleet.issue, agent, request.csr)
        row = ledger.of_issued(issued, agent, "reenrol", self._fleet.authority.bundle_fingerprints)
        try:
            site = await self._fleet.do(lambda db: _record(db, shown, row, request, now_us))
        except Elsewhere:
            self._fleet.refusals.add("machine", agent, address, one_line(request.host, 255))
            raise
        except Copied as error:
            await self._tell(shown, request, error, address, now_us)
            raise
        logger.bind(agent=agent, site=site, host=one_line(request.host, 255)).info(
            "agent is back with a new certificate"
        )
        return EnrollResponse(
            agent=agent, site=site, certificate=issued.certificate, ca_bundle=self._fleet.bundle,
            link_address=self._addresses.link, enrollment_address=self._addresses.enrollment,
        )  # fmt: skip

    async def _tell(
        self, shown: Certificate, request: ReenrollRequest, error: Copied, address: str, now_us: int
    ) -> None:
        """A person should know of a copy: in the audit log, and beside the agent."""
        host = one_line(request.host, 255)
        logger.bind(agent=shown.agent, host=host).error("{}", error)
        self._fleet.refusals.add("outdated", shown.agent, address, f"certificate {shown.serial}, host {host}")
        details = {"host": host, "serial": shown.serial, "reason": error.message}

        def note(db: sqlite3.Connection) -> None:
            audit.append(
                db, actor=f"agent:{shown.agent}", action="agents.reenrol_refused", target=shown.agent, details=details,
                now_us=now_us,
            )  # fmt: skip

        await self._fleet.note(note)


def _record(db: sqlite3.Connection, shown: Certificate, row: Certificate, request: ReenrollRequest, now_us: int) -> str:
    """The agent's site; its new certificate is in the ledger. Raises NotLetIn, and nothing is written then."""
    listed = agents.get(db, shown.agent)
    if listed is None or listed.state != "active":
        word = "is on no list here" if listed is None else f"is {listed.state}"
        raise NotLetIn(grpc.StatusCode.PERMISSION_DENIED, f"agent {shown.agent} {word}")
    if revocations.voiding(db, shown) is not None:
        raise NotLetIn(grpc.StatusCode.PERMISSION_DENIED, void(shown.agent))
    bound = machines.barring(db, shown.agent, request.machine if is_machine_digest(request.machine) else "", now_us)
    if bound is not None:
        raise Elsewhere(grpc.StatusCode.PERMISSION_DENIED, elsewhere(bound), "")
    known = certificates.get(db, shown.serial) or shown
    newer = certificates.newer_in_use(db, known)
    if newer is not None:
        raise Copied(
            grpc.StatusCode.PERMISSION_DENIED,
            f"agent {shown.agent} uses a newer certificate than this one since {_utc(newer.first_used_us)}: this is a "
            "copy of its identity, or an older backup of it",
            "on a copied machine enrol under a name of its own; on a restored one enrol anew: 'crossdock token create'",
        )
    certificates.record(db, row)
    agents.record_certificate(db, shown.agent, row.expires_us)
    details = {
        "host": one_line(request.host, 255),
        "ended_us": shown.expires_us,
        "serial": row.serial,
        "of": short(row.authority),
    }
    audit.append(
        db, actor=f"agent:{shown.agent}", action="agents.reenrol", target=shown.agent, details=details, now_us=now_us
    )
    return listed.site


def _readable(request: ReenrollRequest) -> x509.Certificate:
    if len(request.certificate) <= MAX_CERTIFICATE_BYTES and len(request.machine) <= MAX_MACHINE:
        with contextlib.suppress(*UNREADABLE):
            return x509.load_pem_x509_certificate(request.certificate)
    raise NotLetIn(grpc.StatusCode.INVALID_ARGUMENT, "the request holds no certificate that can be read")


def _agent_in(certificate: x509.Certificate) -> str:
    """The one agent that a client certificate of ours names. Raises NotLetIn for any other certificate."""
    names: list[str] = []
    with contextlib.suppress(ValueError, x509.ExtensionNotFound):  # what cannot be read names nobody
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if ExtendedKeyUsageOID.CLIENT_AUTH in uses:
            names = [n for n in map(agent_of, sans.get_values_for_type(x509.UniformResourceIdentifier)) if n]
    if len(names) != 1:
        raise NotLetIn(grpc.StatusCode.INVALID_ARGUMENT, "the certificate is not that of an agent")
    return names[0]


def _prove(certificate: x509.Certificate, request: ReenrollRequest) -> None:
    """Raises NotLetIn unless the proof is by the certificate's key, over all of this request."""
    key = certificate.public_key()
    signed = reenroll_bytes(request.csr, request.certificate, request.machine, request.clock_us)
    if isinstance(key, ec.EllipticCurvePublicKey):
        with contextlib.suppress(InvalidSignature):
            key.verify(request.proof, signed, ec.ECDSA(hashes.SHA256()))
            return
    raise NotLetIn(grpc.StatusCode.UNAUTHENTICATED, "the proof is not by the key of the certificate")


def _utc(us: int) -> str:
    return dt.datetime.fromtimestamp(us / 1e6, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
