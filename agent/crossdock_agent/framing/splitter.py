"""The contract of a splitter: it follows the structure of a document, block by block, and says where records are.

A splitter is a generator over `data`, which the framer cuts in front and extends behind. So it keeps no offsets but
`pos` (looked at so far), `begun` (where the record that it is in begins, or NOWHERE; negative when its beginning is no
longer kept) and those it shifts itself in `shift`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from crossdock_agent.framing.base import Spans

NOWHERE = -(2**62)


class Piece(NamedTuple):
    """`data[start:end]` is a record; with a *code* it is a reject. *prefix* and *spans*: see Run. *torn*: it is so only
    because the file ends here."""

    start: int
    end: int
    code: str = ""
    reason: str = ""
    prefix: bytes | None = None
    spans: Spans = ()
    torn: bool = False


class Splitter:
    noun = "element"

    def __init__(self) -> None:
        self.data = b""
        self.pos = 0
        self.begun = NOWHERE
        self.last = False  # the file ends with `data`
        self.base = 0  # file offset of data[0]
        self.limit = 0  # bytes of the longest record
        self.prefix = b""

    def resume(self, prefix: bytes, spans: Spans) -> None:
        """Reading goes on behind a record; *prefix* is what stood before it."""
        del spans
        self.prefix = prefix

    def shift(self, by: int) -> None:
        """*by* bytes were cut off in front of `data`."""
        self.pos -= by
        if self.begun != NOWHERE:
            self.begun -= by

    def pieces(self) -> Iterator[Piece | None]:
        """Records and rejects, in order and without overlap; None asks for more data, and is the last when `last`."""
        raise NotImplementedError
