"""The directory of a zip file, and its members as streams. Whatever a hostile one says costs little and is refused.

Nothing is ever unpacked to disk; a member's name is only shown, and still one that would climb out of a directory is
refused, because somebody may use it as a path later on.
"""

from __future__ import annotations

import errno
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from crossdock_agent.drops.gunzip import Content, Damaged
from crossdock_agent.drops.patterns import matcher

MAX_MEMBERS = 65_535
MAX_DIRECTORY_BYTES = 16 * 1024 * 1024  # held in memory while the archive is read
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2}  # a hostile LZMA stream may ask for 4 GiB
_ENCRYPTED = 0x1
_NESTED = (b"PK\x03\x04", b"\x1f\x8b")
_END = struct.Struct("<4s4H2LH")  # APPNOTE.TXT 4.3.16
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_LOCATOR = struct.Struct("<4sLQL")  # 4.3.15: where the 64-bit form stands

Member = zipfile.ZipInfo


class Zip:
    """An open archive. Raises Damaged when it has no sound directory, or an unreasonable one."""

    def __init__(self, file: BinaryIO) -> None:
        entries, size = _announced(file)
        if entries > MAX_MEMBERS or size > MAX_DIRECTORY_BYTES:
            raise Damaged("too_large", f"its directory announces {entries} members in {size} bytes; that is refused")
        with _translated("the zip file"):
            self._zip = zipfile.ZipFile(file)
        self._places = {id(info): place for place, info in enumerate(self._zip.infolist())}

    def members(self, pattern: str, *, by_time: bool, max_bytes: int) -> list[Member]:
        """Files in it that match *pattern*: their names, or their whole paths if it holds a slash. By path, or by time
        and path. Raises Damaged when they say that they unpack to more than *max_bytes* together."""
        wanted = matcher((pattern,))
        whole = "/" in pattern
        found = [
            info for info in self._zip.infolist()
            if not info.filename.endswith("/") and wanted(info.filename if whole else info.filename.rpartition("/")[2])
        ]  # fmt: skip
        size = sum(info.file_size for info in found)
        if size > max_bytes:
            raise Damaged("too_large", f"its members unpack to {size} bytes, max_unpacked_bytes is {max_bytes}")
        return sorted(found, key=lambda info: (info.date_time if by_time else (), info.filename, self.place(info)))

    def place(self, member: Member) -> int:
        """Its place in the archive's directory."""
        return self._places[id(member)]

    def open(self, member: Member) -> Stream:
        """Raises Damaged for what is never read."""
        refused = _refusal(member)
        if refused:
            raise Damaged(*refused)
        with _translated(f"member {member.filename!r}"):
            return Stream(self._zip, member)


class Stream:
    """A member's content, from front to back."""

    def __init__(self, archive: zipfile.ZipFile, member: Member) -> None:
        self._member = member
        self._archive = archive
        self._open = archive.open(member)
        self._at = 0

    def read(self, size: int) -> bytes:
        """At most *size* bytes, and b"" at the end. Raises Damaged, OSError."""
        with _translated(f"member {self._member.filename!r}"):
            block = self._open.read(size)
        if not block and self._at < self._member.file_size:
            raise Damaged("truncated", f"member {self._member.filename!r} ends after {self._at} bytes")
        self._at += len(block)
        return block

    def seek(self, offset: int) -> None:
        if offset < self._at:
            self._open = self._archive.open(self._member)
            self._at = 0
        while self._at < offset and self.read(min(256 * 1024, offset - self._at)):
            continue


def prove(content: Content, limit: int, check: Callable[[], None], *, nested_is_fine: bool) -> int:
    """Read *content* to its end once, so that nothing of a damaged one is ever sent; its size.

    *check* is called now and then, to stop. Raises Damaged, also when there are more than *limit* bytes.
    """
    size = 0
    content.seek(0)
    while block := content.read(256 * 1024):
        check()
        if not size and not nested_is_fine and block.startswith(_NESTED):
            raise Damaged("nested", "it holds another archive; only what lies directly in it is read")
        size += len(block)
        if size > limit:
            raise Damaged("too_large", f"it unpacks to more than max_unpacked_bytes, {limit}")
    content.seek(0)
    return size


def _refusal(member: Member) -> tuple[str, str] | None:
    name = member.filename
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0]:
        return "unsafe_name", f"the member's name {name!r} leads out of the archive"
    if member.flag_bits & _ENCRYPTED:
        return "encrypted", f"member {name!r} is encrypted"
    if member.compress_type not in _METHODS:
        method = member.compress_type
        return "compression", f"member {name!r} is packed with method {method}; stored, deflate and bzip2 are read"
    return None


def _announced(file: BinaryIO) -> tuple[int, int]:
    """Members, and bytes of the directory, before any of it is held in memory. Raises Damaged.

    As `zipfile` finds them: in the 64-bit form right before its locator, wherever that points.
    """
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _END.size - _LOCATOR.size - _END64.size - 0xFFFF)
    file.seek(start)
    tail = _exactly(file, size - start)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise Damaged("truncated", "this is no whole zip file: it has no directory at its end")
    _, _, _, _, entries, directory, _, _ = _END.unpack_from(tail, at)
    at64 = at - _LOCATOR.size - _END64.size
    if at64 >= 0 and tail.startswith(b"PK\x06\x07", at - _LOCATOR.size) and tail.startswith(b"PK\x06\x06", at64):
        _, _, _, _, _, _, _, entries, directory, _ = _END64.unpack_from(tail, at64)
        at = at64
    if directory <= min(MAX_DIRECTORY_BYTES, start + at):
        file.seek(start + at - directory)
        entries = max(entries, _exactly(file, directory).count(b"PK\x01\x02"))
    return entries, directory


def _exactly(file: BinaryIO, size: int) -> bytes:
    parts = []
    while size > 0 and (block := file.read(size)):
        parts.append(block)
        size -= len(block)
    return b"".join(parts)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise Damaged("damaged", f"{what} is damaged: {error}") from error
    except (ValueError, OverflowError) as error:  # a negative offset, a date that is none: what a directory may hold
        raise Damaged("damaged", f"{what} is damaged: {error}") from error
    except OSError as error:
        if error.errno is None:  # of no system call: bz2 says so that its stream is damaged
            raise Damaged("damaged", f"{what} is damaged: {error}") from error
        if error.errno != errno.EINVAL:
            raise
        raise Damaged("damaged", f"{what} is damaged: it points outside of the file") from error
