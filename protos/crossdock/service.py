"""What a service manager is told: that it runs, before anything slow; then what it does, that it lives, that it stops.

A manager that waits for slow work to end takes it for a hanging start and kills it half way. So READY means "it has its
directory and what it needs to know", and the status line says what it is busy with. This speaks sd_notify(3); without
`NOTIFY_SOCKET` in the environment, as on Windows, nothing is sent.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from loguru import logger

from crossdock.lifecycle import Stop


class Notifier:
    """*address* is that of the manager's socket; empty: nobody listens. *watchdog_seconds*: within that it wants a sign
    of life, 0: never. From any thread."""

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address  # an abstract one
        self.watchdog_seconds = watchdog_seconds
        self._complained = False

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Notifier:
        """As `environ` says; the watchdog only if it is meant for this process."""
        meant = environ.get("WATCHDOG_PID") in {None, "", str(os.getpid())}
        usec = environ.get("WATCHDOG_USEC", "")
        return cls(environ.get("NOTIFY_SOCKET", ""), int(usec) / 1e6 if meant and usec.isdigit() else 0.0)

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=stopping")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.settimeout(1.0)
                out.sendto("\n".join(line.replace("\n", " ") for line in lines).encode(), self._address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                logger.warning("the service manager cannot be told how it goes: {}", error)


@contextmanager
def running(stop: Stop, status: str, notifier: Notifier | None = None) -> Iterator[Notifier]:
    """READY now, with *status*; signs of life meanwhile; STOPPING once *stop* is set, or at the end."""
    notifier = notifier or Notifier.of(os.environ)
    over = threading.Event()
    once = threading.Lock()

    def stopping() -> None:
        if once.acquire(blocking=False):
            notifier.stopping()

    notifier.ready(status)
    if notifier.watchdog_seconds:
        threading.Thread(target=_live, args=(notifier, over), name="watchdog", daemon=True).start()
    stop.on_set(stopping)
    try:
        yield notifier
    finally:
        stop.forget(stopping)
        stopping()
        over.set()


def _live(notifier: Notifier, over: threading.Event) -> None:
    """A sign of life twice in each interval (sd_watchdog_enabled(3))."""
    while not over.wait(notifier.watchdog_seconds / 2):
        notifier.alive()
