"""A set of 64-bit hashes in 8 bytes each: a Python set of integers takes ten times as much.

A month-end posting puts half a million rows into one look-back window. The hashes stand in a few sorted runs, each at
least twice as long as the next, so that adding merges rarely and looking up bisects a handful of times.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

_CHUNK = 8192


class HashSet:
    """Hashes may be added twice; `len` then counts them twice."""

    def __init__(self) -> None:
        self._runs: list[array[int]] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def add(self, hashes: Iterable[int]) -> None:
        run = array("Q", sorted(hashes))
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = _merged(self._runs.pop(), run)
        if run:
            self._runs.append(run)

    def __contains__(self, value: int) -> bool:
        for run in self._runs:
            at = bisect_left(run, value)
            if at < len(run) and run[at] == value:
                return True
        return False


def _merged(one: array[int], other: array[int]) -> array[int]:
    """Both, sorted; by chunks, because sorting takes them out of their 8 bytes."""
    merged = array("Q")
    i = j = 0
    while i < len(one) and j < len(other):
        first, second = one[i : i + _CHUNK], other[j : j + _CHUNK]
        bound = min(first[-1], second[-1])
        take, also = bisect_right(first, bound), bisect_right(second, bound)
        merged.fromlist(sorted(first[:take].tolist() + second[:also].tolist()))
        i, j = i + take, j + also
    merged.extend(one[i:])
    merged.extend(other[j:])
    return merged
