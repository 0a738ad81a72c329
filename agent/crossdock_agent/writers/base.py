"""The contract of a writer: it applies documents at one destination, each exactly once, and can take one back.

The inbox is committed before and after every step, the destination is not: so a writer splits its work in two.
`prepare` does what leaves no trace at the destination, and gives what must be remembered; that is committed. `apply`
then does the deed. After a crash in between, `apply` is called with the same note and has to find out, from what it
finds at the destination, whether the deed was done.

A writer is used from one thread at a time. Whoever adds a kind adds one file in this folder: settings (a frozen msgspec
Struct), the class, and `register(...)`.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from crossdock.errors import ConfigError, Retryable
from crossdock_agent.sources.base import Finding


class WriterUnavailable(Retryable):
    """The destination cannot be reached now. Whether the deed was done is found out by the next call."""


@dataclass(frozen=True, slots=True)
class Job:
    """One delivery. *note* is what `prepare` gave, None before. *attempt* is greater than 1 when a person had it sent
    again. *undo* is the note with which the delivery to take back was applied; then there is no payload."""

    id: bytes
    attempt: int
    document: str
    key: str
    version: int  # of two of one key the later one has the larger
    payload: bytes  # the document as JSON
    note: bytes | None = None
    undo: bytes | None = None
    undoes: bytes | None = None  # the id of that delivery


@dataclass(frozen=True, slots=True)
class Verdict:
    """*note* is kept for an undo; *remember* are rows of the writer's ledger, committed with the verdict."""

    outcome: Literal["applied", "rejected"]
    code: str = ""  # stable: "conflict", "constraint", "no_undo"
    reason: str = ""
    place: str = ""
    note: bytes | None = None
    remember: tuple[tuple[str, bytes | None], ...] = ()


def rejected(code: str, reason: str) -> Verdict:
    return Verdict("rejected", code, reason)


def conflict(reason: str) -> Verdict:
    """The destination is not as this writer left it: a person decides."""
    return Verdict("rejected", "conflict", reason)


@dataclass(frozen=True, slots=True)
class WriterContext:
    """What a writer gets from the outside. *recall* gives a row of its ledger, as of the last verdict."""

    name: str
    recall: Callable[[str], bytes | None]
    secret: Callable[[str], str]
    wall_us: Callable[[], int]


class Writer(Protocol):
    def prepare(self, jobs: Sequence[Job]) -> list[bytes | Verdict]:
        """For each a note, or the verdict when that is certain already. Raises WriterUnavailable."""

    def apply(self, jobs: Sequence[Job]) -> list[Verdict]:
        """In order; all were prepared. A job that was applied already, by us, is "applied". Raises WriterUnavailable:
        then all of them come again."""

    def check(self) -> Iterator[Finding]:
        """Prove the set-up without writing a document."""

    def close(self) -> None:
        """Give back handles; the writer may be used again afterwards."""


@dataclass(frozen=True, slots=True)
class WriterKind:
    name: str
    settings: type[msgspec.Struct]
    create: Callable[[Any, WriterContext], Writer]


_KINDS: dict[str, WriterKind] = {}


def register(name: str, settings: type[msgspec.Struct], create: Callable[[Any, WriterContext], Writer]) -> None:
    _KINDS[name] = WriterKind(name, settings, create)


def kinds() -> dict[str, WriterKind]:
    """Every kind in this folder, by name."""
    import crossdock_agent.writers as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(_KINDS)


def build(kind: str, settings: Mapping[str, Any], context: WriterContext) -> Writer:
    """Raises ConfigError naming the writer and the setting at fault."""
    known = _find(kind)
    if known is None:
        raise ConfigError(
            f"writer {context.name}: unknown kind {kind!r}", hint=f"known kinds: {', '.join(sorted(kinds()))}"
        )
    try:
        typed = msgspec.convert(settings, type=known.settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"writer {context.name}: {error}") from error
    return known.create(typed, context)


def _find(kind: str) -> WriterKind | None:
    """Imports the module of *kind* alone."""
    if kind not in _KINDS and kind.isidentifier():
        module = f"{__package__}.{kind}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
    return _KINDS.get(kind)
