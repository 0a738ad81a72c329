"""Settings of sources and writers, checked by the schemas that agents exported: the controller never imports one.

`crossdock/schemas/sources.json` and `writers.json` are generated from the agent's settings types. A finding is turned
into the path and the sentence an operator needs.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import jsonschema
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from crossdock.errors import ConfigError
from crossdock.yamlfile import Path
from crossdock_controller.hints import did_you_mean, nearest

_TYPES = {
    "object": "a mapping (key: value)",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "empty",
}


class Finding(NamedTuple):
    path: Path
    message: str
    hint: str


def source_schemas() -> dict[str, Any]:
    """The exported file. Raises ConfigError when the installation lacks it."""
    return _schemas("sources")


@functools.cache
def _schemas(of: str) -> dict[str, Any]:
    try:
        text = importlib.resources.files("crossdock").joinpath(f"schemas/{of}.json").read_text("utf-8")
    except OSError as error:
        raise ConfigError(
            f"crossdock/schemas/{of}.json is missing from this installation",
            hint="run 'python agent/export_schemas.py' in a checkout, or install the package again",
        ) from error
    schemas: dict[str, Any] = json.loads(text)
    return schemas


def source_kinds() -> list[str]:
    return sorted(source_schemas()["kinds"])


def source_findings(kind: str, settings: Any) -> list[Finding]:
    """Everything wrong with *settings* of a source of *kind* (which must be known), each once, by path."""
    return _found("sources", kind, settings)


def writer_kinds() -> list[str]:
    return sorted(_schemas("writers")["kinds"])


def writer_findings(kind: str, settings: Any) -> list[Finding]:
    """As `source_findings`, of a writer."""
    return _found("writers", kind, settings)


def setting_names(kind: str, of: str = "sources") -> list[str]:
    """Top keys of the settings of *kind*."""
    return sorted(_resolved(of, _schemas(of)["kinds"][kind]).get("properties", {}))


def _found(of: str, kind: str, settings: Any) -> list[Finding]:
    found = {finding for error in _validator(of, kind).iter_errors(settings) for finding in _findings(error)}
    return sorted(found, key=lambda f: ([str(part) for part in f.path], f.message))


def _resolved(of: str, schema: dict[str, Any]) -> dict[str, Any]:
    reference = str(schema.get("$ref", ""))
    found: dict[str, Any] = _schemas(of).get("$defs", {}).get(reference.rpartition("/")[2], {}) if reference else schema
    return found


@functools.cache
def _validator(of: str, kind: str) -> Any:
    schemas = _schemas(of)
    definitions = schemas.get("$defs", {})
    return Draft202012Validator(
        {**schemas["kinds"][kind], "$defs": definitions}, format_checker=jsonschema.FormatChecker()
    )


def _findings(error: ValidationError) -> Iterator[Finding]:
    path: Path = tuple(error.absolute_path)
    handler = _HANDLERS.get(str(error.validator))
    if handler is None:
        yield Finding(path, f"is not allowed here: {error.validator} {_shown(error.validator_value)}", "")
    else:
        yield from handler(path, error)


def _unknown_keys(path: Path, error: ValidationError) -> Iterator[Finding]:
    known = error.schema.get("properties", {})
    for key in error.instance:
        if key not in known:
            yield Finding((*path, key), f"unknown key {key!r}", did_you_mean(key, known))


def _missing_keys(path: Path, error: ValidationError) -> Iterator[Finding]:
    for key in error.validator_value:
        if key not in error.instance:
            described = error.schema.get("properties", {}).get(key, {}).get("description", "")
            yield Finding(path, f"{key!r} is missing", described)


def _wrong_type(path: Path, error: ValidationError) -> Iterator[Finding]:
    expected = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    words = " or ".join(_TYPES.get(str(t), str(t)) for t in expected)
    hint = "put it in quotes" if "string" in expected and isinstance(error.instance, int | float) else ""
    yield Finding(path, f"must be {words}, not {_kind_of(error.instance)}", hint)


def _wrong_choice(path: Path, error: ValidationError) -> Iterator[Finding]:
    choices = error.validator_value if error.validator == "enum" else [error.validator_value]
    hint = nearest(str(error.instance), map(str, choices))
    yield Finding(path, f"{_shown(error.instance)} is not one of {', '.join(map(str, choices))}", hint)


def _wrong_bound(path: Path, error: ValidationError) -> Iterator[Finding]:
    word = {
        "minimum": "at least",
        "maximum": "at most",
        "exclusiveMinimum": "more than",
        "exclusiveMaximum": "less than",
        "minLength": "at least this many characters:",
        "maxLength": "at most this many characters:",
        "minItems": "at least this many items:",
        "maxItems": "at most this many items:",
    }[str(error.validator)]
    yield Finding(path, f"must be {word} {error.validator_value}", "")


def _wrong_pattern(path: Path, error: ValidationError) -> Iterator[Finding]:
    yield Finding(path, f"does not have the form {error.validator_value}", str(error.schema.get("description", "")))


def _no_branch(path: Path, error: ValidationError) -> Iterator[Finding]:
    """None of several shapes fits: speak of the one that was meant, by its discriminator or by its type."""
    tag = error.schema.get("discriminator", {}).get("propertyName")
    branches = [[e for e in error.context if e.schema_path[0] == i] for i in range(len(error.validator_value))]
    if tag and isinstance(error.instance, dict):
        choices = error.schema["discriminator"].get("mapping", {})
        value = error.instance.get(tag)
        if value is None:
            yield Finding(path, f"{tag!r} is missing", f"one of {', '.join(sorted(choices))}")
            return
        if value not in choices:
            yield Finding((*path, tag), f"unknown {tag} {_shown(value)}", did_you_mean(str(value), choices))
            return
        branches = [
            b for b in branches if not any(e.validator in ("const", "enum") and _at(e, path) == (tag,) for e in b)
        ]
    meant = [b for b in branches if not any(e.validator == "type" and _at(e, path) == () for e in b)]
    if meant:
        for inner in min(meant, key=len):
            yield from _findings(inner)
        return
    expected = sorted({t for b in branches for e in b if e.validator == "type" for t in _as_list(e.validator_value)})
    words = " or ".join(_TYPES.get(t, t) for t in expected)
    yield Finding(path, f"must be {words}, not {_kind_of(error.instance)}", "")


def _at(error: ValidationError, path: Path) -> Path:
    """Where *error* is, relative to *path*."""
    return tuple(error.absolute_path)[len(path) :]


def _as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _kind_of(value: Any) -> str:
    if value is None:
        return "empty"
    words = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return words.get(type(value), type(value).__name__)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


_HANDLERS = {
    "additionalProperties": _unknown_keys,
    "required": _missing_keys,
    "type": _wrong_type,
    "enum": _wrong_choice,
    "const": _wrong_choice,
    "minimum": _wrong_bound,
    "maximum": _wrong_bound,
    "exclusiveMinimum": _wrong_bound,
    "exclusiveMaximum": _wrong_bound,
    "minLength": _wrong_bound,
    "maxLength": _wrong_bound,
    "minItems": _wrong_bound,
    "maxItems": _wrong_bound,
    "pattern": _wrong_pattern,
    "anyOf": _no_branch,
    "oneOf": _no_branch,
}
