"""A private, real RabbitMQ for tests: own node name, directories, ports and `epmd`; all of it gone afterwards.

One server per pytest process, started when first asked for; an exchange and a queue per test. A missing program fails
the test; nothing is skipped. The server's own script is used, not the system's wrapper around it, which insists on the
system's user and directories.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.postgres import MissingError, free_port, newest_of
from support.servers import Server, accepts, orphan_guard

_SCRIPTS = (
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/opt/rabbitmq*/sbin/rabbitmq-server",
)


@dataclass(frozen=True, slots=True)
class RabbitMQ:
    port: int
    server: Server

    @property
    def url(self) -> str:
        return f"amqp://127.0.0.1:{self.port}"

    def declare(self, exchange: str, queue: str, **arguments: Any) -> None:
        """A durable topic exchange with a durable queue that takes everything."""

        async def use(channel: Any) -> None:
            made = await channel.declare_exchange(exchange, "topic", durable=True)
            declared = await channel.declare_queue(queue, durable=True, arguments=arguments or None)
            await declared.bind(made, "#")

        self.with_channel(use)

    def take(self, queue: str) -> list[Any]:
        """The messages the queue holds now, in its order; they are taken from it."""

        async def use(channel: Any) -> list[Any]:
            declared = await channel.get_queue(queue)
            count, found = declared.declaration_result.message_count, []
            if count:
                async with declared.iterator(timeout=60) as messages:
                    async for message in messages:
                        found.append(message)
                        if len(found) == count:
                            break
                    await found[-1].ack(multiple=True)
            return found

        return list(self.with_channel(use))

    def with_channel(self, use: Any) -> Any:
        async def run() -> Any:
            import aio_pika

            connection = await aio_pika.connect(self.url, timeout=10)
            async with connection:
                return await use(await connection.channel())

        return asyncio.run(run())


def _answers(port: int) -> bool:
    """Logins are accepted, which is later than connections."""
    from aio_pika.exceptions import CONNECTION_EXCEPTIONS

    async def nothing(_: Any) -> None:
        return None

    if not accepts(port):
        return False
    try:
        RabbitMQ(port, None).with_channel(nothing)  # type: ignore[arg-type]  # not started yet
    except (*CONNECTION_EXCEPTIONS, TimeoutError):
        return False
    return True


@contextlib.contextmanager
def running() -> Iterator[RabbitMQ]:
    """Raises MissingError, RuntimeError with the server's log."""
    script, epmd = newest_of(_SCRIPTS), shutil.which("epmd")
    if script is None or epmd is None:
        raise MissingError("RabbitMQ (rabbitmq-server, epmd) was not found: install the package 'rabbitmq-server'")
    directory = Path(tempfile.mkdtemp(prefix="crossdock-rabbitmq-"))
    port, epmd_port = free_port(), free_port()
    env = _environment(directory, port, epmd_port)
    names = Server(
        [*orphan_guard(), epmd, "-port", str(epmd_port), "-address", "127.0.0.1"],
        directory / "epmd.log", lambda: accepts(epmd_port), env,
    )  # fmt: skip
    server = Server([*orphan_guard(), str(script)], directory / "log", lambda: _answers(port), env)
    try:
        names.start()
        server.start()
        yield RabbitMQ(port, server)
    finally:
        server.kill()
        names.kill()
        shutil.rmtree(directory, ignore_errors=True)


def _environment(directory: Path, port: int, epmd_port: int) -> dict[str, str]:
    (directory / "plugins").write_text("[].\n")
    settings = directory / "rabbitmq.conf"
    settings.write_text("disk_free_limit.absolute = 1MB\nvm_memory_high_watermark.absolute = 1GB\n")
    return {
        "HOME": str(directory),  # Erlang's cookie is made here
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"crossdock{os.getpid()}-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory / "logs"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(settings),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "none.conf"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",  # one scheduler that does not spin
    }


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitMQ]:
    """The server of this pytest process."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(running())
        except MissingError as missing:
            pytest.fail(str(missing), pytrace=False)
        yield server
