"""Seal a batch once, relay the same bytes everywhere, open it once.

Sealed layout: 4 bytes `CDB1`, 4 bytes header length (big endian), the header (protobuf `BatchHeader`), then one zstd
frame (level 1, with its own content checksum). `crc32` covers all of it, so that a relay can verify without
decompressing. Sizes are checked before anything is allocated: a hostile frame costs what its sender paid.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import zstandard
from google.protobuf.message import DecodeError

from crossdock.errors import Corrupt
from crossdock.v1.batch_pb2 import BatchHeader

MAGIC = b"CDB1"
MAX_RAW_BYTES = 64 * 1024 * 1024  # one record may be this large, and a batch never larger
MAX_SEALED_BYTES = 72 * 1024 * 1024
MAX_HEADER_BYTES = 4 * 1024 * 1024
MAX_RECORDS = 1_000_000  # of a batch, rejects among them: each costs memory wherever the batch is looked into

TARGET_RAW_BYTES = 256 * 1024  # a batch closes at about this size ...
TARGET_RECORDS = 5_000  # ... or at this many records, whichever is first

_PREAMBLE = struct.Struct(">4sI")


@dataclass(frozen=True, slots=True)
class Sealed:
    data: bytes
    crc32: int


class Sealer:
    """Seals batches on one thread; a compressor is not shared between threads."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=1, write_checksum=True, write_content_size=True)

    def seal(self, header: BatchHeader, payload: bytes) -> Sealed:
        """Sealed bytes of *payload* under *header*, whose `raw_bytes` is set here."""
        header.raw_bytes = len(payload)
        head = header.SerializeToString()
        data = b"".join((_PREAMBLE.pack(MAGIC, len(head)), head, self._compressor.compress(payload)))
        return Sealed(data, zlib.crc32(data))


def verify(sealed: bytes, crc32: int) -> None:
    """Raises Corrupt when *sealed* is not the bytes that were sealed."""
    if zlib.crc32(sealed) != crc32:
        raise Corrupt(
            "batch checksum differs", hint="the sender resends it; if it repeats, run 'crossdock-agent check'"
        )


def open_header(sealed: bytes) -> BatchHeader:
    """The header alone, without decompressing. Raises Corrupt."""
    return _split(sealed)[0]


def open_sealed(sealed: bytes) -> tuple[BatchHeader, bytes]:
    """Header and payload. Raises Corrupt when either is damaged, longer than it says, or over the limits."""
    header, start = _split(sealed)
    if header.raw_bytes > MAX_RAW_BYTES:
        raise Corrupt(f"batch says {header.raw_bytes} bytes, the limit is {MAX_RAW_BYTES}")
    frame = memoryview(sealed)[start:]
    try:
        # What a frame says of itself goes before `max_output_size`, and is allocated before it is looked at.
        announced = zstandard.get_frame_parameters(frame).content_size
        if announced not in (header.raw_bytes, zstandard.CONTENTSIZE_UNKNOWN):
            raise Corrupt(f"batch payload announces {announced} bytes, its header says {header.raw_bytes}")
        payload = zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=max(1, header.raw_bytes), allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise Corrupt(f"batch payload cannot be decompressed: {error}") from error
    if len(payload) != header.raw_bytes:
        raise Corrupt(f"batch payload has {len(payload)} bytes, its header says {header.raw_bytes}")
    return header, payload


def _split(sealed: bytes) -> tuple[BatchHeader, int]:
    if len(sealed) < _PREAMBLE.size:
        raise Corrupt(f"batch has {len(sealed)} bytes, too few for a preamble")
    magic, length = _PREAMBLE.unpack_from(sealed)
    end = _PREAMBLE.size + length
    if magic != MAGIC or length > MAX_HEADER_BYTES or end > len(sealed):
        raise Corrupt("batch preamble is not one of ours")
    header = BatchHeader()
    try:
        header.ParseFromString(sealed[_PREAMBLE.size : end])
    except DecodeError as error:
        raise Corrupt(f"batch header cannot be read: {error}") from error
    if header.records + len(header.rejects) > MAX_RECORDS:
        raise Corrupt(f"batch says {header.records} records, the limit is {MAX_RECORDS}")
    return header, end
