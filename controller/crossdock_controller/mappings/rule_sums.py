"""Rules over several fields of one document: sums, totals of lines, journals that balance, dates in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Context, Decimal, localcontext
from typing import Any

from crossdock_controller.mappings.converters import MAX_DIGITS, plain
from crossdock_controller.mappings.model import SumRule
from crossdock_controller.mappings.rule_fields import decimals_of
from crossdock_controller.mappings.rule_models import BalancedRule, InOrderRule, LineTotalRule
from crossdock_controller.mappings.rule_values import Break, Compiled, KnownKeys, found, reach, said, scalar

WIDE = Context(prec=3 * MAX_DIGITS)


def total(rule: SumRule) -> Compiled:
    of, equals, tolerance = rule.of, rule.equals, rule.tolerance

    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        with localcontext(WIDE):
            for i, document in enumerate(documents):
                expected = found(document, equals)
                if not expected:
                    continue
                added = sum((entry.value for entry in found(document, of)), Decimal(0))
                if abs(added - expected[0].value) > tolerance:
                    told = f"{equals} is {said(expected[0].value)}"
                    yield i, "sum", equals, f"{of} add up to {plain(added)}, {told}, the tolerance is {tolerance}"

    return (of, equals), broken


def line_total(rule: LineTotalRule) -> Compiled:
    """Prices are rounded to a minor unit, so a line may be off by half of one for each piece. Of 54 lines in public
    UBL samples 8 fail plain quantity x price: it warns unless told otherwise."""
    paths = (rule.quantity, rule.price, rule.price_quantity, rule.amount)

    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        with localcontext(WIDE):
            for i, document in enumerate(documents):
                for number, line in enumerate(document.lines, start=1):
                    told = _off(line, *paths)
                    if told:
                        yield i, "line_total", f"lines.{rule.amount}", f"{rule.amount} of line {number} {told}"

    return tuple(f"lines.{path}" for path in paths), broken


def _off(line: Any, quantity: str, price: str, price_quantity: str, amount: str) -> str:
    pieces, money, stated = scalar(reach(line, quantity)), reach(line, price), reach(line, amount)
    if pieces is None or money is None or stated is None:
        return ""
    per = scalar(reach(line, price_quantity))
    made = WIDE.divide(pieces * scalar(money), per) if per else pieces * scalar(money)
    half = Decimal(1).scaleb(-decimals_of(getattr(stated, "currency", ""))) / 2
    if abs(made - scalar(stated)) <= half * max(abs(pieces), Decimal(1)):
        return ""
    per_text = f" for {plain(per)}" if per and per != 1 else ""
    made = made.quantize(half) if made != made.to_integral_value() else made
    return f"is {said(scalar(stated))}, but {plain(pieces)} at {plain(scalar(money))}{per_text} are {plain(made)}"


def balanced(rule: BalancedRule) -> Compiled:
    paths = (rule.debit, rule.credit) if rule.credit else (rule.debit,)

    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        with localcontext(WIDE):
            for i, document in enumerate(documents):
                sums = [sum((entry.value for entry in found(document, path)), Decimal(0)) for path in paths]
                if rule.credit and sums[0] != sums[1]:
                    told = f"{rule.debit} add up to {plain(sums[0])}, {rule.credit} to {plain(sums[1])}"
                    yield i, "unbalanced", rule.debit, told
                elif not rule.credit and sums[0]:
                    yield i, "unbalanced", rule.debit, f"{rule.debit} add up to {plain(sums[0])}, not to 0"

    return paths, broken


def in_order(rule: InOrderRule) -> Compiled:
    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        for i, document in enumerate(documents):
            earlier, later = found(document, rule.earlier), found(document, rule.later)
            if earlier and later and _after(earlier[0].value, later[0].value):
                told = f"{later[0].place} is {later[0].value}, before {rule.earlier}, {earlier[0].value}"
                yield i, "out_of_order", rule.later, told

    return (rule.earlier, rule.later), broken


def _after(first: Any, second: Any) -> bool:
    """By the day, where one of them has no time."""
    if isinstance(first, datetime) != isinstance(second, datetime):
        first, second = _day(first), _day(second)
    return bool(first > second)


def _day(value: Any) -> Any:
    return value.date() if isinstance(value, datetime) else value
