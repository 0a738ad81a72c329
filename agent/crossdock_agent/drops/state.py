"""What a source of files remembers: in the checkpoint the files it is in the middle of, in the ledger those it took.

Both are written with the batch they account for, so that neither is ever ahead of the data.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container

import msgspec

from crossdock.errors import UNREADABLE, Corrupt
from crossdock_agent.drops.identity import Signature, unit_of
from crossdock_agent.framing import Position, Spans
from crossdock_agent.sources.base import Memory

LOOK_ROWS = 256
KEEP_GONE_US = 7 * 24 * 3600 * 1_000_000  # a file moved away and put back is still known in place, for so long
_FOREVER_US = 2**62
_VERSION = 1
_FILE, _PRINT, _CONTENT = "file:", "print:", "content:"


class Work(msgspec.Struct, frozen=True, array_like=True):
    """A file and how far it was read. *size*, *fingerprint* and time are as they were when reading began: a file that
    still begins with that content has only grown. *prefix_bytes* are the file's first, unless *spans* (start, length)
    say of what parts of it the prefix is made.

    In an archive *member* is the place in its directory of the one being read (-1: none), and the position is in that
    member; *unit* is the archive's, each member has one of its own. *spoiled*: something in it could not be read.
    *packing* is how it was unpacked: a position means nothing under another setting."""

    name: bytes
    unit: bytes
    size: int
    fingerprint: bytes
    mtime_ns: int
    prefix_bytes: int = 0
    offset: int = 0
    record: int = 0
    line: int = 1
    member: int = -1
    member_name: bytes = b""
    spoiled: bool = False
    packing: str = ""
    spans: Spans = ()

    @property
    def origin(self) -> tuple[str, bytes]:
        """Name and unit that its records carry."""
        name = os.fsdecode(self.name)
        if self.member < 0:
            return name, self.unit
        name = f"{name}!{os.fsdecode(self.member_name)}"
        return name, unit_of(name, self.size, self.unit, self.member.to_bytes(4, "big"))

    @property
    def position(self) -> Position:
        return Position(self.offset, self.record, self.line)

    def at(self, position: Position, prefix_bytes: int, spans: Spans = ()) -> Work:
        return msgspec.structs.replace(self, prefix_bytes=prefix_bytes, spans=spans, **position._asdict())

    def inside(self, member: int, name: str) -> Work:
        """The beginning of a member."""
        begin = self.at(Position(), 0)
        try:
            encoded = os.fsencode(name)
        except UnicodeEncodeError:  # the file system here may have fewer letters than the archive
            encoded = name.encode("utf-8", "surrogateescape")
        return msgspec.structs.replace(begin, member=member, member_name=encoded)


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """A file read to its end. *work* stands where reading would go on if the file grew; *content* is the hash of it all
    where the fingerprint is not exact."""

    work: Work
    signature: tuple[int, int, int, int]
    content: bytes = b""
    taken_us: int = 0


class Token(msgspec.Struct, frozen=True, array_like=True):
    """For `release`: the file to archive, move or delete, if it is still this one. *taken_us* is when it was read to
    its end, so that a release that is tried again goes to the same place."""

    name: bytes
    size: int
    mtime_ns: int
    fingerprint: bytes
    content: bytes
    taken_us: int = 0

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, token: bytes) -> Token:
        """Raises Corrupt."""
        try:
            return msgspec.msgpack.decode(token, type=cls)
        except UNREADABLE as error:
            raise Corrupt(f"what is to be released is no file: {error}", hint=_HINT) from error


class _Copy(msgspec.Struct, frozen=True, array_like=True):
    """Content was taken: when, and under which name."""

    taken_us: int
    name: bytes


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
        except UNREADABLE as error:
            raise Corrupt(f"the checkpoint is not one of a file source: {error}", hint=_HINT) from error
        if stored.version != _VERSION:
            raise Corrupt(f"the checkpoint has version {stored.version}, this agent knows {_VERSION}", hint=_HINT)
        return cls((os.fsdecode(work.name), work) for work in stored.files)


_HINT = "was the source's kind changed, or the agent downgraded? give the source a new name, or update the agent"


class Ledger:
    """Typed access to the source's rows.

    `file:` rows say how a file under a name was taken, `print:` and `content:` rows which content was. A file's row is
    needed while it lies there, and a while longer in case it comes back; the others as long as a copy shall be known.
    """

    def __init__(self, memory: Memory, keep_content_us: int = _FOREVER_US) -> None:
        self._memory = memory
        self._keep_content_us = keep_content_us
        self._looked_to = ""

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

    def name_of(self, fingerprint: bytes) -> str:
        """Under which name content of this fingerprint was taken last."""
        row = self._memory.recall(_print_key(fingerprint))
        return os.fsdecode(_copy(row).name) if row is not None else ""

    def outdated(self, present: Container[str], now_us: int) -> tuple[tuple[str, None], ...]:
        """Rows to remove, among the next few: each call looks on where the last one stopped, and begins anew at the
        end. So the ledger is cleared out as fast as it is written to, and never all at once."""
        rows = self._memory.rows(self._looked_to, LOOK_ROWS)
        self._looked_to = rows[-1][0] if rows else ""
        return tuple((key, None) for key, value in rows if self._is_outdated(key, value, present, now_us))

    def _is_outdated(self, key: str, value: bytes, present: Container[str], now_us: int) -> bool:
        if key.startswith(_FILE):
            taken = msgspec.msgpack.decode(value, type=Taken)
            return now_us - taken.taken_us > KEEP_GONE_US and os.fsdecode(taken.work.name) not in present
        if key.startswith((_PRINT, _CONTENT)):
            return now_us - _copy(value).taken_us > self._keep_content_us
        return False

    @staticmethod
    def rows(name: str, taken: Taken, *, remember_content: bool) -> tuple[tuple[str, bytes], ...]:
        """What to remember with the last batch of a file."""
        rows = [(_file_key(name), msgspec.msgpack.encode(taken))]
        if remember_content:
            copy = msgspec.msgpack.encode(_Copy(taken.taken_us, taken.work.name))
            rows.append((_print_key(taken.work.fingerprint), copy))
            if taken.content:
                rows.append((_content_key(taken.content), copy))
        return tuple(rows)


def _copy(row: bytes) -> _Copy:
    """Rows of version 0.1 are the name alone: they are kept."""
    try:
        return msgspec.msgpack.decode(row, type=_Copy)
    except UNREADABLE:
        return _Copy(_FOREVER_US, row)


def _file_key(name: str) -> str:
    return _FILE + hashlib.blake2b(os.fsencode(name), digest_size=16).hexdigest()


def _print_key(fingerprint: bytes) -> str:
    return _PRINT + fingerprint.hex()


def _content_key(content: bytes) -> str:
    return _CONTENT + content.hex()
