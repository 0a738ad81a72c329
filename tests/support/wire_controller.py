"""A controller of another release: the written fake, behind that release's message classes.

What it reads it sees through them, and what it writes holds nothing that they do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc

from support.controller import FakeController
from support.wires import RPCS, Wire


class WireController(FakeController):
    """*extra*, when set, is sent once behind the welcome: a directive of that release's own class."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.wire = wire
        self.extra: Any = None
        self.hellos: list[Any] = []  # as that release reads them

    def _add_link(self, server: grpc.Server) -> None:
        handlers = {
            rpc: grpc.stream_stream_rpc_method_handler(
                getattr(self, f"_{rpc.lower()}"), self._reads(request), self._writes(answer)
            )
            for rpc, (request, answer) in RPCS.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("crossdock.v1.Link", handlers),))

    def _uplink(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        return self.Uplink(requests, context)

    def _control(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for directive in self.Control(requests, context):
            yield directive
            if self.extra is not None and directive.WhichOneof("kind") == "welcome":
                yield self.extra

    def _heard(self, report: Any) -> None:
        if report.WhichOneof("kind") == "hello":
            self.hellos.append(report.hello)
        super()._heard(report)

    def _reads(self, name: str) -> Callable[[bytes], Any]:
        def read(data: bytes) -> Any:
            message = getattr(self.wire, name).FromString(data)
            message.DiscardUnknownFields()
            return message

        return read

    def _writes(self, name: str) -> Callable[[Any], bytes]:
        read = self._reads(name)
        return lambda message: bytes(read(message.SerializeToString()).SerializeToString())
