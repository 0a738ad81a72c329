"""A Kafka broker of one node, in memory, that speaks the protocol to a real client: no real one can be had for tests.

It keeps every record in the order in which it took it, knows an idempotent producer's batch sent again, refuses what it
is told to refuse (a whole batch for one record, as the real one does), and can be killed and come back with its log.
Versions of the protocol are old ones on purpose: the client falls back to them. https://kafka.apache.org/protocol
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from support.postgres import free_port

PRODUCE, FETCH, METADATA, API_VERSIONS, CREATE_TOPICS, INIT_PRODUCER_ID = 0, 1, 3, 18, 19, 22
_SPOKEN = {PRODUCE: (3, 3), FETCH: (4, 4), METADATA: (4, 4), API_VERSIONS: (0, 0), CREATE_TOPICS: (2, 2),
           INIT_PRODUCER_ID: (0, 0)}  # fmt: skip
UNKNOWN_TOPIC, TOO_LARGE, TOPIC_EXISTS, OUT_OF_ORDER, INVALID_RECORD, UNSUPPORTED = 3, 10, 36, 45, 87, 35


_Producer = tuple[int, int]  # id and epoch: a producer begins a new epoch, from sequence 0, after a batch was refused


@dataclass(frozen=True, slots=True)
class Record:
    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: dict[str, str]


@dataclass(slots=True)
class _Partition:
    size: int = 0
    taken: dict[_Producer, dict[int, int]] = field(default_factory=dict)  # first sequence of a batch: its offset
    expected: dict[_Producer, int] = field(default_factory=dict)


class KafkaBroker:
    """`with KafkaBroker() as broker:` serves `broker.address`; `records` are all it has taken, in order."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.records: list[Record] = []
        self.refuse: Callable[[Record], int] = lambda _: 0  # an error code for the batch that holds the record
        self.mute = False  # takes what comes and answers nothing
        self.topics: dict[str, list[_Partition]] = {}
        self._next_producer = 1_000
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()

    def __enter__(self) -> KafkaBroker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def add_topic(self, name: str, partitions: int = 3) -> None:
        self.topics[name] = [_Partition() for _ in range(partitions)]

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread(self._accept, self._listener)

    def kill(self) -> None:
        """No connection is left; what was taken stays."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with contextlib.suppress(OSError):  # closing alone does not wake `accept`
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        self._threads.clear()

    def _thread(self, target: Callable[[Any], None], argument: Any) -> None:
        thread = threading.Thread(target=target, args=(argument,), name="kafka-broker", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed by `kill`
            while True:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open.add(connection)
                if self._listener is None:
                    connection.shutdown(socket.SHUT_RDWR)
                self._thread(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            while True:
                (size,) = struct.unpack(">i", _exactly(connection, 4))
                answer = self._answered(_exactly(connection, size))
                if answer is not None:
                    connection.sendall(struct.pack(">i", len(answer)) + answer)
        with self._lock:
            self._open.discard(connection)

    def _answered(self, request: bytes) -> bytes | None:
        read = _Reader(request)
        api, version, correlation = read.number("h"), read.number("h"), read.number("i")
        read.text()  # the client's name
        if self.mute and api == PRODUCE:
            return None
        if api == API_VERSIONS:
            spoken = b"".join(struct.pack(">hhh", key, low, high) for key, (low, high) in _SPOKEN.items())
            body = struct.pack(">hi", UNSUPPORTED if version > 0 else 0, len(_SPOKEN)) + spoken
        else:
            assert version == _SPOKEN[api][0], f"api {api} version {version}"
            handlers = {PRODUCE: self._produce, METADATA: self._metadata, CREATE_TOPICS: self._create_topics,
                        INIT_PRODUCER_ID: self._init_producer}  # fmt: skip
            with self._lock:
                body = handlers[api](read)
        return struct.pack(">i", correlation) + body

    def _metadata(self, read: _Reader) -> bytes:
        count = read.number("i")
        names = list(self.topics) if count < 0 else [read.text() or "" for _ in range(count)]
        answer = struct.pack(">ii", 0, 1) + struct.pack(">i", 1) + _text("127.0.0.1") + struct.pack(">i", self.port)
        answer += _text(None) + _text("mock") + struct.pack(">ii", 1, len(names))
        for name in names:
            partitions = self.topics.get(name, [])
            answer += struct.pack(">h", 0 if partitions else UNKNOWN_TOPIC) + _text(name) + b"\0"
            answer += struct.pack(">i", len(partitions))
            answer += b"".join(struct.pack(">hiiiiii", 0, n, 1, 1, 1, 1, 1) for n in range(len(partitions)))
        return answer

    def _init_producer(self, read: _Reader) -> bytes:
        self._next_producer += 1
        return struct.pack(">ihqh", 0, 0, self._next_producer, 0)

    def _create_topics(self, read: _Reader) -> bytes:
        results = b""
        count = read.number("i")
        for _ in range(count):
            name, partitions = read.text() or "", read.number("i")
            read.number("h")
            assert read.number("i") == read.number("i") == 0  # assignments, settings
            exists = name in self.topics
            if not exists:
                self.add_topic(name, partitions)
            results += _text(name) + struct.pack(">h", TOPIC_EXISTS if exists else 0) + _text(None)
        return struct.pack(">ii", 0, count) + results

    def _produce(self, read: _Reader) -> bytes:
        read.text()  # transaction
        assert read.number("h") == -1, "acks=all"
        read.number("i")
        answer = struct.pack(">i", topics := read.number("i"))
        for _ in range(topics):
            name = read.text() or ""
            answer += _text(name) + struct.pack(">i", partitions := read.number("i"))
            for _ in range(partitions):
                number = read.number("i")
                error, offset = self._take(name, number, _Reader(read.taken(read.number("i"))))
                answer += struct.pack(">ihqq", number, error, offset, -1)
        return answer + struct.pack(">i", 0)

    def _take(self, topic: str, number: int, read: _Reader) -> tuple[int, int]:
        """(error, offset) of a batch: all of it, or nothing."""
        if topic not in self.topics:
            return UNKNOWN_TOPIC, -1
        partition = self.topics[topic][number]
        producer, sequence, records = _batch(topic, number, read)
        known = partition.taken.setdefault(producer, {})
        if sequence in known:
            return 0, known[sequence]
        if sequence != partition.expected.get(producer, 0):
            return OUT_OF_ORDER, -1
        error = next((code for code in map(self.refuse, records) if code), 0)
        if error:
            return error, -1
        offset = partition.size
        known[sequence] = offset
        partition.expected[producer] = sequence + len(records)
        partition.size += len(records)
        self.records += records
        return 0, offset


def _batch(topic: str, partition: int, read: _Reader) -> tuple[_Producer, int, list[Record]]:
    """Producer, first sequence, and the records of one batch, magic 2, not compressed."""
    read.taken(8 + 4 + 4)
    assert read.number("b") == 2
    read.taken(4)
    assert read.number("h") & 0x07 == 0, "compressed"
    read.taken(4 + 8 + 8)
    producer, sequence, count = (read.number("q"), read.number("h")), read.number("i"), read.number("i")
    records = []
    for _ in range(count):
        read.varint()
        read.number("b")
        read.varint()
        read.varint()
        key, value = read.sized(), read.sized()
        headers = {}
        for _ in range(read.varint()):
            name = read.sized() or b""
            headers[name.decode()] = (read.sized() or b"").decode()
        records.append(Record(topic, partition, key, value or b"", headers))
    return producer, sequence, records


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def taken(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        assert len(found) == count
        self._at += count
        return found

    def number(self, kind: str) -> int:
        (value,) = struct.unpack(f">{kind}", self.taken(struct.calcsize(f">{kind}")))
        return int(value)

    def text(self) -> str | None:
        size = self.number("h")
        return None if size < 0 else self.taken(size).decode()

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.taken(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)

    def sized(self) -> bytes | None:
        size = self.varint()
        return None if size < 0 else self.taken(size)


def _text(value: str | None) -> bytes:
    return struct.pack(">h", -1) if value is None else struct.pack(">h", len(value.encode())) + value.encode()


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


@contextlib.contextmanager
def running(*topics: str) -> Iterator[KafkaBroker]:
    with KafkaBroker() as broker:
        for topic in topics:
            broker.add_topic(topic)
        yield broker
