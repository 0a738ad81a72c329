"""Where a command is carried out: here, on the data directory, or by a controller elsewhere, through its API.

A command function takes a DataDirectory first. Handed an `Elsewhere` instead, a function marked `served` asks that
controller for the operation of the same function and gives back its answer; the caller sees no difference. A function
that is not served fails as soon as it touches the directory, and says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from crossdock.errors import ConfigError
from crossdock_controller.paths import DataDirectory

P = ParamSpec("P")
R = TypeVar("R")
INJECTED = frozenset({"data", "now_us", "by", "within", "judged"})  # what the server knows, and no caller may say


class Asks(Protocol):
    """Asks a controller elsewhere."""

    def ask(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> object: ...


class Elsewhere(DataDirectory):
    """In the place of a data directory: a controller that is reached through its API."""

    __slots__ = ("asks",)
    asks: Asks

    def __init__(self, asks: Asks) -> None:
        object.__setattr__(self, "asks", asks)
        object.__setattr__(self, "holder", "")

    @property
    def root(self) -> Path:
        raise ConfigError(
            "this command needs the controller's data directory itself, and a server was named",
            hint="give it on the controller's machine, without --server and CROSSDOCK_SERVER",
        )

    def __repr__(self) -> str:
        return "Elsewhere()"


def served(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a command as one that the API serves: it needs a line in `operations.table`, which a test asserts."""
    signature = inspect.signature(function)

    @wraps(function)
    def carried_out(*args: P.args, **kwargs: P.kwargs) -> R:
        data = args[0] if args else kwargs.get("data")
        if not isinstance(data, Elsewhere):
            return function(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        arguments = {name: value for name, value in given.items() if name not in INJECTED}
        return cast("R", data.asks.ask(function, arguments))

    carried_out.__crossdock_served__ = True  # type: ignore[attr-defined]
    return carried_out
