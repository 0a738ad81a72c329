"""Whether a source of files would work, shown before it does: nothing is read beyond a sample, nothing is moved."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from crossdock.errors import SourceUnavailable
from crossdock_agent.drops.gunzip import Content, Damaged, Gunzip
from crossdock_agent.drops.handles import open_shared
from crossdock_agent.drops.listing import Found, Listing, display
from crossdock_agent.drops.taking import Unpacking
from crossdock_agent.drops.zipped import Zip
from crossdock_agent.framing import Format, Framer, is_wide
from crossdock_agent.sources.base import Finding

_SAMPLE_BYTES = 64 * 1024
_PROBE = ".crossdock-probe.tmp"
_SHOWN = 120
EXCLUSIVE_MEANS_NOTHING = Finding(
    "exclusive", ok=True, detail="has no meaning on this system: it lets any number of programs write to a file",
    hint="'settle_seconds' or 'marker' decides here when a file is complete",
)  # fmt: skip


def findings(
    listing: Listing, settings: Format, *, archive: Path | None, deletes: bool, unpacking: Unpacking | None = None
) -> Iterator[Finding]:
    """*archive* is where files go afterwards. Without it and *deletes* nothing is written anywhere: the disk may be
    read-only."""
    try:
        found = list(listing.files())
    except SourceUnavailable as error:
        yield Finding("directory", ok=False, detail=error.message, hint=error.hint)
        return
    yield Finding("directory", ok=True, detail=f"{listing.root} can be listed")
    if archive is not None:
        yield _writable("archive", archive)
    if archive is not None or deletes:
        yield _writable("removing files", listing.root)
    if not found:
        hint = "correct if nothing was written yet; else compare 'pattern' and 'ignore' with the names there"
        yield Finding("pattern", ok=True, detail=f"no file matches {listing.pattern!r}", hint=hint)
        return
    yield Finding("pattern", ok=True, detail=f"{len(found)} files match {listing.pattern!r}")
    yield _sample(max(found, key=lambda item: item.signature.mtime_ns), settings, unpacking)


def _writable(name: str, directory: Path) -> Finding:
    probe = directory / _PROBE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        detail = f"{directory} cannot be written: {error.strerror or error}"
        return Finding(
            name, ok=False, detail=detail, hint="give the agent's account the right to create and delete there"
        )
    return Finding(name, ok=True, detail=f"files can be created and deleted in {directory}")


def _sample(item: Found, settings: Format, unpacking: Unpacking | None) -> Finding:
    """The header and first records of the newest file, decoded as declared."""
    name = display(item.name)
    try:
        with open_shared(item.path) as file:
            data = _first_bytes(file, item, unpacking)
    except Damaged as damage:
        return Finding("sample", ok=False, detail=f"{name}: {damage.message}", hint="correct 'unpack' or 'members'")
    except OSError as error:
        detail = f"{name} cannot be opened: {error.strerror or error}"
        return Finding("sample", ok=False, detail=detail, hint="give the agent's account the right to read it")
    encoding = getattr(settings, "encoding", None)  # a format without one has no text
    if encoding and not is_wide(encoding) and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        order = "utf-16-le" if data.startswith(codecs.BOM_UTF16_LE) else "utf-16-be"
        hint = f"csv, jsonl and lines can be read so: 'encoding: {order}'; else have it written as utf-8 or cp1252"
        return Finding("sample", ok=False, detail=f"{name} is UTF-16", hint=hint)
    framer = Framer(settings.scanner(), 2 * _SAMPLE_BYTES, target_bytes=_SAMPLE_BYTES // 4, target_records=1)
    runs = [*framer.feed(data), *(framer.finish() if len(data) < _SAMPLE_BYTES else ())]
    whole = framer.prefix + b"".join(run.payload for run in runs)
    declared = codecs.lookup(encoding).name if encoding else "bytes"
    if data.startswith(codecs.BOM_UTF8) and declared not in ("utf-8", "utf-8-sig", "bytes"):
        hint = f"the file begins with a UTF-8 mark, 'encoding' says {encoding}: set it to utf-8"
        return Finding("sample", ok=False, detail=f"{name} is UTF-8", hint=hint)
    try:
        text = whole.decode(encoding) if encoding else f"{len(whole)} bytes"
    except UnicodeDecodeError as error:
        line = 1 + whole.count(b"\n", 0, error.start)
        detail = f"{name}, line {line}: byte 0x{whole[error.start]:02x} is not {declared}"
        return Finding(
            "sample", ok=False, detail=detail, hint="correct 'encoding'; cp1252 and cp850 are common in old systems"
        )
    records = sum(run.records for run in runs)
    if rejects := [reject.reason for run in runs for reject in run.rejects]:
        return Finding(
            "sample", ok=False, detail=f"{name}: {rejects[0]}", hint="correct 'format', or the program that writes it"
        )
    first = text.lstrip("\ufeff\r\n").partition("\n")[0].rstrip("\r")[:_SHOWN]
    return Finding(
        "sample", ok=True, detail=f"{name} is readable as {declared}; {records} records seen; first line: {first}"
    )


def _first_bytes(file: BinaryIO, item: Found, unpacking: Unpacking | None) -> bytes:
    """Of what would be read. Raises Damaged, OSError."""
    content: Content = file
    if unpacking is not None and unpacking.of(item.name) == "gzip":
        content = Gunzip(file)
    elif unpacking is not None and unpacking.of(item.name) == "zip":
        archive = Zip(file)
        members = archive.members(unpacking.members, by_time=unpacking.by_time, max_bytes=unpacking.max_bytes)
        if not members:
            raise Damaged("empty", f"no member matches {unpacking.members!r}")
        content = archive.open(members[0])
    parts: list[bytes] = []
    while sum(map(len, parts)) < _SAMPLE_BYTES and (block := content.read(_SAMPLE_BYTES - sum(map(len, parts)))):
        parts.append(block)
    return b"".join(parts)
