"""The contract of a source: it yields drafts, each with the checkpoint after it, and knows nothing of delivery.

The pump alone knows outbox, backpressure, schedule and backoff. A source is used from one thread at a time.
Whoever adds a kind adds one file in this folder: settings (a frozen msgspec Struct), the class, and `register(...)`.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from crossdock.errors import ConfigError
from crossdock.lifecycle import Stop
from crossdock.v1.batch_pb2 import BatchHeader


@dataclass(frozen=True, slots=True)
class Draft:
    """One batch, not yet sealed. *header* is complete but for `raw_bytes`, `read_at_us` and `revision`; its
    `checkpoint` is how far the source has read after this batch.

    *remember* are ledger rows (key, value) committed with the batch: what the source must know later and what does not
    fit a small checkpoint (files already taken); the value None removes one. *on_ack* is handed to `release` once the
    controller has the batch and every earlier one of this source.
    """

    header: BatchHeader
    payload: bytes
    remember: tuple[tuple[str, bytes | None], ...] = ()
    on_ack: bytes | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`: what was tried, whether it works, and the next step if not."""

    name: str
    ok: bool
    detail: str = ""
    hint: str = ""


class Memory(Protocol):
    """The source's own ledger, kept in the outbox file and written only together with a batch."""

    def recall(self, key: str) -> bytes | None:
        """The row as it stands after every draft handed over, committed or not."""

    def rows(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Rows with keys greater than *after*, by key, at most *limit*: for looking through all of them in pieces.

        Rows of drafts not yet committed may be missing; a row that is there is as `recall` would give it.
        """

    def unreleased(self) -> list[bytes]:
        """Every `Draft.on_ack` that was committed and is not yet released, oldest first: what is in flight."""


@dataclass(slots=True)
class Counters:
    """What a person should know about a source, by stable name (`duplicates_skipped`, `files_waiting`)."""

    values: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, n: int = 1) -> None:
        with self._lock:
            self.values[name] = self.values.get(name, 0) + n

    def set(self, name: str, n: int) -> None:
        with self._lock:
            self.values[name] = n

    def snapshot(self) -> dict[str, int]:
        with self._lock:
            return dict(self.values)


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a source gets from the outside; time and secrets come in, so that tests need neither sleep nor vault."""

    name: str
    memory: Memory
    counters: Counters
    stop: Stop
    secret: Callable[[str], str]  # resolves "secret:NAME" (other text is returned as it is); raises ConfigError
    monotonic: Callable[[], float]
    wall_us: Callable[[], int]  # microseconds since the epoch, UTC


class Source(Protocol):
    def read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        """One pass from *checkpoint* (None: from the beginning): all that is ready now, then the iterator ends.

        May be abandoned after any draft (stop, full outbox) and is then called again with the last draft's checkpoint.
        Raises SourceUnavailable when the folder or server cannot be reached; that never reads as "no data".
        """

    def release(self, token: bytes) -> None:
        """Do what was promised for after the acknowledgement (archive, delete). Called at least once: idempotent."""

    def check(self) -> Iterator[Finding]:
        """Prove the set-up without reading records or moving anything."""

    def watch(self) -> list[Path]:
        """Directories whose file events should wake the next pass; events are hints, the pass is the truth."""

    def poll_seconds(self) -> float:
        """Seconds between two passes when nothing wakes them."""

    def close(self) -> None:
        """Give back handles and connections; the source may be read again afterwards."""


@dataclass(frozen=True, slots=True)
class SourceKind:
    name: str
    settings: type[msgspec.Struct]
    create: Callable[[Any, SourceContext], Source]


_KINDS: dict[str, SourceKind] = {}


def register(name: str, settings: type[msgspec.Struct], create: Callable[[Any, SourceContext], Source]) -> None:
    _KINDS[name] = SourceKind(name, settings, create)


def kinds() -> dict[str, SourceKind]:
    """Every kind in this folder, by name."""
    import crossdock_agent.sources as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(_KINDS)


def build(kind: str, settings: Mapping[str, Any], context: SourceContext) -> Source:
    """Raises ConfigError naming the source and the setting at fault."""
    known = _find(kind)
    if known is None:
        raise ConfigError(
            f"source {context.name}: unknown kind {kind!r}", hint=f"known kinds: {', '.join(sorted(kinds()))}"
        )
    try:
        typed = msgspec.convert(settings, type=known.settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"source {context.name}: {error}") from error
    return known.create(typed, context)


def _find(kind: str) -> SourceKind | None:
    """Imports the module of *kind* alone: other kinds cost no memory, and a broken one stops no other."""
    if kind not in _KINDS and kind.isidentifier():
        module = f"{__package__}.{kind}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
    return _KINDS.get(kind)
