"""Rules about one value: check digits, units, currencies and their minor units, plausible dates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from crossdock_controller.documents.base import Money, Quantity
from crossdock_controller.mappings.check_digits import check_digit
from crossdock_controller.mappings.rule_models import CheckDigitRule, PlausibleRule, UnitRule
from crossdock_controller.mappings.rule_values import Break, Compiled, KnownKeys, found, said, walk_whole

_LENGTHS = {"gtin": (8, 12, 13, 14), "gln": (13,), "sscc": (18,)}


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# ISO 4217, by decimals of the minor unit; all others have two.
_DECIMALS = {
    **dict.fromkeys(_words("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"), 0),
    **dict.fromkeys(_words("BHD IQD JOD KWD LYD OMR TND"), 3),
    **dict.fromkeys(_words("CLF UYW"), 4),
}
CURRENCIES = frozenset(_DECIMALS).union(
    _words("""
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC
    CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES
    KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NPR NZD
    PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP
    TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XDR YER ZAR ZMW ZWG
    """)
)

# UN/ECE Recommendation 20 as trade uses it; packages have the codes of Recommendation 21, with an X before them.
WHOLE_UNITS = frozenset(
    _words("C62 H87 EA NMP NAR NPR PR DZN DPC GRO CEN MIL SET XBX XCT XPK XPX XPF XCS XBG XRO XSA XTN")
)
UNITS = WHOLE_UNITS.union(
    _words("""
    KGM GRM MGM TNE DTN HGM LBR ONZ STN LTN CWA CWI MTR MMT CMT DMT KMT INH FOT YRD SMI MTK CMK MMK DMK HAR INK FTK YDK
    LTR MLT CLT DLT HLT MTQ DMQ CMQ MMQ INQ FTQ YDQ GLL GLI OZA OZI QTL PTL QT PT SEC MIN HUR DAY WEE MON ANN KWH MWH
    WHR JOU MJ GV KWT CEL FAH P1 LS RO RL TU BG BX CT CS PK PF PX SA BO CA CR DR BA JR KT PA SH SX TB
    """)
)


def check_digits(rule: CheckDigitRule) -> Compiled:
    path, lengths, word = rule.field, _LENGTHS[rule.kind], rule.kind.upper()

    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for place, value in found(document, path):
                text = str(value)
                if not (text.isascii() and text.isdigit() and len(text) in lengths):
                    wanted = " or ".join(map(str, lengths))
                    yield i, "check_digit", path, f"{place} is {said(value)}, a {word} has {wanted} digits"
                elif check_digit(text[:-1]) != text[-1]:
                    right = check_digit(text[:-1])
                    yield i, "check_digit", path, f"{place} is {said(value)}, its check digit would be {right}"

    return (path,), broken


def currency(paths: tuple[str, ...]) -> Compiled:
    """Of money, or of a field that holds the code."""

    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for path in paths:
                for place, value in walk_whole(document, path):
                    code = value.currency if isinstance(value, Money) else value
                    if code and code not in CURRENCIES:
                        yield i, "unknown_currency", path, f"{place}: {said(code)} is no currency of ISO 4217"

    return paths, broken


def decimals_of(code: str) -> int:
    """Of the minor unit of a currency."""
    return _DECIMALS.get(code, 2)


def minor_units(paths: tuple[str, ...]) -> Compiled:
    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for path in paths:
                for place, value in walk_whole(document, path):
                    if not isinstance(value, Money):
                        continue
                    most = decimals_of(value.currency)
                    if value.amount != value.amount.quantize(Decimal(1).scaleb(-most)):
                        told = f"{place} is {said(value.amount)} {value.currency}, which has {most} decimals"
                        yield i, "minor_units", path, told

    return paths, _exact(broken)


def unit(rule: UnitRule) -> Compiled:
    path, known_units = rule.field, UNITS.union(rule.also)

    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for place, value in walk_whole(document, path):
                code = value.uom if isinstance(value, Quantity) else value
                if code and code not in known_units:
                    yield i, "unknown_unit", path, f"{place}: {said(code)} is no unit that is known"

    return (path,), broken


def whole(paths: tuple[str, ...]) -> Compiled:
    """Pieces are not cut: a unit that is counted has no fraction."""

    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for path in paths:
                for place, value in walk_whole(document, path):
                    if isinstance(value, Quantity) and value.uom in WHOLE_UNITS and value.value % 1:
                        yield i, "fraction", path, f"{place} is {said(value.value)} {value.uom}, which is counted whole"

    return paths, _exact(broken)


def not_negative(paths: tuple[str, ...]) -> Compiled:
    def broken(documents: Sequence[Any], _known: KnownKeys) -> Iterator[Break]:
        for i, document in enumerate(documents):
            for path in paths:
                for place, value in found(document, path):
                    if value < 0:
                        yield i, "negative", path, f"{place} is {said(value)}"

    return paths, broken


def plausible(rule: PlausibleRule) -> Compiled:
    def broken(documents: Sequence[Any], known: KnownKeys) -> Iterator[Break]:
        today = known.today()
        latest = _years_after(today, rule.years_ahead) if today is not None else None
        for i, document in enumerate(documents):
            for path in rule.fields:
                for place, value in found(document, path):
                    day = value.date() if isinstance(value, datetime) else value
                    if day < rule.earliest:
                        yield i, "implausible", path, f"{place} is {day}, before {rule.earliest}"
                    elif latest is not None and day > latest:
                        yield i, "implausible", path, f"{place} is {day}, more than {rule.years_ahead} years from now"

    return rule.fields, broken


def _years_after(day: date, years: int) -> date:
    if day.year + years > date.max.year:
        return date.max
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # the 29th of February
        return day.replace(year=day.year + years, day=28)


def _exact(broken: Callable[[Sequence[Any], KnownKeys], Iterator[Break]]) -> Callable[..., Iterator[Break]]:
    """With room for every digit that a document may have."""
    from decimal import Context, localcontext

    from crossdock_controller.mappings.converters import MAX_DIGITS

    def exactly(documents: Sequence[Any], known: KnownKeys) -> Iterator[Break]:
        with localcontext(Context(prec=3 * MAX_DIGITS)):
            return iter(list(broken(documents, known)))

    return exactly
