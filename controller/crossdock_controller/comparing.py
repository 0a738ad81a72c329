"""Two systems' views of the same documents, compared. Pure: what is read and what becomes of it is `reconciling`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from crossdock_controller.config.reconciliations import Reconciliation

DELETED = "deleted"  # the status by which a mapping says that its source no longer has the document


@dataclass(frozen=True, slots=True)
class Seen:
    """One side's latest version: *match* tells which document it is, *values* are of the fields compared."""

    match: str
    values: tuple[str | None, ...]
    at_us: int
    site: str
    seq: int


@dataclass(frozen=True, slots=True)
class Difference:
    """*what*: missing-left, missing-right or different."""

    match: str
    what: str
    text: str
    site: str
    seq: int


@dataclass(slots=True)
class Outcome:
    """Documents that are too *young* were not compared. With *brake* nothing is said about documents."""

    left: int = 0
    right: int = 0
    differences: list[Difference] = field(default_factory=list)
    young: set[str] = field(default_factory=set)
    brake: str = ""

    def counts(self) -> dict[str, int]:
        found = {"missing-left": 0, "missing-right": 0, "different": 0}
        for difference in self.differences:
            found[difference.what] += 1
        return found


def seen(model: Reconciliation, key: str, body: Mapping[str, Any], at_us: int, site: str, seq: int) -> Seen | None:
    """None for a document that its source says is gone, and for one without a field that tells which it is."""
    if str(body.get("status", "")).lower() == DELETED:
        return None
    parts = [_text(body, path) for path in model.match]
    if any(part is None for part in parts):
        return None
    match = ":".join(part or "" for part in parts) if parts else key
    return Seen(match, tuple(_text(body, path) for path in model.compare), at_us, site, seq)


def compare(
    model: Reconciliation,
    left: Iterable[Seen],
    right: Iterable[Seen],
    before: tuple[int, int],
    now_us: int,
    *,
    accept: bool = False,
) -> Outcome:
    """*before* are the documents on each side at the last comparison that was believed; (0, 0) before the first.
    *accept*: a person says that both sides are right as they are.

    Of several versions of one match on a side, the latest counts.
    """
    lefts, rights = _latest(left), _latest(right)
    outcome = Outcome(len(lefts), len(rights))
    outcome.brake = "" if accept else _unbelievable(model, outcome, before)
    if outcome.brake:
        return outcome
    young_us = now_us - int(model.younger_minutes * 60_000_000)
    for match in sorted({*lefts, *rights}):
        a, b = lefts.get(match), rights.get(match)
        if max(x.at_us for x in (a, b) if x is not None) > young_us:
            outcome.young.add(match)
            continue
        found = _difference(model, match, a, b)
        if found is not None:
            outcome.differences.append(found)
    every = len({*lefts, *rights})
    share = 100 * len(outcome.differences) / every if every else 0
    if not accept and every >= model.brake.at_least and share > model.brake.differing_percent:
        outcome.brake = (
            f"{len(outcome.differences)} of {every} documents differ or are missing: a field, a unit or a whole file is"
            " wrong, rather than each document"
        )
        outcome.differences = []
    return outcome


def _latest(side: Iterable[Seen]) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    for one in side:
        known = found.get(one.match)
        if known is None or known.seq < one.seq:
            found[one.match] = one
    return found


def _unbelievable(model: Reconciliation, outcome: Outcome, before: tuple[int, int]) -> str:
    every = max(outcome.left, outcome.right, *before)
    if every < max(1, model.brake.at_least):
        return ""
    for word, side, n, was in (
        ("left", model.left, outcome.left, before[0]),
        ("right", model.right, outcome.right, before[1]),
    ):
        if n == 0:
            return f"{word} ({side.source}) has no {model.document} at all"
        if was and 100 * (was - n) / was > model.brake.shrunk_percent:
            return f"{word} ({side.source}) shrank from {was} to {n} documents"
    return ""


def _difference(model: Reconciliation, match: str, a: Seen | None, b: Seen | None) -> Difference | None:
    left, right = model.left.source, model.right.source
    if a is None and b is not None:
        return Difference(match, "missing-left", f"{match} is in {right} and not in {left}", b.site, b.seq)
    if b is None and a is not None:
        return Difference(match, "missing-right", f"{match} is in {left} and not in {right}", a.site, a.seq)
    assert a is not None  # noqa: S101 - a match is of one side at least
    assert b is not None  # noqa: S101
    said = [
        f"{path}: {left} says {x if x is not None else 'nothing'}, {right} says {y if y is not None else 'nothing'}"
        for path, x, y in zip(model.compare, a.values, b.values, strict=True)
        if not _agree(x, y, model.tolerance.get(path, Decimal(0)))
    ]
    return Difference(match, "different", f"{match}: {'; '.join(said)}", b.site, b.seq) if said else None


def _agree(x: str | None, y: str | None, tolerance: Decimal) -> bool:
    """Numbers by value (1 is 1.000), anything else as text."""
    if x == y:
        return True
    if x is None or y is None:
        return False
    try:
        a, b = Decimal(x), Decimal(y)
    except InvalidOperation:
        return False
    return a.is_finite() and b.is_finite() and abs(a - b) <= tolerance


def _text(body: Any, path: str) -> str | None:
    """The value at a dotted path; a quantity is its value, a sum of money its amount. Blank is nothing."""
    value = body
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value = value.get("value", value.get("amount"))
    return None if value is None or value == "" or isinstance(value, dict | list) else str(value)
