"""A TCP relay that counts what passes: the bytes on the line, whatever the programs at its ends believe."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Relay:
    """Listens on `port` and passes everything to *target* and back, from the address *source* if one is given. Use in a
    `with` statement."""

    def __init__(self, target: str, source: str = "") -> None:
        self._source = (source, 0) if source else None
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.up: list[tuple[float, int]] = []  # (when, bytes) towards the target
        self.connections = 0
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def sent(self, since: float = 0.0, until: float = float("inf")) -> int:
        """Bytes towards the target in a time of the monotonic clock."""
        with self._lock:
            return sum(size for when, size in self.up if since <= when <= until)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed: the test is over
                return
            far = socket.create_connection(self._target, source_address=self._source)
            self._open += [near, far]
            self.connections += 1
            for pair in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_up: bool) -> None:
        with contextlib.suppress(OSError):  # either end went: so does the other
            while data := source.recv(65536):
                if is_up:
                    with self._lock:
                        self.up.append((time.monotonic(), len(data)))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
