"""An HTTP receiver that keeps the other half of the bargain: a document with a known idempotency key has no second
effect. It misbehaves only as scripted, and remembers every request.

Threads are bounded; a scripted hang ends when the server stops, at the latest.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from support.certificates import Pair

MAX_THREADS = 32
HANG_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Fault:
    """How one request is answered. *applied*: the document took effect before things went wrong."""

    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    mode: Literal["answer", "hang", "half_status", "half_headers", "half_body", "half_chunks", "close", "drip"] = (
        "answer"
    )
    applied: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    method: str
    path: str
    key: str  # last segment of the path, decoded
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def idempotency_key(self) -> str:
        return self.headers["idempotency-key"]


class HttpReceiver:
    """`with HttpReceiver() as receiver:` serves `receiver.url`, which ends in /documents."""

    def __init__(self, certificate: Pair | None = None, port: int = 0) -> None:
        self.requests: list[Received] = []  # every request whose body arrived
        self.effects: list[Received] = []  # the first of each idempotency key that was accepted
        self.connections = 0
        self._known: set[str] = set()
        self._next: deque[Fault] = deque()
        self._by_key: dict[str, deque[Fault]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = _Server(self, certificate, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="http-receiver")
        self.port: int = self._server.server_address[1]
        self.url = f"{'http' if certificate is None else 'https'}://127.0.0.1:{self.port}/documents"

    def __enter__(self) -> HttpReceiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()

    def successor(self) -> HttpReceiver:
        """The same server after a restart: same port, same memory. Start it once this one has stopped."""
        other = HttpReceiver(port=self.port)
        other.requests, other.effects, other._known = self.requests, self.effects, self._known
        return other

    def script(self, *faults: Fault) -> None:
        """The next requests are answered by *faults*, in order; after that all goes well again."""
        with self._lock:
            self._next.extend(faults)

    def script_for(self, key: str, *faults: Fault) -> None:
        """The next requests whose path ends in *key*."""
        with self._lock:
            self._by_key[key].extend(faults)

    def drop_connections(self) -> None:
        """Closes every open connection, as a server does with idle ones."""
        self._server.hang_up()

    def take(self, received: Received) -> Fault | None:
        """Records the request; how to misbehave, or None when it was accepted."""
        with self._lock:
            self.requests.append(received)
            fault = None
            if self._by_key[received.key]:
                fault = self._by_key[received.key].popleft()
            elif self._next:
                fault = self._next.popleft()
            accepted = fault is None or fault.applied
            if accepted and received.idempotency_key not in self._known:
                self._known.add(received.idempotency_key)
                self.effects.append(received)
            return fault

    def wait_out(self, seconds: float) -> bool:
        """True when the server stops."""
        return self._stopping.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # `server_close` waits for them
    request_queue_size = 64

    def __init__(self, receiver: HttpReceiver, certificate: Pair | None, port: int) -> None:
        self.receiver = receiver
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate.certificate, certificate.key)
        self._slots = threading.BoundedSemaphore(MAX_THREADS)
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(timeout=10):
            self.shutdown_request(request)
            return
        with self._open_lock:
            self._open.add(request)
            self.receiver.connections += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        plain = request
        try:
            if self._tls is not None:
                request.settimeout(10)
                request = self._tls.wrap_socket(request, server_side=True)
                with self._open_lock:
                    self._open.add(request)
            super().process_request_thread(request, client_address)
        except OSError:  # a client that refuses our certificate, or hangs up: its business
            self.shutdown_request(request)
        finally:
            with self._open_lock:
                self._open -= {plain, request}
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is part of what is tested; its request was recorded if it arrived."""

    def hang_up(self) -> None:
        with self._open_lock:
            for request in self._open:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True  # headers and body leave in two writes
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = urlsplit(self.path).path
        received = Received(self.command, self.path, unquote(path.rpartition("/")[2]), headers, body)
        fault = self.server.receiver.take(received)
        if fault is None:
            self._answer(Fault(200, {"Content-Type": "application/json"}, b'{"accepted": true}'))
        else:
            self._misbehave(fault)

    do_PUT = do_POST  # noqa: N815 - the name is the method's

    def _misbehave(self, fault: Fault) -> None:
        if fault.mode == "answer":
            self._answer(fault)
            return
        self.close_connection = True
        if fault.mode == "hang":
            self.server.receiver.wait_out(HANG_SECONDS)
        elif fault.mode == "half_status":
            self.wfile.write(b"HTTP/1.1 200")
        elif fault.mode == "half_headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/js")
        elif fault.mode == "half_body":
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"accep')
        elif fault.mode == "half_chunks":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{acce\r\n")
        elif fault.mode == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not self.server.receiver.wait_out(0.02):
                self.wfile.write(b" ")
                self.wfile.flush()

    def _answer(self, fault: Fault) -> None:
        self.send_response(fault.status)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(fault.body)))
        self.end_headers()
        self.wfile.write(fault.body)

    def log_message(self, *_: Any) -> None:
        """Silent: the requests are kept, which is better than lines."""
