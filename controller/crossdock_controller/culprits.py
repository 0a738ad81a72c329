"""Which records of a batch are at fault, found by halving: those without which the rest can be mapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

MOST_TRIALS = 64  # about three records at fault among 5,000
MOST_CULPRITS = 16  # more at fault in one batch say more about the mapping than about the records

Trial = Callable[[frozenset[int]], str]  # maps only the records at these positions; why that failed, "" when it did not


class NotFound(Exception):  # noqa: N818 - an answer, not an error
    """No few records are at fault. *reason* is what the batch failed with."""

    def __init__(self, reason: str, *, without_records: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.without_records = without_records  # it fails even when none of its records is mapped


def culprits(positions: Sequence[int], trial: Trial, reason: str) -> dict[int, str]:
    """{position: reason}, where mapping all of *positions* failed with *reason*. Raises NotFound."""
    nothing = trial(frozenset())
    if nothing:
        raise NotFound(nothing, without_records=True)
    found: dict[int, str] = {}
    left = MOST_TRIALS
    search: list[tuple[Sequence[int], str]] = [(positions, reason)]
    while search:
        part, why = search.pop()
        if len(part) == 1:
            found[part[0]] = why
            if len(found) > MOST_CULPRITS:
                raise NotFound(why)
            continue
        middle = len(part) // 2
        halves = [half for half in (part[middle:], part[:middle]) if half]
        left -= len(halves)
        if left < 0:
            raise NotFound(why)
        failing = [(half, said) for half in halves if (said := trial(frozenset(half)))]
        if not failing:  # each half goes well alone: it is their company
            raise NotFound(why)
        search += failing
    if len(found) == len(positions) > 1:
        raise NotFound(reason)
    return found
