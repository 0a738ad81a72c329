"""GS1 numbers with a check digit (GS1 General Specifications, section 7.9), where a mapping declares them as such.

A GTIN of 8, 12, 13 or 14 digits is the same article: all are written with 14. One whose leading zeros a spreadsheet
took is read with them, and with a warning, as the check digit proves them. A wrong check digit is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

from crossdock.errors import Rejected
from crossdock_controller.mappings.converters import Convert, Warned, as_text, converter, shown
from crossdock_controller.mappings.model import FieldSpec

_GTIN = (8, 12, 13, 14)
_SEPARATORS = str.maketrans("", "", " -")


@converter("gtin", returns=str)
def _gtin(_spec: FieldSpec, _zone: ZoneInfo | None) -> Convert:
    return gtin


def gtin(value: object) -> object:
    """*value* with 14 digits. Raises Rejected."""
    digits = _digits(value, "GTIN")
    if not 5 <= len(digits) <= 14:
        raise Rejected("bad_gtin", f"{shown(value)} has {len(digits)} digits, a GTIN has 8, 12, 13 or 14")
    padded = digits.zfill(14)
    _checked(value, padded, "GTIN")
    if len(digits) in _GTIN:
        return padded
    return Warned(padded, f"{shown(value)} is read with the leading zeros of a GTIN that it has lost")


def other_than_gtin(clean: Callable[[object], str] | None) -> Convert:
    """The text as it stood, where the GTIN that it holds is written otherwise; blank for one that is none."""

    def convert(value: object) -> object:
        try:
            made = gtin(value if clean is None else clean(value))
            text = as_text(value)
        except Rejected:
            return ""  # refused as the GTIN
        return "" if text == made else text

    return convert


@converter("sscc", returns=str)
def _sscc(_spec: FieldSpec, _zone: ZoneInfo | None) -> Convert:
    def convert(value: object) -> object:
        digits = _digits(value, "SSCC")
        if len(digits) == 20 and digits.startswith("00"):  # with its application identifier, as a label has it
            digits = digits[2:]
        return _of_length(value, digits, "SSCC", 18)

    return convert


@converter("gln", returns=str)
def _gln(_spec: FieldSpec, _zone: ZoneInfo | None) -> Convert:
    return lambda value: _of_length(value, _digits(value, "GLN"), "GLN", 13)


def _of_length(value: object, digits: str, word: str, length: int) -> str:
    if len(digits) != length:
        raise Rejected(f"bad_{word.lower()}", f"{shown(value)} has {len(digits)} digits, an {word} has {length}")
    _checked(value, digits, word)
    return digits


def _digits(value: object, word: str) -> str:
    if isinstance(value, float) and value.is_integer() and 0 <= value < 2**53:
        value = int(value)  # as a spreadsheet keeps it
    text = as_text(value).translate(_SEPARATORS)
    if not (text.isascii() and text.isdigit()):
        raise Rejected(f"bad_{word.lower()}", f"{shown(value)} is not a {word}: it is not all digits")
    return text


def check_digit(digits: str) -> str:
    """Of a number without it: weights 3 and 1 in turns, from the right."""
    total = sum(int(digit) * (3 if i % 2 == 0 else 1) for i, digit in enumerate(reversed(digits)))
    return str(-total % 10)


def _checked(value: object, digits: str, word: str) -> None:
    right = check_digit(digits[:-1])
    if digits[-1] != right or not digits.strip("0"):
        raise Rejected("bad_check_digit", f"{shown(value)} is not a {word}: its check digit would be {right}")
