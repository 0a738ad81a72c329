"""Which growing file this is, by what was read of it: logs are renamed and inodes reused, so neither tells.

The print of a file read up to an offset covers bytes before that offset only, so that it is well defined however short
the file still is, and grows with it: the *mark* is a hash of the first 4 KiB of them, the *seam* of the last 1 KiB. As
nothing is read short of one record, both go beyond the header that every day's file shares.

The *head* finds a file again among all ever read: a hash of the bytes through the end of the first record, the same
however much follows.
"""

from __future__ import annotations

import codecs
import hashlib
import os
from typing import BinaryIO

from crossdock_agent.framing.base import Scanner

MARK_BYTES = 4096
SEAM_BYTES = 1024
WEAK_BYTES = 256  # equal content is no proof below this: the inode must be the same as well
_HEAD_BYTES = 64 * 1024


def print_of(file: BinaryIO, offset: int) -> tuple[bytes, bytes]:
    """Mark and seam of what stands before *offset*. Moves the file's position. Raises OSError."""
    mark = hashed(read_at(file, 0, min(offset, MARK_BYTES)))
    return mark, seam_of(file, offset)


def seam_of(file: BinaryIO, offset: int) -> bytes:
    start = max(0, offset - SEAM_BYTES)
    return hashed(read_at(file, start, offset - start))


def still_begins(file: BinaryIO, offset: int, mark: bytes, seam: bytes) -> bool:
    """Whether *file* holds, before *offset*, what was read. A seam that is empty is not known."""
    start = read_at(file, 0, min(offset, MARK_BYTES))
    if len(start) < min(offset, MARK_BYTES) or hashed(start) != mark:
        return False
    return not seam or seam_of(file, offset) == seam


def head_of(file: BinaryIO, scanner: Scanner) -> bytes:
    """While the first record is not complete, over all there is; empty for an empty file. Moves the file's position.

    Raises OSError.
    """
    size = MARK_BYTES
    while True:
        data = read_at(file, 0, size)
        end = first_record_end(data, scanner)
        if end > 0:
            return hashed(data[:end])
        if len(data) < size or size >= _HEAD_BYTES:
            return hashed(data) if data else b""
        size = _HEAD_BYTES


def first_record_end(data: bytes, scanner: Scanner) -> int:
    """Offset behind the first complete record of a file that begins with *data*; 0 when there is none."""
    start = behind_header(data, scanner)
    if start < 0:
        return 0
    scan = scanner.scan(data, start, len(data), last=False)
    return next(scanner.cuts(data, scan, 1), scan.end) if scan.records else 0


def behind_header(data: bytes, scanner: Scanner) -> int:
    """Where records begin in a file that begins with *data*; -1 when the header is not complete."""
    mark: bytes = getattr(scanner, "mark", codecs.BOM_UTF8)
    start = len(mark) if data.startswith(mark) else 0
    return scanner.header(data, start, len(data), last=False)


def unit_of(family: str, head: bytes, nth: int) -> bytes:
    """The identity of a generation, 16 bytes: the same log read again after any loss has the same. *nth* tells those
    with one head apart, in the order they were met."""
    digest = hashlib.blake2b(nth.to_bytes(4, "big") + head, digest_size=16)
    digest.update(os.fsencode(family))
    return digest.digest()


def hashed(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    """*length* bytes, fewer only at the end of the file."""
    file.seek(offset)
    parts: list[bytes] = []
    while length > 0 and (part := file.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
