"""Many dead letters at once: retried, corrected or given up, in transactions of bounded size.

One that cannot be is left open with its reason and stops no other: a fix that clears 4,999 of 5,000 has cleared them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from crossdock.errors import ConfigError, Refused, Rejected
from crossdock_controller import letters, recoding
from crossdock_controller.outcomes import Mapped
from crossdock_controller.store import dead_letters, holds
from crossdock_controller.store.connection import transaction
from crossdock_controller.store.dead_letters import DeadLetter

AT_ONCE = 500  # letters a transaction: tens of milliseconds, so that workers get the lock in between
SHOWN = 20
_LATE = "its source has sent a later version of {} meanwhile, event {}: discard it, or: dead retry --force"

RuntimeAt = Callable[[str], recoding.Runtime]
"""The runtime that a site is worked for by. Raises ConfigError when there is none."""


@dataclass(slots=True)
class Cleared:
    """*refused* are (letter, why), the first SHOWN of *left*, which are still open."""

    done: int = 0
    left: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self, letter: int, why: str) -> None:
        self.left += 1
        if len(self.refused) < SHOWN:
            self.refused.append((letter, why))


def retry(
    db: sqlite3.Connection,
    runtime_at: RuntimeAt,
    numbers: Sequence[int],
    changes: Mapping[str, str],
    *,
    by: str,
    note: str,
) -> Cleared:
    """Try letters *numbers* again, records with *changes* to their columns. Wake "normalize" and "dispatch" after."""
    cleared = Cleared()
    for first in range(0, len(numbers), AT_ONCE):
        found = dead_letters.get_open(db, numbers[first : first + AT_ONCE])
        _retry_deliveries(db, [x for x in found if x.kind == "delivery"], changes, cleared, by, note)
        _retry_records(db, runtime_at, [x for x in found if x.kind == "record"], changes, cleared, by, note)
    return cleared


def discard(db: sqlite3.Connection, numbers: Sequence[int], *, by: str, note: str) -> Cleared:
    """Give letters *numbers* up; what dead deliveries held is due now."""
    cleared = Cleared()

    def discard_all(part: Sequence[DeadLetter]) -> None:
        dead_letters.discard_all(db, part, by, note, time.time_ns() // 1000)
        cleared.done += len(part)

    for first in range(0, len(numbers), AT_ONCE):
        _each_or_all(dead_letters.get_open(db, numbers[first : first + AT_ONCE]), discard_all, cleared)
    return cleared


def settle_holds(db: sqlite3.Connection, seqs: Sequence[int], *, release: bool, by: str, note: str) -> Cleared:
    """Release the held events *seqs*, or discard them; one that is settled already is none of ours."""
    cleared = Cleared()
    settle = holds.release if release else holds.discard
    for first in range(0, len(seqs), AT_ONCE):
        with transaction(db):
            for seq in seqs[first : first + AT_ONCE]:
                held = holds.find(db, seq)
                if held is not None and held.state == "open":
                    settle(db, seq, by=by, note=note, now_us=time.time_ns() // 1000)
                    cleared.done += 1
    return cleared


def _retry_deliveries(
    db: sqlite3.Connection,
    found: list[DeadLetter],
    changes: Mapping[str, str],
    cleared: Cleared,
    by: str,
    note: str,
) -> None:
    if changes:
        for letter in found:
            cleared.refuse(letter.id, "is a delivery, which has no columns to set")
        return

    def retry_all(part: Sequence[DeadLetter]) -> None:
        dead_letters.retry_deliveries(db, part, by, note, time.time_ns() // 1000)
        cleared.done += len(part)

    _each_or_all(found, retry_all, cleared)


def _retry_records(
    db: sqlite3.Connection,
    runtime_at: RuntimeAt,
    found: list[DeadLetter],
    changes: Mapping[str, str],
    cleared: Cleared,
    by: str,
    note: str,
) -> None:
    """By site: two sites may be worked for by different revisions while one is rolled out."""
    by_site: dict[str, list[DeadLetter]] = {}
    for letter in found:
        by_site.setdefault(letter.site, []).append(letter)
    for site, of_site in by_site.items():
        try:
            runtime = runtime_at(site)
        except ConfigError as error:
            for letter in of_site:
                cleared.refuse(letter.id, str(error))
            continue
        made: dict[int, Mapped] = {}
        for letter in of_site:
            try:
                document = letters.remapped(db, runtime, letter, changes)
            except (Refused, Rejected) as error:
                cleared.refuse(letter.id, str(error))
                continue
            later = recoding.newer(db, letter, document)
            if later is None:
                made[letter.id] = document
            else:
                cleared.refuse(letter.id, _LATE.format(document.key, later))
        _commit(db, runtime, [x for x in of_site if x.id in made], made, cleared, by, note, sorted(changes))


def _commit(
    db: sqlite3.Connection,
    runtime: recoding.Runtime,
    found: list[DeadLetter],
    made: Mapping[int, Mapped],
    cleared: Cleared,
    by: str,
    note: str,
    fields: Sequence[str],
) -> None:
    def commit(part: Sequence[DeadLetter]) -> None:
        left = list(part)
        while left:
            now_us = time.time_ns() // 1000
            late = recoding.commit_all(db, runtime, [(x, made[x.id]) for x in left], by, note, now_us, fields=fields)
            if late is None:
                cleared.done += len(left)
                return
            letter = left.pop(late[0])
            cleared.refuse(letter.id, _LATE.format(made[letter.id].key, late[1]))

    _each_or_all(found, commit, cleared)


def _each_or_all(found: Sequence[DeadLetter], do: Callable[[Sequence[DeadLetter]], None], cleared: Cleared) -> None:
    """All in one transaction; where somebody closed one meanwhile, one by one."""
    if not found:
        return
    try:
        do(found)
    except Refused as error:
        if len(found) == 1:
            cleared.refuse(found[0].id, str(error))
            return
        for letter in found:
            _each_or_all([letter], do, cleared)
