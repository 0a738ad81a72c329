"""One keep-alive connection, one request at a time, each answered in full before its deadline or not answered at all.

The standard library's client is used on purpose: a delivery needs one connection, no pool, no redirects, no cookies,
no decompression and no retries of its own, and every byte of an answer is read under our limits.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from crossdock.errors import SinkUnavailable
from crossdock_controller.sinks.http_verdicts import Answer

MAX_ANSWER_BYTES = 256 * 1024  # the rest of a longer answer is not read; its status stands
_CONNECT_SECONDS = 10.0


class Unreachable(SinkUnavailable):
    """No connection could be made, so nothing was sent."""


class NoAnswer(SinkUnavailable):
    """The request may have been applied; there is no complete answer. *code* says how it ended."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Exchange:
    """Requests to one host, reconnecting as needed. Not shared between threads."""

    def __init__(self, scheme: str, host: str, port: int, timeout_seconds: float, tls: ssl.SSLContext | None) -> None:
        self._origin = f"{scheme}://{host}:{port}"
        self._host, self._port, self._timeout, self._tls = host, port, timeout_seconds, tls
        self._connection: http.client.HTTPConnection | None = None

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Raises Unreachable, or NoAnswer after the request may have arrived.

        A server may close an idle connection at any moment (RFC 9112 section 9.5): when a used one turns out to be
        closed before any answer, the request is sent once more on a fresh one. The idempotency key makes that safe.
        """
        reused = self._connection is not None
        connection = self._connection or self._connect()
        try:
            return self._exchange(connection, method, target, headers, body)
        except NoAnswer as error:
            self.close()
            if not reused or error.code != "closed":
                raise
        try:
            return self._exchange(self._connect(), method, target, headers, body)
        except NoAnswer:
            self.close()
            raise

    def connect(self) -> str:
        """Connects without sending anything; one line about the connection. Raises Unreachable."""
        sock = self._connect().sock
        version = sock.version() if isinstance(sock, ssl.SSLSocket) else None
        return f"{self._origin} reachable, {version or 'without TLS'}"

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        self.close()
        seconds = min(self._timeout, _CONNECT_SECONDS)
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=seconds, context=self._tls)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise Unreachable(
                f"{self._origin} cannot be reached: {error}",
                hint="is 'url' right, the server up, and its certificate trusted?",
            ) from error
        self._connection = connection
        return connection

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        deadline = time.monotonic() + self._timeout
        connection.response_class = partial(_Response, deadline=deadline)  # type: ignore[assignment]  # called, not subclassed
        begun = False
        try:
            connection.sock.settimeout(self._timeout)
            connection.request(method, target, body, dict(headers))
            response = connection.getresponse()
            begun = True
            content = _content(response)
        except TimeoutError as error:
            raise NoAnswer("timeout", f"{self._origin} gave no complete answer within {self._timeout:g} s") from error
        except (ConnectionError, ssl.SSLEOFError, http.client.IncompleteRead) as error:
            if begun or isinstance(error, http.client.IncompleteRead):
                raise NoAnswer("half_answer", f"{self._origin} broke off in the middle of its answer") from error
            raise NoAnswer("closed", f"{self._origin} closed the connection without an answer") from error
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer("bad_answer", f"{self._origin} gave no readable answer: {error!r}") from error
        if len(content) > MAX_ANSWER_BYTES or response.will_close:
            self.close()
        read = response.headers.get
        return Answer(response.status, read("Retry-After"), read("Date"), read("Location"), content)


def _content(response: http.client.HTTPResponse) -> bytes:
    """The body, whole or one byte over the limit. Raises IncompleteRead, which `read` with a size does not raise."""
    content = response.read(MAX_ANSWER_BYTES + 1)
    if len(content) <= MAX_ANSWER_BYTES and response.length:
        raise http.client.IncompleteRead(content, response.length)
    return content


class _Response(http.client.HTTPResponse):
    """A response that ends at a deadline, whatever the pace at which its bytes drip in."""

    def __init__(self, sock: socket.socket, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._timed = _Timed(self.fp.detach(), sock, deadline)
        self.fp = io.BufferedReader(self._timed)

    def begin(self) -> None:
        super().begin()
        if self._timed.ended:  # `http.client` takes the end of the stream for the end of the headers
            raise http.client.IncompleteRead(b"")


class _Timed(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        super().__init__()
        self._raw, self._sock, self._deadline = raw, sock, deadline
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the answer has passed")
        self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        self.ended = self.ended or count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
