"""The Enrollment service: a join token and a CSR in, a certificate out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
from loguru import logger

from crossdock.errors import CrossdockError, Refused
from crossdock.v1 import enrollment_pb2, enrollment_pb2_grpc
from crossdock_controller import ledger
from crossdock_controller.authority import token_hash
from crossdock_controller.fleet import Fleet
from crossdock_controller.store import agents, certificates

_Context = Any  # grpc.aio.ServicerContext; grpcio ships no types


class EnrollmentService(enrollment_pb2_grpc.EnrollmentServicer):
    """A join token and a CSR in, a certificate out. A token works once, whatever becomes of its certificate."""

    def __init__(self, fleet: Fleet, link_address: str) -> None:
        self._fleet = fleet
        self._link_address = link_address

    async def Enroll(  # noqa: N802
        self, request: enrollment_pb2.EnrollRequest, context: _Context
    ) -> enrollment_pb2.EnrollResponse:
        now_us = time.time_ns() // 1000
        try:
            # The CSR is judged first, so that a broken request does not use the token up.
            await asyncio.to_thread(self._fleet.issue, "probe", request.csr)
        except Refused as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        try:
            taken = await self._fleet.do(lambda db: agents.take_token(db, token_hash(request.token), now_us))
        except CrossdockError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            raise AssertionError("abort raises") from error
        if taken is None:
            logger.bind(peer=context.peer()).warning("a join token that is unknown, used or expired was refused")
            await asyncio.sleep(0.5)  # a guess costs its guesser time
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                "this join token is unknown, already used or expired; make a new one with 'crossdock token create'",
            )
        assert taken is not None  # noqa: S101 - abort raised
        site, agent = taken
        issued = await asyncio.to_thread(self._fleet.issue, agent, request.csr)
        row = ledger.of_issued(issued, agent, "enrol", self._fleet.authority.bundle_fingerprints)

        def record(db: Any) -> None:
            agents.record_enrolled(
                db, agent, site, host=request.host[:255], platform=request.platform[:255],
                version=request.version[:50], expires_us=issued.expires_us, now_us=now_us,
            )  # fmt: skip
            certificates.record(db, row)

        await self._fleet.do(record)
        await self._fleet.admit()
        logger.bind(agent=agent, site=site, host=request.host[:255]).info("agent enrolled")
        return enrollment_pb2.EnrollResponse(
            agent=agent, site=site, certificate=issued.certificate, ca_bundle=self._fleet.bundle,
            link_address=self._link_address,
        )  # fmt: skip
