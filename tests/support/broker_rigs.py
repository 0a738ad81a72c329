"""Rigs of the brokers. A broker is a log: what counts is the first occurrence of an event id, as for consumers."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from support.kafka_broker import KafkaBroker
from support.nats_server import NatsServer
from support.rabbitmq import RabbitMQ
from support.sink_rigs import MadeRig, State, of_body

LARGE = 60_000_000  # bytes a document may have here


class BrokerRig(MadeRig):
    """*messages* are (headers, body) in the order of the broker's log."""

    def messages(self) -> Iterable[tuple[dict[str, str], bytes]]:
        raise NotImplementedError

    def first(self) -> list[tuple[dict[str, str], dict[str, Any]]]:
        seen: dict[tuple[str, str | None], tuple[dict[str, str], dict[str, Any]]] = {}
        for headers, body in self.messages():
            seen.setdefault((headers["Crossdock-Event"], headers.get("Crossdock-Replay")), (headers, json.loads(body)))
        for headers, body in seen.values():
            assert unquote(headers["Crossdock-Key"]) == body["number"]
            assert headers["Crossdock-Document"] == "Thing"
        return list(seen.values())

    def state(self) -> State:
        return {body["number"]: of_body(body) for _, body in self.first()}

    def effects(self) -> list[tuple[str, int]]:
        return [(body["number"], int(headers["Crossdock-Sequence"])) for headers, body in self.first()]


class NatsRig(BrokerRig):
    kind = "nats"

    def __init__(self, base: Path, server: NatsServer) -> None:
        self.base, self.server = base, server
        self.stream = f"t{uuid.uuid4().hex}"
        self.settings = {
            "servers": [server.url],
            "stream": self.stream,
            "subject": f"{self.stream}.{{document}}.{{key}}",
            "max_message_bytes": LARGE,
        }
        server.add_stream(self.stream, [f"{self.stream}.>"])

    def messages(self) -> Iterable[tuple[dict[str, str], bytes]]:
        return [(message.headers, message.data) for message in self.server.messages(self.stream)]

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """The server is killed, and comes back with its data."""
        self.server.server.kill()
        try:
            yield
        finally:
            self.server.server.start()


class AmqpRig(BrokerRig):
    kind = "amqp"

    def __init__(self, base: Path, server: RabbitMQ) -> None:
        self.base, self.server = base, server
        self.name = f"t{uuid.uuid4().hex}"
        self.settings = {
            "url": server.url,
            "exchange": self.name,
            "queue": self.name,
            "routing_key": "{document}",
            "max_message_bytes": LARGE,
        }
        self._taken: list[tuple[dict[str, str], bytes]] = []
        server.declare(self.name, self.name)

    def messages(self) -> Iterable[tuple[dict[str, str], bytes]]:
        self._taken += [(message.headers, message.body) for message in self.server.take(self.name)]
        return self._taken

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """The server is killed, and comes back with its data."""
        self.server.server.kill()
        try:
            yield
        finally:
            self.server.server.start()


class KafkaRig(BrokerRig):
    kind = "kafka"

    def __init__(self, base: Path, broker: KafkaBroker) -> None:
        self.base, self.broker = base, broker
        self.settings = {"servers": [broker.address], "topic": "things", "max_message_bytes": LARGE}
        broker.add_topic("things")

    def messages(self) -> Iterable[tuple[dict[str, str], bytes]]:
        by_key: dict[bytes | None, set[int]] = {}
        for record in self.broker.records:
            by_key.setdefault(record.key, set()).add(record.partition)
        assert all(len(partitions) == 1 for partitions in by_key.values())
        return [(record.headers, record.value) for record in self.broker.records]

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """The broker is killed, and comes back with its log."""
        self.broker.kill()
        try:
            yield
        finally:
            self.broker.start()
