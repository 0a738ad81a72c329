"""The one port that anybody may connect to: it gives nothing without a token, and a flood of it harms nobody else."""

from __future__ import annotations

import base64
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from crossdock.errors import ConfigError
from crossdock.tls import ENROLLMENT_LIMIT_BYTES, ENROLLMENT_OPTIONS, server_only_credentials
from crossdock.v1 import enrollment_pb2, enrollment_pb2_grpc
from crossdock_agent.identity import parse_token
from crossdock_controller import processes, throttle
from support.gateway import Gateway, csr_of, running_gateway, stub, wait_until
from support.http2 import (
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    connect,
    frame,
    literal,
    request_headers,
)
from support.wire import acknowledged, batch

ENROLL = "/crossdock.v1.Enrollment/Enroll"
DENIED = grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Without the waits that guessing costs (`tests/unit/test_throttle.py`): each answer here has its own reason."""
    with pytest.MonkeyPatch.context() as patch, running_gateway(unhurried(patch, tmp_path_factory)) as running:
        yield running


def unhurried(patch: pytest.MonkeyPatch, directories: pytest.TempPathFactory) -> Path:
    patch.setattr(throttle, "FREE_FAILURES", 100_000)
    patch.setattr(throttle, "BURST", 1e9)
    return directories.mktemp("gateway") / "controller"


@contextmanager
def stranger(gateway: Gateway) -> Iterator[grpc.Channel]:
    with gateway.channel(gateway.addresses.enrollment, server_only_credentials(gateway.authority.bundle)) as channel:
        yield channel


def ask(gateway: Gateway, **fields: object) -> grpc.StatusCode:
    request = {"token": "guess", "csr": csr_of(ec.generate_private_key(ec.SECP256R1())), "host": "h"} | fields
    with stranger(gateway) as channel, pytest.raises(grpc.RpcError) as error:
        enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(
            enrollment_pb2.EnrollRequest(**request),
            timeout=60,  # type: ignore[arg-type]
        )
    return error.value.code()


# --- tokens


@pytest.mark.parametrize("token", ["", " ", "cd1_", "' OR 1=1 --", "\0", "%", "_", "é" * 1000, "x" * 60_000])
def test_nothing_is_given_for_what_is_no_token(gateway: Gateway, token: str) -> None:
    assert ask(gateway, token=token) == DENIED


def test_a_token_is_not_given_back_by_its_hash_nor_by_a_part_of_it(gateway: Gateway) -> None:
    from crossdock_controller.authority import token_hash

    token = gateway.token()
    for guess in (token_hash(token), token[:-1], token.swapcase(), " " + token):
        assert ask(gateway, token=guess) == DENIED
    assert gateway.enroll(token)[1] == gateway.addresses.link


def test_guesses_from_one_address_soon_wait_and_a_right_one_among_them_is_not_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connections they come over; nothing is looked up for those that wait."""
    monkeypatch.setattr(throttle, "FREE_FAILURES", 5)
    monkeypatch.setattr(throttle, "FIRST_WAIT_SECONDS", 100.0)  # longer than this test, on any machine
    with running_gateway(tmp_path / "controller") as gateway:
        right, said = gateway.token(), []
        with ThreadPoolExecutor(8) as pool:
            said += pool.map(lambda n: ask(gateway, token=f"guess {n}"), range(40))
        assert said.count(DENIED) <= 5 + 8  # and those under way
        assert set(said) == {DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert ask(gateway, token=right) == grpc.StatusCode.RESOURCE_EXHAUSTED


def whole_token(gateway: Gateway) -> str:
    return gateway.authority.join_token(gateway.addresses.enrollment)[0]


def test_a_token_with_any_character_missing_or_changed_is_refused_at_the_site_or_by_the_controller(
    gateway: Gateway,
) -> None:
    """A pasted line that lost its end, or a letter: an error of ours that does not repeat the secret."""
    whole = whole_token(gateway)
    good = parse_token(whole)
    for cut in range(0, len(whole), 7):
        for garbled in (whole[:cut], whole[:cut] + "!" + whole[cut + 1 :], whole[:cut] + whole[cut + 1 :]):
            assert good.secret not in said_of(garbled)


def said_of(token: str) -> str:
    """The error of *token*; what is read from it, when it can be read."""
    try:
        return parse_token(token).address
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"a":1,"c":2,"t":3}', b'{"a":"h:1","c":"AA==","t":""}', b'{"a":"","c":"AA==","t":"x"}',
     b'{"a":"h:1","c":"!","t":"x"}', b"[" * 100_000, b"{" + b'"a":{' * 50_000, b"\xff\xfe",
     b'"' + b"\\u0000" * 9 + b'"'],
)  # fmt: skip
def test_what_is_packed_as_a_token_and_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(ConfigError, match="not a join token"):
        parse_token("cd1_" + base64.urlsafe_b64encode(body).decode().rstrip("="))


# --- requests


def rsa_request() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def unsigned_request() -> bytes:
    whole = csr_of(ec.generate_private_key(ec.SECP256R1()))
    der = bytearray(x509.load_pem_x509_csr(whole).public_bytes(serialization.Encoding.DER))
    der[-5] ^= 1
    return (
        b"-----BEGIN CERTIFICATE REQUEST-----\n"
        + base64.encodebytes(bytes(der))
        + b"-----END CERTIFICATE REQUEST-----\n"
    )


@pytest.mark.parametrize(
    "csr",
    [b"", b"\0" * 100, b"-----BEGIN CERTIFICATE REQUEST-----\n", rsa_request(), unsigned_request(), b"A" * 17_000],
    ids=["nothing", "noise", "half", "rsa", "signed by another", "too long"],
)  # fmt: skip
def test_a_request_that_is_none_does_not_use_the_token_up(gateway: Gateway, csr: bytes) -> None:
    token = gateway.token()
    assert ask(gateway, token=token, csr=csr) in (grpc.StatusCode.INVALID_ARGUMENT, DENIED)
    assert gateway.enroll(token)[1] == gateway.addresses.link


def test_a_message_of_a_stranger_is_limited_to_kilobytes(gateway: Gateway) -> None:
    assert ask(gateway, platform="x" * ENROLLMENT_LIMIT_BYTES) == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_bytes_that_are_no_request_and_methods_that_are_none_are_refused(gateway: Gateway) -> None:
    with stranger(gateway) as channel:
        for method, data in ((ENROLL, b"\xff" * 50), ("/crossdock.v1.Link/Uplink", b""), ("/x", b"")):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(method)(data, timeout=30)
        with pytest.raises(grpc.RpcError) as error:
            list(stub(channel).Uplink(iter([batch(1)]), timeout=30))
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


# --- floods


@contextmanager
def small_port(directory: Path, monkeypatch: pytest.MonkeyPatch, **changes: int) -> Iterator[Gateway]:
    """A gateway whose enrollment port has smaller limits, so that they are reached soon."""
    names = {"handshake": "grpc.server_handshake_timeout_ms", "connections": "grpc.max_allowed_incoming_connections"}
    smaller = dict(ENROLLMENT_OPTIONS) | {names[name]: value for name, value in changes.items()}
    monkeypatch.setattr(processes, "ENROLLMENT_OPTIONS", list(smaller.items()))
    with running_gateway(directory) as running:
        yield running


def idle(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def closed_by_peer(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_connections_that_never_finish_their_handshake_are_closed_and_take_no_place_at_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_port(tmp_path / "c", monkeypatch, handshake=2_000, connections=30) as gateway, ExitStack() as stack:
        identity = gateway.enroll(gateway.token())[0]
        flood = [stack.enter_context(idle(gateway.addresses.enrollment)) for _ in range(200)]
        wait_until(lambda: sum(map(closed_by_peer, flood)) >= 170, "more than the limit are turned away")
        with gateway.link(identity) as channel:
            assert acknowledged(stub(channel).Uplink(iter([batch(1)]), timeout=60)) == {"wms": 1}
        wait_until(lambda: all(map(closed_by_peer, flood)), "the others' time for the handshake is over")
        gateway.enroll(gateway.token("rtm1", "rtm1"))


def test_a_slow_handshake_byte_by_byte_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_port(tmp_path / "c", monkeypatch, handshake=2_000) as gateway:
        sock = idle(gateway.addresses.enrollment)
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)

        def drip() -> bool:
            with suppress(OSError):
                sock.setblocking(True)
                sock.sendall(hello[:1])
            time.sleep(0.05)
            return closed_by_peer(sock)

        wait_until(drip, "the server hangs up")
        sock.close()


def test_streams_that_are_reset_as_fast_as_they_are_opened_keep_nobody_out(gateway: Gateway) -> None:
    """HTTP/2 rapid reset (CVE-2023-44487)."""
    headers = request_headers(ENROLL)
    burst = b"".join(
        frame(HEADERS, END_HEADERS, n, headers) + frame(RST_STREAM, 0, n, struct.pack(">I", 8))
        for n in range(1, 20_001, 2)
    )
    enrolled = []
    with connect(gateway.addresses.enrollment) as sock:
        sock.sendall(PREFACE + frame(SETTINGS, 0, 0))
        attack = threading.Thread(target=_send_all, args=(sock, burst))
        attack.start()
        enrolled.append(gateway.enroll(gateway.token("fast", "fast"))[1])
        attack.join(60)
    assert enrolled == [gateway.addresses.link]
    gateway.enroll(gateway.token("fast2", "fast2"))


def test_headers_without_end_and_a_bomb_of_them_keep_nobody_out_and_fill_no_memory(gateway: Gateway) -> None:
    """HTTP/2 CONTINUATION flood (CVE-2024-27316), and one header repeated from the table, 100 MB of it in all."""
    begin = frame(HEADERS, 0, 1, request_headers(ENROLL))
    endless = begin + b"".join(frame(CONTINUATION, 0, 1, literal(f"x{n}", "y" * 100)) for n in range(50_000))
    bomb = literal("z", "z" * 100).replace(b"\x10", b"\x40", 1) + b"\xbe" * 15_000
    bombs = b"".join(frame(HEADERS, END_HEADERS, n, request_headers(ENROLL) + bomb) for n in range(1, 129, 2))
    held = []
    for _ in range(3):
        for burst in (endless, bombs):
            with connect(gateway.addresses.enrollment) as sock:
                sock.sendall(PREFACE + frame(SETTINGS, 0, 0))
                _send_all(sock, burst)
                gateway.enroll(gateway.token("calm", "calm"))
        held.append(psutil.Process().memory_info().rss)
    assert held[-1] - held[0] < 60_000_000, (
        held
    )  # what one burst needs may be kept by the allocator; it does not add up


def _send_all(sock: ssl.SSLSocket, data: bytes) -> None:
    with suppress(OSError):  # the server hung up: that is one good end
        sock.sendall(data)
