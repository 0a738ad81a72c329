"""A private, real NATS server with JetStream for tests: own directory, own port, gone afterwards.

One server per pytest process, a stream per test. A missing program fails the test; nothing is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.postgres import MissingError, free_port
from support.servers import Server, orphan_guard

MAX_PAYLOAD = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NatsServer:
    port: int
    server: Server

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def add_stream(self, name: str, subjects: list[str], **settings: Any) -> None:
        async def add(stream: Any) -> None:
            await stream.add_stream(name=name, subjects=subjects, **settings)

        self._with_stream(add)

    def messages(self, name: str) -> list[Any]:
        """Everything the stream holds, in its order."""

        from nats.js.api import AckPolicy, ConsumerConfig

        async def read(stream: Any) -> list[Any]:
            info = await stream.stream_info(name)
            found: list[Any] = []
            if info.state.messages:
                plain = ConsumerConfig(ack_policy=AckPolicy.NONE)  # acknowledged ones would stop at 1,000
                reader = await stream.pull_subscribe("", stream=name, config=plain, pending_bytes_limit=-1)
                while len(found) < info.state.messages:
                    found += await reader.fetch(min(500, info.state.messages - len(found)), timeout=30)
            return found

        return list(self._with_stream(read))

    def _with_stream(self, use: Any) -> Any:
        async def run() -> Any:
            import nats

            connection = await nats.connect(self.url, allow_reconnect=False)
            try:
                return await use(connection.jetstream(timeout=30))
            finally:
                await connection.close()

        return asyncio.run(run())


def _healthy(port: int) -> bool:
    """JetStream too: its streams are recovered."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@contextlib.contextmanager
def running(extra: str = "") -> Iterator[NatsServer]:
    """*extra* is added to its configuration. Raises MissingError, RuntimeError with the server's log."""
    program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise MissingError("nats-server was not found: install the package 'nats-server'")
    directory = Path(tempfile.mkdtemp(prefix="crossdock-nats-"))
    port, monitor = free_port(), free_port()
    settings = directory / "nats.conf"
    settings.write_text(
        f"host: 127.0.0.1\nport: {port}\nhttp: '127.0.0.1:{monitor}'\nmax_payload: {MAX_PAYLOAD}\n"
        f"jetstream {{ store_dir: {json.dumps(str(directory / 'data'))}, max_file_store: 2147483648 }}\n{extra}\n"
    )
    command = [*orphan_guard(), program, "-c", str(settings)]
    server = Server(command, directory / "log", lambda: _healthy(monitor), {})
    try:
        server.start()
        yield NatsServer(port, server)
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """The server of this pytest process."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(running())
        except MissingError as missing:
            pytest.fail(str(missing), pytrace=False)
        yield server
