"""Sink "nats": one message a document into a JetStream stream; done once the stream has acknowledged it.

`Nats-Msg-Id` is the same for every attempt, so that within the stream's duplicate window a resend is not stored again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from loguru import logger
from pydantic import Field, field_validator

from crossdock.errors import ConfigError, Rejected, SinkUnavailable
from crossdock_controller.sinks.base import DONE, Outgoing, Sink, SinkContext, Verdict, register
from crossdock_controller.sinks.broker import (
    CLOSE_SECONDS,
    CONNECT_SECONDS,
    RUN_SIZE,
    BrokerSettings,
    BrokerSink,
    Name,
    attempt_key,
    headers,
    missing,
    reference,
    refusal,
    secret,
    template,
    tls_context,
    too_large,
)
from crossdock_controller.sinks.broker_loop import LoopThread

if TYPE_CHECKING:
    from nats.aio.client import Client as Connection
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

T = TypeVar("T")

_SUBJECT_CHARACTERS = 3_000  # a server reads control lines of 4,096 bytes, reply subject and sizes included
_HEADER_BYTES = 16_384  # more than all headers together; they count into the payload
_NEVER_OPENED_SECONDS = 0.5  # the client waits for the end of a TLS connection that never began
_PLACES = frozenset({"document", "key", "site"})
# Errors by which JetStream refuses a message: https://github.com/nats-io/nats-server/blob/main/server/errors.json
_TOO_LARGE, _FULL, _OTHER_STREAM, _NOBODY = 10054, 10077, 10060, -1


class _Error(msgspec.Struct, frozen=True):
    code: int = 0
    description: str = ""
    err_code: int = 0


class _Answer(msgspec.Struct, frozen=True):
    """What JetStream says of a message: where it is, or why it is nowhere."""

    stream: str = ""
    seq: int = 0
    error: _Error | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class NatsSettings(BrokerSettings):
    servers: list[str] = Field(min_length=1)  # nats://host:4222
    stream: str = Field(pattern=r"^[^\s.*>/\\]{1,255}$")
    subject: str = "crossdock.{document}"
    token: str | None = None  # a reference: secret:NAME, instead of user and password
    duplicate_window_seconds: float = Field(default=3_600.0, gt=0, le=86_400)  # of a stream that `create` makes
    replicas: int = Field(default=1, ge=1, le=5)  # of a stream that `create` makes

    @field_validator("servers")
    @classmethod
    def _servers(cls, value: list[str]) -> list[str]:
        for server in value:
            parts = urlsplit(server)
            if parts.scheme not in ("nats", "tls") or not parts.hostname or parts.path.strip("/"):
                raise ValueError("'servers' must be like nats://host:4222")
            if parts.username is not None or parts.password is not None:
                raise ValueError("'servers' holds a login; write 'user' and 'password: secret:NAME' instead")
            _ = parts.port  # raises ValueError for what is no port
        return value

    @field_validator("subject")
    @classmethod
    def _subject(cls, value: str) -> str:
        return template("subject", value, _PLACES, r"[\w$%-]+(\.[\w$%-]+)*")

    @field_validator("token")
    @classmethod
    def _token(cls, value: str | None) -> str | None:
        return reference("token", value)


class NatsClient:
    """A connection that is not mended but made anew: what was in flight when it broke is known to be unconfirmed."""

    def __init__(self, settings: NatsSettings, context: SinkContext) -> None:
        self._settings, self._context = settings, context
        self._subject = Name(settings.subject, limit=_SUBJECT_CHARACTERS)
        self._password, self._token = secret(context, settings.password), secret(context, settings.token)
        self._tls = tls_context(settings, context)
        self._loop = LoopThread(f"nats {context.name}")
        self._problem: Exception | None = None
        self._waiting: dict[int, asyncio.Future[_Answer]] = {}  # by position in the wave
        self._inbox = ""
        self._connection = _client(context.name)
        self._stream: JetStreamContext
        self.usable = False

    def open(self) -> NatsClient:
        """Raises SinkUnavailable, ConfigError; then nothing is left open."""
        try:
            self._call(self._connect, CONNECT_SECONDS)
        except BaseException:
            self.close()
            raise
        self.usable = True
        return self

    def publish(self, wave: Sequence[Outgoing]) -> Sequence[Verdict]:
        seconds = self._settings.timeout_seconds
        return self._call(lambda: self._publish(wave, seconds), seconds + CONNECT_SECONDS)

    def check(self) -> str:
        return self._call(self._found, self._settings.timeout_seconds)

    def close(self) -> None:
        self.usable = False
        try:
            self._loop.call(self._connection.close, CLOSE_SECONDS if self._inbox else _NEVER_OPENED_SECONDS)
        except _errors() as error:
            logger.bind(sink=self._context.name).debug("the connection did not close well: {!r}", error)
        finally:
            self._loop.close()

    def _call(self, make: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
        try:
            return self._loop.call(make, seconds)
        except _errors() as error:
            raise self._unavailable(self._problem or error) from error

    async def _connect(self) -> None:
        await self._connection.connect(
            servers=self._settings.servers, name=f"crossdock {self._context.name}", tls=self._tls,
            allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0, connect_timeout=5,
            ping_interval=20, max_outstanding_pings=2, error_cb=self._failed, closed_cb=self._closed,
            user=self._settings.user, password=self._password, token=self._token,
        )  # fmt: skip
        self._problem = None
        self._stream = self._connection.jetstream(timeout=self._settings.timeout_seconds)
        self._inbox = self._connection.new_inbox()
        await self._connection.subscribe(f"{self._inbox}.*", cb=self._answered)
        if self._settings.create:
            await self._create_stream()

    async def _failed(self, error: Exception) -> None:
        self._problem = error

    async def _closed(self) -> None:
        """Whatever waits for an acknowledgement will not get it on this connection."""
        self.usable = False
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the connection was lost before the acknowledgement"))

    async def _publish(self, wave: Sequence[Outgoing], seconds: float) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        self._waiting = {}
        for position, delivery in enumerate(wave):
            try:
                await self._send(position, delivery)
            except Rejected as error:
                verdicts[position] = refusal(error)
        if self._waiting:
            _, late = await asyncio.wait(self._waiting.values(), timeout=seconds)
            self.usable = self.usable and not late
        for position, future in self._waiting.items():
            verdicts[position] = self._verdict(future, len(wave[position].body))
        return [verdicts[position] for position in range(len(wave))]

    async def _send(self, position: int, delivery: Outgoing) -> None:
        limit = min(self._settings.max_message_bytes, self._connection.max_payload - _HEADER_BYTES)
        if len(delivery.body) > limit:
            raise Rejected("too_large", too_large(len(delivery.body), limit).reason)
        subject, head = self._subject.of(delivery), headers(delivery)
        head["Nats-Msg-Id"] = attempt_key(delivery, self._context.name)
        head["Nats-Expected-Stream"] = self._settings.stream
        self._waiting[position] = asyncio.get_running_loop().create_future()
        await self._connection.publish(subject, delivery.body, f"{self._inbox}.{position}", head)

    async def _answered(self, message: Msg) -> None:
        """An acknowledgement, or why there is none. The client's own publisher loses those that are errors."""
        future = self._waiting.get(int(message.subject.rpartition(".")[2]))
        if future is None or future.done():
            return
        if message.headers and message.headers.get("Status") == "503":
            future.set_result(_Answer(error=_Error(503, "no responders", _NOBODY)))
            return
        try:
            future.set_result(_ANSWER.decode(message.data))
        except (msgspec.DecodeError, RecursionError) as error:
            future.set_exception(ConnectionError(f"an answer that cannot be read: {error}"))

    def _verdict(self, future: asyncio.Future[_Answer], size: int) -> Verdict:
        if not future.done():
            future.cancel()
            return Verdict("retry", "no_confirm", f"no acknowledgement within {self._settings.timeout_seconds:g} s")
        lost = future.exception()
        if lost is not None:
            return Verdict("retry", "no_confirm", str(lost))
        answer = future.result()
        if answer.error is None:
            if answer.stream == self._settings.stream and answer.seq > 0:
                return DONE
            return Verdict("retry", "bad_answer", "something that is not the stream answered")
        number, said = answer.error.err_code, answer.error.description
        if number == _NOBODY:
            return Verdict("retry", "no_stream", f"no stream takes the subject {self._settings.subject!r}")
        if number == _TOO_LARGE:
            return Verdict("rejected", "too_large", f"the stream refuses {size} bytes: {said}")
        code = {_FULL: "stream_full", _OTHER_STREAM: "other_stream"}.get(number, f"nats_{number}")
        return Verdict("retry", code, f"the stream says: {said}")

    async def _found(self) -> str:
        from nats.js.errors import NotFoundError

        name = self._settings.stream
        try:
            info = await self._stream.stream_info(name)
        except NotFoundError as error:
            raise ConfigError(
                f"sink {self._context.name}: no stream {name!r} at the server",
                hint="create it, correct 'stream', or set 'create: true'",
            ) from error
        version = self._connection.connected_server_version
        return f"NATS {version}, stream {name} found with {info.state.messages} messages"

    async def _create_stream(self) -> None:
        """Does nothing when the stream is there, whatever its settings: they are its owner's."""
        from nats.js.api import StreamConfig
        from nats.js.errors import NotFoundError

        try:
            await self._stream.stream_info(self._settings.stream)
        except NotFoundError:
            subject = self._settings.subject
            for place in _PLACES:
                subject = subject.replace(f"{{{place}}}", "*")
            await self._stream.add_stream(
                StreamConfig(
                    name=self._settings.stream,
                    subjects=[subject],
                    num_replicas=self._settings.replicas,
                    duplicate_window=self._settings.duplicate_window_seconds,
                )
            )

    def _unavailable(self, error: BaseException) -> SinkUnavailable:
        said = str(error) or type(error).__name__
        where = ", ".join(self._settings.servers)
        return SinkUnavailable(
            f"sink {self._context.name}: {where}: {said}",
            hint=f"is the server up with JetStream, the login allowed, and stream {self._settings.stream!r} there?",
        )


def _client(sink: str) -> Connection:
    try:
        from nats.aio.client import Client as Connection
    except ImportError as error:
        raise missing(sink, "nats-py", "nats") from error
    return Connection()


def _errors() -> tuple[type[BaseException], ...]:
    from nats.errors import Error

    return Error, OSError, TimeoutError, CancelledError


def _create(settings: NatsSettings, context: SinkContext) -> Sink:
    return BrokerSink(lambda: NatsClient(settings, context).open())


register("nats", NatsSettings, _create, run_size=RUN_SIZE)
