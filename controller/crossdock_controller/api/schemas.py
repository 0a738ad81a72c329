"""JSON Schema of results, by the same rules by which `operations.plain` writes them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, cast

import msgspec

from crossdock_controller.operations.hints import hints

Schema = dict[str, Any]
_SCALARS: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "contentEncoding": "base16"},
    type(None): {"type": "null"},
}


def schema_of(kind: Any, components: dict[str, Schema]) -> Schema:
    """Records go into *components* by their name and are referred to. Raises TypeError for what has no JSON form."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return schema_of(arguments[0], components)
    if origin in {typing.Union, types.UnionType}:
        return {"anyOf": [schema_of(of, components) for of in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if kind is Any or kind is object:
        return {}
    if kind is None or kind in _SCALARS:
        return dict(_SCALARS[type(None) if kind is None else kind])
    if dataclasses.is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return _record(cast("type", kind), components)
    plain = origin or kind
    if plain in {dict, Mapping}:
        return {"type": "object", "additionalProperties": schema_of(arguments[1] if arguments else Any, components)}
    if plain is tuple and arguments and arguments[-1] is not Ellipsis:
        inner = [schema_of(of, components) for of in arguments]
        return {"type": "array", "prefixItems": inner, "minItems": len(inner), "maxItems": len(inner)}
    if plain in {list, Sequence, tuple, set, frozenset, AbstractSet}:
        return {"type": "array", "items": schema_of(arguments[0] if arguments else Any, components)}
    raise TypeError(f"{kind!r} does not travel as JSON")


def _record(kind: type, components: dict[str, Schema]) -> Schema:
    name = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"  # `AgentView` is in more than one module
    reference = {"$ref": f"#/components/schemas/{name}"}
    if name in components:
        return reference
    components[name] = {}  # one that holds itself refers to this
    told = hints(kind)
    names = _names(kind)
    properties = {field.rstrip("_"): schema_of(told[field], components) for field in names}
    components[name] = {"type": "object", "properties": properties, "required": list(properties)}
    said = (kind.__doc__ or "").strip()
    if said and not said.startswith(f"{kind.__name__}("):  # what `dataclass` writes by itself
        components[name]["description"] = said
    return reference


def _names(kind: type) -> Sequence[str]:
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    return [f.name for f in dataclasses.fields(cast("Any", kind))]
