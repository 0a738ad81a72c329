"""Many handshakes at once: they ended the process (grpc/grpc#36693) while gRPC was given a certificate at each one."""

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from crossdock.tls import SERVER_NAME
from crossdock_controller.authority import Authority
from crossdock_controller.paths import DataDirectory, read_addresses
from support.processes import Centre

AT_ONCE = 200
ROUNDS = 3


@pytest.mark.timeout(300)
def test_a_storm_of_handshakes_does_not_end_the_controller(tmp_path: Path) -> None:
    with Centre(tmp_path) as centre:
        data = DataDirectory(centre.data)
        context = ssl.create_default_context(cadata=Authority.open(data.authority).bundle.decode())
        context.set_alpn_protocols(["h2"])
        host, port = read_addresses(data).enrollment.rsplit(":", 1)
        completed = asyncio.run(_storm(host, int(port), context))
        assert centre.process.alive(), centre.process.tail()
    assert completed == AT_ONCE * ROUNDS


async def _storm(host: str, port: int, context: ssl.SSLContext) -> int:
    """How many handshakes were completed."""
    completed = 0

    async def one() -> None:
        nonlocal completed
        with contextlib.suppress(OSError):  # counted by what is missing
            _, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=SERVER_NAME, ssl_handshake_timeout=120
            )
            completed += 1
            writer.close()
            await writer.wait_closed()

    for _ in range(ROUNDS):
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return completed
