"""Sink "kafka": one record a document, its key the business key; done once all replicas in sync have it.

An idempotent producer repeats a lost request without a second record. Topics that are missing are told of: they are
looked up before anything is sent, for a broker may make one with settings that nobody chose.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from crossdock.errors import ConfigError, Rejected, SinkUnavailable
from crossdock_controller.sinks.base import DONE, Outgoing, Sink, SinkContext, Verdict, register
from crossdock_controller.sinks.broker import (
    CONNECT_SECONDS,
    MAX_KEY_BYTES,
    RUN_SIZE,
    BrokerSettings,
    BrokerSink,
    Name,
    headers,
    missing,
    refusal,
    secret,
    template,
    tls_context,
    too_large,
)

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

_TOPIC_CHARACTERS = 249
_PLACES = frozenset({"document", "site"})
_SERVER = re.compile(r"[\w.:\[\]-]+:\d{1,5}")
_LOOK_SECONDS = 0.5  # between two looks at whether the broker is known to be down
_OWN_BYTES = 3 * MAX_KEY_BYTES  # headers and key, which count into a record
# A broker refuses a batch for one of its records. Those that were in it are sent again alone, to find which one it was.
_OF_A_BATCH = ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD", "_INVALID_DIFFERENT_RECORD",
               "INVALID_MSG")  # fmt: skip
_NO_TOPIC = ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION")
_SILENT = ("_MSG_TIMED_OUT", "_TIMED_OUT", "_PURGE_QUEUE", "_PURGE_INFLIGHT", "_TRANSPORT", "_ALL_BROKERS_DOWN")


class KafkaSettings(BrokerSettings):
    servers: list[str] = Field(min_length=1)  # host:9092
    topic: str = "crossdock.{document}"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"  # of the login, with `user`
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    partitions: int = Field(default=6, ge=1, le=10_000)  # of a topic that `create` makes
    replicas: int = Field(default=1, ge=1, le=10)  # of a topic that `create` makes

    @field_validator("servers")
    @classmethod
    def _servers(cls, value: list[str]) -> list[str]:
        if not all(_SERVER.fullmatch(server) for server in value):
            raise ValueError("'servers' must be like host:9092, without a scheme or a login")
        return value

    @field_validator("topic")
    @classmethod
    def _topic(cls, value: str) -> str:
        return template("topic", value, _PLACES, r"[\w-]+(\.[\w-]+)*")


class KafkaClient:
    """A producer; librdkafka's own threads keep its connections. Made anew after it failed or was silent."""

    def __init__(self, settings: KafkaSettings, context: SinkContext) -> None:
        self._settings, self._context = settings, context
        self._topic = Name(settings.topic, limit=_TOPIC_CHARACTERS)
        self._options = _options(settings, context)
        self._topics: frozenset[str] = frozenset()
        self._down = ""  # why, once no broker can be reached
        self._producer: Producer | None = None
        self.usable = False

    def open(self) -> KafkaClient:
        """Raises SinkUnavailable, ConfigError; then nothing is left open."""
        try:
            from confluent_kafka import KafkaException, Producer
        except ImportError as error:
            raise missing(self._context.name, "confluent-kafka", "kafka") from error
        try:
            self._producer = Producer({**self._options, "error_cb": self._failed})
        except KafkaException as error:
            raise ConfigError(f"sink {self._context.name}: {error.args[0].str()}") from error
        try:
            self._look()
        except BaseException:
            self.close()
            raise
        self.usable = True
        return self

    def publish(self, wave: Sequence[Outgoing]) -> Sequence[Verdict]:
        found = self._together(wave)
        suspects = [position for position, error in found.items() if not isinstance(error, Verdict)]
        for position in suspects:
            alone = found[position] if len(suspects) == len(wave) == 1 else self._together([wave[position]])[0]
            found[position] = alone if isinstance(alone, Verdict) else _refused(alone, len(wave[position].body))
        return [verdict for _, verdict in sorted(found.items()) if isinstance(verdict, Verdict)]

    def check(self) -> str:
        """Topics whose name does not depend on the document are there."""
        self._look()
        where = f"{self._settings.servers[0]} reachable, {len(self._topics)} topics"
        if "{" in self._settings.topic:
            return where
        if self._settings.topic not in self._topics and not self._settings.create:
            raise ConfigError(
                f"sink {self._context.name}: no topic {self._settings.topic!r} at the broker",
                hint="create it, correct 'topic', or set 'create: true'",
            )
        return f"{where}, {self._settings.topic} among them" if self._settings.topic in self._topics else where

    def close(self) -> None:
        """What is not confirmed is forgotten, so that nothing leaves after this."""
        self.usable = False
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(CONNECT_SECONDS)

    def _together(self, wave: Sequence[Outgoing]) -> dict[int, Verdict | KafkaError]:
        """A verdict each, or the error by which the broker refused a whole batch. Raises SinkUnavailable."""
        found: dict[int, Verdict | KafkaError] = {}
        until = time.monotonic() + self._settings.timeout_seconds + _LOOK_SECONDS
        self._down = ""
        for position, delivery in enumerate(wave):
            try:
                self._produce(delivery, self._told(found, position), until)
            except Rejected as error:
                found[position] = refusal(error)
            except _NoTopicError as error:
                found[position] = Verdict("retry", "no_topic", str(error))
        producer = self._opened()
        while producer.flush(_LOOK_SECONDS) and time.monotonic() < until and not self._down:
            pass
        if len(found) < len(wave):
            self.usable = False
            said = self._down or f"no confirmation within {self._settings.timeout_seconds:g} s"
            if not found:
                raise self._unavailable(said)
            late = Verdict("retry", "no_confirm", said)
            found = {position: found.get(position, late) for position in range(len(wave))}
        return found

    def _told(self, found: dict[int, Verdict | KafkaError], position: int) -> Callable[[Any, Any], None]:
        def told(error: KafkaError | None, _: Message) -> None:
            found[position] = DONE if error is None else self._verdict(error)

        return told

    def _produce(self, delivery: Outgoing, told: Callable[[Any, Any], None], until: float) -> None:
        """Raises Rejected, _NoTopicError, SinkUnavailable."""
        from confluent_kafka import KafkaException

        size, limit = len(delivery.body), self._settings.max_message_bytes
        if size > limit:
            raise Rejected("too_large", too_large(size, limit).reason)
        topic, head = self._known(self._topic.of(delivery)), headers(delivery)
        producer = self._opened()
        while True:
            try:
                producer.produce(
                    topic, delivery.body, delivery.key.encode(), on_delivery=told, headers=list(head.items())
                )
            except BufferError:  # the queue is full: it empties while it is polled
                if time.monotonic() > until:
                    raise self._unavailable("the queue of unconfirmed records stays full") from None
                producer.poll(_LOOK_SECONDS)
            except KafkaException as error:
                told(error.args[0], None)
                return
            else:
                return

    def _verdict(self, error: KafkaError) -> Verdict | KafkaError:
        name = error.name()
        if error.fatal():
            self.usable = False
        if name in _OF_A_BATCH:
            return error
        if name in _NO_TOPIC:
            self._topics = frozenset()  # one that was there has gone
            return Verdict("retry", "no_topic", f"the broker says: {error.str()}")
        if name in _SILENT:
            self.usable = False
            return Verdict("retry", "no_confirm", self._down or f"no confirmation: {error.str()}")
        return Verdict("retry", f"kafka_{name.lower().lstrip('_')}", f"the broker says: {error.str()}")

    def _known(self, topic: str) -> str:
        """*topic* once it is there. Raises _NoTopicError."""
        if topic not in self._topics:
            self._look()
            if topic not in self._topics and self._settings.create:
                self._create_topic(topic)
        if topic not in self._topics:
            raise _NoTopicError(f"no topic {topic!r} at the broker; create it, or set 'create: true'")
        return topic

    def _look(self) -> None:
        """Which topics there are. All are asked for: asking for one by its name may make it."""
        from confluent_kafka import KafkaException

        producer, until = self._opened(), time.monotonic() + min(CONNECT_SECONDS, self._settings.timeout_seconds)
        self._down = ""
        while True:
            try:
                self._topics = frozenset(producer.list_topics(timeout=_LOOK_SECONDS).topics)
            except KafkaException as error:
                producer.poll(0)
                if self._down or time.monotonic() > until:
                    raise self._unavailable(self._down or error.args[0].str()) from error
            else:
                return

    def _create_topic(self, topic: str) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # its documented place

        admin = AdminClient({key: value for key, value in self._options.items() if key not in _PRODUCER_ONLY})
        new = NewTopic(topic, num_partitions=self._settings.partitions, replication_factor=self._settings.replicas)
        try:
            admin.create_topics([new], operation_timeout=CONNECT_SECONDS)[topic].result(CONNECT_SECONDS)
        except (KafkaException, TimeoutError) as error:
            raise _NoTopicError(f"topic {topic!r} cannot be made: {error}") from error
        self._look()

    def _failed(self, error: KafkaError) -> None:
        """Called while the producer is polled."""
        if error.name() in ("_ALL_BROKERS_DOWN", "_AUTHENTICATION", "_SSL") or error.fatal():
            self._down = error.str()

    def _opened(self) -> Producer:
        assert self._producer is not None  # noqa: S101 - `open` has set it
        return self._producer

    def _unavailable(self, said: str) -> SinkUnavailable:
        return SinkUnavailable(
            f"sink {self._context.name}: {', '.join(self._settings.servers)}: {said}",
            hint="is the broker up, 'tls' as it wants it, and the login allowed?",
        )


class _NoTopicError(Exception):
    """Never leaves this file."""


_PRODUCER_ONLY = ("enable.idempotence", "acks", "linger.ms", "compression.type", "message.timeout.ms", "partitioner",
                  "message.max.bytes")  # fmt: skip


def _options(settings: KafkaSettings, context: SinkContext) -> dict[str, Any]:
    """As librdkafka names them. Raises ConfigError for a secret or a certificate that cannot be used."""
    options: dict[str, Any] = {
        "bootstrap.servers": ",".join(settings.servers), "client.id": f"crossdock-{context.name}",
        "enable.idempotence": True, "acks": "all", "linger.ms": 2, "compression.type": settings.compression,
        "message.timeout.ms": int(settings.timeout_seconds * 1_000), "partitioner": "murmur2_random",  # as in Java
        "message.max.bytes": min(settings.max_message_bytes + _OWN_BYTES, 1_000_000_000),
        "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 1_000, "socket.keepalive.enable": True,
        "socket.nagle.disable": True, "log_level": 0,
    }  # fmt: skip
    tls_context(settings, context)  # the files are there, and are what they should be
    base = Path(context.base_directory)
    files = {"ssl.ca.location": settings.ca_file, "ssl.certificate.location": settings.certificate_file,
             "ssl.key.location": settings.key_file}  # fmt: skip
    options |= {name: str(base / file) for name, file in files.items() if file is not None}
    if settings.user is not None:
        login = {"sasl.mechanism": settings.mechanism, "sasl.username": settings.user,
                 "sasl.password": secret(context, settings.password) or ""}  # fmt: skip
        options |= login
    protocol = ("SASL_" if settings.user is not None else "") + ("SSL" if settings.tls else "PLAINTEXT")
    return options | {"security.protocol": protocol}


def _refused(error: KafkaError, size: int) -> Verdict:
    """*error* was for this document alone."""
    if "TOO_LARGE" in error.name():
        return Verdict("rejected", "too_large", f"the broker refuses {size} bytes: {error.str()}")
    return Verdict("rejected", "invalid_record", f"the broker says: {error.str()}")


def _create(settings: KafkaSettings, context: SinkContext) -> Sink:
    return BrokerSink(lambda: KafkaClient(settings, context).open())


register("kafka", KafkaSettings, _create, run_size=RUN_SIZE)
