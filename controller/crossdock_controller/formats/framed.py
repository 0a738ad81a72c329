"""Delimited payloads cut into raw records by the rule by which the agent framed them.

A newline ends a record unless it stands inside quotes; a quote opens only at the start of a field, and two of them
inside are one. This is `csv.reader`'s own rule without its strictness, so both sides count the same records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import SAMPLE_BYTES, wide_codec


def sampler(split: Callable[[], Sequence[bytes]]) -> Callable[[int], bytes]:
    """Raw bytes by position; the payload is split only when the first sample is asked for."""
    cached: list[Sequence[bytes]] = []

    def sample(position: int) -> bytes:
        if not cached:
            cached.append(split())
        return cached[0][position].rstrip(b"\r\n")[:SAMPLE_BYTES]

    return sample


def splitter(delimiter: str, quote: str | None) -> Callable[[bytes], Iterator[bytes]]:
    """Cuts a payload into records by the agent's rule, newline included."""
    if quote is None:
        return lambda payload: iter(lines_of(payload))
    d, q = re.escape(delimiter.encode()), re.escape(quote.encode())
    # One field: quoted (with whatever follows the closing quote) or plain. Possessive: a long one is never backtracked.
    one_field = re.compile(rb"(?:%b[^%b]*+(?:%b%b[^%b]*+)*+(?:%b[^%b\n]*+|\Z)|[^%b\n]*+)" % (q, q, q, q, q, q, d, d))

    def split(payload: bytes) -> Iterator[bytes]:
        start = at = 0
        while at < len(payload):
            match = one_field.match(payload, at)
            at = match.end() if match else len(payload)
            if payload[at : at + 1] != delimiter.encode():  # a newline, or the end
                yield payload[start : at + 1]
                start = at + 1
            at += 1
        if start < len(payload):  # the payload ends with a delimiter
            yield payload[start:]

    return split


def sliced(header: BatchHeader, payload: bytes) -> list[bytes]:
    """The records of *payload* by the lengths that the agent found; all of it as one when they are not those."""
    if sum(header.record_bytes) != len(payload):
        return [payload] if payload else []
    records, at = [], 0
    for length in header.record_bytes:
        records.append(payload[at : at + length])
        at += length
    return records


def as_utf8(encoding: str) -> Callable[[bytes], bytes]:
    """From UTF-16 to UTF-8, so that records are cut and read as those of any other text; bytes of another encoding stay
    as they are. What is no character becomes what is none in UTF-8, so that its record is told as damaged."""
    codec = wide_codec(encoding)
    if not codec:
        return lambda data: data

    def convert(data: bytes) -> bytes:
        half = len(data) % 2
        text = data[: len(data) - half].decode(codec, "surrogatepass")
        return text.encode("utf-8", "surrogatepass") + b"\xff" * half

    return convert


def lines_of(payload: bytes) -> list[bytes]:
    """Lines with their newlines; only "\\n" ends one."""
    lines = payload.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])
