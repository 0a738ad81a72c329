"""A TCP proxy between an agent and the controller that fails as networks do. One asyncio loop on a thread of its own.

A fault holds until `heal`. Bytes are never changed or reordered: TCP does not do that either. What a fault swallowed
cannot come back, so a connection that lost bytes is reset when the fault is lifted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Literal

CHUNK = 16 * 1024
Direction = Literal["up", "down"]  # up: from the agent to the controller


class Proxy:
    """`with Proxy(port_of_the_controller) as proxy:` listens on `proxy.port`. Methods are for any thread."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.connections = 0
        self._target = target_port
        self._links: set[_Link] = set()
        self._refusing = False
        self._held: set[Direction] = set()
        self._rate: float | None = None  # bytes a second
        self._left: int | None = None  # bytes until the connection is cut
        self._open = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # --- faults

    def cut(self) -> None:
        """Every connection ends, and new ones end at once."""

        def act() -> None:
            self._refusing = True
            self._end_all(abruptly=False)

        self._do(act)

    def reset(self) -> None:
        """Every connection ends by RST; new ones are welcome."""
        self._do(lambda: self._end_all(abruptly=True))

    def stall(self) -> None:
        """Nothing moves, and nobody is told."""
        self._do(lambda: self._hold("up", "down"))

    def half_open(self, dead: Direction) -> None:
        """One direction is dead, the other works."""
        self._do(lambda: self._hold(dead))

    def limit(self, count: int) -> None:
        """After each *count* bytes more, whatever is open is cut."""

        def act() -> None:
            self._left = count
            self._limit = count

        self._do(act)

    def slow(self, bytes_per_second: float) -> None:
        def act() -> None:
            self._rate = bytes_per_second

        self._do(act)

    def heal(self) -> None:
        """All faults end. A connection of which one direction was dead is reset, as a router does that forgot it."""

        def act() -> None:
            one_sided = len(self._held) == 1
            self._refusing, self._rate, self._left = False, None, None
            self._held.clear()
            self._open.set()
            if one_sided:
                self._end_all(abruptly=True)

        self._do(act)

    # --- on the loop

    def _do(self, act: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            try:
                act()
            finally:
                done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(10), "the proxy's loop does not answer"

    def _hold(self, *directions: Direction) -> None:
        self._held |= set(directions)
        self._open.clear()

    def _end_all(self, *, abruptly: bool) -> None:
        for link in list(self._links):
            link.end(abruptly=abruptly)

    async def _listen(self) -> asyncio.Server:
        self._open.set()
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _close(self) -> None:
        self._server.close()
        self._end_all(abruptly=True)
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # the controller is down: the agent sees a connection that ends
            writer.transport.abort()
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        ways = self._pump("up", reader, far_writer, link), self._pump("down", far_reader, writer, link)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # the proxy is closed
                await asyncio.gather(*ways)
        finally:
            link.end(abruptly=False)
            self._links.discard(link)

    async def _pump(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                while direction in self._held:
                    await self._open.wait()
                if self._rate is not None:
                    await asyncio.sleep(len(data) / self._rate)
                if self._left is not None and self._spend(len(data)):
                    writer.write(data[: len(data) // 2])  # a message is broken in its middle
                    link.end(abruptly=False)
                    return
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof() and not link.ended:
                writer.write_eof()

    def _spend(self, count: int) -> bool:
        assert self._left is not None
        self._left -= count
        if self._left > 0:
            return False
        self._left = self._limit
        return True


class _Link:
    """The two sockets of one connection."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self.ended = False

    def end(self, *, abruptly: bool) -> None:
        self.ended = True
        for writer in self._writers:
            found = writer.get_extra_info("socket")
            if abruptly and found is not None:
                with contextlib.suppress(OSError):
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if abruptly:
                writer.transport.abort()
            else:
                writer.close()
