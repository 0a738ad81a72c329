"""Numbers as COBOL writes them into records: packed (COMP-3), zoned (DISPLAY, with the sign in a digit), binary (COMP).

A reader turns the bytes of one field into the text of a number, and raises ValueError for bytes that are none: a wrong
nibble is never read as some other digit. Sources: IBM Enterprise COBOL Language Reference, USAGE and SIGN clauses; for
ASCII overpunch the tables that Micro Focus and mainframe file transfers use.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable

Reader = Callable[[bytes], str]

_NEGATIVE_PACKED = "bd"
_OVERPUNCH = {
    **{c: f"+{i}" for i, c in enumerate("{ABCDEFGHI")},
    **{c: f"-{i}" for i, c in enumerate("}JKLMNOPQR")},
    **{c: f"-{i}" for i, c in enumerate("pqrstuvwxy")},  # Micro Focus, sign in the zone of ASCII
}


def reader(kind: str, encoding: str, decimals: int, *, signed: bool) -> Reader:
    """The reader of fields of *kind* (packed, zoned, binary)."""
    if kind == "packed":
        return lambda raw: _packed(raw, decimals)
    if kind == "binary":
        return lambda raw: _number(int.from_bytes(raw, "big", signed=signed), decimals)
    if "0".encode(encoding) == b"\xf0":
        return lambda raw: _zoned_ebcdic(raw, encoding, decimals)
    return lambda raw: _zoned_text(raw.decode(encoding), decimals)


def is_ebcdic(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding) is not None and "0".encode(encoding) == b"\xf0"
    except (LookupError, UnicodeError):
        return False


def _packed(raw: bytes, decimals: int) -> str:
    nibbles = raw.hex()
    digits, sign = nibbles[:-1], nibbles[-1:]
    if sign < "a" or (digits and not digits.isdecimal()):
        raise ValueError(f"0x{nibbles} is not a packed decimal")
    return _digits(digits or "0", negative=sign in _NEGATIVE_PACKED, decimals=decimals)


def _zoned_ebcdic(raw: bytes, encoding: str, decimals: int) -> str:
    """The zone of the last digit is its sign: C, F, A and E plus, D and B minus. A sign may also stand apart."""
    last = raw[-1]
    zone, digit = last >> 4, last & 0x0F
    front = raw[:-1].decode(encoding).strip()
    if zone >= 0xA and zone != 0xF and digit <= 9 and (not front or front.isdecimal()):
        return _digits(f"{front}{digit}", negative=zone in (0xB, 0xD), decimals=decimals)
    return _zoned_text(raw.decode(encoding), decimals)


def _zoned_text(text: str, decimals: int) -> str:
    """Digits, the last with an overpunched sign; or a sign before or after them. Blank is no number."""
    bare = text.strip(" \x00")
    if not bare:
        return ""
    sign = ""
    if bare[-1] in _OVERPUNCH:
        sign, bare = _OVERPUNCH[bare[-1]][0], bare[:-1] + _OVERPUNCH[bare[-1]][1]
    elif bare[-1] in "+-":
        sign, bare = bare[-1], bare[:-1].rstrip()
    elif bare[0] in "+-":
        sign, bare = bare[0], bare[1:].lstrip()
    if not (bare.isascii() and bare.isdigit()):
        raise ValueError(f"{text!r} is not a zoned decimal")
    return _digits(bare, negative=sign == "-", decimals=decimals)


def _number(value: int, decimals: int) -> str:
    return _digits(str(abs(value)), negative=value < 0, decimals=decimals)


def _digits(digits: str, *, negative: bool, decimals: int) -> str:
    """The text of a number: without leading zeros, without a negative zero."""
    digits = digits.lstrip("0").rjust(decimals + 1, "0")
    sign = "-" if negative and digits.strip("0") else ""
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}" if decimals else sign + digits
