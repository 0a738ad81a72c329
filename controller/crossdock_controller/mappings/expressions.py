"""Tiny decimal expressions over columns: `QTY * PRICE / 100`, `-([NET AMOUNT] + TAX)`.

+ - * / and parentheses over columns and numbers, and nothing else; length and depth are limited, so that no text of a
configuration costs more than it says. A column whose name is no word stands in square brackets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, DecimalException, DivisionByZero, InvalidOperation, Overflow
from typing import NamedTuple

from crossdock.errors import ConfigError
from crossdock_controller.mappings.converters import MAX_DIGITS, shown

MAX_CHARACTERS = 500
MAX_DEPTH = 20
_HINT = "numbers, columns, + - * / and parentheses; a column such as NET AMOUNT stands in brackets: [NET AMOUNT]"

# A product of 500 characters of columns with 38 digits each needs no more; what is over is refused as a result.
_EXACT = Context(prec=4 * MAX_DIGITS, Emax=9999, Emin=-9999, traps=[InvalidOperation, DivisionByZero, Overflow])
_DECIMALS = 18  # of a quotient that does not end
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[0-9]+(?:\.[0-9]+)?)|(?P<name>[\^$]?[^\W\d][\w.$#]*)|\[(?P<quoted>[^\[\]]+)\]|(?P<sign>[-+*/()]))"
)

Values = Mapping[str, Decimal]
Node = Callable[[Values], Decimal]


class Expression(NamedTuple):
    columns: tuple[str, ...]
    node: Node

    def of(self, values: Values) -> Decimal:
        """Exact, but for a quotient that does not end: 18 decimals. Raises DecimalException."""
        result = self.node(values)
        exponent = result.as_tuple().exponent
        if isinstance(exponent, int) and exponent < -_DECIMALS:
            result = result.quantize(Decimal(1).scaleb(-_DECIMALS), context=_EXACT).normalize(_EXACT)
        return result


def parse(text: str) -> Expression:
    """Raises ConfigError with the place of what is wrong."""
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"an expression of {len(text)} characters; the limit is {MAX_CHARACTERS}", hint="split it")
    parser = _Parser(text)
    node = parser.sum(0)
    parser.end()
    return Expression(tuple(dict.fromkeys(parser.columns)), node)


def reason_of(error: DecimalException) -> str:
    return "a division by zero" if isinstance(error, DivisionByZero) else "a result that is no number, or beyond reason"


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.columns: list[str] = []

    def sum(self, depth: int) -> Node:
        return self._chain(depth, "+-", self._product)

    def _product(self, depth: int) -> Node:
        return self._chain(depth, "*/", self._factor)

    def _chain(self, depth: int, signs: str, operand: Callable[[int], Node]) -> Node:
        first = operand(depth)
        rest: list[tuple[Callable[[Decimal, Decimal], Decimal], Node]] = []
        while (sign := self._sign()) is not None and sign in signs:
            self._take()
            rest.append((_OPERATIONS[sign], operand(depth)))
        if not rest:
            return first

        def node(values: Values) -> Decimal:
            result = first(values)
            for operation, other in rest:
                result = operation(result, other(values))
            return result

        return node

    def _factor(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise ConfigError(f"an expression deeper than {MAX_DEPTH} levels", hint="split it")
        token = self._take()
        if token is None:
            raise self._wrong("ends where a number or a column is missing")
        if token["number"] is not None:
            number = Decimal(token["number"])
            return lambda _values: number
        name = token["name"] or token["quoted"]
        if name is not None:
            column: str = name.strip()
            self.columns.append(column)
            return lambda values: values[column]
        if token["sign"] == "-":
            inner = self._factor(depth + 1)
            return lambda values: _EXACT.minus(inner(values))
        if token["sign"] != "(":
            raise self._wrong(f"has {token['sign']!r} where a number or a column should be")
        whole = self.sum(depth + 1)
        if self._sign() != ")":
            raise self._wrong("has a parenthesis that is not closed")
        self._take()
        return whole

    def end(self) -> None:
        if self._text[self._at :].strip():
            raise self._wrong("goes on where it should end")

    def _peek(self) -> re.Match[str] | None:
        return _TOKEN.match(self._text, self._at)

    def _sign(self) -> str | None:
        match = self._peek()
        return match["sign"] if match is not None else None

    def _take(self) -> re.Match[str] | None:
        match = self._peek()
        if match is not None:
            self._at = match.end()
        return match

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"{shown(self._text)} {what}, at character {min(self._at + 1, len(self._text))}", hint=_HINT)


_OPERATIONS: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    "+": _EXACT.add,
    "-": _EXACT.subtract,
    "*": _EXACT.multiply,
    "/": _EXACT.divide,
}
