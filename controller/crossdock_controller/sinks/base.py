"""The contract of a sink: connect, write a run of deliveries, say what happened to each. Nothing else.

The dispatcher alone knows leases, order, schedules and retries. A sink is used from one thread at a time.
Whoever adds a kind adds one file in this folder: settings (a frozen pydantic model), the class, and `register(...)`.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec
from pydantic import BaseModel, ConfigDict


class SinkSettings(BaseModel):
    """Base of every sink's settings: unknown keys are refused with their path."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One delivery, as a sink sees it. A Struct, because a million of them are made in seconds."""

    event_id: bytes  # 16 bytes; with the sink's name it is the idempotency key of every attempt
    document: str  # "Shipment"
    key: str  # business key
    body: bytes  # the document as JSON
    sequence: int  # position of the event in the event log: a later version of one key has a larger one
    attempt: int  # from 1
    version: int = 1  # of the kind of document
    replay: int = 0  # the replay that sends again what was done before: it has an idempotency key of its own
    site: str = ""  # where its records came from

    @property
    def identity(self) -> bytes:
        """16 bytes, the same at every attempt: the event id, and another for each replay of what was done before."""
        if not self.replay:
            return self.event_id
        return hashlib.blake2b(self.event_id + self.replay.to_bytes(8, "big"), digest_size=16).digest()


Outcome = Literal["done", "retry", "rejected"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the sink said of one delivery. "done" only on its own positive answer; no answer is "retry"."""

    outcome: Outcome
    code: str = ""  # stable word or status for grouping: "http_400", "constraint"
    reason: str = ""  # a sentence for people, without secrets
    after_seconds: float | None = None  # with "retry": not before


DONE = Verdict("done")


class Sink(Protocol):
    def write(self, run: Sequence[Outgoing]) -> Sequence[Verdict]:
        """Deliver *run* in order; one verdict each, in the same order.

        Versions of one key stand in order in *run*: when one is not done, later ones of that key must not be applied
        (say "retry" for them with code "held"). Raises SinkUnavailable when nothing of the run has a verdict.
        """

    def check(self) -> str:
        """One line about the reachable sink ("PostgreSQL 15.4, table shipments found"). Raises CrossdockError."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SinkContext:
    name: str
    secret: Callable[[str], str]  # resolves "secret:NAME"; other text is returned as it is
    base_directory: str  # relative paths in settings are relative to it
    holder: str = ""  # in whose name the store is written, where a sink needs it


@dataclass(frozen=True, slots=True)
class SinkKind:
    name: str
    settings: type[SinkSettings]
    create: Callable[[Any, SinkContext], Sink]
    run_size: int  # deliveries handed to one `write`


_KINDS: dict[str, SinkKind] = {}


def register(
    name: str, settings: type[SinkSettings], create: Callable[[Any, SinkContext], Sink], *, run_size: int = 500
) -> None:
    _KINDS[name] = SinkKind(name, settings, create, run_size)


def kinds() -> dict[str, SinkKind]:
    """Every kind in this folder, by name."""
    import crossdock_controller.sinks as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(_KINDS)
