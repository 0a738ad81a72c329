"""Which file this is, by its content: neither a name nor a time tells two files apart, or one file from its copy.

The fingerprint reads a small file whole, so that it is exact; of a large one it reads both ends and probes between. Two
large files that differ only between the probes have one fingerprint. It decides alone only that two files differ; that
they are the same is said, for large ones, by the hash of the whole content.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from crossdock.lifecycle import Stop

WHOLE_BYTES = 4 * 1024 * 1024  # up to here the fingerprint covers every byte
_EDGE_BYTES = 1024 * 1024
_PROBES = 32
_PROBE_BYTES = 64 * 1024
_HEAD_BYTES = 4096
_BLOCK_BYTES = 1024 * 1024
_PACKED = struct.Struct("<qqqQ")


class Interrupted(Exception):  # noqa: N818 - not an error: the stop came while a large file was hashed
    """The stop was set."""


class Signature(NamedTuple):
    """What `stat` says of a file. Equal: nobody has written to it. Different: it may still be the same content."""

    size: int
    mtime_ns: int
    ctime_ns: int  # creation on Windows, last change of the inode elsewhere
    inode: int


def signature(stat: os.stat_result) -> Signature:
    return Signature(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


def packed(seen: Signature) -> bytes:
    """The same in 32 bytes: one is kept for every file that lies there."""
    return _PACKED.pack(seen.size, seen.mtime_ns, seen.ctime_ns, seen.inode % 2**64)


def head(file: BinaryIO) -> bytes:
    """Hash of the first bytes, for telling from one look to the next that a file is being written anew."""
    return hashlib.blake2b(b"".join(_read(file, 0, _HEAD_BYTES)), digest_size=16).digest()


def fingerprint(file: BinaryIO, size: int) -> bytes:
    """16 bytes over *size* and samples of the first *size* bytes. Moves the file's position."""
    digest = hashlib.blake2b(size.to_bytes(8, "big"), digest_size=16)
    for offset, length in _samples(size):
        for block in _read(file, offset, length):
            digest.update(block)
    return digest.digest()


def is_exact(size: int) -> bool:
    """Whether the fingerprint of a file of *size* covers every byte."""
    return size <= WHOLE_BYTES


def hash_into(digest: Any, file: BinaryIO, size: int, stop: Stop) -> None:
    """Feed the first *size* bytes to *digest*. Raises Interrupted."""
    for block in _read(file, 0, size):
        if stop.is_set():
            raise Interrupted
        digest.update(block)


def content_hash(file: BinaryIO, size: int, stop: Stop) -> bytes:
    """SHA-256 of the first *size* bytes: the fastest strong hash where the processor helps. Raises Interrupted."""
    digest = hashlib.sha256()
    hash_into(digest, file, size, stop)
    return digest.digest()


def unit_of(name: str, size: int, print_: bytes, *more: bytes) -> bytes:
    """The identity of a file, 16 bytes: the same name and content give the same unit, on any day and after any loss."""
    digest = hashlib.blake2b(size.to_bytes(8, "big") + print_, digest_size=16)
    for part in (os.fsencode(name), *more):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()


def _samples(size: int) -> Iterator[tuple[int, int]]:
    if is_exact(size):
        yield 0, size
        return
    yield 0, _EDGE_BYTES
    stride = (size - 2 * _EDGE_BYTES) // _PROBES
    for i in range(_PROBES):
        yield _EDGE_BYTES + i * stride, min(_PROBE_BYTES, stride)
    yield size - _EDGE_BYTES, _EDGE_BYTES


def _read(file: BinaryIO, offset: int, length: int) -> Iterator[bytes]:
    file.seek(offset)
    while length > 0 and (block := file.read(min(length, _BLOCK_BYTES))):
        length -= len(block)
        yield block
