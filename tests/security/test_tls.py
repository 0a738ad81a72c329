"""What each port speaks before anybody is known: TLS 1.2 and 1.3, with forward secrecy and authenticated ciphers."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Iterator

import pytest

from support.gateway import Gateway, running_gateway
from support.http2 import PREFACE, SETTINGS, connect, frame, tls_context

PORTS = ("link", "enrollment")
WEAK = ("ECDHE+AES+SHA1", "ECDHE+AES+SHA256:!AESGCM", "kRSA", "DHE", "3DES", "aNULL", "eNULL", "RC4", "CAMELLIA")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway") / "controller") as running:
        yield running


def spoken(gateway: Gateway, port: str, context: ssl.SSLContext) -> tuple[str | None, str]:
    """(version, cipher) of a handshake that was made. Raises OSError when none is."""
    with connect(getattr(gateway.addresses, port), context) as sock:
        return sock.version(), (sock.cipher() or ("",))[0]


def offered(ciphers: str) -> ssl.SSLContext | None:
    """A client that offers *ciphers* alone; None where this Python's OpenSSL has none of them."""
    try:
        return tls_context(ssl.TLSVersion.TLSv1_2, f"{ciphers}:@SECLEVEL=0")
    except ssl.SSLError:
        return None


def enters(gateway: Gateway, port: str, context: ssl.SSLContext) -> bool:
    """Whether HTTP/2 is answered: in TLS 1.3 the server judges the client after the client's handshake is done."""
    try:
        with connect(getattr(gateway.addresses, port), context) as sock:
            sock.sendall(PREFACE + frame(SETTINGS, 0, 0))
            return len(sock.recv(9)) == 9
    except OSError:
        return False


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(gateway: Gateway, port: str, version: ssl.TLSVersion) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = tls_context(version, "ALL:@SECLEVEL=0")
    with pytest.raises(OSError, match=r"EOF|PROTOCOL|VERSION|reset"):
        spoken(gateway, port, context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_todays_versions_are_spoken(gateway: Gateway, version: ssl.TLSVersion) -> None:
    assert enters(gateway, "enrollment", tls_context(version))
    assert (
        spoken(gateway, "enrollment", tls_context(version))[0]
        == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    )


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    "ciphers",
    [
        ciphers
        for ciphers in (
            "ECDHE+AES+SHA1",
            "ECDHE+AES+SHA256:!AESGCM",
            "kRSA",
            "DHE",
            "3DES",
            "aNULL",
            "eNULL",
            "RC4",
            "CAMELLIA",
        )
        if offered(ciphers) is not None
    ],
)
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(
    gateway: Gateway, port: str, ciphers: str
) -> None:
    context = offered(ciphers)
    assert context is not None
    with pytest.raises(OSError, match=r"EOF|FAILURE|CIPHER|reset"):
        spoken(gateway, port, context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_link_answers_nobody_without_a_certificate(gateway: Gateway, version: ssl.TLSVersion) -> None:
    assert not enters(gateway, "link", tls_context(version))


def test_a_client_that_speaks_no_tls_gets_nothing(gateway: Gateway) -> None:
    import socket

    for port in PORTS:
        host, _, number = getattr(gateway.addresses, port).rpartition(":")
        with socket.create_connection((host, int(number)), timeout=30) as sock:
            sock.sendall(PREFACE + frame(SETTINGS, 0, 0))
            answer = sock.recv(100)
            assert not answer or answer[0] == 0x15  # nothing, or a TLS alert
