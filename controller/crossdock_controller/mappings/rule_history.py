"""Rules that look at other documents: what an order wanted, what was shipped, what the version before said.

One question to the log for all documents of a run. What is not known there breaks nothing here: `known` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from typing import Any

from crossdock_controller.documents.base import numbered_key
from crossdock_controller.mappings.converters import plain
from crossdock_controller.mappings.rule_models import AgreesRule, ForwardRule, ShrinkRule, UnchangedRule, WithinRule
from crossdock_controller.mappings.rule_sums import WIDE
from crossdock_controller.mappings.rule_values import Break, Compiled, KnownKeys, found, reach, said, scalar, walk

_MISSING = Decimal(0)


def _rows(document: Any, key: str, by: str, of: str) -> Iterator[tuple[str, str, int, Any]]:
    """(key of the other document, what lines go by, number of the line, value) of each line that has all three."""
    head = "" if key.startswith("lines.") else scalar(reach(document, key))
    for number, line in enumerate(document.lines, start=1):
        named = scalar(reach(line, key[6:])) if key.startswith("lines.") else head
        which, value = scalar(reach(line, by[6:])), scalar(reach(line, of[6:]))
        if named not in ("", None) and which not in ("", None) and value is not None:
            yield str(named), str(which), number, value


def within(rule: WithinRule) -> Compiled:
    def broken(documents: Sequence[Any], known: KnownKeys) -> Iterator[Break]:
        asked = [list(_rows(document, rule.key, rule.by, rule.of)) for document in documents]
        keys = {numbered_key(rule.issuer, key) for rows in asked for key, *_ in rows}
        others = known.latest(rule.document, keys) if keys else {}
        if not others:
            return
        with localcontext(WIDE):
            limits = {key: _added(other, rule.by, rule.limit) for key, other in others.items()}
            for i, rows in enumerate(asked):
                wanted: dict[tuple[str, str], Decimal] = {}
                for key, which, _, value in rows:
                    wanted[key, which] = wanted.get((key, which), Decimal(0)) + value
                for (key, which), value in wanted.items():
                    limit = limits.get(numbered_key(rule.issuer, key))
                    if limit is None:
                        continue
                    most = limit.get(which, _MISSING)
                    if value > most * (1 + rule.tolerance_percent / 100):
                        told = f"{rule.of} of {which} is {plain(value)}, {rule.document} {key} has {plain(most)}"
                        yield i, f"over_{rule.document.lower()}", rule.of, told

    return (rule.key, rule.by, rule.of), broken


def _added(document: Any, by: str, of: str) -> dict[str, Decimal]:
    added: dict[str, Decimal] = {}
    for (_, which), (_, value) in zip(walk(document, by), walk(document, of), strict=True):
        if which not in ("", None) and value is not None:
            added[str(which)] = added.get(str(which), Decimal(0)) + value
    return added


def agrees(rule: AgreesRule) -> Compiled:
    def broken(documents: Sequence[Any], known: KnownKeys) -> Iterator[Break]:
        asked = [list(_rows(document, rule.key, rule.by, rule.field)) for document in documents]
        keys = {numbered_key(rule.issuer, key) for rows in asked for key, *_ in rows}
        others = known.latest(rule.document, keys) if keys else {}
        agreed: dict[str, dict[str, list[Any]]] = {}
        for key, other in others.items():
            for (_, which), (_, value) in zip(walk(other, rule.by), walk(other, rule.field), strict=True):
                if value not in ("", None):
                    agreed.setdefault(key, {}).setdefault(str(which), []).append(value)
        for i, rows in enumerate(asked):
            for key, which, number, value in rows:
                theirs = agreed.get(numbered_key(rule.issuer, key), {}).get(which)
                if theirs is not None and value not in theirs:
                    told = f"{rule.field[6:]} of line {number} is {said(value)}"
                    told += f", {rule.document} {key} has {said(theirs[0])}"
                    yield i, f"other_than_{rule.document.lower()}", rule.field, told

    return (rule.key, rule.by, rule.field), broken


def _before(documents: Sequence[Any], known: KnownKeys) -> Iterator[tuple[int, Any, Any]]:
    """(index, document, the version before it): in the log, or earlier in this run."""
    if not documents:
        return
    keys = [document.key() for document in documents]
    last = dict(known.latest(type(documents[0]).__name__, set(keys)))
    for i, (key, document) in enumerate(zip(keys, documents, strict=True)):
        if key in last:
            yield i, document, last[key]
        last[key] = document


def unchanged(rule: UnchangedRule) -> Compiled:
    left_out = frozenset(rule.except_for)

    def broken(documents: Sequence[Any], known: KnownKeys) -> Iterator[Break]:
        for i, document, before in _before(documents, known):
            if document == before:
                continue
            names = [name for name in document.__struct_fields__ if name not in left_out]
            other = [name for name in names if getattr(document, name) != getattr(before, name)]
            if other:
                told = f"{type(document).__name__} {document.key()} was sent before with other content"
                yield i, "changed", other[0], f"{told}: {', '.join(other)}"

    return rule.except_for, broken


def forward(rule: ForwardRule) -> Compiled:
    order = {state: n for n, state in enumerate(rule.states)}

    def broken(documents: Sequence[Any], known: KnownKeys) -> Iterator[Break]:
        for i, document, before in _before(documents, known):
            now, then = reach(document, rule.field), reach(before, rule.field)
            if now in order and then in order and order[now] < order[then]:
                yield i, "went_back", rule.field, f"{rule.field} is {said(now)}, and was {said(then)} before"

    return (rule.field,), broken


def shrink(rule: ShrinkRule) -> Compiled:
    """All documents of the run are held, not only those that shrank: it is the whole that is in doubt."""

    def broken(documents: Sequence[Any], known: KnownKeys) -> Iterator[Break]:
        now = then = Decimal(0)
        touched: dict[int, None] = {}
        with localcontext(WIDE):
            for i, document, before in _before(documents, known):
                values, old = found(document, rule.field), found(before, rule.field)
                now += sum((entry.value for entry in values), Decimal(0))
                then += sum((entry.value for entry in old), Decimal(0))
                touched[i] = None
            if len(touched) < rule.at_least or then <= 0 or now >= then * (1 - rule.percent / 100):
                return
            told = f"{rule.field} of {len(touched)} documents is {plain(now)} in all, and was {plain(then)} before"
        for i in touched:
            yield i, "shrunk", rule.field, told

    return (rule.field,), broken
