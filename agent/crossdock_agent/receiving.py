"""One downlink stream's talk: deliveries into the inbox, receipts out of it, and which of them may be forgotten."""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from loguru import logger

from crossdock.errors import CrossdockError
from crossdock.v1.link_pb2 import Delivery
from crossdock.v1.link_pb2 import Receipt as Wire
from crossdock_agent.inbox import Arrived, Receipt
from crossdock_agent.writeback import WriteBack

PAGE = 500


class Receiving:
    """A session of the downlink (see `streams.Session`)."""

    def __init__(self, writeback: WriteBack) -> None:
        self.ended = False
        self.answered = False
        self.failure: CrossdockError | None = None
        self.on_failure: Callable[[], object] = self.end
        self._writeback = writeback
        self._changed = threading.Condition()
        self._outgoing: deque[Receipt] = deque()

    def end(self) -> None:
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def requests(self) -> Iterator[Wire]:
        """All receipts that the centre may not have, then each as it comes, until `end`."""
        try:
            self._writeback.listen(self._add)
            after = 0
            while not self.ended:
                page = self._writeback.inbox().receipts(after, PAGE)
                yield from map(_wire, page)
                if len(page) < PAGE:
                    break
                after = page[-1].sequence
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self.ended or bool(self._outgoing))
                    if self.ended:
                        return
                    ready = list(self._outgoing)
                    self._outgoing.clear()
                yield from map(_wire, ready)
        except CrossdockError as error:  # gRPC would turn it into "exception iterating requests"
            self.failure = error
            self.on_failure()

    def _add(self, receipts: Sequence[Receipt]) -> None:
        with self._changed:
            if not self.ended:
                self._outgoing.extend(receipts)
                self._changed.notify_all()

    def received(self, delivery: Delivery) -> None:
        self.answered = True
        if delivery.acknowledged:
            self._writeback.inbox().acknowledged(delivery.acknowledged)
        if not delivery.id:
            return
        if zlib.crc32(delivery.payload) != delivery.crc32:  # it comes again with the next stream
            logger.bind(writer=delivery.writer).error("a delivery differs from its checksum and is asked for again")
            self.on_failure()
            return
        arrived = Arrived(
            delivery.id, max(1, delivery.attempt), delivery.sequence, delivery.writer, delivery.document,
            delivery.key, delivery.version, delivery.undo or None, delivery.payload,
        )  # fmt: skip
        self._writeback.received(arrived)


def _wire(receipt: Receipt) -> Wire:
    return Wire(
        id=receipt.id, sequence=receipt.sequence, verdict=receipt.verdict, reason=receipt.reason, code=receipt.code,
        attempt=receipt.attempt, place=receipt.place,
    )  # fmt: skip
