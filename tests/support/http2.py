"""As much of HTTP/2 (RFC 9113, RFC 7541) as it takes to misbehave on it: frames over TLS, headers without a table."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Mapping

from crossdock.tls import SERVER_NAME

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4


def tls_context(version: ssl.TLSVersion | None = None, ciphers: str = "") -> ssl.SSLContext:
    """A client that trusts anybody; *version* and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if ciphers:
        context.set_ciphers(ciphers)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def connect(address: str, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    """A connection with the handshake made. Raises OSError (SSLError is one)."""
    host, _, port = address.rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=30)
    try:
        return (context or tls_context()).wrap_socket(plain, server_hostname=SERVER_NAME)
    except BaseException:
        plain.close()
        raise


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name: str, value: str) -> bytes:
    """A header field, never indexed; each part under 127 bytes."""
    return b"\x10" + b"".join(bytes((len(part),)) + part.encode() for part in (name, value))


def request_headers(path: str, more: Mapping[str, str] | None = None) -> bytes:
    fields = {
        ":method": "POST", ":scheme": "https", ":path": path, ":authority": SERVER_NAME,
        "content-type": "application/grpc", "te": "trailers", **(more or {}),
    }  # fmt: skip
    return b"".join(literal(name, value) for name, value in fields.items())
