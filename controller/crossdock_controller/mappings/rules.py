"""Rules over whole documents. Each broken one says which value and which limit; it rejects the document (dead letter),
holds it for a person, or warns.

A rule sees all documents of a run at once, so that "is this SKU known" is one question to the store, not one a line.
Blank fields break only `required`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from typing import Any, NamedTuple, Protocol

from crossdock_controller.documents.base import Money, Quantity, numbered_key
from crossdock_controller.mappings.converters import MAX_DIGITS, plain, shown
from crossdock_controller.mappings.model import KnownRule, OneOfRule, PatternRule, RangeRule, Rule, Severity, SumRule


class Lookup(Protocol):
    def known(self, document: str, keys: set[str]) -> set[str]:
        """Those of *keys* under which an event of *document* exists."""


class KnownKeys:
    """Asks a Lookup for each key once. One per run: what a run does not know, the next may."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._known: dict[str, dict[str, bool]] = {}

    def known(self, document: str, keys: set[str]) -> set[str]:
        answers = self._known.setdefault(document, {})
        new = keys - answers.keys()
        if new:
            found = self._lookup.known(document, new)
            answers.update((key, key in found) for key in new)
        return {key for key in keys if answers[key]}


class Broken(NamedTuple):
    document: int  # its index
    code: str
    field: str
    reason: str
    severity: Severity
    waits: tuple[tuple[str, str], ...] = ()  # masters whose arrival would settle it


Break = tuple[int, str, str, str] | tuple[int, str, str, str, tuple[tuple[str, str], ...]]
"""Index of the document, code, field, reason, and the masters that it waits for, if any."""

Breaks = Callable[[Sequence[Any], "Lookup"], Iterator[Break]]


class Found(NamedTuple):
    place: str  # "sku of line 3", for the reason
    value: Any  # scalars: a Quantity is its value, Money its amount


@dataclass(frozen=True, slots=True)
class Check:
    """One rule, ready to run. *fields* are the document fields it reads, for the load-time check."""

    fields: tuple[str, ...]
    broken: Breaks
    severity: Severity
    reason: str | None

    def run(self, documents: Sequence[Any], lookup: Lookup) -> list[Broken]:
        found = self.broken(documents, lookup)
        severity, said = self.severity, self.reason
        return [Broken(i, code, field, said or reason, severity, *waits) for i, code, field, reason, *waits in found]


def compile_rule(rule: Rule) -> Check:
    """Raises re.error for a bad pattern."""
    fields, broken = _COMPILERS[rule.kind](getattr(rule, rule.kind))
    return Check(fields, broken, rule.severity or default_severity(rule.kind), rule.reason)


def default_severity(kind: str) -> Severity:
    """What reality bears, unless the rule says otherwise (docs/guide/rules-and-codes.md)."""
    return _SEVERITIES.get(kind, "reject")


def found(document: Any, path: str) -> list[Found]:
    """The values at *path* in *document* (`lines.sku`: one a line); blanks are left out."""
    return [entry for entry in _walk(document, path) if entry.value not in ("", None)]


def _walk(document: Any, path: str) -> Iterator[Found]:
    head, _, rest = path.partition(".")
    if head == "lines" and rest:
        for number, line in enumerate(document.lines, start=1):
            yield Found(f"{rest} of line {number}", _scalar(_reach(line, rest)))
    else:
        yield Found(path, _scalar(_reach(document, path)))


def _reach(value: Any, path: str) -> Any:
    for name in path.split("."):
        if value is None:
            return None
        value = value.get(name) if isinstance(value, dict) else getattr(value, name)
    return value


def _scalar(value: Any) -> Any:
    if isinstance(value, Quantity):
        return value.value
    return value.amount if isinstance(value, Money) else value


def _value(value: Any) -> str:
    return plain(value) if isinstance(value, Decimal) else shown(value)


def _required(paths: tuple[str, ...]) -> tuple[tuple[str, ...], Breaks]:
    def broken(documents: Sequence[Any], _lookup: Lookup) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for path in paths:
                for place, value in _walk(document, path):
                    if value in ("", None, ()):
                        yield i, "required", path, f"{place} is missing"

    return paths, broken


def _range(rule: RangeRule) -> tuple[tuple[str, ...], Breaks]:
    path, least, most = rule.field, rule.min, rule.max

    def broken(documents: Sequence[Any], _lookup: Lookup) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for place, value in found(document, path):
                if least is not None and value < least:
                    yield i, "below_range", path, f"{place} is {_value(value)}, the least allowed is {least}"
                elif most is not None and value > most:
                    yield i, "above_range", path, f"{place} is {_value(value)}, the most allowed is {most}"

    return (path,), broken


def _pattern(rule: PatternRule) -> tuple[tuple[str, ...], Breaks]:
    path, pattern = rule.field, re.compile(rule.matches)

    def broken(documents: Sequence[Any], _lookup: Lookup) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for place, value in found(document, path):
                if pattern.fullmatch(str(value)) is None:
                    yield i, "pattern", path, f"{place} is {_value(value)}, which does not match {pattern.pattern}"

    return (path,), broken


def _one_of(rule: OneOfRule) -> tuple[tuple[str, ...], Breaks]:
    path, allowed = rule.field, rule.values

    def broken(documents: Sequence[Any], _lookup: Lookup) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for place, value in found(document, path):
                if str(value) not in allowed:
                    yield i, "not_allowed", path, f"{place} is {_value(value)}, allowed are {', '.join(allowed)}"

    return (path,), broken


def _known(rule: KnownRule) -> tuple[tuple[str, ...], Breaks]:
    path, name, issuer = rule.field, rule.document, rule.issuer

    def broken(documents: Sequence[Any], lookup: Lookup) -> Iterator[Break]:
        asked = [
            [(entry, numbered_key(issuer, str(entry.value))) for entry in found(document, path)]
            for document in documents
        ]
        known = lookup.known(name, {key for entries in asked for _, key in entries})
        for i, entries in enumerate(asked):
            for entry, key in entries:
                if key not in known:
                    yield (
                        i,
                        f"unknown_{name.lower()}",
                        path,
                        f"{entry.place} is {_value(entry.value)}, no {name} {key} is known",
                        ((name, key),),
                    )

    return (path,), broken


def _sum(rule: SumRule) -> tuple[tuple[str, ...], Breaks]:
    of, total, tolerance = rule.of, rule.equals, rule.tolerance

    def broken(documents: Sequence[Any], _lookup: Lookup) -> Iterator[Break]:
        with localcontext(Context(prec=3 * MAX_DIGITS)):
            for i, document in enumerate(documents):
                expected = found(document, total)
                if not expected:
                    continue
                added = sum((entry.value for entry in found(document, of)), Decimal(0))
                if abs(added - expected[0].value) > tolerance:
                    said = f"{total} is {_value(expected[0].value)}"
                    yield i, "sum", total, f"{of} add up to {plain(added)}, {said}, the tolerance is {tolerance}"

    return (of, total), broken


_SEVERITIES: dict[str, Severity] = {"known": "hold", "sum": "warn"}

_COMPILERS: dict[str, Callable[[Any], tuple[tuple[str, ...], Breaks]]] = {
    "required": _required,
    "range": _range,
    "pattern": _pattern,
    "one_of": _one_of,
    "known": _known,
    "sum": _sum,
}
