"""Gets the whole batches out of an outbox that was set aside, as the files and rows that they once were.

For a person, when a source cannot give its data again: a log that was deleted, a row that was overwritten. Nothing of
it is sent by itself: the sources have long read on, and older versions must not come after newer ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossdock.codec import open_sealed
from crossdock.errors import ConfigError, Corrupt
from crossdock_agent.outbox.damaged import Held, readable, survey


def salvage(aside: Path, to: Path) -> Iterator[str]:
    """Lines for a person, one a source; the batches as `to/SOURCE/SEQUENCE.FORMAT`. Raises ConfigError."""
    if not aside.is_file():
        raise ConfigError(f"{aside} is not a file", hint="name the file that 'crossdock-agent status' names")
    found = survey(aside)
    if found.unreadable:
        raise ConfigError(
            f"{aside} cannot be read: {found.unreadable}",
            hint="the sources read again from what the controller has; 'crossdock account' shows what arrived",
        )
    if not found.held:
        yield "by its own count everything in it was acknowledged"
    for held in found.held:
        yield _source(aside, held, to / held.source)


def _source(aside: Path, held: Held, to: Path) -> str:
    to.mkdir(parents=True, exist_ok=True)
    whole = records = 0
    for sequence, sealed in readable(aside, held.source, held.first_sequence - 1):
        try:
            header, payload = open_sealed(sealed)
        except Corrupt:
            continue
        suffix = "msgpack" if header.format == "rows" else header.format
        (to / f"{sequence:012}.{suffix}").write_bytes(header.prefix + payload)
        whole, records = whole + 1, records + header.records + len(header.rejects)
    batches = held.last_sequence - held.first_sequence + 1
    lost = f"; {held.records - records} records of damaged batches are lost" if whole < batches else ""
    return f"{held.source}: {whole} of {batches} batches, {records} of {held.records} records, in {to}{lost}"
