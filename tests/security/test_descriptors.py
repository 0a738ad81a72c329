"""More connections than the controller may hold open: who is connected goes on, and who was not comes in afterwards."""

from __future__ import annotations

import queue
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock.tls import CLIENT_OPTIONS, mutual_credentials, server_only_credentials
from crossdock.v1 import enrollment_pb2, enrollment_pb2_grpc, link_pb2
from crossdock_agent import crypto
from crossdock_agent.identity import parse_token
from support.gateway import csr_of, pem, stub
from support.processes import Centre, Process
from support.wire import batch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")

FILES = 200
_LIMITED = (
    "import os, resource, sys; "
    f"resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES})); os.execv(sys.argv[1], sys.argv[1:])"
)


class Limited(Centre):
    """Its controller may hold FILES files open."""

    def _prepared(self) -> Process:
        process = super()._prepared()
        process._arguments = [sys.executable, "-c", _LIMITED, *process._arguments]
        return process


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Limited(tmp_path) as running:
        yield running


def enrol(centre: Centre, site: str) -> tuple[grpc.ChannelCredentials, str]:
    token = parse_token(centre.json("token", "create", "--site", site, "--agent", site)["token"])
    key = ec.generate_private_key(ec.SECP256R1())
    with grpc.secure_channel(
        token.address, server_only_credentials(crypto.pem_of_der(token.ca_der)), CLIENT_OPTIONS
    ) as channel:
        request = enrollment_pb2.EnrollRequest(token=token.secret, csr=csr_of(key), host="h")
        answer = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(request, timeout=60)
    return mutual_credentials(answer.ca_bundle, answer.certificate, pem(key)), answer.link_address


@pytest.mark.slow
def test_idle_connections_beyond_the_limit_of_files_disturb_no_stream_and_leave_nothing_behind(centre: Centre) -> None:
    credentials, address = enrol(centre, "atl1")
    sent: queue.Queue[link_pb2.Batch | None] = queue.Queue()
    with grpc.secure_channel(address, credentials, CLIENT_OPTIONS) as channel, ExitStack() as flood:
        acks = stub(channel).Uplink(iter(sent.get, None), timeout=110)
        sent.put(batch(1))
        assert next(acks).acknowledged[0].sequence == 1
        host, _, port = address.rpartition(":")
        for _ in range(2 * FILES):
            with suppress(OSError):  # the backlog of the port is full: that is the limit
                flood.enter_context(socket.create_connection((host, int(port)), timeout=1))
        for sequence in range(2, 10):
            sent.put(batch(sequence))
            assert next(acks).acknowledged[0].sequence == sequence
        assert centre.process.alive()
        flood.close()
        fresh, _ = enrol(centre, "rtm1")
        with grpc.secure_channel(address, fresh, CLIENT_OPTIONS) as second:
            assert list(stub(second).Uplink(iter([batch(1)]), timeout=60, wait_for_ready=True))
        sent.put(None)
        list(acks)
    assert "Traceback" not in centre.process.tail(10_000)
