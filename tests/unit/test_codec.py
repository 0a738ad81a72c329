"""Sealed batches open to what was sealed, and to nothing else."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from crossdock import codec
from crossdock.errors import Corrupt
from crossdock.v1.batch_pb2 import BatchHeader, Reject


def sealed(payload: bytes = b"a;b\n1;2\n", **fields: object) -> codec.Sealed:
    return codec.Sealer().seal(BatchHeader(format="csv", **fields), payload)  # type: ignore[arg-type]


@given(st.binary(max_size=5000), st.binary(max_size=50), st.integers(0, codec.MAX_RECORDS))
def test_a_batch_opens_to_the_header_and_payload_that_were_sealed(payload: bytes, prefix: bytes, records: int) -> None:
    batch = sealed(payload, prefix=prefix, records=records)
    codec.verify(batch.data, batch.crc32)
    header, opened = codec.open_sealed(batch.data)
    assert (opened, header.prefix, header.records, header.raw_bytes) == (payload, prefix, records, len(payload))


@given(st.data())
def test_any_flipped_bit_is_noticed_by_the_checksum(data: st.DataObject) -> None:
    batch = sealed(b"some payload\n" * 20, prefix=b"head\n")
    position = data.draw(st.integers(0, len(batch.data) * 8 - 1))
    damaged = bytearray(batch.data)
    damaged[position // 8] ^= 1 << (position % 8)
    with pytest.raises(Corrupt):
        codec.verify(bytes(damaged), batch.crc32)


@given(st.binary(max_size=300))
def test_bytes_of_a_stranger_raise_corrupt_and_nothing_else(noise: bytes) -> None:
    for candidate in (noise, codec.MAGIC + noise, sealed().data[:-5] + noise):
        try:
            codec.open_sealed(candidate)
        except Corrupt:
            continue
        assert candidate == sealed().data


def lying(frame: bytes, raw_bytes: int) -> bytes:
    """A sealed batch whose header says *raw_bytes* of *frame*, whatever is in it."""
    head = BatchHeader(format="csv", raw_bytes=raw_bytes).SerializeToString()
    return codec.MAGIC + len(head).to_bytes(4, "big") + head + frame


def test_a_payload_that_unpacks_to_more_than_it_says_is_refused_before_it_is_allocated() -> None:
    size = 512 * 1024 * 1024
    packing = zstandard.ZstdCompressor(level=3).compressobj(size=size)
    frame = b"".join(packing.compress(bytes(2**24)) for _ in range(size // 2**24)) + packing.flush()
    assert len(frame) < 100_000
    with no_more_memory_than(64 * 1024 * 1024), pytest.raises(Corrupt, match="536870912"):
        codec.open_sealed(lying(frame, 1000))


def test_a_frame_that_announces_more_than_any_machine_has_is_refused_as_any_other() -> None:
    frame = b"\x28\xb5\x2f\xfd\xe0" + (2**45).to_bytes(8, "little") + b"\x01\x00\x00"
    with pytest.raises(Corrupt):
        codec.open_sealed(lying(frame, 1000))


def test_a_frame_that_does_not_say_its_size_unpacks_to_what_the_header_says_and_no_further() -> None:
    plain = zstandard.ZstdCompressor(level=1, write_content_size=False)
    assert codec.open_sealed(lying(plain.compress(b"1;2\n"), 4))[1] == b"1;2\n"
    bomb = lying(plain.compress(bytes(256 * 1024 * 1024)), 1000)
    with no_more_memory_than(64 * 1024 * 1024), pytest.raises(Corrupt):
        codec.open_sealed(bomb)


def test_a_header_that_claims_more_records_than_a_batch_may_have_is_refused_without_unpacking() -> None:
    for header in (
        BatchHeader(format="csv", records=codec.MAX_RECORDS + 1),
        BatchHeader(format="csv", records=2**32 - 1),
        BatchHeader(format="csv", records=codec.MAX_RECORDS, rejects=[Reject()]),
    ):
        with pytest.raises(Corrupt, match="the limit is 1000000"):
            codec.open_header(codec.Sealer().seal(header, b"1;2\n").data)


@contextmanager
def no_more_memory_than(limit: int) -> Iterator[None]:
    """Fails when more than *limit* bytes were held at once in Python's own objects."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
