"""Functions of a Python package that is installed on the controller, for what no table of options says.

    as: python
    options: {function: acme-lot, plant: "7"}

The package offers them as entry points of the group `crossdock.functions`. A configuration names a function and never
brings one: who may apply a tree must not thereby be able to run code on the controller. A function is called with the
value of the field's column and the other options as keywords, gives the value of the field or None for blank, and must
give the same for the same value: it is remembered by text. What it raises becomes the dead letter of its record.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import EntryPoint, entry_points
from typing import Any
from zoneinfo import ZoneInfo

from crossdock.errors import ConfigError, Rejected
from crossdock_controller.hints import did_you_mean
from crossdock_controller.mappings.converters import Convert, Warned, bounded, converter, shown
from crossdock_controller.mappings.model import FieldSpec

GROUP = "crossdock.functions"


def installed() -> dict[str, EntryPoint]:
    """By name. Nothing of them is imported yet."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


@converter("python", returns=object, options=("options", "digits"))
def _python(spec: FieldSpec, _zone: ZoneInfo | None) -> Convert:
    options = dict(spec.options)
    name = options.pop("function", None)
    if not isinstance(name, str):
        raise ConfigError("'as: python' needs the name of a function", hint="options: {function: NAME}")
    function = _loaded(name)

    def convert(value: object) -> object:
        try:
            return function(value, **options)
        except (Rejected, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}"[:200]
            raise Rejected("function_failed", f"the function {name} failed with {shown(value)}: {said}") from error

    return convert


def _loaded(name: str) -> Callable[..., object]:
    known = installed()
    if name not in known:
        hint = (
            did_you_mean(name, known) or f"install the package that offers it, with an entry point of the group {GROUP}"
        )
        raise ConfigError(f"no function {name!r} is installed", hint=hint)
    try:
        function: Any = known[name].load()
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}"[:200]
        raise ConfigError(
            f"the function {name!r} cannot be loaded: {said}", hint="see the package that offers it"
        ) from error
    if not callable(function):
        raise ConfigError(f"{name!r} is no function but {shown(function)}", hint="see the package that offers it")
    return function  # type: ignore[no-any-return]


def typed(convert: Convert, wanted: type, spec: FieldSpec) -> Convert:
    """*convert*, held to what the field is: a function may give anything. Numbers are exact ones: no floats."""

    def checked(value: object) -> object:
        made = convert(value)
        if type(made) is Warned:
            return Warned(_as(made.value, wanted, spec), str(made.text)[:200])
        if made is None:
            return Warned(None, "")  # blank on purpose
        return _as(made, wanted, spec)

    return checked


def _as(made: object, wanted: type, spec: FieldSpec) -> object:
    if made is None:
        return None
    if wanted is Decimal and isinstance(made, int | Decimal) and not isinstance(made, bool):
        return bounded(Decimal(made), made, spec)
    if wanted is datetime and isinstance(made, datetime) and made.utcoffset() is not None:
        return made.astimezone(UTC)
    if type(made) is not wanted or wanted is datetime or (wanted is int and not -(2**63) <= made < 2**63):  # type: ignore[operator]
        raise Rejected("function_failed", f"the function gave {shown(made)}, the field is a {_word(wanted)}")
    return made


def _word(wanted: type) -> str:
    return {datetime: "datetime with a zone", date: "date", Decimal: "Decimal or int"}.get(wanted, wanted.__name__)
