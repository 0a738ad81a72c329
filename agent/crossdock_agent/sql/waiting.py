"""Aggregates that were seen changed and are not read yet: too young, or without as many children as they say.

Pure: the caller says what time it is. What waits is not marked as sent and keeps the floor of its track down, so that a
process that is killed finds it again by reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from crossdock_agent.sql.families import Family, Key

LOOK_AGAIN_SECONDS = 5.0  # at an incomplete one: a child without a watermark does not announce itself
MAX_WAITING = 50_000  # beyond it nothing waits: a mass update must not fill the memory


@dataclass(slots=True)
class Entry:
    """*triggers* are the changes that led to it: for each track hash and order."""

    since: float  # steady clock
    due: float  # when to look again
    triggers: list[dict[int, int]]
    state: int = 0  # hash of what it looked like
    unchanged_since: float = 0.0
    incomplete: bool = False


@dataclass(slots=True)
class Verdict:
    """*wait_seconds* 0: it can be sent."""

    wait_seconds: float
    incomplete: bool


@dataclass(frozen=True, slots=True)
class Patience:
    settle_seconds: float
    incomplete_seconds: float

    def judge(self, family: Family, youngest: float | None, entry: Entry | None, state: int, now: float) -> Verdict:
        """*youngest*: age of its newest change by the database's clock, None where nothing tells. A change dated in the
        future, or without a date, is as old as we have seen it unchanged."""
        seen = now - entry.since if entry is not None else 0.0
        unchanged = now - entry.unchanged_since if entry is not None and entry.state == state else 0.0
        age = youngest if youngest is not None and youngest >= 0 else unchanged
        incomplete = is_incomplete(family)
        wait = max(0.0, self.settle_seconds - age)
        if incomplete:
            wait = max(wait, self.incomplete_seconds - max(seen, age if youngest is not None else 0.0))
        return Verdict(wait, incomplete)


@dataclass(slots=True)
class Waiting:
    tracks: int
    entries: dict[Key, Entry] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, key: object) -> bool:
        return key in self.entries

    def add(self, key: Key, track: int, value: int, order: int, now: float, due: float) -> Entry:
        """A change at *order* led to *key*. One that is new to it brings its next look forward to *due*."""
        entry = self.entries.get(key)
        if entry is None:
            entry = self.entries[key] = Entry(now, due, [{} for _ in range(self.tracks)], unchanged_since=now)
        if value not in entry.triggers[track]:
            entry.triggers[track][value] = order
            entry.due = min(entry.due, due)
        return entry

    def note(self, key: Key, state: int, verdict: Verdict, now: float) -> None:
        """It was looked at and waits on."""
        entry = self.entries[key]
        if entry.state != state:
            entry.state, entry.unchanged_since = state, now
        wait = min(verdict.wait_seconds, LOOK_AGAIN_SECONDS) if verdict.incomplete else verdict.wait_seconds
        entry.due, entry.incomplete = now + wait, verdict.incomplete

    def due(self, now: float) -> list[Key]:
        return [key for key, entry in self.entries.items() if entry.due <= now]

    def hold(self, track: int) -> int | None:
        """The lowest order of a change in *track* that waits."""
        return min((o for entry in self.entries.values() for o in entry.triggers[track].values()), default=None)

    def take(self, key: Key) -> Iterator[tuple[int, int, int]]:
        """Forget *key*: its changes, as track, hash and order."""
        entry = self.entries.pop(key)
        for track, triggers in enumerate(entry.triggers):
            for value, order in triggers.items():
                yield track, value, order


def is_incomplete(family: Family) -> bool:
    """A count that is not what the parent says, more as well as less: one of the two is not up to date."""
    return any(
        said is not None and not _agrees(said, len(part.packed))
        for said, part in zip(family.expected, family.parts[1:], strict=True)
    )


def _agrees(said: object, count: int) -> bool:
    try:
        return float(str(said)) == count
    except ValueError:
        return False
