"""Packed, zoned and binary numbers against what COBOL would have written; everything else is refused (LEGACY 20)."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock_controller.formats.cobol import reader


def packed(number: int, size: int, plus: str = "c") -> bytes:
    return bytes.fromhex(f"{abs(number)}{'d' if number < 0 else plus}".rjust(2 * size, "0"))


def zoned(number: int, size: int, encoding: str) -> bytes:
    digits = str(abs(number)).rjust(size, "0")
    if encoding == "cp037":
        raw = bytearray(0xF0 | int(d) for d in digits)
        raw[-1] = (0xD0 if number < 0 else 0xC0) | int(digits[-1])
        return bytes(raw)
    return (digits[:-1] + ("}JKLMNOPQR" if number < 0 else "{ABCDEFGHI")[int(digits[-1])]).encode(encoding)


@given(st.integers(-(10**9) + 1, 10**9 - 1), st.integers(0, 4))
def test_every_number_comes_back(number: int, decimals: int) -> None:
    value = Decimal(number).scaleb(-decimals)
    assert Decimal(reader("packed", "cp037", decimals, signed=True)(packed(number, 5))) == value
    for encoding in ("cp037", "ascii"):
        assert Decimal(reader("zoned", encoding, decimals, signed=True)(zoned(number, 9, encoding))) == value
    four = number.to_bytes(4, "big", signed=True)
    assert Decimal(reader("binary", "cp037", decimals, signed=True)(four)) == value
    assert Decimal(reader("binary", "cp037", 0, signed=False)(four)) == number % 2**32


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("123-", "-1.23"),
        ("  123-", "-1.23"),
        ("-00123", "-1.23"),
        ("+123", "1.23"),
        ("12L", "-1.23"),
        ("12C", "1.23"),
        ("12s", "-1.23"),
        ("00}", "0.00"),
        ("1", "0.01"),
        ("00123", "1.23"),
        ("     ", ""),
    ],
)
def test_signs_may_stand_before_behind_or_in_the_last_digit(text: str, number: str) -> None:
    assert reader("zoned", "cp1252", 2, signed=True)(text.encode("cp1252")) == number
    if text.islower() or text[-1] == "s":
        return  # Micro Focus, ASCII only
    for encoding in ("cp037", "cp273", "cp500", "cp1140"):
        raw = zoned(-123, 3, "cp037") if text == "12L" else zoned(123, 3, "cp037") if text == "12C" else None
        raw = raw or (b"\xf0\xf0\xd0" if text == "00}" else text.encode(encoding))
        assert reader("zoned", encoding, 2, signed=True)(raw) == number


@pytest.mark.parametrize("raw", ["00", "1234", "12a4", "a23c", "0000", "4040", "ffff", "12", "f1f2"])
def test_a_wrong_nibble_is_never_read_as_some_digit(raw: str) -> None:
    with pytest.raises(ValueError, match="not a packed decimal"):
        reader("packed", "cp037", 0, signed=True)(bytes.fromhex(raw))


@pytest.mark.parametrize("text", ["1-2", "--1", "1.2", "1,2", "A12", "1 2", "abc", "12~", "-", "{{", "12-L", "٣"])
def test_what_is_no_zoned_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a zoned decimal"):
        reader("zoned", "utf-8", 0, signed=True)(text.encode())


@given(st.binary(min_size=1, max_size=8), st.sampled_from(["packed", "zoned", "binary"]))
def test_any_bytes_are_a_number_or_refused(raw: bytes, kind: str) -> None:
    for encoding in ("cp037", "cp273", "latin-1"):
        try:
            text = reader(kind, encoding, 2, signed=True)(raw)
        except ValueError:
            continue
        assert text == "" or Decimal(text).is_finite()
