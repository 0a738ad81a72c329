"""Several documents in one request, and the verdict of each in its answer. Pure.

A batch holds no key twice. When it is refused as a whole, its halves are asked, down to the document that is at fault.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import Field

from crossdock.errors import UNREADABLE
from crossdock_controller.sinks.base import Outgoing, SinkSettings, Verdict
from crossdock_controller.sinks.http_verdicts import Answer

_encode = msgspec.json.Encoder().encode
SPLIT = ("http_400", "http_409", "http_413", "http_422")  # may be said of one of them, or of their number


class BatchSettings(SinkSettings):
    max: int = Field(default=100, ge=1, le=1000)  # documents a request
    wrap: str | None = None  # the list stands in an object under this name; without it the list is the body
    envelope: bool = True  # each document stands under `body`, beside id (idempotency key), document, key and sequence
    results: str | None = None  # where the answer has a list of verdicts, in order; without it 2xx is done for all
    status: str = "status"  # where an element of that list has its HTTP status


def body(settings: BatchSettings, run: Sequence[tuple[Outgoing, bytes]], ids: Sequence[str]) -> bytes:
    items: list[Any] = []
    for (delivery, made), identity in zip(run, ids, strict=True):
        raw = msgspec.Raw(made)
        about = {"id": identity, "document": delivery.document, "key": delivery.key, "sequence": delivery.sequence}
        items.append({**about, "body": raw} if settings.envelope else raw)
    return _encode({settings.wrap: items} if settings.wrap else items)


def identity(ids: Sequence[str]) -> str:
    """The idempotency key of a batch: the same documents in the same order have the same."""
    return hashlib.blake2b("\n".join(ids).encode(), digest_size=16).hexdigest()


def statuses(settings: BatchSettings, answer: Answer, number: int) -> list[tuple[int, bytes]] | Verdict:
    """HTTP status and what was said of each document of a 2xx *answer*; a Verdict when they cannot be told."""
    if settings.results is None:
        return [(200, b"")] * number
    try:
        found = _reach(msgspec.json.decode(answer.body), settings.results)
    except UNREADABLE:
        found = None
    if not isinstance(found, list) or len(found) != number:
        told = f"{len(found)}" if isinstance(found, list) else "no list"
        return Verdict("retry", "bad_answer", f"the answer has {told} under {settings.results}, {number} were sent")
    told_of = [(_reach(element, settings.status), _encode(element)) for element in found]
    if not all(isinstance(status, int) and 100 <= status <= 999 for status, _ in told_of):
        return Verdict("retry", "bad_answer", f"an element under {settings.results} has no {settings.status}")
    return told_of


def _reach(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def batches(run: Sequence[Outgoing], positions: Sequence[int], most: int) -> list[list[int]]:
    """*positions* cut so that no key stands twice in a batch, in order."""
    found: list[list[int]] = []
    current: list[int] = []
    keys: set[tuple[str, str]] = set()
    for position in positions:
        key = (run[position].document, run[position].key)
        if key in keys or len(current) >= most:
            found.append(current)
            current, keys = [], set()
        current.append(position)
        keys.add(key)
    return [*found, current] if current else found
