"""Peers of another release: their message classes, made in a pool of their own beside today's.

`Wire.frozen("v1_0")` is what 0.1.0 spoke (tests/wire). `Wire.newer()` is today's with fields and kinds of message that
nobody knows yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from crossdock.v1 import batch_pb2, enrollment_pb2, link_pb2

FROZEN = Path(__file__).parents[1] / "wire"
UNKNOWN = 1000  # the number of what nobody knows


class Wire:
    """Classes by name: `wire.Hello(protocol=1)`."""

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        self.files = files
        self.pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self.pool.Add(file)  # type: ignore[no-untyped-call]

    @classmethod
    def frozen(cls, release: str) -> Wire:
        return cls(descriptor_pb2.FileDescriptorSet.FromString((FROZEN / release / "wire.binpb").read_bytes()))

    @classmethod
    def today(cls) -> Wire:
        return cls(_today())

    @classmethod
    def newer(cls) -> Wire:
        files = _today()
        for file in files.file:
            for message in file.message_type:
                if message.name in _KINDS:
                    _kind(message.field.add(), message.name)
                else:
                    text = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
                    message.field.add(name="novelty", number=UNKNOWN, type=text, label=1)
        return cls(files)

    def __getattr__(self, name: str) -> Any:
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(f"crossdock.v1.{name}"))

    def call(self, channel: grpc.Channel, rpc: str) -> Any:
        """A stub for one streaming RPC of Link, or for Enroll."""
        if rpc == "Enroll":
            return channel.unary_unary(
                "/crossdock.v1.Enrollment/Enroll",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=self.EnrollResponse.FromString,
            )
        _, answer = RPCS[rpc]
        return channel.stream_stream(
            f"/crossdock.v1.Link/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=getattr(self, answer).FromString,
        )


_KINDS = {"Report": "Receipt", "Directive": "Delivery"}  # where kinds are added, and what each carries
RPCS = {"Uplink": ("Batch", "Ack"), "Control": ("Report", "Directive")}


def _today() -> descriptor_pb2.FileDescriptorSet:
    files = descriptor_pb2.FileDescriptorSet()
    for module in (batch_pb2, link_pb2, enrollment_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    return files


def _kind(field: descriptor_pb2.FieldDescriptorProto, message: str) -> None:
    """A kind of report or directive that is only known to whoever sends it."""
    field.name, field.number, field.label, field.oneof_index = "novelty", UNKNOWN, 1, 0
    field.type, field.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, f".crossdock.v1.{_KINDS[message]}"
