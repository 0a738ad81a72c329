"""Versions of an entity: fields may be added within one; what changes or leaves a field makes the next.

Each step tells both ways, on JSON objects: `up` for what was stored before it, `down` for a consumer that pinned the
version before. Steps stand beside the entity.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import msgspec

from crossdock.errors import ConfigError

Change = Callable[[dict[str, Any]], dict[str, Any]]


class _Step(NamedTuple):
    up: Change
    down: Change


_STEPS: dict[tuple[str, int], _Step] = {}
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def steps(entity: type[Any], *, to: int, up: Change, down: Change) -> None:
    """How a body of version *to* - 1 of *entity* becomes one of *to*, and back."""
    _STEPS[entity.__name__, to] = _Step(up, down)


def at(document: str, body: bytes, have: int, want: int) -> bytes:
    """*body*, which has version *have*, as a JSON document of version *want*; the same bytes when they are equal.

    Raises ConfigError when there is no way between them.
    """
    if have == want:
        return body
    value = _decode(body)
    for number in range(have + 1, want + 1):
        value = _step(document, number).up(value)
    for number in range(have, want, -1):
        value = _step(document, number).down(value)
    return _encode(value)


def known(document: str, current: int) -> range:
    """The versions of *document* that a consumer may pin: those that lead to *current* by steps."""
    _all_known()
    first = current
    while (document, first) in _STEPS:
        first -= 1
    return range(first, current + 1)


@cache
def _all_known() -> None:
    """Steps stand beside their entities: those are asked for once."""
    from crossdock_controller.documents.base import entities

    entities()


def _step(document: str, number: int) -> _Step:
    _all_known()
    step = _STEPS.get((document, number))
    if step is None:
        raise ConfigError(
            f"{document} has no step between the versions {number - 1} and {number}",
            hint="pin a version that `docs/reference/documents.md` names",
        )
    return step
