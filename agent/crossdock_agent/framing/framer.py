"""From bytes to runs of records, whatever the format.

The same file gives the same runs however its bytes were cut into blocks, and from whichever run it was read on. Memory
is bounded by the longest record that is allowed, not by the longest one that comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from crossdock.codec import TARGET_RAW_BYTES, TARGET_RECORDS
from crossdock_agent.framing.base import DEFAULT_MAX_RECORD_BYTES, Position, Run, Scanner, Spans
from crossdock_agent.framing.elements import ElementFramer
from crossdock_agent.framing.splitter import Splitter
from crossdock_agent.framing.windows import WindowFramer


class _Engine(Protocol):
    @property
    def prefix(self) -> bytes: ...

    @property
    def wanted(self) -> int: ...

    def feed(self, block: bytes) -> Iterator[Run]: ...

    def finish(self) -> Iterator[Run]: ...


class Framer:
    """Records that stand one behind the other are found by a Scanner in windows; those that stand inside something
    (elements of a document, interchanges among line ends) by a Splitter that follows the structure."""

    def __init__(
        self,
        scanner: Scanner | Splitter,
        max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES,
        *,
        start: Position | None = None,
        prefix: bytes = b"",
        spans: Spans = (),
        target_bytes: int = TARGET_RAW_BYTES,
        target_records: int = TARGET_RECORDS,
    ) -> None:
        """To read on in a file, give *start* and the *prefix* that was found when it was begun; after a run with
        *spans*, those and the bytes that stand there as *prefix*."""
        self._engine: _Engine
        if isinstance(scanner, Splitter):
            self._engine = ElementFramer(
                scanner, max_record_bytes, start=start, prefix=prefix, spans=spans,
                target_bytes=target_bytes, target_records=target_records,
            )  # fmt: skip
        else:
            self._engine = WindowFramer(
                scanner, max_record_bytes, start=start, prefix=prefix,
                target_bytes=target_bytes, target_records=target_records,
            )  # fmt: skip

    @property
    def prefix(self) -> bytes:
        """Bytes that stand before every payload so that it decodes alone: a header line, an XML declaration."""
        return self._engine.prefix

    @property
    def wanted(self) -> int:
        """The size of block that makes the next step whole. Any other works as well."""
        return self._engine.wanted

    def feed(self, block: bytes) -> Iterator[Run]:
        """The runs that *block*, the next bytes of the file, completes. Take all of them before feeding on."""
        return self._engine.feed(block)

    def finish(self) -> Iterator[Run]:
        """What is left when the file has ended."""
        return self._engine.finish()
