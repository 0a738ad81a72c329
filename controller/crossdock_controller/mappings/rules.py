"""Rules over whole documents. Each broken one says which value and which limit; it rejects the document (dead letter),
holds it for a person, or warns.

A rule sees all documents of a run at once, so that "is this SKU known" is one question to the store, not one a line.
Blank fields break only `required`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from crossdock_controller.documents.base import numbered_key
from crossdock_controller.mappings import rule_fields, rule_history, rule_sums
from crossdock_controller.mappings.model import KnownRule, OneOfRule, PatternRule, RangeRule, Rule, Severity
from crossdock_controller.mappings.rule_values import (
    Break,
    Breaks,
    Compiled,
    History,
    KnownKeys,
    Lookup,
    found,
    said,
    walk,
)

__all__ = ["Broken", "Check", "History", "KnownKeys", "Lookup", "compile_rule", "default_severity"]


class Broken(NamedTuple):
    document: int  # its index
    code: str
    field: str
    reason: str
    severity: Severity
    waits: tuple[tuple[str, str], ...] = ()  # masters whose arrival would settle it


@dataclass(frozen=True, slots=True)
class Check:
    """One rule, ready to run. *fields* are the document fields it reads, for the load-time check."""

    fields: tuple[str, ...]
    broken: Breaks
    severity: Severity
    reason: str | None
    numbers: tuple[str, ...] = ()  # those that are to be numbers, and ...
    dates: tuple[str, ...] = ()  # ... dates or times
    of_lines: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()  # fields of the other document that it reads
    their_numbers: tuple[str, ...] = ()

    def run(self, documents: Sequence[Any], known_keys: KnownKeys) -> list[Broken]:
        broken = self.broken(documents, known_keys)
        severity, instead = self.severity, self.reason
        return [
            Broken(i, code, field, instead or reason, severity, *waits) for i, code, field, reason, *waits in broken
        ]


def compile_rule(rule: Rule) -> Check:
    """Raises re.error for a bad pattern."""
    fields, broken = _COMPILERS[rule.kind](getattr(rule, rule.kind))
    check = Check(fields, broken, rule.severity or default_severity(rule.kind), rule.reason)
    if rule.kind in _OF_NUMBERS:
        return replace(check, numbers=fields)
    if rule.kind in _OF_DATES:
        return replace(check, dates=fields)
    if rule.within is not None:
        theirs, of = (rule.within.by, rule.within.limit), rule.within.of
        return replace(
            check, numbers=(of,), of_lines=(rule.within.by, of), theirs=theirs, their_numbers=(rule.within.limit,)
        )
    if rule.agrees is not None:
        both = (rule.agrees.by, rule.agrees.field)
        return replace(check, of_lines=both, theirs=both)
    return check


def default_severity(kind: str) -> Severity:
    """What reality bears, unless the rule says otherwise (docs/guide/rules-and-codes.md)."""
    return _SEVERITIES.get(kind, "reject")


def _required(paths: tuple[str, ...]) -> Compiled:
    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for path in paths:
                for place, value in walk(document, path):
                    if value in ("", None, ()):
                        yield i, "required", path, f"{place} is missing"

    return paths, broken


def _range(rule: RangeRule) -> Compiled:
    path, least, most = rule.field, rule.min, rule.max

    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for place, value in found(document, path):
                if least is not None and value < least:
                    yield i, "below_range", path, f"{place} is {said(value)}, the least allowed is {least}"
                elif most is not None and value > most:
                    yield i, "above_range", path, f"{place} is {said(value)}, the most allowed is {most}"

    return (path,), broken


def _pattern(rule: PatternRule) -> Compiled:
    path, pattern = rule.field, re.compile(rule.matches)

    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for place, value in found(document, path):
                if pattern.fullmatch(str(value)) is None:
                    yield i, "pattern", path, f"{place} is {said(value)}, which does not match {pattern.pattern}"

    return (path,), broken


def _one_of(rule: OneOfRule) -> Compiled:
    path, allowed = rule.field, rule.values

    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for place, value in found(document, path):
                if str(value) not in allowed:
                    yield i, "not_allowed", path, f"{place} is {said(value)}, allowed are {', '.join(allowed)}"

    return (path,), broken


def _known(rule: KnownRule) -> Compiled:
    path, name, issuer = rule.field, rule.document, rule.issuer

    def broken(documents: Sequence[Any], known_keys: KnownKeys) -> Iterator[Break]:
        asked = [
            [(entry, numbered_key(issuer, str(entry.value))) for entry in found(document, path)]
            for document in documents
        ]
        known = known_keys.known(name, {key for entries in asked for _, key in entries})
        for i, entries in enumerate(asked):
            for entry, key in entries:
                if key not in known:
                    yield (
                        i,
                        f"unknown_{name.lower()}",
                        path,
                        f"{entry.place} is {said(entry.value)}, no {name} {key} is known",
                        ((name, key),),
                    )

    return (path,), broken


_OF_NUMBERS = frozenset({"range", "sum", "not_negative", "balanced", "shrink", "line_total"})
_OF_DATES = frozenset({"plausible", "in_order"})
_SEVERITIES: dict[str, Severity] = {
    "known": "hold", "check_digit": "hold", "currency": "hold", "unit": "hold", "plausible": "hold",
    "within": "hold", "unchanged": "hold", "shrink": "hold",
    "sum": "warn", "line_total": "warn", "minor_units": "warn", "whole": "warn", "not_negative": "warn",
    "in_order": "warn", "agrees": "warn", "forward": "warn",
}  # fmt: skip

_COMPILERS: dict[str, Callable[[Any], Compiled]] = {
    "required": _required,
    "range": _range,
    "pattern": _pattern,
    "one_of": _one_of,
    "known": _known,
    "sum": rule_sums.total,
    "check_digit": rule_fields.check_digits,
    "currency": rule_fields.currency,
    "unit": rule_fields.unit,
    "minor_units": rule_fields.minor_units,
    "whole": rule_fields.whole,
    "not_negative": rule_fields.not_negative,
    "plausible": rule_fields.plausible,
    "in_order": rule_sums.in_order,
    "line_total": rule_sums.line_total,
    "balanced": rule_sums.balanced,
    "within": rule_history.within,
    "agrees": rule_history.agrees,
    "unchanged": rule_history.unchanged,
    "forward": rule_history.forward,
    "shrink": rule_history.shrink,
}
