"""From a pydantic model's complaints to Problems: the path in the file, a sentence, the next step, never a secret."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from crossdock.yamlfile import Path, YamlFile
from crossdock_controller.config.errors import Problem
from crossdock_controller.config.models import VARIABLE_PATTERN
from crossdock_controller.config.selection import NAME_PATTERN
from crossdock_controller.hints import did_you_mean, nearest

Model = TypeVar("Model", bound=BaseModel)

_SENTENCES = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a mapping (key: value)",
    "model_attributes_type": "must be a mapping (key: value)",
}
_OF_PYDANTIC = ("constrained-", "list[", "function-")
_QUOTES = {"string_type": "put it in quotes", "model_type": "a name of digits needs quotes"}
_BOUNDS = {
    "less_than_equal": ("be at most", "le"),
    "greater_than_equal": ("be at least", "ge"),
    "less_than": ("be less than", "lt"),
    "greater_than": ("be more than", "gt"),
    "too_short": ("have entries, at least", "min_length"),
    "too_long": ("have entries, at most", "max_length"),
    "string_too_short": ("have characters, at least", "min_length"),
    "string_too_long": ("have characters, at most", "max_length"),
}
_NAME_HINTS = {
    NAME_PATTERN: "small letters, digits, '-', '_' and '.', beginning with a letter or digit",
    VARIABLE_PATTERN: "small letters, digits and '_', beginning with a letter",
}


def build(
    model: type[Model],
    data: Mapping[str, Any],
    file: YamlFile,
    *,
    base: Path = (),
    names: Iterable[str] = (),
    moved: Callable[[Path], Path] = tuple,
) -> tuple[Model | None, list[Problem]]:
    """*data* as *model*, or every problem with it.

    *base* is where *data* stands in *file*; *names* are keys of the same mapping that belong to somebody else and may
    be suggested for a mistyped one; *moved* says where in the file a path of the model is written.
    """
    try:
        return model.model_validate(dict(data)), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
    place = _Place(file, base, moved)
    return None, [_problem(model, detail, place, names) for detail in _without_union_noise(details)]


class _Place(NamedTuple):
    file: YamlFile
    base: Path
    moved: Callable[[Path], Path]

    def problem(self, location: Path, message: str, hint: str = "") -> Problem:
        return self.file.problem((*self.base, *self.moved(location)), message, hint)


def _without_union_noise(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Of several shapes that a value could have had, keep one complaint a place, and the one that goes deepest."""
    seen: dict[tuple[int | str, ...], ErrorDetails] = {}
    for detail in details:
        seen.setdefault(_location(detail), detail)
    above = {location[:length] for location in seen for length in range(len(location))}
    return [d for location, d in seen.items() if location not in above or not d["type"].endswith("_type")]


def _location(detail: ErrorDetails) -> tuple[int | str, ...]:
    """The path without what pydantic adds for itself: union members, and "[key]" for a bad key."""
    location = list(detail["loc"])
    if location and location[-1] == "[key]":
        location.pop()
    return tuple(p for p in location if isinstance(p, int) or (p != "Not" and not p.startswith(_OF_PYDANTIC)))


def _problem(model: type[BaseModel], detail: ErrorDetails, place: _Place, names: Iterable[str]) -> Problem:
    location = _location(detail)
    kind = detail["type"]
    if kind == "missing":
        field = model.model_fields.get(str(location[-1])) if len(location) == 1 else None
        return place.problem(location[:-1], f"{location[-1]!r} is missing", (field and field.description) or "")
    if kind == "extra_forbidden":
        known = {*_fields_at(model, location[:-1]), *names}
        return place.problem(location, f"unknown key {str(location[-1])!r}", did_you_mean(str(location[-1]), known))
    return place.problem(location, *_sentence(detail))


def _sentence(detail: ErrorDetails) -> tuple[str, str]:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind in _SENTENCES:
        empty = value is None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        hint = _QUOTES.get(kind, "") if number else ""
        return _SENTENCES[kind] + (", and is empty" if empty else ""), hint
    if kind in ("literal_error", "enum"):
        expected = str(context.get("expected", "")).replace(" or ", ", ").replace("'", "").split(", ")
        return f"{_shown(value)} is not one of {', '.join(expected)}", nearest(str(value), expected)
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"must {words} {context[name]}", ""
    if kind == "string_pattern_mismatch":
        return f"{_shown(value)} is not a name", _NAME_HINTS.get(str(context.get("pattern")), "")
    if kind == "value_error":
        text = str(context.get("error", detail["msg"]))
        message, _, hint = text.partition("; ")
        return message, hint
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:], ""


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> set[str]:
    """Names of the fields of the model that stands at *path* below *model*; empty when it cannot be told."""
    current: type[BaseModel] | None = model
    is_key = False  # the next part is a key of a mapping of models, not a field
    for part in path:
        if isinstance(part, int) or is_key or current is None:
            is_key = False
            continue
        field = current.model_fields.get(part)
        annotation = field.annotation if field is not None else None
        is_key = _has_mapping(annotation)
        current = next(iter(_models_in(annotation)), None)
    return {field.alias or name for name, field in current.model_fields.items()} if current else set()


def _has_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict or any(_has_mapping(arg) for arg in get_args(annotation))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for arg in get_args(annotation) for model in _models_in(arg)]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
