"""A join token becomes an identity. The key is made here, and only the controller that the token names is trusted."""

from __future__ import annotations

import platform
import socket
import time
from pathlib import Path

import grpc
from loguru import logger

from crossdock import __version__
from crossdock.errors import Refused
from crossdock.tls import CLIENT_OPTIONS, server_only_credentials
from crossdock.v1.enrollment_pb2 import EnrollRequest, EnrollResponse
from crossdock.v1.enrollment_pb2_grpc import EnrollmentStub
from crossdock_agent.identity import Identity, IdentityStore, JoinToken, parse_token
from crossdock_agent.link import explain

TIMEOUT_SECONDS = 30.0


def enroll(text: str, state: Path) -> Identity:
    """Exchange the join token *text* for an identity stored in *state*.

    Raises ConfigError (not a token), ControllerUnavailable, or Refused (used, expired, not the controller it names).
    """
    from crossdock_agent import crypto

    token = parse_token(text)
    key, csr = crypto.new_key_and_request()
    answer = _ask(token, csr, crypto.pem_of_der(token.ca_der))
    agent, expires_us = crypto.certificate_facts(answer.certificate, key)
    if agent != answer.agent:
        raise Refused(f"the certificate is for agent {agent}, the answer for {answer.agent}", hint="enrol again")
    identity = Identity(
        agent=agent,
        site=answer.site,
        link_address=answer.link_address,
        certificate=answer.certificate,
        ca_bundle=answer.ca_bundle,
        key_file="",
        issued_us=time.time_ns() // 1000,
        expires_us=expires_us,
    )
    IdentityStore(state).save(identity, key)
    logger.bind(agent=agent, site=answer.site).info("enrolled")
    return identity


def _ask(token: JoinToken, csr: bytes, authority: bytes) -> EnrollResponse:
    request = EnrollRequest(
        token=token.secret, csr=csr, host=socket.gethostname(), platform=platform.platform(), version=__version__
    )
    with grpc.secure_channel(token.address, server_only_credentials(authority), options=CLIENT_OPTIONS) as channel:
        try:
            answer: EnrollResponse = EnrollmentStub(channel).Enroll(request, timeout=TIMEOUT_SECONDS)  # type: ignore[no-untyped-call]
        except grpc.RpcError as error:
            raise explain(error, token.address) from error
    return answer
