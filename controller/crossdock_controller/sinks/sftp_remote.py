"""An SSH server's files, behind blocking calls that end in time. Every fault is SinkUnavailable: no document's."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from crossdock.errors import SinkUnavailable
from crossdock_controller.sinks.broker_loop import LoopThread

CONNECT_SECONDS = 15.0
T = TypeVar("T")


class Remote:
    """Connected by the first call; after a fault, or `close`, by the next one again."""

    def __init__(
        self, host: str, port: int, user: str, host_key: str, *, password: str | None, key: str | None, seconds: float,
        name: str,
    ) -> None:  # fmt: skip
        self._host, self._port, self._user, self._host_key = host, port, user, host_key
        self._password, self._seconds = password, seconds
        self._key = _read(key) if key is not None else None
        self._loop = LoopThread(f"sftp {name}")
        self._connection: Any = None
        self._client: Any = None

    def put(self, path: str, content: bytes) -> None:
        """Write *path* anew, synced where the server can, and see that all of it is there."""
        self._do(lambda: self._put(path, content), f"write {path}")

    def rename(self, old: str, new: str) -> None:
        """*old* takes the name *new*; when it is gone, it has it already, or had."""
        self._do(lambda: self._rename(old, new), f"rename {old}")

    def names(self, directory: str) -> list[str]:
        return self._do(lambda: self._names(directory), f"list {directory}")

    def check(self, directory: str) -> str:
        """Writes and removes a file."""
        probe = f"{directory}/.crossdock-check"
        self.put(probe, b"")
        self._do(lambda: self._client.remove(probe), f"remove {probe}")
        return f"{self._user}@{self._host}:{self._port} reachable, {directory} writable"

    def close(self) -> None:
        connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(TimeoutError, OSError):
                self._loop.call(lambda: _closed(connection), 5.0)
        self._loop.close()

    def _do(self, make: Callable[[], Coroutine[Any, Any, T]], what: str) -> T:
        import asyncssh

        async def connected() -> T:
            if self._client is None:
                await self._connect()
            return await make()

        try:
            return self._loop.call(connected, self._seconds)
        except TimeoutError as error:
            self.close()
            raise SinkUnavailable(f"{self._host}:{self._port} did not answer in {self._seconds:g} s: {what}") from error
        except (OSError, asyncssh.Error) as error:
            self.close()
            raise SinkUnavailable(
                f"{self._host}:{self._port}: cannot {what}: {error or type(error).__name__}",
                hint="is the server up, 'host_key' right, and the directory writable for the user?",
            ) from error

    async def _connect(self) -> None:
        import asyncssh

        self._connection = await asyncssh.connect(
            self._host, self._port, username=self._user, password=self._password,
            client_keys=[self._key] if self._key is not None else None, agent_path=None, config=None, known_hosts=b"",
            client_factory=lambda: _pinning(self._host_key), connect_timeout=CONNECT_SECONDS, keepalive_interval=15,
            login_timeout=CONNECT_SECONDS,
        )  # fmt: skip
        self._client = await self._connection.start_sftp_client()

    async def _put(self, path: str, content: bytes) -> None:
        async with self._client.open(path, "wb") as file:
            await file.write(content)
            with contextlib.suppress(_unsupported()):
                await file.fsync()
        found = await self._client.stat(path)
        if found.size != len(content):
            raise OSError(f"{path} has {found.size} bytes there, {len(content)} were written")

    async def _rename(self, old: str, new: str) -> None:
        import asyncssh

        if not await self._client.exists(old):
            return
        try:
            await self._client.posix_rename(old, new)  # replaces what is there, all at once
        except asyncssh.SFTPOpUnsupported:
            await self._client.rename(old, new)

    async def _names(self, directory: str) -> list[str]:
        return [name for name in await self._client.listdir(directory) if isinstance(name, str)]


def _read(key: str) -> Any:
    """Raises asyncssh.KeyImportError."""
    import asyncssh

    return asyncssh.import_private_key(key)


def _unsupported() -> type[BaseException]:
    import asyncssh

    return asyncssh.SFTPOpUnsupported


async def _closed(connection: Any) -> None:
    connection.close()
    await connection.wait_closed()


def _pinning(expected: str) -> Any:
    """A client that speaks to nobody whose key has another fingerprint than *expected*."""
    import asyncssh

    class Pinning(asyncssh.SSHClient):
        def validate_host_public_key(self, host: str, addr: str, port: int, key: Any) -> bool:  # noqa: ARG002
            digest = hashlib.sha256(key.public_data).digest()
            return "SHA256:" + base64.b64encode(digest).decode().rstrip("=") == expected

    return Pinning()
