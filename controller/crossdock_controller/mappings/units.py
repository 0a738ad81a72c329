"""Quantities in another unit, exactly: factors of UN/ECE Recommendation 20 codes, or a mapping's own.

The avoirdupois pound, the inch and what is made of them are exact by the international agreement of 1959, gallons by
law (231 cubic inches; 4.54609 litres). A quotient that does not end is rounded to 12 decimals.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

from crossdock.errors import ConfigError, Rejected
from crossdock_controller.mappings.codes import Coding
from crossdock_controller.mappings.converters import MAX_DIGITS, plain, shown
from crossdock_controller.mappings.model import UnitsSpec

_WIDE = Context(prec=3 * MAX_DIGITS)
_DECIMALS = Decimal(1).scaleb(-12)

_FAMILIES: dict[str, dict[str, str]] = {
    "mass": {"KGM": "1", "GRM": "0.001", "MGM": "0.000001", "TNE": "1000", "DTN": "100", "LBR": "0.45359237",
             "ONZ": "0.028349523125", "STN": "907.18474", "LTN": "1016.0469088", "CWA": "45.359237"},
    "length": {"MTR": "1", "MMT": "0.001", "CMT": "0.01", "DMT": "0.1", "KMT": "1000", "INH": "0.0254",
               "FOT": "0.3048", "YRD": "0.9144", "SMI": "1609.344"},
    "area": {"MTK": "1", "CMK": "0.0001", "MMK": "0.000001", "HAR": "10000", "INK": "0.00064516",
             "FTK": "0.09290304", "YDK": "0.83612736"},
    "volume": {"LTR": "1", "MLT": "0.001", "CLT": "0.01", "DLT": "0.1", "HLT": "100", "MTQ": "1000", "DMQ": "1",
               "CMQ": "0.001", "INQ": "0.016387064", "FTQ": "28.316846592", "GLL": "3.785411784", "GLI": "4.54609",
               "OZA": "0.0295735295625", "QTL": "0.946352946", "PTL": "0.473176473"},
    "count": {"H87": "1", "C62": "1", "EA": "1", "PR": "2", "DZN": "12", "GRO": "144", "CEN": "100", "MIL": "1000"},
}  # fmt: skip
_BASE = {unit: (family, Decimal(size)) for family, sizes in _FAMILIES.items() for unit, size in sizes.items()}

Convert = Callable[[Decimal, str], Decimal]


def conversion(spec: UnitsSpec, coding: Coding) -> Convert:
    """From (value, unit) to the value in `spec.to`. It raises Rejected. Raises ConfigError for a factor or unit that
    cannot be."""
    given = spec.factors
    if given is None:
        if spec.to not in _BASE:
            known = ", ".join(sorted(_BASE))
            raise ConfigError(
                f"{spec.to!r} is no unit that has factors of its own", hint=f"give factors; known: {known}"
            )
        find: Callable[[str], Decimal | None] = lambda unit: _built_in(unit, spec.to)  # noqa: E731 - one of three
    elif isinstance(given, str):
        find = lambda unit: _of_list(coding, given, unit)  # noqa: E731 - as above
    else:
        factors = {unit: _factor(text, unit) for unit, text in given.items()}
        find = factors.get

    def convert(value: Decimal, unit: str) -> Decimal:
        if unit == spec.to:
            return value
        factor = find(unit)
        if factor is None:
            hint = "add it to 'factors' of 'convert'"
            raise Rejected("no_conversion", f"there is no factor from {shown(unit)} to {spec.to}", hint=hint)
        return _rounded(_WIDE.multiply(value, factor), value, spec.digits)

    return convert


def _built_in(unit: str, to: str) -> Decimal | None:
    """How many of *to* one *unit* is."""
    family, size = _BASE.get(unit, ("", Decimal(0)))
    of, base = _BASE[to]
    return _WIDE.divide(size, base) if family == of else None


def _of_list(coding: Coding, name: str, unit: str) -> Decimal | None:
    text = coding.meaning(name, unit)
    try:
        return None if text is None else _factor(text, unit)
    except ConfigError as error:
        raise Rejected("no_conversion", error.message, hint=error.hint) from error


def _factor(text: str, unit: str) -> Decimal:
    try:
        factor = Decimal(text)
    except InvalidOperation:
        factor = Decimal(0)
    if not factor.is_finite() or factor <= 0 or abs(factor.adjusted()) > MAX_DIGITS // 2:
        raise ConfigError(
            f"the factor of {unit} is {shown(text)}, which is no number over 0", hint="write it like 12.5"
        )
    return factor


def _rounded(number: Decimal, value: Decimal, digits: int | None) -> Decimal:
    step = _DECIMALS if digits is None else Decimal(1).scaleb(-digits)
    if int(number.as_tuple().exponent) < int(step.as_tuple().exponent):
        number = number.quantize(step, rounding=ROUND_HALF_EVEN, context=_WIDE)
        if digits is None and number:
            number = number.normalize(_WIDE)  # 12 decimals say nothing where fewer do
    if int(number.as_tuple().exponent) > 0:
        number = number.quantize(Decimal(1), context=_WIDE)
    if len(number.as_tuple().digits) > MAX_DIGITS:
        raise Rejected("bad_decimal", f"{plain(value)} has more than {MAX_DIGITS} digits in another unit")
    return number or Decimal(0)
