"""The fake controller with what identity needs besides: approval, letting in again, and another CA."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import grpc

from crossdock.v1 import enrollment_pb2, link_pb2
from support.controller import AGENT, SITE, FakeController
from support.pki import TestAuthority

Again = Callable[[enrollment_pb2.ReenrollRequest, grpc.ServicerContext], enrollment_pb2.EnrollResponse]


class FleetController(FakeController):
    """*pending*: how often a request is answered `pending` first; *again*: what a Reenroll is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.pending = 0
        self.enrolments: list[enrollment_pb2.EnrollRequest] = []
        self.reenrolments: list[enrollment_pb2.ReenrollRequest] = []
        self.life = dt.timedelta(hours=1)
        self.again: Again = lambda request, _context: self.certificate(request.csr)

    def certificate(self, csr: bytes, agent: str = AGENT) -> enrollment_pb2.EnrollResponse:
        return enrollment_pb2.EnrollResponse(
            agent=agent, site=SITE, certificate=self.authority.for_request(csr, agent, self.life),
            ca_bundle=self.authority.bundle, link_address=f"127.0.0.1:{self.port}",
            enrollment_address=f"127.0.0.1:{self.enrollment_port}",
        )  # fmt: skip

    def Enroll(  # noqa: N802
        self, request: enrollment_pb2.EnrollRequest, context: grpc.ServicerContext
    ) -> enrollment_pb2.EnrollResponse:
        with self.changed:
            self.enrolments.append(request)
            self.changed.notify_all()
        if request.token not in self.tokens:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "this join token is unknown, already used or expired")
        if self.pending > 0:
            self.pending -= 1
            return enrollment_pb2.EnrollResponse(agent=AGENT, site=SITE, pending=True, retry_seconds=1)
        self.tokens.remove(request.token)
        return self.certificate(request.csr)

    def Reenroll(  # noqa: N802
        self, request: enrollment_pb2.ReenrollRequest, context: grpc.ServicerContext
    ) -> enrollment_pb2.EnrollResponse:
        with self.changed:
            self.reenrolments.append(request)
            self.changed.notify_all()
        return self.again(request, context)

    def order(self, bundle: bytes, *, renew: bool = False) -> None:
        self.send(link_pb2.Directive(trust=link_pb2.Trust(ca_bundle=bundle, renew=renew)))

    def become(self, authority: TestAuthority) -> None:
        """Restart with a server certificate of *authority*, and let in what it signed."""
        self.stop()
        self.authority = authority
        self.start()

    def heartbeats(self) -> list[link_pb2.Heartbeat]:
        return [r.heartbeat for r in self.reports if r.WhichOneof("kind") == "heartbeat"]
