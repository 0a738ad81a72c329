"""Batches of a growing file: records, the end of a unit, what was never seen, and the place where reading began."""

from __future__ import annotations

import os

from crossdock.v1.batch_pb2 import BatchHeader, Origin, Reject
from crossdock_agent.drops.listing import display
from crossdock_agent.framing import Run
from crossdock_agent.sources.base import Draft
from crossdock_agent.tails.live import Tail
from crossdock_agent.tails.state import Book

GONE = "gone"  # codes of rejects
TRUNCATED = "truncated"
DAMAGED = "damaged"
_WHAT = {
    GONE: "the file was deleted or moved",
    TRUNCATED: "the file was emptied or replaced in place",
    DAMAGED: "the packed file is damaged",
}


def records(book: Book, after: Tail, run: Run, prefix: bytes, format_: str) -> Draft:
    """*run* of the unit, which then stands as *after*. Open groups end with it if *after* is not open."""
    return _draft(book, after, run, prefix, format_, closes=not after.open)


def closing(book: Book, after: Tail, prefix: bytes, format_: str) -> Draft:
    """No records: open groups end here."""
    return _draft(book, after, Run(after.position, after.position), prefix, format_, closes=True)


def abandoned(book: Book, after: Tail, code: str, format_: str) -> Draft:
    """The end of a unit whose last bytes, known to have been there, can never be read: one reject stands for them."""
    unread = max(0, after.size - after.end)
    start = after.position
    reason = (
        f"{_WHAT[code]} before it was read to its end; from record {start.record} on, at least {unread} bytes were "
        "never seen"
    )
    reject = Reject(
        record=start.record, line=start.line, offset=start.offset, bytes=unread, code=code, reason=reason
    )  # fmt: skip
    return _draft(book, after, Run(start, start, rejects=(reject,)), b"", format_, closes=True)


def beginning(book: Book, tails: list[Tail], pattern: str, format_: str) -> Draft:
    """No records of any file: where each of *tails* ends now is where its reading will begin."""
    checkpoint, rows = book.begin_at(tails)
    header = BatchHeader(
        format=format_, checkpoint=checkpoint, closes=True, origin=Origin(kind="file", name=pattern, first_line=1)
    )
    return Draft(header, b"", rows)


def _draft(book: Book, after: Tail, run: Run, prefix: bytes, format_: str, *, closes: bool) -> Draft:
    checkpoint, rows = book.advance(after)
    header = BatchHeader(
        format=format_,
        records=run.records,
        prefix=prefix,
        checkpoint=checkpoint,
        origin=Origin(
            kind="file",
            name=display(os.fsdecode(after.born)),
            unit=after.unit,
            offset=run.start.offset,
            first_record=run.start.record,
            first_line=run.start.line,
        ),
        rejects=run.rejects,
        closes=closes,
    )
    return Draft(header, run.payload, rows)
