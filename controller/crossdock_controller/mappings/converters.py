"""Converters: one value of a record into one value of a document. They raise Rejected, and nothing else, for bad data.

A converter is made once per field, from its FieldSpec, and then called with values that are not blank: a trimmed str
from a text file; also int, float, Decimal, bool, bytes or list from a table or JSON. Whoever adds one writes

    @converter("name", returns=str, options=("format",))
    def make(spec: FieldSpec, zone: ZoneInfo | None) -> Convert: ...

Decimal text is never guessed at: "1.234" with `decimal: ","` and no `thousands` is refused, not read as 1234.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from crossdock.errors import ConfigError, Rejected
from crossdock_controller.mappings.model import FieldSpec

Convert = Callable[[object], object]
Make = Callable[[FieldSpec, ZoneInfo | None], Convert]

MAX_DIGITS = 38  # what NUMERIC holds in every database we deliver to
_EXACT = Context(prec=3 * MAX_DIGITS)


class Warned(NamedTuple):
    """A value that was taken, with a sentence about why a person should look. May be returned by any converter.

    The value None means: read as blank.
    """

    value: object
    text: str


@dataclass(frozen=True, slots=True)
class ConverterKind:
    name: str
    make: Make
    returns: type
    options: frozenset[str]


_KINDS: dict[str, ConverterKind] = {}


def converter(name: str, *, returns: type, options: tuple[str, ...] = ()) -> Callable[[Make], Make]:
    """Registers a factory under *name*; *options* are the FieldSpec fields it reads. It may raise ConfigError."""

    def register(make: Make) -> Make:
        _KINDS[name] = ConverterKind(name, make, returns, frozenset(options))
        return make

    return register


def converters() -> dict[str, ConverterKind]:
    """Every converter registered so far, by name."""
    import crossdock_controller.mappings.check_digits
    import crossdock_controller.mappings.dates
    import crossdock_controller.mappings.functions  # noqa: F401 - each registers its own

    return dict(_KINDS)


def shown(value: object) -> str:
    """*value* for a sentence, short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def as_text(value: object) -> str:
    """The text of a scalar. Raises Rejected for what has none (bytes, a list)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        try:
            return str(value)
        except ValueError as error:  # more than 4,300 digits
            raise Rejected("bad_text", "a number of thousands of digits is not a text") from error
    if isinstance(value, Decimal):
        return plain(value)
    raise Rejected("bad_text", f"{shown(value)} is not a text")


@converter("text", returns=str)
def _text(_spec: FieldSpec, _zone: ZoneInfo | None) -> Convert:
    return as_text


@converter("integer", returns=int, options=("thousands",))
def _integer(spec: FieldSpec, _zone: ZoneInfo | None) -> Convert:
    number = _number_pattern(None, spec.thousands)

    def convert(value: object) -> object:
        result: int
        if isinstance(value, int) and not isinstance(value, bool):
            result = value
        elif isinstance(value, float | Decimal) and _is_whole(value):
            result = int(value)
        else:
            match = number.fullmatch(as_text(value))
            if match is None or len(match["whole"]) > MAX_DIGITS or (match["sign"] and match["trailing"]):
                raise Rejected("bad_integer", f"{shown(value)} is not a whole number")
            result = int(_joined(match, spec.thousands))
        if not -(2**63) <= result < 2**63:
            raise Rejected("bad_integer", f"{shown(value)} does not fit 64 bits")
        return result

    return convert


def _is_whole(value: float | Decimal) -> bool:
    finite = value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)
    return finite and -(2**63) <= value < 2**63 and int(value) == value


@converter("decimal", returns=Decimal, options=("decimal", "thousands", "implied", "digits", "negative", "positive"))
def _decimal(spec: FieldSpec, _zone: ZoneInfo | None) -> Convert:
    plain_number = _unsigned(spec)
    return _signed(plain_number, spec) if spec.negative or spec.positive else plain_number


def _signed(convert: Convert, spec: FieldSpec) -> Convert:
    """Numbers whose sign is a word: `12,50 CR`, `DB 3.00`, `(7)`."""
    brackets = "parentheses" in spec.negative
    words = [(text.casefold(), True) for text in spec.negative if text != "parentheses"]
    words += [(text.casefold(), False) for text in spec.positive]
    words.sort(key=lambda entry: -len(entry[0]))
    if any(not text.strip() or any(c.isdigit() for c in text) for text, _ in words):
        raise ConfigError("'negative' and 'positive' are words beside a number, such as CR, or parentheses")

    def convert_signed(value: object) -> object:
        if not isinstance(value, str):
            return convert(value)
        text, minus = value.strip(), None
        if brackets and text.startswith("(") and text.endswith(")"):
            text, minus = text[1:-1].strip(), True
        else:
            folded = text.casefold()
            for word, negative in words if len(folded) == len(text) else ():
                if folded.endswith(word):
                    text, minus = text[: -len(word)].strip(), negative
                    break
                if folded.startswith(word):
                    text, minus = text[len(word) :].strip(), negative
                    break
        if minus is not None and any(c in "+-()" for c in text.replace("e-", "").replace("E-", "")):
            raise Rejected("bad_decimal", f"{shown(value)} has two signs")
        number: Any = convert(text)
        return (_EXACT.minus(number) or number) if minus else number

    return convert_signed


def _unsigned(spec: FieldSpec) -> Convert:
    point = spec.decimal or "."
    if len(point) != 1 or point.isalnum() or point == spec.thousands:
        raise ConfigError(
            f"decimal separator {point!r} and thousands separator {spec.thousands!r} cannot be told apart"
        )
    number = _number_pattern(point, spec.thousands)
    short = _short_reader(point, spec)
    named = "" if point == "." and not spec.thousands else f" with decimal {point!r} and thousands {spec.thousands!r}"

    def convert(value: object) -> object:
        if short is not None and type(value) is str and (quick := short(value)) is not None:
            return quick
        if isinstance(value, Decimal):
            result = value
        elif isinstance(value, int) and not isinstance(value, bool):
            result = Decimal(value)
        elif isinstance(value, float):
            result = Decimal(repr(value))
        else:
            match = number.fullmatch(as_text(value))
            if match is None or (match["sign"] and match["trailing"]):
                raise Rejected("bad_decimal", f"{shown(value)} is not a number{named}")
            result = Decimal(_joined(match, spec.thousands))
            if spec.implied and match["fraction"]:
                raise Rejected("bad_decimal", f"{shown(value)} has decimals, {spec.implied} were implied")
        return bounded(result, value, spec)

    return convert


def _short_reader(point: str, spec: FieldSpec) -> Callable[[str], Decimal | None] | None:
    """Reads the numbers that nearly all are: few digits, a minus in front if at all, nothing to shift or round."""
    if spec.implied or spec.digits is not None:
        return None
    thousands = spec.thousands
    whole = rf"[1-9][0-9]{{0,2}}(?:{re.escape(thousands)}[0-9]{{3}}){{1,4}}|" if thousands else ""
    match = re.compile(rf"(?:0|-?(?:{whole}[1-9][0-9]{{0,14}}))(?:{re.escape(point)}[0-9]{{1,6}})?").fullmatch

    def read(text: str) -> Decimal | None:
        if match(text) is None:
            return None
        if thousands:
            text = text.replace(thousands, "")
        return Decimal(text if point == "." else text.replace(point, "."))

    return read


def _number_pattern(point: str | None, thousands: str | None) -> re.Pattern[str]:
    """Sign before or after (`123-`); groups of exactly three where a thousands separator is used at all."""
    whole = r"[0-9]*"
    if thousands:
        whole = rf"(?:[0-9]{{1,3}}(?:{re.escape(thousands)}[0-9]{{3}})+|[0-9]*)"
    fraction = rf"(?:{re.escape(point)}(?P<fraction>[0-9]*))?(?:[eE](?P<power>[+-]?[0-9]{{1,3}}))?" if point else ""
    some_digit = r"(?=[^0-9eE]*[0-9])"
    return re.compile(rf"{some_digit}(?P<sign>[+-]?) *(?P<whole>{whole}){fraction} *(?P<trailing>[+-]?)")


def _joined(match: re.Match[str], thousands: str | None) -> str:
    """The number as Python writes it."""
    parts = match.groupdict()
    whole = parts["whole"].replace(thousands, "") if thousands else parts["whole"]
    sign = "-" if "-" in (parts["sign"], parts["trailing"]) else ""
    text = f"{sign}{whole or '0'}"
    if parts.get("fraction"):
        text += f".{parts['fraction']}"
    return f"{text}e{parts['power']}" if parts.get("power") else text


def bounded(number: Decimal, value: object, spec: FieldSpec) -> Decimal:
    """*number* shifted, rounded, without positive exponent or negative zero. Raises Rejected beyond MAX_DIGITS.

    Only a number under a millionth keeps the exponent (`1E-8`) that Python and JSON readers write and read it with.
    """
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):  # NaN, Infinity
        raise Rejected("bad_decimal", f"{shown(value)} is not a number")
    if number.adjusted() >= MAX_DIGITS or exponent < -MAX_DIGITS or len(number.as_tuple().digits) > MAX_DIGITS:
        raise Rejected("bad_decimal", f"{shown(value)} has more than {MAX_DIGITS} digits")
    if spec.implied:
        number = number.scaleb(-spec.implied, _EXACT)
    if spec.digits is not None and -int(number.as_tuple().exponent) > spec.digits:
        number = number.quantize(Decimal(1).scaleb(-spec.digits), rounding=ROUND_HALF_EVEN, context=_EXACT)
    if int(number.as_tuple().exponent) > 0:
        number = number.quantize(Decimal(1), context=_EXACT)
    return number or _plain_zero(number)


def _plain_zero(zero: Decimal) -> Decimal:
    """Without a sign, and without so many decimals that Python would write 0E-7."""
    return Decimal(0).scaleb(max(int(zero.as_tuple().exponent), -6))


def plain(number: Decimal) -> str:
    """Without an exponent; a number beyond reason keeps it, so that one line of JSON cannot fill the memory."""
    return format(number, "f") if number.is_finite() and abs(number.adjusted()) < 2 * MAX_DIGITS else str(number)


_TRUE = ("1", "true", "t", "yes", "y", "j", "ja", "x")
_FALSE = ("0", "false", "f", "no", "n", "nein")


@converter("boolean", returns=bool, options=("truthy", "falsy"))
def _boolean(spec: FieldSpec, _zone: ZoneInfo | None) -> Convert:
    values = dict.fromkeys((text.casefold() for text in spec.truthy or _TRUE), True)
    values |= dict.fromkeys((text.casefold() for text in spec.falsy or _FALSE), False)

    def convert(value: object) -> object:
        found = values.get(as_text(value).casefold())
        if found is None:
            raise Rejected("bad_boolean", f"{shown(value)} is neither of {', '.join(values)}")
        return found

    return convert
