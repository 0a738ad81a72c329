"""Names and channel settings of the link. Certificates are made elsewhere (agent: identity, controller: authority)."""

from __future__ import annotations

import re

import grpc

from crossdock.codec import MAX_SEALED_BYTES
from crossdock.errors import Refused

TRUST_DOMAIN = "crossdock"
SERVER_NAME = "controller.crossdock.internal"  # every controller certificate carries it; agents verify this name
_AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PREFIX = f"spiffe://{TRUST_DOMAIN}/agent/"

ENROLLMENT_LIMIT_BYTES = 64 * 1024
ENROLLMENT_CONNECTIONS = 256  # at once; who floods this port takes no place at the link's
MESSAGE_LIMIT_BYTES = MAX_SEALED_BYTES + 64 * 1024

# Half-open connections are noticed by keepalive; ten seconds of silence and ten of grace (gRPC keepalive guide).
CLIENT_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 10_000),
]
SERVER_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),  # a stalled machine sends its pings in a bunch; peers are authenticated
    ("grpc.so_reuseport", 0),  # two controllers on one port by mistake: the second must fail to start
    ("grpc.server_handshake_timeout_ms", 60_000),  # a whole fleet comes back at once
    ("grpc.max_concurrent_streams", 64),  # of a connection
]
# Anybody may connect here: a token and a request for a certificate have a few kilobytes, and take seconds.
ENROLLMENT_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_send_message_length", 256 * 1024),
    ("grpc.max_receive_message_length", ENROLLMENT_LIMIT_BYTES),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.so_reuseport", 0),
    ("grpc.server_handshake_timeout_ms", 20_000),
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_connection_idle_ms", 30_000),
    ("grpc.max_connection_age_ms", 120_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.max_allowed_incoming_connections", ENROLLMENT_CONNECTIONS),
]


def agent_uri(agent: str) -> str:
    """Raises Refused for what could be read as another name: a NUL, a slash, a query."""
    if not _AGENT.fullmatch(agent):
        raise Refused(f"{agent[:200]!r} is no name for an agent", hint="letters, digits, '.', '_' and '-', at most 100")
    return f"{_PREFIX}{agent}"


def agent_of(uri: str) -> str | None:
    """The agent id in a SPIFFE URI SAN, or None when it names no agent of ours."""
    if not uri.startswith(_PREFIX):
        return None
    agent = uri[len(_PREFIX) :]
    return agent if _AGENT.fullmatch(agent) else None


def mutual_credentials(ca_bundle: bytes, certificate: bytes, key: bytes) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(root_certificates=ca_bundle, private_key=key, certificate_chain=certificate)


def server_only_credentials(ca_bundle: bytes) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(root_certificates=ca_bundle)
