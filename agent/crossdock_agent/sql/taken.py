"""Which rows are taken and not yet released: what a pass leaves out, and what a release deletes or marks.

The token of a batch (`Draft.on_ack`) names its rows by key, and holds a hash of each row's content. The outbox file
keeps it in the transaction of the batch and drops it after the release, so the tokens it has are exactly the rows in
flight: there is no second account that could differ.

In memory a key is a 63-bit number: a whole number is itself, any other key a hash. Two keys with one hash lose nothing:
the second row is left out only while the first is in flight. Keys stand as runs (first, last), so that a million
consecutive ids take a few hundred bytes and a pass can jump over them.
"""

from __future__ import annotations

import hashlib
import heapq
import sys
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import cast

import msgspec

from crossdock.errors import UNREADABLE, ConfigError

TOKEN_VERSION = 1
_WHOLE = 2**61  # differences of two such numbers still fit 63 bits

Key = Sequence[object]


class Token(msgspec.Struct, frozen=True, array_like=True):
    """The rows of one batch: *ids* (whole numbers of one column, delta-coded and compressed), or *keys*."""

    version: int
    basis: str  # what was read: a source that reads something else now must not release these
    columns: list[str]  # that the hashes are of
    ids: bytes
    keys: list[list[object]]
    hashes: bytes  # 8 bytes a row; empty for rows that were not read

    def all_keys(self) -> list[Key]:
        if not self.ids:
            return list(self.keys)
        return [(number,) for number in accumulate(_unpacked("q", zlib.decompress(self.ids)))]

    def all_hashes(self) -> Sequence[int]:
        return _unpacked("Q", self.hashes)


def encode(basis: str, columns: Sequence[str], keys: Sequence[Key], hashes: Sequence[int]) -> bytes:
    ids, listed = b"", list[list[object]]()
    if all(len(key) == 1 and is_whole(key[0]) for key in keys):
        whole = [cast(int, key[0]) for key in keys]
        deltas = array("q", [b - a for a, b in zip([0, *whole], whole, strict=False)])
        ids = zlib.compress(_packed(deltas), 1)
    else:
        listed = [list(key) for key in keys]
    return msgspec.msgpack.encode(Token(TOKEN_VERSION, basis, list(columns), ids, listed, _packed(array("Q", hashes))))


def decode(token: bytes) -> Token:
    try:
        due = msgspec.msgpack.decode(token, type=Token)
    except UNREADABLE as error:
        raise ConfigError(
            f"a release of this source cannot be read: {error}",
            hint="a source of another kind had its name: give it a new one",
        ) from error
    if due.version != TOKEN_VERSION:
        raise ConfigError(
            f"a release of version {due.version} waits, this agent knows {TOKEN_VERSION}", hint="install a newer agent"
        )
    return due


def is_whole(value: object) -> bool:
    return type(value) is int and -_WHOLE < value < _WHOLE


def bindable(value: object) -> object:
    """*value* as a driver takes it: a whole number over 63 bits (MariaDB's unsigned ones) as an exact decimal."""
    return Decimal(value) if type(value) is int and not -(2**63) <= value < 2**63 else value


def numbers(keys: Sequence[Key]) -> list[int]:
    """*keys* as they are known in memory."""
    if keys and len(keys[0]) == 1:
        first: list[object] = [key[0] for key in keys]
        if set(map(type, first)) == {int}:
            whole = cast(list[int], first)
            if min(whole) > -_WHOLE and max(whole) < _WHOLE:
                return whole
    return [_number(key) for key in keys]


def _number(key: Key) -> int:
    if len(key) == 1 and is_whole(key[0]):
        return cast(int, key[0])
    digest = hashlib.blake2b(msgspec.msgpack.encode(key), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Taken:
    """Keys in flight, by the token that took them. What is asked is as of the last `index`."""

    def __init__(self) -> None:
        self._batches: dict[bytes, tuple[int, array[int]]] = {}  # rows, and runs as first, last, first, last ...
        self._starts, self._ends = array("q"), array("q")
        self._stale = False
        self.rows = 0  # in flight, at any time

    def add(self, token: bytes, numbers: Iterable[int]) -> None:
        """Keys are counted with the token, so a token is added once."""
        ordered = sorted(numbers)
        runs = array("q")
        for first, last in _joined((value, value) for value in ordered):
            runs.extend((first, last))
        self._batches[_name(token)] = (len(ordered), runs)
        self.rows += len(ordered)
        self._stale = True

    def drop(self, token: bytes) -> None:
        rows, _ = self._batches.pop(_name(token), (0, None))
        self.rows -= rows
        self._stale = self._stale or rows > 0

    @property
    def last(self) -> int | None:
        """The greatest key in flight."""
        return self._ends[-1] if self._ends else None

    @property
    def scattered(self) -> int:
        """How many runs there are at most: what looking through the table costs."""
        return sum(len(runs) for _, runs in self._batches.values()) // 2

    def index(self) -> None:
        """Make what was added and dropped known to `in` and `run_end`."""
        if not self._stale:
            return
        self._starts, self._ends = array("q"), array("q")
        for first, last in _joined(heapq.merge(*(_pairs(runs) for _, runs in self._batches.values()))):
            self._starts.append(first)
            self._ends.append(last)
        self._stale = False

    def __contains__(self, value: int) -> bool:
        return self.run_end(value) is not None

    def run_end(self, value: int) -> int | None:
        """The last key of the run that *value* is in; None when it is not taken."""
        at = bisect_right(self._starts, value) - 1
        return self._ends[at] if at >= 0 and value <= self._ends[at] else None


def _name(token: bytes) -> bytes:
    return hashlib.blake2b(token, digest_size=16).digest()


def _pairs(runs: array[int]) -> Iterator[tuple[int, int]]:
    return zip(runs[::2], runs[1::2], strict=True)


def _joined(runs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ascending *runs*, those that touch as one."""
    first: int | None = None
    last = 0
    for start, end in runs:
        if first is not None and start <= last + 1:
            last = max(last, end)
            continue
        if first is not None:
            yield first, last
        first, last = start, end
    if first is not None:
        yield first, last


def _packed(numbers: array[int]) -> bytes:
    if sys.byteorder == "little":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def _unpacked(typecode: str, data: bytes) -> array[int]:
    numbers: array[int] = array(typecode)
    numbers.frombytes(data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
