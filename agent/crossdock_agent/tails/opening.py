"""Opening a log, plain or packed, without hindering whoever writes, renames or deletes it: one, not for long."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from crossdock_agent.drops.handles import open_shared
from crossdock_agent.drops.listing import Found
from crossdock_agent.tails.names import is_packed

DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)  # a packed file that is cut, or still being written
INODE = 2**64 - 1  # what of a file id fits the ledger


@dataclass(frozen=True, slots=True)
class Opened:
    """*size* is that of the content; for a packed file what its trailer says, modulo 4 GiB and of its last member."""

    file: BinaryIO
    size: int
    inode: int
    packed: bool

    def shrank_below(self, size: int) -> bool:
        return not self.packed and os.fstat(self.file.fileno()).st_size < size


@contextmanager
def opened(found: Found) -> Iterator[Opened]:
    """Raises OSError; reading a packed one raises what DAMAGED names."""
    with open_shared(found.path) as raw:
        stat = os.fstat(raw.fileno())
        inode = stat.st_ino & INODE
        if not is_packed(found.name):
            yield Opened(raw, stat.st_size, inode, packed=False)
            return
        raw.seek(max(0, stat.st_size - 4))
        said = int.from_bytes(raw.read(4), "little")
        raw.seek(0)
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield Opened(cast(BinaryIO, unpacked), said, inode, packed=True)
