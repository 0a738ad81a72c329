"""Cells from field specs: each checked against the type of the field it fills. Problems are collected, not raised."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from crossdock.errors import ConfigError, Rejected
from crossdock_controller.documents.base import Money, Quantity
from crossdock_controller.mappings.cells import Amount, Cell, Constant, DerivedScalar, Extensions, Nested, Scalar
from crossdock_controller.mappings.check_digits import other_than_gtin
from crossdock_controller.mappings.cleaning import cleaner
from crossdock_controller.mappings.converters import ConverterKind, converters
from crossdock_controller.mappings.decoding import Decode, constant_of, decoder
from crossdock_controller.mappings.deriving import NUMBERS, Deriving
from crossdock_controller.mappings.functions import typed
from crossdock_controller.mappings.model import Cleaning, CodesOf, FieldSpec, UnitsSpec
from crossdock_controller.mappings.units import conversion
from crossdock_controller.mappings.work import AROUND, Path, Problem, Site, Work, constant, near

__all__ = ["AROUND", "Problem", "Site", "StructFields", "Work", "near", "plain_type"]

RAW = "raw"  # the namespace of what a source wrote otherwise than we do

_ALWAYS = {
    "from_",
    "value",
    "as_",
    "default",
    "required",
    "trim",
    "blank",
    "codes",
    "otherwise",
    "join",
    "compute",
    "first_of",
    "cases",
    *Cleaning.model_fields,
}
_NATURAL: dict[Any, str] = {
    str: "text",
    int: "integer",
    bool: "boolean",
    Decimal: "decimal",
    Quantity: "decimal",
    Money: "decimal",
    date: "date",
}


class StructFields:
    """The fields of one struct (a document, a line, a party)."""

    def __init__(self, work: Work, struct: type[msgspec.Struct], path: Path, *, partial: bool = False) -> None:
        """*partial*: what the struct requires comes from elsewhere."""
        self._work, self._struct, self._path, self._partial = work, struct, path, partial
        self._prefix = "lines." if path == ("lines",) else ""  # as a rule and a person name the field
        self._fields = {f.name: f for f in msgspec.structs.fields(struct)}

    def cells(self, specs: dict[str, FieldSpec]) -> dict[str, Cell]:
        """A cell for each target of *specs* without a problem. The parts of one nested struct become one cell."""
        found: dict[str, Cell | None] = {}
        nested: dict[str, dict[str, FieldSpec]] = {}
        extensions: dict[tuple[str, str], Cell | None] = {}
        for target, spec in specs.items():
            head, _, rest = target.partition(".")
            namespace, _, name = rest.partition(".")
            if head == "extensions" and namespace and name:
                extensions[namespace, name] = self._text((*self._path, target), target, spec)
            elif rest and head in self._fields:
                nested.setdefault(head, {})[rest] = spec
            else:
                found[target] = self._field(target, spec)
        self._keep_raw(specs, found, extensions)
        for head, parts in nested.items():
            found[head] = self._nested(head, parts, taken=head in specs)
        if extensions:
            found["extensions"] = Extensions({key: cell for key, cell in extensions.items() if cell is not None})
        self._missing({target.partition(".")[0] for target in specs})
        return {target: cell for target, cell in found.items() if cell is not None}

    def _keep_raw(
        self, specs: dict[str, FieldSpec], found: dict[str, Cell | None], extensions: dict[tuple[str, str], Cell | None]
    ) -> None:
        """What a GTIN was made of stays beside it where it was written otherwise: `extensions.raw.gtin`."""
        for target, cell in found.items():
            if specs[target].as_ == "gtin" and isinstance(cell, Scalar) and (RAW, target) not in extensions:
                other = other_than_gtin(cell.clean)
                extensions[RAW, target] = Scalar(
                    cell.target, cell.name, other, empty="", required=False, blank=tuple(cell.blank)
                )

    def _missing(self, mapped: set[str]) -> None:
        for name, info in self._fields.items():
            if info.required and name not in mapped and not self._partial:
                self._work.problem(
                    self._path, f"{self._struct.__name__} needs the field {name!r}", f"add '{name}: COLUMN'"
                )

    def _field(self, target: str, spec: FieldSpec) -> Cell | None:
        path = (*self._path, target)
        if target not in self._fields or target in ("lines", "extensions"):
            hint = "write extensions.NAMESPACE.NAME" if target == "extensions" else near(target, self._fields)
            self._work.problem(path, f"{self._struct.__name__} has no field {target!r}", hint)
            return None
        info = self._fields[target]
        wanted = plain_type(info.type)
        if wanted in (Quantity, Money):
            return self._amount(path, target, spec, wanted, required=info.required)
        if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
            parts = ", ".join(f"{target}.{name}" for name in wanted.__struct_fields__)
            self._work.problem(path, f"{target} has parts of its own", f"map its parts: {parts}")
            return None
        default = None if info.required else info.default
        return self._scalar(path, target, spec, wanted, default=default, required=info.required or spec.required)

    def _nested(self, head: str, parts: dict[str, FieldSpec], *, taken: bool) -> Cell | None:
        make = plain_type(self._fields[head].type)
        if make in (Quantity, Money):
            part = next(iter(parts))
            option = "uom" if make is Quantity else "currency"
            self._work.problem((*self._path, f"{head}.{part}"), f"write {head}: {{from: COLUMN, {option}: COLUMN}}")
            return None
        if taken or not (isinstance(make, type) and issubclass(make, msgspec.Struct)):
            self._work.problem((*self._path, f"{head}.{next(iter(parts))}"), f"{head} has no parts")
            return None
        cells: dict[str, Cell | None] = {}
        for name, spec in parts.items():
            path = (*self._path, f"{head}.{name}")
            if name in make.__struct_fields__:
                cells[name] = self._text(path, f"{head}.{name}", spec)
            else:
                self._work.problem(path, f"{head} has no part {name!r}", near(name, make.__struct_fields__))
        return Nested(make, {name: cell for name, cell in cells.items() if cell is not None})

    def _text(self, path: Path, target: str, spec: FieldSpec) -> Scalar | Constant | None:
        return self._scalar(path, target, spec, str, default="", required=spec.required)

    def _amount(self, path: Path, target: str, spec: FieldSpec, make: Any, *, required: bool) -> Cell | None:
        option = "uom" if make is Quantity else "currency"
        unit_spec = spec.uom if make is Quantity else spec.currency
        if unit_spec is None and make is Money:
            self._work.problem(
                path, f"{target} is money and needs a currency", "add 'currency: COLUMN' or 'currency: {value: EUR}'"
            )
            return None
        unit: Scalar | Constant | None = Constant("")
        if unit_spec is not None:
            needed = make is Money or unit_spec.required
            unit = self._scalar((*path, option), f"{target}.{option}", unit_spec, str, default="", required=needed)
        number = self._scalar(path, target, spec, make, default=None, required=required or spec.required)
        if number is None or unit is None:
            return None
        if isinstance(number, Constant):
            if isinstance(unit, Constant) and spec.convert is None:
                return Constant(make(number.constant, unit.constant))
            self._work.problem(path, f"a constant {target} needs a constant {option}, and no conversion")
            return None
        if spec.convert is not None and unit_spec is None:
            self._work.problem((*path, "convert"), "it is not told which unit is to be converted", "add 'uom: COLUMN'")
        convert = self._conversion(path, spec.convert) if spec.convert is not None else None
        amount = Amount(number.target, number, unit, make, convert, spec.convert.to if spec.convert else "")
        if spec.lists_used():
            self._work.coding.remembers(amount.clear)
        return amount

    def _conversion(self, path: Path, spec: UnitsSpec) -> Callable[[Decimal, str], Decimal] | None:
        if isinstance(spec.factors, str):
            self._check_list((*path, "convert"), CodesOf(list=spec.factors), "factors")
        try:
            return conversion(spec, self._work.coding)
        except ConfigError as error:
            self._work.problem((*path, "convert"), error.message, error.hint)
            return None

    def _scalar(
        self, path: Path, target: str, spec: FieldSpec, wanted: Any, *, default: object, required: bool
    ) -> Scalar | Constant | None:
        """A cell of one column, or None after reporting why not."""
        kind = self._kind(path, spec, wanted)
        if kind is None:
            return None
        self._options(path, spec, kind, wanted)
        zone = self._zone(path, spec)
        try:
            convert, natural = kind.make(spec, zone), kind
            if kind.returns is object:  # a function, which may give anything
                convert = typed(convert, Decimal if wanted in (Quantity, Money) else wanted, spec)
                natural = converters()[_NATURAL.get(wanted, "datetime")]
            neutral = natural.make(FieldSpec(value=""), zone or ZoneInfo("UTC"))
            clean = cleaner(spec)
        except ConfigError as error:
            self._work.problem(path, error.message, error.hint)
            return None
        if spec.default is not None:
            default, required = self._constant(path, "default", spec.default, neutral), False
        decode = self._decoder(path, spec, neutral)
        if spec.value is not None:
            return Constant(self._constant(path, "value", spec.value, neutral))
        name, label, make = spec.from_ or "", "", Scalar
        if spec.is_derived:
            name, label, make = *Deriving(self._work, path, spec, neutral).column(), DerivedScalar
        cell = make(
            f"{self._prefix}{target}",
            name,
            convert,
            empty=default,
            required=required,
            trim=spec.trim,
            blank=spec.blank,
            codes=decode,
            clean=clean,
            label=label,
        )
        if isinstance(spec.codes, CodesOf):
            self._work.coding.remembers(cell.forget)
        if cell.name.startswith("$"):
            return self._place(path, cell)
        if not spec.is_derived:
            self._work.column(path, cell.name)
        return cell

    def _decoder(self, path: Path, spec: FieldSpec, convert: Any) -> Decode | None:
        if spec.otherwise is not None and spec.codes is None:
            self._work.problem((*path, "otherwise"), "'otherwise' is about 'codes', and there are none", "add 'codes'")
        constant = constant_of(spec)
        if constant is not None:
            self._constant(path, "otherwise", constant, convert)
        if isinstance(spec.codes, CodesOf):
            self._check_list(path, spec.codes)
        return decoder(spec, self._work.coding)

    def _check_list(self, path: Path, of: CodesOf, option: str = "codes") -> None:
        lists = self._work.lists
        if lists is None:
            return
        if of.list not in lists:
            hint = near(of.list, lists) if lists else f"add lists/{of.list}.csv with the columns from,to"
            self._work.problem((*path, option), f"there is no list {of.list!r}", hint)
            return
        found = lists[of.list]
        if found is None:  # the problems of the file have been told
            return
        wrong = [(key, name) for key, name in (("from", of.from_), ("to", of.to)) if name and name not in found.columns]
        for key, name in wrong:
            said = f"the list {of.list!r} has no column {name!r}"
            self._work.problem((*path, option, key), said, near(name, found.columns))
        twice = "" if wrong else found.ambiguous(of.from_, of.to)
        if twice:
            said = f"in the list {of.list!r} the code {twice!r} has more than one meaning"
            self._work.problem((*path, option), said, "keep one, or name other columns")

    def _place(self, path: Path, cell: Scalar) -> Constant | None:
        """`$site` and `$source` are the same for every record. Unknown as yet when only the mapping is checked."""
        places = {"$site": self._work.site.name, "$source": self._work.site.source}
        if cell.name not in places:
            self._work.problem(path, f"{cell.name} is not known", f"known: {', '.join(places)}")
            return None
        try:
            return Constant(cell.read(places[cell.name]) if places[cell.name] else cell.empty)
        except Rejected as error:
            self._work.problem(path, error.message, error.hint)
            return None

    def _kind(self, path: Path, spec: FieldSpec, wanted: Any) -> ConverterKind | None:
        known = converters()
        name = spec.as_ or _NATURAL.get(wanted, "datetime")
        if name not in known:
            self._work.problem((*path, "as"), f"unknown converter {name!r}", near(name, known))
            return None
        makes = Decimal if wanted in (Quantity, Money) else wanted
        if known[name].returns not in (makes, object):
            fitting = ", ".join(sorted(k.name for k in known.values() if k.returns is makes))
            self._work.problem(
                (*path, "as"), f"converter {name!r} does not make a {makes.__name__}", f"use one of: {fitting}"
            )
            return None
        return known[name]

    def _options(self, path: Path, spec: FieldSpec, kind: ConverterKind, wanted: Any) -> None:
        allowed = _ALWAYS | kind.options | {Quantity: {"uom", "convert"}, Money: {"currency"}}.get(wanted, set())
        if spec.compute is not None or any(case.compute is not None for case in spec.cases or ()):
            allowed |= set(NUMBERS)
        for option in sorted(spec.model_fields_set - allowed):
            self._work.problem((*path, option), f"option {option!r} means nothing to converter {kind.name!r}")

    def _zone(self, path: Path, spec: FieldSpec) -> ZoneInfo | None:
        if spec.zone is None:
            return None
        try:
            zone = (self._work.site.zone or ZoneInfo("UTC")) if spec.zone == "site" else ZoneInfo(spec.zone)
        except (OSError, ValueError, KeyError):  # a directory, a path, an unknown name
            hint = "write 'site' or an IANA name such as Europe/Berlin"
            self._work.problem((*path, "zone"), f"unknown time zone {spec.zone!r}", hint)
            return None
        self._work.zones.add(zone.key)
        return zone

    def _constant(self, path: Path, option: str, value: str | float | bool, convert: Any) -> object:
        return constant(self._work, (*path, option), value, convert)


def plain_type(annotated: Any) -> Any:
    """X of `X | None`."""
    if isinstance(annotated, types.UnionType) or typing.get_origin(annotated) is typing.Union:
        return next(arg for arg in typing.get_args(annotated) if arg is not type(None))
    return annotated
