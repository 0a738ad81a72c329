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


@lru_cache(maxsize=256)
def _deferred(module: str) -> dict[str, Any]:
    """Names that *module* imports for annotations only."""
    loaded = sys.modules[module]
    if not hasattr(loaded, "TYPE_CHECKING"):
        return {}
    found: dict[str, Any] = {}
    for node in ast.parse(inspect.getsource(loaded)).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for inner in node.body:
                if isinstance(inner, ast.ImportFrom) and inner.module:
                    source = importlib.import_module(inner.module)
                    found |= {alias.asname or alias.name: getattr(source, alias.name) for alias in inner.names}
    return found
