"""Annotations as types. Many modules import what only annotations need under `if TYPE_CHECKING`, to start quickly;
where the types themselves are asked for, those imports are made up for.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any


def hints(thing: type | Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function or class, `Annotated` kept. Raises NameError for what cannot be resolved."""
    return typing.get_type_hints(thing, localns=_deferred(thing.__module__), include_extras=True)


class _Names(dict[str, Any]):
    """Names that a module imports for annotations only, each imported when it is first asked for."""

    def __init__(self, places: dict[str, tuple[str, str]]) -> None:
        super().__init__()
        self._places = places

    def __missing__(self, name: str) -> Any:
        module, attribute = self._places[name]  # KeyError: then it is one of the module's own
        self[name] = getattr(importlib.import_module(module), attribute)
        return self[name]


@lru_cache(maxsize=256)
def _deferred(module: str) -> _Names:
    loaded = sys.modules[module]
    places: dict[str, tuple[str, str]] = {}
    if hasattr(loaded, "TYPE_CHECKING"):
        for node in ast.parse(inspect.getsource(loaded)).body:
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                for inner in node.body:
                    if isinstance(inner, ast.ImportFrom) and inner.module:
                        places |= {alias.asname or alias.name: (inner.module, alias.name) for alias in inner.names}
    return _Names(places)
