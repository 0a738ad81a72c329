"""A mapping file as it is written: how records of one source become documents. Its shape; `compile` checks its meaning.

mapping: wms-shipments
document: Shipment
each: SHIPMENT_NO                      # consecutive records of one shipment become one document
where: {column: TYPE, equals: D}       # other records are left out
fields:
  number: SHIPMENT_NO
  shipped_at: {from: SHIP_TS, as: datetime, format: "%d.%m.%Y %H:%M", zone: site}
  lines: {sku: ITEM, quantity: {from: QTY, decimal: ",", uom: {from: UNIT, codes: {ST: H87}}}}
rules:
  - known: {field: lines.sku, document: Product}
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from crossdock_controller.mappings.codes import list_key
from crossdock_controller.mappings.rule_models import (
    AgreesRule,
    BalancedRule,
    CheckDigitRule,
    ForwardRule,
    InOrderRule,
    LineTotalRule,
    PlausibleRule,
    ShrinkRule,
    UnchangedRule,
    UnitRule,
    WithinRule,
)

Constant = str | int | float | bool
Severity = Literal["reject", "hold", "warn"]


def _listed(value: object) -> object:
    """One value where a list may stand."""
    return value if isinstance(value, list | tuple) or value is None else [value]


def texts(value: object) -> object:
    """YAML reads a code such as 01 or 7 as a number; in a table of codes it is a text."""
    if isinstance(value, dict):
        return {_text(k): _text(v) for k, v in value.items()}
    return [_text(v) for v in value] if isinstance(value, list | tuple) else _text(value)


def _text(value: object) -> object:
    return str(value) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(texts), BeforeValidator(_listed)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class CodesOf(_Model):
    """A code list of the tree, instead of codes written out in the field."""

    list: str = Field(description="the name of the list: `lists/NAME.csv` or `lists/NAME.yaml`")
    from_: str = Field(default="", alias="from", description="its column with the codes; the first one unless given")
    to: str = Field(default="", description="its column with the meanings; the second one unless given")

    @property
    def key(self) -> str:
        return list_key(self.list, self.from_, self.to)


def _codes(value: object) -> object:
    """`uom` and `{list: uom}` name a list; any other mapping holds the codes themselves."""
    if isinstance(value, str):
        return CodesOf(list=value)
    if isinstance(value, dict) and "list" in value:
        return value
    return texts(value)


def _kind_of_codes(value: object) -> str:
    return "list" if isinstance(value, CodesOf) or (isinstance(value, dict) and "list" in value) else "codes"


AnyCodes = Annotated[
    Annotated[CodesOf, Tag("list")] | Annotated[dict[str, str], Tag("codes")],
    Discriminator(_kind_of_codes),
    BeforeValidator(_codes),
]


class Pad(_Model):
    """`6` is short for `{to: 6}`: zeros in front."""

    to: int = Field(ge=1, le=200, description="to so many characters")
    with_: str = Field(default="0", alias="with", min_length=1, max_length=1, description="the character put there")
    side: Literal["left", "right"] = Field(default="left", description="where")


def _pad(value: object) -> object:
    return {"to": value} if isinstance(value, int) and not isinstance(value, bool) else value


class Cleaning(_Model):
    """What is done to the text of a column before anything else."""

    extract: str | None = Field(default=None, description="a pattern: its first group, or all that it matches")
    strip_prefix: Texts = Field(default=(), description="taken off the front, the first of them that is there")
    strip_suffix: Texts = Field(default=(), description="taken off the end, the first of them that is there")
    substring: Annotated[tuple[int, ...], Field(min_length=1, max_length=2)] | None = Field(
        default=None, description="[first character, counted from 1; how many]"
    )
    case: Literal["upper", "lower"] | None = Field(default=None, description="in capitals, or in small letters")
    pad: Annotated[Pad | None, BeforeValidator(_pad)] = Field(default=None, description="filled up to a length")

    @model_validator(mode="after")
    def _counts_from_1(self) -> Cleaning:
        if self.substring is not None and min(self.substring) < 1:
            raise ValueError("'substring' counts characters from 1: [first, how many]")
        return self


class UnitsSpec(_Model):
    """A quantity in the unit that everyone downstream expects. `convert: KGM` is short for `{to: KGM}`."""

    to: str = Field(description="the unit, as a code of UN/ECE Recommendation 20")
    factors: str | Annotated[dict[str, str], BeforeValidator(texts)] | None = Field(
        default=None,
        description="how many of `to` one of each unit is, written out, or a list that says so; without it by the"
        " metric and imperial units that are built in",
    )
    digits: int | None = Field(default=None, ge=0, le=18, description="rounded to so many decimals")


def _units(value: object) -> object:
    return {"to": value} if isinstance(value, str) else value


class Condition(_Model):
    """True for a record whose *column* passes each test given. Texts are compared without padding."""

    column: str
    equals: Texts | None = None  # any of these
    not_equals: Texts | None = None  # none of these
    matches: str | None = None  # a regular expression over the whole value
    blank: bool | None = None

    @model_validator(mode="after")
    def _some_test(self) -> Condition:
        if self.equals is None and self.not_equals is None and self.matches is None and self.blank is None:
            raise ValueError("a condition needs one of: equals, not_equals, matches, blank")
        return self


class JoinPart(Cleaning):
    """A column, or a text between columns. A text without any letter or digit stands for itself, `", "`; any other is
    the name of a column."""

    from_: str | None = Field(default=None, alias="from", description="a column")
    value: Annotated[str | None, BeforeValidator(_text)] = Field(default=None, description="a text, instead of `from`")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return {"from": value} if any(c.isalnum() for c in value) else {"value": value}

    @model_validator(mode="after")
    def _one_origin(self) -> JoinPart:
        if (self.from_ is None) == (self.value is None):
            raise ValueError("a part of 'join' is either 'from' (a column) or 'value' (a text)")
        return self


ORIGINS = ("from", "value", "join", "compute", "first_of")


class Case(_Model):
    """What a field is when all conditions of `when` hold; the last case may have none."""

    when: Annotated[tuple[Condition, ...], BeforeValidator(_listed)] = Field(
        default=(), description="conditions on columns of the record; without it always"
    )
    from_: str | None = Field(default=None, alias="from", description="a column")
    value: Constant | None = Field(default=None, description="a constant")
    join: Annotated[tuple[JoinPart, ...] | None, Field(max_length=20)] = Field(default=None, description="texts joined")
    compute: str | None = Field(default=None, description="an expression")
    first_of: Annotated[tuple[str, ...] | None, Field(max_length=20)] = Field(default=None, description="columns")

    @model_validator(mode="after")
    def _one_origin(self) -> Case:
        given = [name for name in ORIGINS if getattr(self, "from_" if name == "from" else name) is not None]
        if len(given) != 1:
            raise ValueError(f"a case has one of {', '.join(ORIGINS)}; this one has {', '.join(given) or 'none'}")
        return self


class FieldSpec(Cleaning):
    """Where one field comes from. A bare column name is short for `{from: COLUMN}`.

    Which options mean anything depends on the converter (`as`), which follows the field's type unless named.
    `$site` and `$source` stand for the names of the site and source as columns. In the fields of a line that is an
    element of a list, `^NAME` is a column of the record around it.
    """

    from_: str | None = Field(default=None, alias="from", description="a column")
    value: Constant | None = Field(default=None, description="a constant, instead of `from`")
    join: Annotated[tuple[JoinPart, ...] | None, Field(min_length=1, max_length=20)] = Field(
        default=None, description="columns and texts behind one another; blank where all the columns are"
    )
    compute: str | None = Field(default=None, description="an expression over columns: QTY * PRICE / 100")
    first_of: Annotated[tuple[str, ...] | None, Field(min_length=1, max_length=20)] = Field(
        default=None, description="the first of these columns that is not blank"
    )
    cases: Annotated[tuple[Case, ...] | None, Field(min_length=1, max_length=50)] = Field(
        default=None, description="one of several, by conditions: the first case that holds"
    )
    as_: str | None = Field(default=None, alias="as", description="the converter")
    default: Constant | None = Field(default=None, description="where the record has a blank")
    required: bool = Field(default=False, description="a blank is refused even where the document would allow it")
    trim: bool = Field(default=True, description="without blanks around it")
    blank: Texts = Field(default=(), description='texts that mean "nothing": "N/A", "00000000"')
    codes: AnyCodes | None = Field(default=None, description="the source's codes to ours, or the list that says so")
    otherwise: Annotated[str | None, BeforeValidator(_text)] = Field(
        default=None, description="what becomes of a code without a meaning: reject, keep, or this text"
    )
    format: Texts = Field(default=(), description="of dates and times")
    zone: str | None = Field(default=None, description='of local times: an IANA zone, or "site"')
    pivot: int | None = Field(
        default=None, ge=0, le=99, description="of two digits of a year: those from here on are of the century before"
    )
    decimal: str | None = Field(default=None, description="the decimal separator")
    thousands: str | None = Field(default=None, description="the separator of thousands")
    implied: int | None = Field(default=None, ge=0, le=18, description="implied decimals: 12345 is 123.45 with 2")
    digits: int | None = Field(
        default=None, ge=0, le=18, description="rounded to so many decimals (binary floats of an ERP)"
    )
    negative: Texts = Field(default=(), description="what else means minus: parentheses, or texts around the number")
    positive: Texts = Field(default=(), description="texts around the number that mean plus")
    truthy: Texts = Field(default=(), description="texts that mean true")
    falsy: Texts = Field(default=(), description="texts that mean false")
    uom: FieldSpec | None = Field(default=None, description="of a quantity: its unit")
    convert: Annotated[UnitsSpec | None, BeforeValidator(_units)] = Field(
        default=None, description="of a quantity: into which unit"
    )
    currency: FieldSpec | None = Field(default=None, description="of an amount of money")
    options: dict[str, Any] = Field(default={}, description="of converters that are not ours")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"from": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_origin(self) -> FieldSpec:
        derived = [name for name in ("join", "compute", "first_of", "cases") if getattr(self, name) is not None]
        if (self.from_ is not None) + (self.value is not None) + len(derived) != 1:
            raise ValueError(
                "give either 'from' (a column) or 'value' (a constant)"
                + (f", or '{derived[0]}' alone" if derived else ", or one of join, compute, first_of, cases")
            )
        return self

    @property
    def is_derived(self) -> bool:
        """Made of several columns, or of one or another."""
        return self.from_ is None and self.value is None

    def lists_used(self) -> frozenset[str]:
        """The names of the code lists that it asks for, its parts included."""
        own = set[str]()
        if isinstance(self.codes, CodesOf):
            own.add(self.codes.list)
        if self.convert is not None and isinstance(self.convert.factors, str):
            own.add(self.convert.factors)
        return frozenset(own).union(*(part.lists_used() for part in (self.uom, self.currency) if part is not None))


def _overrides(value: object) -> object:
    """`status: deleted` is short for a constant, where `fields` would mean a column."""
    if not isinstance(value, dict):
        return value
    return {name: spec if isinstance(spec, dict) else {"value": spec} for name, spec in value.items()}


Overrides = Annotated[dict[str, FieldSpec], BeforeValidator(_overrides)]


class RangeRule(_Model):
    field: str
    min: Decimal | None = None
    max: Decimal | None = None


class PatternRule(_Model):
    field: str
    matches: str


class OneOfRule(_Model):
    field: str
    values: Texts


class KnownRule(_Model):
    """The value is the business key of a *document* we have; with *issuer* the key's number."""

    field: str
    document: str
    issuer: str = ""


class SumRule(_Model):
    """*of* (amounts of the lines) adds up to *equals* (a total), within *tolerance*."""

    of: str
    equals: str
    tolerance: Decimal = Decimal("0.01")


RULES = (
    "required", "range", "pattern", "one_of", "known", "sum", "check_digit", "currency", "unit", "minor_units", "whole",
    "not_negative", "plausible", "in_order", "line_total", "balanced", "within", "agrees", "unchanged", "forward",
    "shrink",
)  # fmt: skip


class Rule(_Model):
    """Exactly one check. A broken one rejects the document (dead letter), holds it for a person, or warns, as its
    *severity* says; which it is by default depends on the check."""

    required: Texts | None = None
    range: RangeRule | None = None
    pattern: PatternRule | None = None
    one_of: OneOfRule | None = None
    known: KnownRule | None = None
    sum: SumRule | None = None
    check_digit: CheckDigitRule | None = None
    currency: Texts | None = None
    unit: UnitRule | None = None
    minor_units: Texts | None = None
    whole: Texts | None = None
    not_negative: Texts | None = None
    plausible: PlausibleRule | None = None
    in_order: InOrderRule | None = None
    line_total: LineTotalRule | None = None
    balanced: BalancedRule | None = None
    within: WithinRule | None = None
    agrees: AgreesRule | None = None
    unchanged: UnchangedRule | None = None
    forward: ForwardRule | None = None
    shrink: ShrinkRule | None = None
    severity: Severity | None = None
    reason: str | None = None  # said instead of ours

    @model_validator(mode="after")
    def _one_check(self) -> Rule:
        given = [name for name in RULES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a rule is one of {', '.join(RULES)}; this one has {', '.join(given) or 'none'}")
        return self

    @property
    def kind(self) -> str:
        return next(name for name in RULES if getattr(self, name) is not None)


class _Made(_Model):
    """A document, and what it is made of."""

    document: str = Field(description="its kind: SalesOrder, Shipment ...")
    where: Annotated[tuple[Condition, ...], BeforeValidator(_listed)] = Field(
        default=(), description="conditions: a record counts when all hold"
    )
    fields: dict[str, FieldSpec] = Field(description="field of the document: where it comes from")
    lines: dict[str, FieldSpec] = Field(default={}, description="of its lines; written inside `fields`")
    lines_of: str | None = Field(
        default=None, description="the list inside a record whose elements are the lines; `each` inside `fields.lines`"
    )
    rules: tuple[Rule, ...] = Field(default=(), description="checks on the finished document")

    @model_validator(mode="before")
    @classmethod
    def _lines_of_fields(cls, value: object) -> object:
        """`fields.lines` holds the fields of a line; here they stand apart."""
        if not isinstance(value, dict) or not isinstance(value.get("fields"), dict) or "lines" not in value["fields"]:
            return value
        if "lines" in value:
            raise ValueError("'lines' stands twice: write it once, inside 'fields'")
        fields = dict(value["fields"])
        lines = fields.pop("lines")
        found = {**value, "lines": lines, "fields": fields}
        if isinstance(lines, dict) and "each" in lines:
            found["lines"] = {name: spec for name, spec in lines.items() if name != "each"}
            found["lines_of"] = lines["each"]
        return found

    def lists_used(self) -> frozenset[str]:
        """The names of the code lists that its fields ask for."""
        return frozenset[str]().union(*(spec.lists_used() for spec in (*self.fields.values(), *self.lines.values())))


class Also(_Made):
    """A further document of the same records. They are dead as a whole when it cannot be made."""

    name: str | None = Field(
        default=None, min_length=1, description="tells two of the same kind apart; its kind unless given"
    )

    @property
    def called(self) -> str:
        return self.name or self.document

    def alone(self, of: Mapping) -> Mapping:
        """As a mapping of its own of the same records."""
        made = {name: getattr(self, name) for name in _Made.model_fields}
        return _Further.model_construct(mapping=of.mapping, source=of.source, each=of.each, **made)


class Mapping(_Made):
    mapping: str = Field(min_length=1, description="its name; the file's name unless given")
    source: str | None = Field(
        default=None, description="the source whose records it maps; of its own name unless given"
    )
    each: Texts = Field(default=(), description="columns: consecutive records equal in them are one document")
    deletes: Overrides | None = Field(
        default=None, description="fields of the document that a deleted record becomes; without it a dead letter"
    )
    deletes_ignored: bool = Field(default=False, description="written `deletes: ignore`")
    also: Annotated[tuple[Also, ...], Field(max_length=10)] = Field(
        default=(), description="further documents of the same records"
    )
    is_further: ClassVar[bool] = False  # one of `also`

    @model_validator(mode="before")
    @classmethod
    def _ignored_deletes(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("deletes") == "ignore":
            return {**value, "deletes": None, "deletes_ignored": True}
        return value

    @property
    def reads(self) -> str:
        """The name of the source whose records this maps."""
        return self.source or self.mapping

    def lists_used(self) -> frozenset[str]:
        """The names of the code lists that its fields ask for."""
        further = (one.lists_used() for one in self.also)
        return super().lists_used().union(*(spec.lists_used() for spec in (self.deletes or {}).values()), *further)


class _Further(Mapping):
    is_further: ClassVar[bool] = True


def yaml_path(tree: object, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Where *path* of the model stands in *tree*, the file as written: the fields of a line stand inside `fields`."""
    if path[:1] == ("also",) and len(path) > 2 and isinstance(tree, dict):
        also, i = tree.get("also"), path[1]
        own = also[i] if isinstance(also, list) and isinstance(i, int) and i < len(also) else None
        return (*path[:2], *yaml_path(own, path[2:]))
    if path[:1] == ("lines_of",):
        return ("fields", "lines", "each")
    if path[:1] == ("lines",) and isinstance(tree, dict) and "lines" not in tree:
        return ("fields", *path)
    return path
