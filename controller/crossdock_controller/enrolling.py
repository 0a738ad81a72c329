"""The Enrollment service: a join token and a CSR in, a certificate out; where the policy wants it, a person agrees
first."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import grpc
import grpc.aio
from loguru import logger

from crossdock.errors import CrossdockError, Refused
from crossdock.machine import is_machine_digest, key_code
from crossdock.v1 import enrollment_pb2, enrollment_pb2_grpc
from crossdock_controller import ledger
from crossdock_controller.authority import Issued, public_key_of, token_hash
from crossdock_controller.fleet import Fleet
from crossdock_controller.paths import Addresses
from crossdock_controller.reenrolling import Reenrolling
from crossdock_controller.reports import one_line
from crossdock_controller.store import agents, audit, certificates, enrolments, machines
from crossdock_controller.store.enrolments import Ask, Enrolment, Turned
from crossdock_controller.throttle import address_of, proved

RETRY_SECONDS = 5  # how often an agent asks that waits for a person
NEW_TOKEN = "make a new one with 'crossdock token create'"  # noqa: S105 - words, no secret
_TURNED = {
    "unknown": f"this join token is unknown here; {NEW_TOKEN}",
    "expired": f"this join token has expired; {NEW_TOKEN}",
    "used": f"this join token was already used; {NEW_TOKEN}",
    "revoked": f"this join token was revoked; {NEW_TOKEN}",
    "other_key": "this join token was already used, with another key: if not by you, somebody else has it, and the"
    f" centre should know; {NEW_TOKEN}",
    "denied": "a person in the centre denied this enrolment",
}

_Context = Any  # grpc.aio.ServicerContext; grpcio ships no types


class EnrollmentService(enrollment_pb2_grpc.EnrollmentServicer):
    """Each use of a token is for one key: the same request may come again until its agent has connected."""

    def __init__(self, fleet: Fleet, addresses: Addresses, grace_us: int, *, approve: bool = False) -> None:
        """*approve*: a person has to agree to each enrolment, whatever its token says."""
        self._fleet = fleet
        self._refusals = fleet.refusals
        self._addresses = addresses
        self._reenrolling = Reenrolling(fleet, addresses, grace_us)
        self._approve = approve

    async def Enroll(  # noqa: N802
        self, request: enrollment_pb2.EnrollRequest, context: _Context
    ) -> enrollment_pb2.EnrollResponse:
        ask = await self._ask(request, context)
        now_us = time.time_ns() // 1000
        try:
            found = await self._fleet.do(
                lambda db: enrolments.request(db, ask, approve_all=self._approve, now_us=now_us)
            )
        except CrossdockError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            raise AssertionError("abort raises") from error
        if isinstance(found, Turned):
            return await self._turn_away(found, ask, context)
        if found.state == "pending":
            return self._pending(found)
        try:
            issued = await self._issue(found, request.csr)
        except Refused as error:
            self._refusals.add("token", found.token[:8], ask.address, str(error))
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
            raise AssertionError("abort raises") from error
        return enrollment_pb2.EnrollResponse(
            agent=found.agent, site=found.site, certificate=issued.certificate, ca_bundle=self._fleet.bundle,
            link_address=self._addresses.link, enrollment_address=self._addresses.enrollment,
        )  # fmt: skip

    async def _ask(self, request: enrollment_pb2.EnrollRequest, context: _Context) -> Ask:
        """What the request says; its CSR is judged first, so that a broken request does not use the token up."""
        address = address_of(str(context.peer()))
        try:
            key = await asyncio.to_thread(_judged, request)
        except Refused as error:
            self._refusals.add("request", "", address, str(error))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise AssertionError("abort raises") from error
        return Ask(
            token_hash(request.token), hashlib.sha256(key).hexdigest(), key_code(key), one_line(request.host, 255),
            one_line(request.platform, 255), one_line(request.version, 50), request.machine, address,
        )  # fmt: skip

    async def _turn_away(self, turned: Turned, ask: Ask, context: _Context) -> enrollment_pb2.EnrollResponse:
        token = turned.token
        if token is not None:
            proved(context)
        where = f" of site {token.site}" if token else ""
        logger.bind(peer=ask.address, token=token.id if token else "").warning(
            "an enrolment was refused: the join token{} is {}", where, turned.kind
        )
        detail = f"{turned.kind}; host {ask.host}" if token else turned.kind  # a stranger's words are not kept
        self._refusals.add("token", token.id if token else "", ask.address, detail)
        because = f": {turned.because}" if turned.because else ""
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, _TURNED[turned.kind] + because)
        raise AssertionError("abort raises")

    def _pending(self, found: Enrolment) -> enrollment_pb2.EnrollResponse:
        if found.first_us == found.last_us:
            logger.bind(agent=found.agent, site=found.site, host=found.host, code=found.code).warning(
                "an agent waits for a person to let it in: crossdock agents approve {}", found.agent
            )
        return enrollment_pb2.EnrollResponse(
            agent=found.agent, site=found.site, pending=True, retry_seconds=RETRY_SECONDS
        )

    async def _issue(self, found: Enrolment, csr: bytes) -> Issued:
        """The certificate, once it is written down that this agent may come in."""
        issued = await asyncio.to_thread(self._fleet.issue, found.agent, csr)
        row = ledger.of_issued(issued, found.agent, "enrol", self._fleet.authority.bundle_fingerprints)
        now_us = time.time_ns() // 1000

        def enrolled(db: Any) -> None:
            before = agents.get(db, found.agent)
            if before is not None and before.site != found.site:  # it was nobody's when the token was made
                raise Refused(
                    f"the name {found.agent} belongs to an agent of site {before.site} by now",
                    hint=f"crossdock token create --site {found.site} --agent NAME",
                )
            certificates.record(db, row)
            if before is not None and before.state == "revoked":  # what it had before must not get in ahead of this one
                certificates.used(db, row, now_us)
            agents.record_enrolled(
                db, found.agent, found.site, host=found.host, platform=found.platform, version=found.version,
                expires_us=issued.expires_us, now_us=now_us,
            )  # fmt: skip
            machines.bind(db, found.agent, found.machine, found.host, now_us)
            enrolments.issued(db, found.id)
            audit.append(
                db, actor=f"agent:{found.agent}", action="agents.enrol", target=found.agent, now_us=now_us,
                details={"site": found.site, "host": found.host, "address": found.address, "code": found.code,
                         "token": found.token[:8], "again": found.state == "issued"},
            )  # fmt: skip

        await self._fleet.do(enrolled)
        await self._fleet.admit()
        logger.bind(agent=found.agent, site=found.site, host=found.host).info("agent enrolled")
        return issued

    async def Reenroll(  # noqa: N802
        self, request: enrollment_pb2.ReenrollRequest, context: _Context
    ) -> enrollment_pb2.EnrollResponse:
        return await self._reenrolling.answer(request, context)


def _judged(request: enrollment_pb2.EnrollRequest) -> bytes:
    """The public key that the request is for. Raises Refused when the request makes no sense."""
    if request.machine and not is_machine_digest(request.machine):
        raise Refused("what the request says of its machine is no digest")
    return public_key_of(request.csr)
