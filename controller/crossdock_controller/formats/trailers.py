"""The last line of a delimited file, where a source declares one: no record, but proof that the records are all there.

A file without its trailer was not written to its end; one whose count differs lost or doubled records. Either is a
fault at that line, told to a person; the records before it go on. Its count is compared with the ordinal of its own
record in the file, so that it is checked whatever batches the file came in.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import BLANK, Decoded, Fault


class Trailer(BaseModel):
    """The last line of a file, which is no record: its first field, which of its fields counts, what it counts more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    begins: str = Field(min_length=1)
    count: int | None = Field(default=None, ge=2)
    extra: int = Field(default=0, ge=0)


def check_trailer(
    decoded: Decoded, header: BatchHeader, trailer: Trailer, fields_at: Callable[[Decoded, int], list[str]]
) -> None:
    """Takes the trailer out of *decoded*, if it is the last record there, as it must be at the end of a file; a fault
    takes its place when it is wrong. Blank lines are not counted, as far as they stand in the same batch."""
    last = max(set(range(decoded.count)) - set(decoded.blanks), default=None)
    if last is None:
        return
    fields = [text.strip(BLANK) for text in fields_at(decoded, last)]
    line = header.origin.first_line + last
    sample = decoded.sample(last)
    if fields[:1] != [trailer.begins]:
        if not header.closes:
            return
        reason = f"the file ends without its trailer, {trailer.begins!r}; was it written to its end?"
        _replace(decoded, last, Fault(last, line, "no_trailer", reason, sample=sample, row=_row(decoded, last)))
        return
    counted = header.origin.first_record + last - sum(position < last for position in decoded.blanks) + trailer.extra
    said = "" if trailer.count is None else fields[trailer.count - 1] if trailer.count <= len(fields) else "nothing"
    if trailer.count is None or (said.isascii() and said.isdigit() and len(said) <= 18 and int(said) == counted):
        _replace(decoded, last, None)
        decoded.trailers.append(last)
        return
    reason = f"the trailer says {said} records, there are {counted}; were some lost or doubled?"
    fault = Fault(
        last, line, "wrong_count", reason, sample=sample, row=dict(zip(decoded.columns, fields[:1], strict=False))
    )
    _replace(decoded, last, fault)


def _row(decoded: Decoded, position: int) -> dict[str, object]:
    at = next((i for i, there in enumerate(decoded.positions) if there == position), None)
    return decoded.fields(at) if at is not None else {}


def _replace(decoded: Decoded, position: int, fault: Fault | None) -> None:
    """Instead of whatever the record at *position* was."""
    decoded.faults = [entry for entry in decoded.faults if entry.position != position] + ([fault] if fault else [])
    keep = [i for i, there in enumerate(decoded.positions) if there != position]
    if len(keep) < len(decoded.rows):
        kept = decoded.select(keep)
        decoded.rows, decoded.positions, decoded.lines = kept.rows, kept.positions, kept.lines
