"""The API described for machines: OpenAPI 3.1, made from the same table and annotations that calls are judged by."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

import msgspec

from crossdock import __version__
from crossdock_controller.api.schemas import schema_of
from crossdock_controller.operations import carry
from crossdock_controller.operations.hints import hints
from crossdock_controller.operations.table import OPERATIONS, Operation

_ERRORS = {
    "400": "the body is not what the operation takes",
    "401": "no token, or one that is refused",
    "403": "the role is missing, here or at all",
    "409": "it cannot be done as things are",
    "413": "the body is too long",
    "422": "an argument is wrong",
    "429": "too many at once",
    "503": "not now; Retry-After says when",
}


@lru_cache(maxsize=1)
def document() -> bytes:
    """As JSON. Raises TypeError for an operation whose answer has no schema: a test asserts that there is none."""
    taken, schemas = msgspec.json.schema_components(
        [carry.parameters(o) for o in OPERATIONS], ref_template="#/components/schemas/{name}"
    )
    paths = {}
    for operation, takes in zip(OPERATIONS, taken, strict=True):
        gives = schema_of(hints(inspect.unwrap(carry.function_of(operation)))["return"], schemas)
        paths[f"/v1/{operation.name}"] = {"post": _path(operation, takes, gives)}
    error = {
        "type": "object", "required": ["error", "hint", "kind"],
        "properties": {"error": {"type": "string"}, "hint": {"type": "string"}, "kind": {"type": "string"}},
    }  # fmt: skip
    return msgspec.json.encode({
        "openapi": "3.1.0",
        "info": {"title": "crossdock controller", "version": __version__},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": error},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    })  # fmt: skip


def _path(operation: Operation, takes: dict[str, Any], gives: dict[str, Any]) -> dict[str, Any]:
    said = inspect.getdoc(carry.function_of(operation)) or operation.name
    what = [
        w for w, is_so in (("changes something", operation.changes), ("reads payloads", operation.payloads)) if is_so
    ]
    noted = f" On record: it {' and '.join(what)}." if what else ""
    refused = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    return {
        "operationId": operation.name,
        "summary": said.split(". ")[0].replace("\n", " ").rstrip("."),
        "description": f"{said}\n\nRole {operation.role}, {operation.scope.words}.{noted}",
        "requestBody": {"required": True, "content": {"application/json": {"schema": takes}}},
        "responses": {
            "200": {"description": "the answer", "content": {"application/json": {"schema": gives}}},
            **{code: {"description": words, **refused} for code, words in _ERRORS.items()},
        },
    }
