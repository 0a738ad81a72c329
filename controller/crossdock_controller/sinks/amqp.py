"""Sink "amqp": one persistent message a document to an exchange of RabbitMQ; done once the broker has confirmed it.

Messages are mandatory: one that no queue would take comes back, and is not done. `message_id` is the event id, by which
consumers know a document sent again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from loguru import logger
from pydantic import Field, field_validator

from crossdock.errors import Rejected, SinkUnavailable
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
    refusal,
    secret,
    template,
    tls_context,
    too_large,
)
from crossdock_controller.sinks.broker_loop import LoopThread

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection, AbstractExchange, AbstractMessage

T = TypeVar("T")

_ROUTING_KEY_BYTES = 255  # AMQP 0-9-1 section 4.2.5.3, a short string
_HEARTBEAT_SECONDS = 20
_PLACES = frozenset({"document", "key", "site"})
# RabbitMQ closes the channel over a message that is too large, and takes everything in flight with it.
_OVERSIZED = re.compile(r"message size \d+ is larger than (?:configured max size|max size) (\d+)")


class AmqpSettings(BrokerSettings):
    url: str  # amqp://host:5672/virtual-host, without a login
    exchange: str = Field(min_length=1, max_length=255)
    routing_key: str = "{document}"
    exchange_type: Literal["topic", "direct", "fanout", "headers"] = "topic"  # of an exchange that `create` makes
    queue: str | None = Field(default=None, min_length=1, max_length=255)  # must be there; `create` makes and binds it
    max_message_bytes: int = Field(default=16_000_000, ge=1_000, le=512_000_000)

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "amqp" or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("'url' must be like amqp://host:5672/virtual-host; for TLS set 'tls: true'")
        if parts.username is not None or parts.password is not None:
            raise ValueError("'url' holds a login; write 'user' and 'password: secret:NAME' instead")
        _ = parts.port  # raises ValueError for what is no port
        return value

    @field_validator("routing_key")
    @classmethod
    def _routing_key(cls, value: str) -> str:
        return template("routing_key", value, _PLACES, r"[\w$%:/-]+(\.[\w$%:/-]+)*")


class AmqpClient:
    """A connection with one channel in confirm mode, made anew when anything is wrong with it."""

    def __init__(self, settings: AmqpSettings, context: SinkContext) -> None:
        self._settings, self._context = settings, context
        self._routing_key = Name(settings.routing_key, limit=_ROUTING_KEY_BYTES)
        self._password = secret(context, settings.password)
        self._tls = tls_context(settings, context)
        self._loop = LoopThread(f"amqp {context.name}")
        self._connection: AbstractConnection | None = None
        self._exchange: AbstractExchange
        self.usable = False

    def open(self) -> AmqpClient:
        """Raises SinkUnavailable, ConfigError; then nothing is left open."""
        _errors(self._context.name)
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
        """Opening has found the exchange and the queue."""
        queue = f", queue {self._settings.queue}" if self._settings.queue else ""
        return f"{self._version}, exchange {self._settings.exchange}{queue} found"

    def close(self) -> None:
        self.usable = False
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                self._loop.call(connection.close, CLOSE_SECONDS)
        except _errors(self._context.name) as error:
            logger.bind(sink=self._context.name).debug("the connection did not close well: {!r}", error)
        finally:
            self._loop.close()

    def _call(self, make: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
        from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

        try:
            return self._loop.call(make, seconds)
        except (ChannelNotFoundEntity, ChannelPreconditionFailed) as error:
            raise SinkUnavailable(
                f"sink {self._context.name}: {_said(error)}",
                hint="create the exchange or queue, correct 'exchange' or 'queue', or set 'create: true'",
            ) from error
        except _errors(self._context.name) as error:
            raise self._unavailable(error) from error

    async def _connect(self) -> None:
        import aio_pika

        parts = urlsplit(self._settings.url)
        connection = self._connection = await aio_pika.connect(
            host=parts.hostname or "", port=parts.port or (5671 if self._tls else 5672),
            virtualhost=unquote(parts.path[1:]) or "/", login=self._settings.user or "guest",
            password=self._password or "guest", ssl=self._tls is not None, ssl_context=self._tls,
            timeout=CONNECT_SECONDS, heartbeat=_HEARTBEAT_SECONDS,
            client_properties={"connection_name": f"crossdock {self._context.name}"},
        )  # fmt: skip
        connection.close_callbacks.add(self._lost)
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        channel.close_callbacks.add(self._lost)
        exchange, queue = self._settings.exchange, self._settings.queue
        if self._settings.create:
            self._exchange = await channel.declare_exchange(exchange, self._settings.exchange_type, durable=True)
            if queue is not None:
                declared = await channel.declare_queue(queue, durable=True)
                await declared.bind(self._exchange, "#" if self._settings.exchange_type == "topic" else "")
            return
        self._exchange = await channel.get_exchange(exchange, ensure=True)
        if queue is not None:
            await channel.get_queue(queue, ensure=True)

    @property
    def _version(self) -> str:
        transport = getattr(self._connection, "transport", None)
        properties = getattr(getattr(transport, "connection", None), "server_properties", None) or {}
        return f"{properties.get('product', 'AMQP broker')} {properties.get('version', '')}".strip()

    def _lost(self, *_: Any) -> None:
        self.usable = False

    async def _publish(self, wave: Sequence[Outgoing], seconds: float) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        waiting: dict[int, asyncio.Task[Any]] = {}
        for position, delivery in enumerate(wave):
            try:
                message, key = self._message(delivery), self._routing_key.of(delivery)
            except Rejected as error:
                verdicts[position] = refusal(error)
                continue
            waiting[position] = asyncio.create_task(self._exchange.publish(message, key, mandatory=True))
        if waiting:
            _, late = await asyncio.wait(waiting.values(), timeout=seconds)
            self.usable = self.usable and not late
        for position, task in waiting.items():
            verdicts[position] = self._verdict(task, len(wave[position].body))
        return [verdicts[position] for position in range(len(wave))]

    def _message(self, delivery: Outgoing) -> AbstractMessage:
        from aio_pika import DeliveryMode, Message

        limit = self._settings.max_message_bytes
        if len(delivery.body) > limit:
            raise Rejected("too_large", too_large(len(delivery.body), limit).reason)
        head = headers(delivery)
        return Message(
            delivery.body, headers=dict(head), content_type="application/json", delivery_mode=DeliveryMode.PERSISTENT,
            message_id=attempt_key(delivery, self._context.name), type=head["Crossdock-Document"], app_id="crossdock",
        )  # fmt: skip

    def _verdict(self, task: asyncio.Task[Any], size: int) -> Verdict:
        from aio_pika.exceptions import DeliveryError, PublishError

        if not task.done():
            task.cancel()
            return Verdict("retry", "no_confirm", f"no confirmation within {self._settings.timeout_seconds:g} s")
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            return DONE
        if isinstance(error, PublishError):
            return Verdict("retry", "unroutable", f"no queue takes it: {_said(error)}; bind one to the exchange")
        if isinstance(error, DeliveryError):
            return Verdict("retry", "refused_for_now", "the broker did not take it: a queue is full, or has failed")
        self.usable = False
        oversized = _OVERSIZED.search(str(error))
        if oversized is not None:  # nobody says which message it was: it was larger than the limit
            limit = int(oversized[1])
            if size > limit:
                return too_large(size, limit)
            return Verdict("retry", "held", "another document that was too large ended the channel", 0.0)
        return Verdict("retry", "no_confirm", f"the connection was lost before the confirmation: {_said(error)}")

    def _unavailable(self, error: BaseException) -> SinkUnavailable:
        return SinkUnavailable(
            f"sink {self._context.name}: {self._settings.url}: {_said(error)}",
            hint="is the broker up, the login allowed, and the virtual host there?",
        )


def _said(error: BaseException | None) -> str:
    """What the broker said: its exceptions carry it as arguments."""
    if error is None:
        return "cancelled"
    words = [str(part) for part in error.args if isinstance(part, str)]
    return " ".join(words) or str(error) or type(error).__name__


def _errors(sink: str) -> tuple[type[BaseException], ...]:
    """What the client raises. Raises ConfigError when it is not installed."""
    try:
        from aio_pika.exceptions import CONNECTION_EXCEPTIONS
    except ImportError as error:
        raise missing(sink, "aio-pika", "amqp") from error
    return *CONNECTION_EXCEPTIONS, TimeoutError, CancelledError


def _create(settings: AmqpSettings, context: SinkContext) -> Sink:
    return BrokerSink(lambda: AmqpClient(settings, context).open())


register("amqp", AmqpSettings, _create, run_size=RUN_SIZE)
