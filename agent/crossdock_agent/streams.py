"""One stream to the controller, again and again: connect, talk, and after an end connect anew with backoff.

What a stream says is its session's business. A session is two halves used by two threads: gRPC pulls `requests`, the
supervised thread hands in what arrives.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import grpc
from loguru import logger

from crossdock.errors import BufferCorrupt, ControllerUnavailable, CrossdockError, Retryable
from crossdock.lifecycle import Stop
from crossdock.retry import Backoff
from crossdock.v1.link_pb2_grpc import LinkStub
from crossdock_agent.identity import IdentityStore
from crossdock_agent.link import TurnedAway, explain, open_channel
from crossdock_agent.problems import Problems

RECONNECT = Backoff(first_seconds=0.5, max_seconds=15.0)


class Session(Protocol):
    """One stream's talk. *ended* is set by `end`; *failure* says why `requests` gave up; *answered*, that the
    controller said something good, so that the next failure is a new one."""

    ended: bool
    answered: bool
    failure: CrossdockError | None
    on_failure: Callable[[], object]

    def requests(self) -> Iterator[Any]: ...

    def received(self, message: Any) -> None: ...

    def end(self) -> None: ...


class Stream:
    """The supervised part around sessions of one RPC of Link (`Uplink`, `Control`)."""

    def __init__(
        self,
        rpc: str,
        make_session: Callable[[], Session],
        identities: IdentityStore,
        problems: Problems,
        rng: random.Random,
        backoff: Backoff = RECONNECT,
    ) -> None:
        self.connected = False
        self.error = ""
        self.turned_away = 0  # times in a row that the controller hung up on this certificate
        self._hurry = threading.Event()
        self._rpc = rpc
        self.name = rpc.lower()
        self._make_session = make_session
        self._identities = identities
        self._problems = problems
        self._rng = rng
        self._backoff = backoff
        self._lock = threading.Lock()
        self._end: Callable[[], object] | None = None

    def reconnect(self) -> None:
        """End the stream now; the next begins at once, with the current certificate. From any thread."""
        with self._lock:
            end = self._end
        self._hurry.set()
        if end is not None:
            end()

    def run(self, stop: Stop) -> None:
        failures = 0
        while not stop.is_set():
            session = self._make_session()
            try:
                self._talk(session, stop)
                failures = 0
            except BufferCorrupt:
                raise
            except CrossdockError as error:
                failures = 1 if session.answered else failures + 1
                self.turned_away = self.turned_away + 1 if isinstance(error, TurnedAway) else 0
                if not stop.is_set():
                    self._note(error, failures)
                    at_least = getattr(error, "after_seconds", None)
                    self._pause(stop, self._backoff.delay(failures, self._rng, at_least=at_least))
            finally:
                self.connected = False

    def _pause(self, stop: Stop, seconds: float) -> None:
        """Until the next attempt is due, or `reconnect` asks for it."""
        stop.on_set(self._hurry.set)
        self._hurry.wait(seconds)
        stop.forget(self._hurry.set)

    def _talk(self, session: Session, stop: Stop) -> None:
        """One session until it ends. Returns when it was ended here, raises what else ended it."""
        self._hurry.clear()
        address = self._identities.current().link_address
        with open_channel(self._identities) as channel:
            call = getattr(LinkStub(channel), self._rpc)(session.requests())  # type: ignore[no-untyped-call]
            session.on_failure = call.cancel

            def end() -> None:
                session.end()
                call.cancel()

            with self._lock:
                self._end = end
            stop.on_set(end)
            try:
                for message in call:
                    session.received(message)
                    self._arrived()  # a message that is refused by us is no sign of health
                reason: CrossdockError = ControllerUnavailable(f"controller {address} ended the stream")
            except grpc.RpcError as error:
                reason = explain(error, address)
                reason.__cause__ = error
            finally:
                with self._lock:
                    self._end = None
                stop.forget(end)
                ended = session.ended
                end()
        if session.failure is not None:
            raise session.failure
        if not ended:
            raise reason

    def _arrived(self) -> None:
        if not self.connected:
            self.connected = True
            self.error = ""
            self.turned_away = 0
            self._problems.clear(self.name)

    def _note(self, error: CrossdockError, failures: int) -> None:
        self.error = str(error)
        log = logger.bind(part=self.name, failures=failures)
        if not isinstance(error, Retryable):  # it will not mend by waiting alone
            self._problems.report(self.name, f"{self.name}: {error}")
        elif failures == 1:
            log.warning("{} interrupted, the outbox keeps everything: {}", self.name, error)
        else:
            log.debug("{} still interrupted: {}", self.name, error)
