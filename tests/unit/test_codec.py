"""Sealed batches open to what was sealed, and to nothing else."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock import codec
from crossdock.errors import Corrupt
from crossdock.v1.batch_pb2 import BatchHeader


def sealed(payload: bytes = b"a;b\n1;2\n", **fields: object) -> codec.Sealed:
    return codec.Sealer().seal(BatchHeader(format="csv", **fields), payload)  # type: ignore[arg-type]


@given(st.binary(max_size=5000), st.binary(max_size=50), st.integers(0, 2**32 - 1))
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


def test_a_payload_that_unpacks_to_more_than_it_says_is_refused_before_it_is_allocated() -> None:
    bomb = sealed(b"\0" * 10_000_000)
    header = BatchHeader()
    header.CopyFrom(codec.open_header(bomb.data))
    frame = bomb.data[8 + int.from_bytes(bomb.data[4:8], "big") :]
    header.raw_bytes = 1000
    head = header.SerializeToString()
    lying = codec.MAGIC + len(head).to_bytes(4, "big") + head + frame
    with pytest.raises(Corrupt):
        codec.open_sealed(lying)
    assert zlib.crc32(lying) != bomb.crc32
