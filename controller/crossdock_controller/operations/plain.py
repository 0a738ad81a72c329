"""Results as JSON and back. The JSON is that of `--json`: a dataclass is an object of its fields (`in_` is "in"), bytes
are hex, a tuple or set is an array. Going back is guided by the type.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, cast

import msgspec

from crossdock_controller.operations.hints import hints

_MAPPINGS = (dict, Mapping)
_LISTS = (list, Sequence)
_SETS = (set, frozenset, AbstractSet)


def encode(value: Any) -> Any:
    """*value* as what `json` writes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name.rstrip("_"): encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return {name: encode(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [encode(v) for v in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def decode(value: Any, kind: Any) -> Any:
    """What `encode` made of a value of type *kind*. Raises ValueError and TypeError for anything else."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return decode(value, arguments[0])
    if origin in {typing.Union, types.UnionType}:
        return _one_of(value, arguments)
    if origin is typing.Literal:
        return _checked(value, value in arguments)
    if kind is Any or kind is object:
        return value
    if kind is None or kind is type(None):
        return _checked(value, value is None)
    if dataclasses.is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return _record(value, cast("type", kind))
    plain = origin or kind
    if plain in _MAPPINGS:
        of = arguments[1] if arguments else Any
        return {k: decode(v, of) for k, v in _as(value, dict).items()}
    if plain is tuple:
        return _tuple(_as(value, list), arguments)
    if plain in _LISTS:
        return [decode(v, arguments[0] if arguments else Any) for v in _as(value, list)]
    if plain in _SETS:
        return frozenset(decode(v, arguments[0] if arguments else Any) for v in _as(value, list))
    return _scalar(value, plain)


def _scalar(value: Any, kind: Any) -> Any:
    if kind is bytes:
        return bytes.fromhex(_as(value, str))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in {str, int, float, bool}:
        return _checked(value, type(value) is kind)
    raise TypeError(f"{kind!r} does not travel as JSON")


def _record(value: Any, kind: type) -> Any:
    given = _as(value, dict)
    return kind(**{
        name: decode(given[key], of) for name, of in _fields(kind).items() if (key := name.rstrip("_")) in given
    })  # fmt: skip


@lru_cache(maxsize=256)
def _fields(kind: type) -> dict[str, Any]:
    told = hints(kind)
    if issubclass(kind, msgspec.Struct):
        return {name: told[name] for name in kind.__struct_fields__}
    return {f.name: told[f.name] for f in dataclasses.fields(cast("Any", kind)) if f.init}


def _tuple(values: list[Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(decode(v, arguments[0]) for v in values)
    return tuple(decode(v, of) for v, of in zip(values, arguments, strict=True)) if arguments else tuple(values)


def _one_of(value: Any, kinds: tuple[Any, ...]) -> Any:
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        try:
            return decode(value, kind)
        except (ValueError, TypeError):
            continue
    raise ValueError(f"{value!r} is none of {kinds}")


def _as(value: Any, kind: type) -> Any:
    return _checked(value, isinstance(value, kind))


def _checked(value: Any, fits: bool) -> Any:
    if not fits:
        raise ValueError(f"{str(value)[:80]!r} is not what was expected")
    return value
