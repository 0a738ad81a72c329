"""What the texts of one column are: whole numbers, decimals with point or comma, dates in which format, or just text.

A number with leading zeros is text: 000123 is a part number, and 123 is another one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

ENOUGH = 0.95  # of the values that are filled must fit
_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d{0,17})-?")
_ZEROS = re.compile(r"0\d+")
_POINT = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)\.\d+-?")
_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+),\d+-?")
_DATES = (
    "%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y%m%d", "%d.%m.%y", "%d-%b-%Y",
)  # fmt: skip
_TIMES = ("", " %H:%M", " %H:%M:%S", "T%H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S%z", "%H%M%S", " %H%M%S", "T%H:%M")
_OTHER_ORDER = {"%d/%m/%Y": "%m/%d/%Y", "%m/%d/%Y": "%d/%m/%Y"}
_DIGITS = re.compile(r"\d.*\d")
_YEARS = range(1900, 2101)


class ColumnGuess(Struct, frozen=True):
    """*kind*: integer, decimal, date, datetime, text or empty. *format* as a mapping writes it, if one is needed."""

    name: str
    kind: str
    reason: str
    format: str = ""


def guess(name: str, texts: Sequence[str]) -> ColumnGuess:
    filled = [text.strip() for text in texts if text.strip()]
    if not filled:
        return ColumnGuess(name, "empty", "no value in the sample")
    zeros = next((text for text in filled if _ZEROS.fullmatch(text)), "")
    date = _date(name, filled)
    if date is not None:
        return date
    if zeros:
        return ColumnGuess(name, "text", f"digits with leading zeros ({zeros}): a number would lose them")
    for kind, pattern, format_, words in (
        ("integer", _INTEGER, "", "whole numbers"),
        ("decimal", _POINT, ".", "decimal point"),
        ("decimal", _COMMA, ",", "decimal comma"),
    ):
        fits = [text for text in filled if pattern.fullmatch(text) or (format_ and _INTEGER.fullmatch(text))]
        if len(fits) >= ENOUGH * len(filled) and any(pattern.fullmatch(text) for text in fits):
            return ColumnGuess(name, kind, _said(words, filled, fits, fits[0]), format_)
    distinct = sorted(set(filled))
    if len(distinct) <= 4 < len(filled):
        return ColumnGuess(name, "text", f"only {', '.join(distinct)}")
    return ColumnGuess(name, "text", f"for example {filled[0][:30]}")


def _date(name: str, filled: list[str]) -> ColumnGuess | None:
    best: tuple[int, str] = (0, "")
    sample = filled[:200]
    dated = [text for text in sample[:10] if 6 <= len(text) <= 32 and _DIGITS.search(text)]
    tried = [day + time for day in _DATES for time in _TIMES if dated and _parses(dated[0], day + time)]
    tried += [other + f[len(day) :] for f in tried for day, other in _OTHER_ORDER.items() if f.startswith(day)]
    for format_ in tried:
        fits = sum(_parses(text, format_) for text in sample)
        if fits > best[0]:
            best = (fits, format_)
    count, format_ = best
    if count < ENOUGH * len(sample):
        return None
    kind = "datetime" if "%H" in format_ else "date"
    reason = _said(kind + "s", sample, sample[:count], sample[0])
    day = next(day for day in _DATES if format_.startswith(day))
    other = _OTHER_ORDER.get(day)
    if other and sum(_parses(text, other + format_[len(day) :]) for text in sample) == count:
        reason += f"; {other} fits as well: no day in the sample is over 12"
    return ColumnGuess(name, kind, reason, format_)


def _parses(text: str, format_: str) -> bool:
    shortest = {"%Y%m%d": 8, "%Y%m%d%H%M%S": 14}.get(format_)  # strptime would take fewer digits
    if shortest is not None and (len(text) != shortest or not text.isdigit()):
        return False
    try:
        return datetime.strptime(text, format_).year in _YEARS  # noqa: DTZ007 - asked for its form only
    except ValueError:
        return False


def _said(words: str, filled: list[str], fits: list[str], example: str) -> str:
    said = f"{words}, for example {example}"
    if len(fits) < len(filled):
        odd = next((text for text in filled if text not in fits), "")
        said += f"; {len(filled) - len(fits)} of {len(filled)} are not" + (f", such as {odd[:20]!r}" if odd else "")
    return said
