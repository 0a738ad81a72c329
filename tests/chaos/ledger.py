"""What every source gave and what every sink got, kept by the harness alone: the product is never asked.

A record is a key and its version; versions of a key are given in order, from 1. `balance` compares to the record.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, order=True)
class Record:
    key: str
    version: int

    def __str__(self) -> str:
        return f"{self.key}#{self.version}"


@dataclass(frozen=True, slots=True)
class Given:
    """*where*: the file or table row in which the source gave it; *at*: seconds since the run began."""

    site: str
    source: str
    where: str
    at: float


@dataclass(frozen=True, slots=True)
class Got:
    """One arrival at a sink, in the order of arrival."""

    record: Record
    event_id: str


@dataclass(slots=True)
class Ledger:
    """Thread-safe. *states_only*: sources that promise the last state of a key and not each one between."""

    states_only: frozenset[str] = frozenset()
    given: dict[Record, Given] = field(default_factory=dict)
    poison: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))  # (site, source): marks
    began: float = field(default_factory=time.monotonic)
    _versions: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_version(self, key: str) -> Record:
        """The next version of *key*, which is given only when `gave` says so."""
        with self._lock:
            self._versions[key] = self._versions.get(key, 0) + 1
            return Record(key, self._versions[key])

    def gave(self, site: str, source: str, where: str, records: Iterable[Record], poison: Iterable[str] = ()) -> None:
        """*records* are the source's from now on, and records marked by *poison*: written and committed there."""
        at = round(time.monotonic() - self.began, 3)
        with self._lock:
            for record in records:
                self.given[record] = Given(site, source, where, at)
            self.poison[site, source] |= set(poison)

    def expected(self) -> tuple[set[Record], set[Record]]:
        """(records that must arrive, records that may)."""
        with self._lock:
            given = dict(self.given)
        last: dict[str, int] = {}
        for record in given:
            last[record.key] = max(record.version, last.get(record.key, 0))
        must = {r for r, g in given.items() if g.source not in self.states_only or last[r.key] == r.version}
        return must, set(given)

    def counts(self) -> dict[tuple[str, str], int]:
        """Records given by (site, source), poison not among them."""
        found: dict[tuple[str, str], int] = defaultdict(int)
        with self._lock:
            for given in self.given.values():
                found[given.site, given.source] += 1
        return dict(found)


@dataclass(slots=True)
class Findings:
    """What does not balance, as sentences, with the records concerned."""

    sentences: list[str] = field(default_factory=list)
    records: set[Record] = field(default_factory=set)

    def add(self, sentence: str, records: Iterable[Record] = ()) -> None:
        some = sorted(records)
        shown = ", ".join(str(r) for r in some[:5]) + (f" and {len(some) - 5} more" if len(some) > 5 else "")
        self.sentences.append(sentence + (f": {shown}" if some else ""))
        self.records |= set(some[:20])

    def __bool__(self) -> bool:
        return bool(self.sentences)


def balance(
    sink: str,
    got: list[Got],
    must: set[Record],
    may: set[Record],
    *,
    strict_order: bool,
    findings: Findings,
    again: frozenset[Record] = frozenset(),
) -> None:
    """Adds to *findings* what is missing, doubled, unknown or out of order at *sink*.

    *got* are effects: an idempotent sink shows each record once, but for those in *again*. *strict_order*: versions of
    a key only ever grow.
    """
    seen: dict[Record, str] = {}
    doubled: set[Record] = set()
    disordered: set[Record] = set()
    last: dict[str, int] = {}
    for arrival in got:
        if arrival.record in seen and arrival.record not in again:
            doubled.add(arrival.record)
        seen[arrival.record] = arrival.event_id
        if strict_order and arrival.record.version < last.get(arrival.record.key, 0):
            disordered.add(arrival.record)
        last[arrival.record.key] = max(arrival.record.version, last.get(arrival.record.key, 0))
    for problem, records in (
        ("missing", must - seen.keys()),
        ("doubled", doubled),
        ("never given", seen.keys() - may),
        ("out of order", disordered),
    ):
        if records:
            findings.add(f"sink {sink}: {len(records)} {problem}", records)
