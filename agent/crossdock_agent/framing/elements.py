"""Records inside a structure: each is in one payload or in one reject; what stands between them is passed over.

A record over the limit is followed to its own end without being kept, so that the next one is found.
"""

from __future__ import annotations

from collections.abc import Iterator

from crossdock.v1.batch_pb2 import Reject
from crossdock_agent.framing.base import SAMPLE_BYTES, Position, Run, Spans
from crossdock_agent.framing.splitter import NOWHERE, Piece, Splitter


class ElementFramer:
    def __init__(
        self,
        splitter: Splitter,
        max_record_bytes: int,
        *,
        start: Position | None,
        prefix: bytes,
        spans: Spans,
        target_bytes: int,
        target_records: int,
    ) -> None:
        self._splitter = splitter
        self._limit = max_record_bytes
        self._sample_bytes = min(SAMPLE_BYTES, max_record_bytes)
        self._target_bytes, self._target_records = target_bytes, target_records
        self._block = min(target_bytes, max_record_bytes)
        where = start or Position()
        self._record, self._line = where.record, where.line
        self._counted = 0  # newlines of `data` before here are in `_line`
        self._sample: bytes | None = None  # of a record over the limit, which is no longer kept
        self._sampled: Position = where  # where that record begins
        self._batch = _Batch()
        self._ended = (where, spans)  # of what was handed out last: where and how to read on
        self._loose: tuple[Position, Spans] | None = None  # the same before the first thing that the file's end tore
        splitter.base, splitter.limit = where.offset, max_record_bytes
        if start is not None:
            splitter.resume(prefix, spans)
        self._pieces = splitter.pieces()

    @property
    def prefix(self) -> bytes:
        return self._splitter.prefix

    @property
    def wanted(self) -> int:
        """As much as is held, so that a long record is not copied once a block."""
        return max(self._block, len(self._splitter.data) - self._splitter.pos)

    def feed(self, block: bytes) -> Iterator[Run]:
        splitter = self._splitter
        self._note_end()
        keep = self._kept()
        self._lines_to(keep)
        self._counted -= keep
        splitter.data = splitter.data[keep:] + block
        splitter.base += keep
        splitter.shift(keep)
        yield from self._split()

    def finish(self) -> Iterator[Run]:
        self._splitter.last = True
        yield from self._split()
        yield from self._close()

    def _kept(self) -> int:
        splitter = self._splitter
        if self._sample is not None and self._sampled.offset != splitter.base + splitter.begun:
            self._sample = None  # what was begun turned out to be no record
        if splitter.begun == NOWHERE:
            return splitter.pos
        if self._sample is None and len(splitter.data) - splitter.begun > self._limit:
            self._sample = splitter.data[splitter.begun : splitter.begun + self._sample_bytes]
            self._sampled = self._position(splitter.begun)
        return splitter.begun if self._sample is None else splitter.pos

    def _split(self) -> Iterator[Run]:
        for piece in self._pieces:
            if piece is None:
                return
            if self._sample is not None and self._sampled.offset != self._splitter.base + piece.start:
                self._sample = None
            if piece.torn and self._loose is None:
                self._note_end()
                batch = self._batch
                self._loose = (batch.end, batch.spans) if batch.records else self._ended
            if piece.code or piece.end - piece.start > self._limit or self._sample is not None:
                yield from self._close()
                yield self._reject(piece)
            else:
                yield from self._add(piece)

    def _add(self, piece: Piece) -> Iterator[Run]:
        batch, length = self._batch, piece.end - piece.start
        if batch.records and (
            batch.bytes + length > self._target_bytes
            or len(batch.records) == self._target_records
            or batch.prefix != piece.prefix
        ):
            yield from self._close()
            batch = self._batch
        if not batch.records:
            batch.start, batch.prefix = self._position(piece.start), piece.prefix
        self._record += 1
        batch.records.append(self._splitter.data[piece.start : piece.end])
        batch.bytes += length
        batch.spans = piece.spans
        batch.end_at = piece.end

    def _note_end(self) -> None:
        """Where the last record ends, while that is still an offset in `data`."""
        if self._batch.end_at >= 0:
            self._batch.end = self._position(self._batch.end_at)
            self._batch.end_at = -1

    def _close(self) -> Iterator[Run]:
        """The records collected so far, as one run."""
        batch = self._batch
        if not batch.records:
            return
        self._note_end()
        self._batch = _Batch()
        payload, lengths = b"".join(batch.records), tuple(map(len, batch.records))
        self._ended = (batch.end, batch.spans)
        torn = self._loose if self._loose and self._loose[0].record < batch.end.record else None
        loose, spans = torn or (None, batch.spans)
        yield Run(
            batch.start, batch.end, payload, len(lengths),
            loose=loose, lengths=lengths, prefix=batch.prefix, spans=spans,
        )  # fmt: skip

    def _reject(self, piece: Piece) -> Run:
        if self._sample is not None:
            start, sample = self._sampled, self._sample
        else:
            start = self._position(piece.start)
            sample = self._splitter.data[piece.start : min(piece.end, piece.start + self._sample_bytes)]
        self._sample = None
        self._record += 1
        end = self._position(piece.end)
        noun = self._splitter.noun
        reject = Reject(
            record=start.record,
            line=start.line,
            offset=start.offset,
            bytes=end.offset - start.offset,
            code=piece.code or "too_long",
            reason=piece.reason or f"the {noun} is longer than max_record_bytes, {self._limit}",
            sample=sample,
        )
        self._ended = (end, piece.spans)
        loose, spans = self._loose or (None, piece.spans)
        return Run(start, end, rejects=(reject,), loose=loose, spans=spans)

    def _position(self, at: int) -> Position:
        self._lines_to(at)
        return Position(self._splitter.base + at, self._record, self._line)

    def _lines_to(self, at: int) -> None:
        if at > self._counted:
            self._line += self._splitter.data.count(b"\n", self._counted, at)
            self._counted = at


class _Batch:
    """Records collected for one run."""

    __slots__ = ("bytes", "end", "end_at", "prefix", "records", "spans", "start")

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.bytes = 0
        self.start = self.end = Position()
        self.end_at = -1
        self.prefix: bytes | None = None
        self.spans: Spans = ()
