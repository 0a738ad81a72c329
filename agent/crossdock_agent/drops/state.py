"""What a source of files remembers: in the checkpoint the files it is in the middle of, in the ledger those it took.

Both are written with the batch they account for, so that neither is ever ahead of the data.
"""

from __future__ import annotations

import hashlib
import os

import msgspec

from crossdock.errors import Corrupt
from crossdock_agent.drops.identity import Signature
from crossdock_agent.framing import Position, Spans
from crossdock_agent.sources.base import Memory

_VERSION = 1


class Work(msgspec.Struct, frozen=True, array_like=True):
    """A file and how far it was read. *size*, *fingerprint* and time are as they were when reading began: a file that
    still begins with that content has only grown. *prefix_bytes* are the file's first, unless *spans* (start, length)
    say of what parts of the file the prefix is made."""

    name: bytes
    unit: bytes
    size: int
    fingerprint: bytes
    mtime_ns: int
    prefix_bytes: int = 0
    offset: int = 0
    record: int = 0
    line: int = 1
    spans: Spans = ()

    @property
    def position(self) -> Position:
        return Position(self.offset, self.record, self.line)

    def at(self, position: Position, prefix_bytes: int, spans: Spans = ()) -> Work:
        return msgspec.structs.replace(self, prefix_bytes=prefix_bytes, spans=spans, **position._asdict())


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """A file read to its end. *work* stands where reading would go on if the file grew; *content* is the hash of it all
    where the fingerprint is not exact."""

    work: Work
    signature: tuple[int, int, int, int]
    content: bytes = b""


class Token(msgspec.Struct, frozen=True, array_like=True):
    """For `release`: the file to archive or delete, if it is still this one."""

    name: bytes
    size: int
    mtime_ns: int
    fingerprint: bytes
    content: bytes

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    version: int
    files: list[Work]


class InProgress(dict[str, Work]):
    """Files begun and not finished, by name: at most one, and those that grew while they were read."""

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(_Stored(_VERSION, list(self.values())))

    @classmethod
    def decode(cls, checkpoint: bytes | None) -> InProgress:
        """Raises Corrupt."""
        if checkpoint is None:
            return cls()
        try:
            stored = msgspec.msgpack.decode(checkpoint, type=_Stored)
        except msgspec.DecodeError as error:
            raise Corrupt(f"the checkpoint is not one of a file source: {error}", hint=_HINT) from error
        if stored.version != _VERSION:
            raise Corrupt(f"the checkpoint has version {stored.version}, this agent knows {_VERSION}", hint=_HINT)
        return cls((os.fsdecode(work.name), work) for work in stored.files)


_HINT = "was the source's kind changed, or the agent downgraded? give the source a new name, or update the agent"


class Ledger:
    """Typed access to the source's rows."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def taken(self, name: str) -> Taken | None:
        row = self._memory.recall(_file_key(name))
        return msgspec.msgpack.decode(row, type=Taken) if row is not None else None

    def signature(self, name: str) -> Signature | None:
        row = self.taken(name)
        return Signature(*row.signature) if row else None

    def has_print(self, fingerprint: bytes) -> bool:
        return self._memory.recall(_print_key(fingerprint)) is not None

    def has_content(self, content: bytes) -> bool:
        return self._memory.recall(_content_key(content)) is not None

    @staticmethod
    def rows(name: str, taken: Taken, *, remember_content: bool) -> tuple[tuple[str, bytes], ...]:
        """What to remember with the last batch of a file."""
        rows = [(_file_key(name), msgspec.msgpack.encode(taken))]
        if remember_content:
            rows.append((_print_key(taken.work.fingerprint), taken.work.name))
            if taken.content:
                rows.append((_content_key(taken.content), taken.work.name))
        return tuple(rows)


def _file_key(name: str) -> str:
    return "file:" + hashlib.blake2b(os.fsencode(name), digest_size=16).hexdigest()


def _print_key(fingerprint: bytes) -> str:
    return "print:" + fingerprint.hex()


def _content_key(content: bytes) -> str:
    return "content:" + content.hex()
