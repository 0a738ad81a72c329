"""Delimiter, quote and header of delimited text, by how evenly each candidate cuts the records.

`csv.Sniffer` counts characters and is led astray by decimal commas and times; here every candidate reads the sample as
the real reader would, quotes respected, and the one whose records have one number of fields wins.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from crossdock_agent.guessing import Guess, values

DELIMITERS = (";", ",", "\t", "|", "~", "^", ":")
_UNLIKELY = {":": 0.5, "^": 0.05, "~": 0.05}  # as a delimiter; times are full of colons
_BETWEEN_DIGITS = re.compile(r"\d,\d")
_NAME = re.compile(r"[^\W\d][\w .()/#-]{0,60}")
MAX_RECORDS = 1_000
csv.field_size_limit(64 * 1024 * 1024)  # a quote that never closes makes one field of all the rest


@dataclass(frozen=True, slots=True)
class Delimited:
    delimiter: str
    quote: str | None
    records: list[list[str]]
    fields: int
    even: float  # part of the records that have so many fields


def read(text: str) -> Delimited | None:
    """How *text* is best cut, None when no delimiter cuts it evenly into more than one field."""
    found = [d for delimiter in DELIMITERS if (d := _cut(text, delimiter)) is not None]
    return max(found, key=lambda d: _rank(d, text), default=None)


def guesses(cut: Delimited) -> list[Guess]:
    """Delimiter, quote and header."""
    shown = {"\t": "tab"}.get(cut.delimiter, cut.delimiter)
    even = f"{cut.even:.0%} of {len(cut.records)} records have {cut.fields} fields with {shown!r}"
    return [
        Guess("format.delimiter", cut.delimiter, even, sure=cut.even == 1 and len(cut.records) > 2 and cut.fields > 2),
        _quote(cut),
        header(cut.records),
    ]


def header(records: Sequence[Sequence[str]]) -> Guess:
    """Whether the first record names the columns."""
    first, rest = records[0], records[1:]
    names = [cell.strip() for cell in first]
    if not rest:
        return Guess("format.header", True, "there is only one record; it looks like names") if all(
            map(_NAME.fullmatch, names)
        ) else Guess("format.header", False, "there is only one record, and it does not look like names")  # fmt: skip
    if not all(names):
        return Guess("format.header", False, "the first record has empty fields, and a column needs a name")
    if len(set(names)) < len(names):
        return Guess("format.header", False, "the first record has the same text twice, and names are unique")
    typed = [
        (name, column.kind)
        for i, name in enumerate(names)
        if (column := values.guess(name, [r[i] for r in rest if i < len(r)])).kind in _TYPED
    ]
    odd = [name for name, kind in typed if values.guess(name, [name]).kind != kind]
    if odd:
        return Guess("format.header", True, f"{odd[0]!r} stands over values of another type", sure=len(odd) > 1)
    if typed:
        return Guess("format.header", False, f"the first record is of the same types as the others ({typed[0][1]})")
    again = [name for i, name in enumerate(names) if any(i < len(r) and r[i].strip() == name for r in rest)]
    if again:
        return Guess("format.header", False, f"{again[0]!r} comes again further down")
    looks = all(_NAME.fullmatch(name) for name in names)
    reason = "the first record looks like names, and none comes again" if looks else "it does not look like names"
    return Guess("format.header", looks, reason)


_TYPED = {"integer", "decimal", "date", "datetime"}


def _cut(text: str, delimiter: str) -> Delimited | None:
    if delimiter not in text:
        return None
    tried = [_with_quote(text, delimiter, quote) for quote in ('"', "'", None)]
    usual, single, plain = tried
    best = usual or plain
    if single and _is_around_fields(text, delimiter, "'") and (not best or single.even >= best.even):
        best = single
    if plain and best and plain.even > best.even:  # inches, or quotes that never close
        best = plain
    return best


def _with_quote(text: str, delimiter: str, quote: str | None) -> Delimited | None:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
    )  # fmt: skip
    records: list[list[str]] = []
    try:
        for record in reader:
            if record:
                records.append(record)
            if len(records) == MAX_RECORDS:
                break
    except csv.Error:
        return None
    if not records:
        return None
    (fields, count), *_ = sorted(Counter(map(len, records)).items(), key=lambda item: (-item[1], -item[0]))
    even = count / len(records)
    return Delimited(delimiter, quote, records, fields, even) if fields > 1 and even > 0.5 else None


def _rank(cut: Delimited, text: str) -> tuple[float, int, int]:
    penalty = _UNLIKELY.get(cut.delimiter, 0.0)
    if cut.delimiter == ",":
        penalty = 0.3 * len(_BETWEEN_DIGITS.findall(text)) / max(1, text.count(","))  # decimal commas
    return round(cut.even - penalty, 2), cut.fields, -DELIMITERS.index(cut.delimiter)


def _is_around_fields(text: str, delimiter: str, quote: str) -> bool:
    d, q = re.escape(delimiter), re.escape(quote)
    whole = len(re.findall(rf"(?:^|{d}){q}[^{q}\n]*{q}(?={d}|\r?$)", text, re.MULTILINE))
    return whole > 0 and 2 * whole >= 0.8 * text.count(quote)


def _quote(cut: Delimited) -> Guess:
    if cut.quote is None:
        return Guess("format.quote", None, "quotes stand inside fields and never around them")
    seen = any(cut.delimiter in cell or "\n" in cell for record in cut.records for cell in record)
    if seen:
        return Guess("format.quote", cut.quote, "there are quoted fields that hold delimiters or newlines", sure=True)
    return Guess("format.quote", cut.quote, "as usual; no field needs one so far")
