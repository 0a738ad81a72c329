"""What an agent says on the wire, said by a test: batches, a hello, and what came of them."""

from __future__ import annotations

from collections.abc import Iterable

from crossdock import codec
from crossdock.v1 import link_pb2
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.store.intake import StoredBatch
from support.gateway import Gateway

EPOCH = b"e" * 16


def batch(sequence: int, /, *, payload: bytes = b"1;2\n", **changes: object) -> link_pb2.Batch:
    """A batch of one CSV record; *changes* are fields of the envelope."""
    sealed = codec.Sealer().seal(BatchHeader(format="csv", records=1, checkpoint=b"c%d" % sequence), payload)
    fields = {
        "source": "wms", "epoch": EPOCH, "sequence": sequence, "lane": "standard",
        "sealed": sealed.data, "crc32": sealed.crc32,
    } | changes  # fmt: skip
    return link_pb2.Batch(**fields)  # type: ignore[arg-type]


def hello(**changes: object) -> link_pb2.Report:
    fields = {"protocol": 1, "version": "1", "instance": b"i" * 16, "epoch": EPOCH} | changes
    return link_pb2.Report(hello=link_pb2.Hello(**fields))  # type: ignore[arg-type]


def acknowledged(acks: Iterable[link_pb2.Ack]) -> dict[str, int]:
    return {a.source: a.sequence for ack in acks for a in ack.acknowledged}


def refusals(acks: Iterable[link_pb2.Ack]) -> list[tuple[str, int]]:
    """(code, sequence) of each refused batch."""
    return [(r.code, r.sequence) for ack in acks for r in ack.refused]


def batches_of(gateway: Gateway, source: str) -> list[StoredBatch]:
    return gateway.stored().get(source, [])
