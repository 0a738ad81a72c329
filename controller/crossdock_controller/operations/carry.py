"""The one place where it is decided who may do what, and then done.

A body becomes arguments by the function's own annotations; role and scope are asked before the function is; what it
must not be told by a caller (who it is, when it is, which sites) is put in here.
"""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from crossdock.errors import CrossdockError
from crossdock_controller.access import Grant, Sites, reach
from crossdock_controller.operations import plain, trees
from crossdock_controller.operations.hints import hints
from crossdock_controller.operations.table import Operation
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import INJECTED

_BEYOND = 2**63  # what the store holds ends before it


class Forbidden(CrossdockError):  # noqa: N818 - names the verdict
    """The caller is known and may not. *reason*: "role" or "scope"."""

    def __init__(self, message: str, *, hint: str, reason: str) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class Malformed(CrossdockError):  # noqa: N818
    """The request's body is not what the operation takes."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A person who has proved to be *user*."""

    user: str
    grants: list[Grant]

    @property
    def actor(self) -> str:
        return f"user:{self.user}"


def function_of(operation: Operation) -> Callable[..., Any]:
    module, name = operation.place.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(f"crossdock_controller.commands.{module}"), name)
    return function


@lru_cache(maxsize=512)
def parameters(operation: Operation) -> type[msgspec.Struct]:
    """What a body may hold: each parameter that a caller may give, by its annotation, and nothing else."""
    function = function_of(operation)
    told = hints(inspect.unwrap(function))
    fields: list[Any] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in INJECTED:
            continue
        kind = told[name]
        if kind is Path:
            raise TypeError(f"{operation.name}: {name} is a path, which means nothing on another machine")
        required = parameter.default is inspect.Parameter.empty
        fields.append((name, kind) if required else (name, kind, parameter.default))
    fields.sort(key=len)
    return msgspec.defstruct(
        operation.name.replace(".", "_").replace("-", "_"),
        fields,
        forbid_unknown_fields=True,
        kw_only=True,
        frozen=True,
    )


def arguments_of(operation: Operation, body: bytes) -> dict[str, Any]:
    """Raises Malformed, saying where and what."""
    try:
        decoded = msgspec.json.decode(body or b"{}", type=parameters(operation), strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(
            f"the body is not what {operation.name} takes: {error}", hint="GET /v1/openapi.json describes it"
        ) from error
    arguments = {name: getattr(decoded, name) for name in decoded.__struct_fields__}
    for name, value in arguments.items():
        if isinstance(value, int) and not -_BEYOND <= value < _BEYOND:
            raise Malformed(
                f"{name} is a number of more than 64 bits", hint="GET /v1/openapi.json describes what is taken"
            )
    return arguments


def carry_out(operation: Operation, data: DataDirectory, caller: Caller, body: bytes) -> bytes:
    """The answer as JSON. Raises Forbidden, Malformed, and what the function raises."""
    function = function_of(operation)
    takes = inspect.signature(function).parameters
    judged = trees.in_force(data) if "judged" in takes else 0  # first: role and scope go by labels of then or later
    sites = permitted(operation, data, caller)
    arguments = arguments_of(operation, body)
    if not operation.scope.covers(sites, data, arguments):
        raise Forbidden(
            f"{caller.user} has the role {operation.role}, and not for what this {operation.name} is about",
            hint=f"it needs the role {operation.scope.words}; an admin grants it: crossdock users grant",
            reason="scope",
        )
    known = {"data": data, "now_us": time.time_ns() // 1000, "by": caller.actor, "within": sites, "judged": judged}
    answer = function(**arguments, **{name: value for name, value in known.items() if name in takes})
    return msgspec.json.encode(plain.encode(operation.scope.narrowed(answer, sites, data)))


def permitted(operation: Operation, data: DataDirectory, caller: Caller) -> Sites:
    """Where the caller holds the role that *operation* needs. Raises Forbidden when nowhere."""
    sites = reach(caller.grants, operation.role, trees.labels_of(data))
    if sites is None:
        held = ", ".join(sorted({grant.role for grant in caller.grants})) or "no role"
        raise Forbidden(
            f"{operation.name} needs the role {operation.role}; {caller.user} has {held}",
            hint=f"an admin grants it: crossdock users grant {caller.user} --role {operation.role} --on LABELS",
            reason="role",
        )
    return sites
