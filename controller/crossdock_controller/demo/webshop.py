"""A web shop's HTTP door, as the demo needs one: each idempotency key takes effect once, however often it is sent."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webshop:
    """Listens on a free port of 127.0.0.1 until closed. Counters may be read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._effects: dict[str, str] = {}  # idempotency key: kind of document
        self._repeats = 0
        self._busy = threading.Event()
        self._refused = 0
        shop = self

        class Door(_Door):
            webshop = shop

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="webshop", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def repeats(self) -> int:
        """Requests answered from memory: their key had taken effect before."""
        with self._lock:
            return self._repeats

    @property
    def refused(self) -> int:
        """Requests answered 503 while the shop was closed for a moment."""
        with self._lock:
            return self._refused

    def effects_by_kind(self) -> Counter[str]:
        """How many requests changed something, by kind of document."""
        with self._lock:
            return Counter(self._effects.values())

    def close_shop(self) -> None:
        """Answer 503 with Retry-After until `reopen`."""
        self._busy.set()

    def reopen(self) -> None:
        self._busy.clear()

    def receive(self, kind: str, key: str, body: bytes) -> tuple[int, dict[str, str]]:
        """(status, headers) for one request."""
        if self._busy.is_set():
            with self._lock:
                self._refused += 1
            return 503, {"Retry-After": "1"}
        if not key or not isinstance(json.loads(body), dict):
            return 400, {}
        with self._lock:
            if key in self._effects:
                self._repeats += 1
                return 200, {}
            self._effects[key] = kind
        return 201, {}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Door(BaseHTTPRequestHandler):
    webshop: Webshop
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024  # an answer leaves as one packet: two would wait for each other's acknowledgement

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the controller may die in the middle of a request: it is the plot
            super().handle()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        kind, key = self.headers.get("Crossdock-Document", ""), self.headers.get("Idempotency-Key", "")
        status, headers = self.webshop.receive(kind, key, body)
        answer = json.dumps({"ok": status < 300}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_PUT(self) -> None:
        self.do_POST()

    def log_message(self, *_: Any) -> None:
        """Nothing: the story is told elsewhere."""
