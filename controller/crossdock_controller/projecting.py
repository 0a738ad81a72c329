"""Keeps the current state beside the event log, in small steps: whoever runs it is never kept for longer than one."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from crossdock_controller.store import projection
from crossdock_controller.store.bodies import Bodies

STEP = 256  # events: a few milliseconds
AT_LEAST_SECONDS = 1.0  # while records keep coming, a step is due all the same after so long
MAX_REFS = 500  # of one document
MAX_VALUE = 200
_PARTIES = ("customer", "supplier")
_TEXTS = {
    "number": "number", "order_number": "order", "shipment_number": "shipment", "sku": "sku", "reference": "reference",
}  # fmt: skip
_OWN = {"SalesOrder": "order", "PurchaseOrder": "order", "Shipment": "shipment", "Customer": "customer",
        "Supplier": "supplier"}  # fmt: skip
NAMES = ("number", "order", "shipment", "sku", "reference", "customer", "supplier")


def refs_of(document: str, body: dict[str, Any]) -> set[tuple[str, str]]:
    """(name, value) of everything that *document* refers to, and its own number; at most MAX_REFS."""
    found: set[tuple[str, str]] = set()
    for name, value in _named(document, body):
        if isinstance(value, str) and 0 < len(value) <= MAX_VALUE:
            found.add((name, value))
        if len(found) >= MAX_REFS:
            break
    return found


def _named(document: str, body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if document in _OWN:
        yield _OWN[document], body.get("number")
    for party in _PARTIES:
        held = body.get(party)
        if isinstance(held, dict):
            yield party, held.get("id")
    for key, name in _TEXTS.items():
        yield name, body.get(key)
    lines = body.get("lines")
    for line in lines if isinstance(lines, list) else ():
        if isinstance(line, dict):
            yield "sku", line.get("sku")
            yield "order", line.get("order_number")


class Projector:
    """For one thread, with its connection. `step` is cheap when there is nothing to do."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._bodies = Bodies(db)
        self._at: int | None = None
        self._stepped = 0.0

    def due(self) -> bool:
        """Whether it had no turn for AT_LEAST_SECONDS."""
        return time.monotonic() - self._stepped >= AT_LEAST_SECONDS

    def step(self) -> bool:
        """Take in the next events; whether there are more."""
        self._stepped = time.monotonic()
        if self._at is None:
            self._at = projection.cursor(self._db)
        if projection.newest(self._db) <= self._at:
            return False
        events = projection.page(self._db, self._bodies, self._at, STEP)
        if not events:
            return False
        latest = {(e.document, e.source_id, e.key): e.seq for e in events}
        refs = {(*ref, e.document, e.key) for e in events for ref in self._refs(e)}
        rows = sorted((document, source, key, seq) for (document, source, key), seq in latest.items())
        moved = projection.move(self._db, self._at, events[-1].seq, rows, sorted(refs))
        self._at = events[-1].seq if moved else None
        return True

    def _refs(self, event: projection.Event) -> set[tuple[str, str]]:
        try:
            body = msgspec.json.decode(event.body) if event.body is not None else None
        except msgspec.DecodeError:
            body = None
        return refs_of(event.document, body) if isinstance(body, dict) else set()
