"""One question to the Enrollment service, and what its answer makes of the identity here."""

from __future__ import annotations

import platform
import socket
import time
from typing import Any

import grpc
import msgspec

from crossdock import __version__
from crossdock.errors import ControllerUnavailable, CrossdockError, Refused
from crossdock.tls import CLIENT_OPTIONS, server_only_credentials
from crossdock.v1.enrollment_pb2 import EnrollRequest, EnrollResponse, ReenrollRequest
from crossdock.v1.enrollment_pb2_grpc import EnrollmentStub
from crossdock_agent.identity import Identity
from crossdock_agent.link import explain

TIMEOUT_SECONDS = 30.0
RETRY_SECONDS = 10.0  # until the next look at a request that waits, where the controller says nothing of it
MAX_RETRY_SECONDS = 300.0
RETRY_AFTER = "retry-after-seconds"  # as the enrollment port says it


def about_here(machine: str) -> dict[str, str]:
    """What both requests say of this installation; *machine* is its digest, or empty."""
    return {
        "host": socket.gethostname(), "platform": platform.platform(), "version": __version__, "machine": machine,
    }  # fmt: skip


def ask(address: str, authorities: bytes, request: EnrollRequest | ReenrollRequest) -> EnrollResponse:
    """The answer of the service at *address*, which must be certified by one of *authorities* (PEM).

    Raises ControllerUnavailable, or Refused with what it said; the cause is the call's error.
    """
    with grpc.secure_channel(address, server_only_credentials(authorities), options=CLIENT_OPTIONS) as channel:
        stub: Any = EnrollmentStub(channel)  # type: ignore[no-untyped-call]
        call = stub.Enroll if isinstance(request, EnrollRequest) else stub.Reenroll
        try:
            answer: EnrollResponse = call(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise _explained(error, address) from error
    return answer


def _explained(error: grpc.RpcError, address: str) -> CrossdockError:
    """As of the link; besides, a precondition that is not met (this machine's clock) is an answer and no outage, and
    who is to wait is told for how long."""
    if isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.FAILED_PRECONDITION:
        return Refused(f"controller {address} refused: {error.details()}")
    if isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
        told = dict(error.trailing_metadata() or ()).get(RETRY_AFTER, "")
        return ControllerUnavailable(
            f"controller {address} asks to wait: {error.details()}",
            hint="attempts from this network address failed before; is an old token pasted somewhere?",
            after_seconds=min(float(told), MAX_RETRY_SECONDS) if str(told).isdigit() else None,
        )
    return explain(error, address)


def is_unknown_call(error: CrossdockError) -> bool:
    """True when the service is of a release that does not know what was asked."""
    cause = error.__cause__
    return isinstance(cause, grpc.Call) and cause.code() == grpc.StatusCode.UNIMPLEMENTED


def retry_seconds(answer: EnrollResponse) -> float:
    """When to ask again after a *pending* answer."""
    return min(max(float(answer.retry_seconds), 1.0), MAX_RETRY_SECONDS) if answer.retry_seconds else RETRY_SECONDS


def identity_of(answer: EnrollResponse, agent: str, expires_us: int, *, machine: str, asked_at: str) -> Identity:
    """The identity in *answer*, of whose certificate the facts are *agent* and *expires_us*.

    Raises Refused when the two do not agree.
    """
    if agent != answer.agent:
        raise Refused(f"the certificate is for agent {agent}, the answer for {answer.agent}", hint="enrol again")
    return Identity(
        agent=agent,
        site=answer.site,
        link_address=answer.link_address,
        certificate=answer.certificate,
        ca_bundle=answer.ca_bundle,
        key_file="",
        issued_us=time.time_ns() // 1000,
        expires_us=expires_us,
        enrollment_address=answer.enrollment_address or asked_at,
        machine=machine,
    )


def again(current: Identity, answer: EnrollResponse, expires_us: int) -> Identity:
    """*current* with the certificate in *answer*; what the answer leaves out stays."""
    return msgspec.structs.replace(
        current,
        site=answer.site or current.site,
        link_address=answer.link_address or current.link_address,
        certificate=answer.certificate,
        ca_bundle=answer.ca_bundle or current.ca_bundle,
        issued_us=time.time_ns() // 1000,
        expires_us=expires_us,
        enrollment_address=answer.enrollment_address or current.enrollment_address,
    )
