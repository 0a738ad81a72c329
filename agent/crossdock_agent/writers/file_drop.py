"""Writer "file_drop": one file a document, complete as soon as it can be seen, optionally with a marker file after it.

The content is written and synced under a temporary name in the same folder, that is remembered, then the file takes its
name: a temporary file that is gone was given its name, whether its reader has taken it away since or not. A file that
is not ours is never overwritten; one that we wrote may be replaced by a later version when the settings say so, and
what it held is kept for an undo.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from crossdock.disk import sync_directory
from crossdock.errors import ConfigError, Rejected
from crossdock_agent.sources.base import Finding
from crossdock_agent.writers import columns as documents
from crossdock_agent.writers.base import (
    Job,
    Verdict,
    Writer,
    WriterContext,
    WriterUnavailable,
    conflict,
    register,
    rejected,
)
from crossdock_agent.writers.moving import move_new, move_over, write_synced
from crossdock_agent.writers.naming import check_template, file_name

KEPT_BYTES = 4 * 1024 * 1024  # a larger file is not replaced: what it held could not be kept for an undo
_GONE = "its file was changed, or taken away, since it was written"


class CsvSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """*columns* are header to place in the document; with *each*, one row a line, and `^.number` is of the header."""

    columns: Annotated[dict[str, str], msgspec.Meta(min_length=1)]
    each: str | None = None
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ";"
    header: bool = True
    encoding: str = "utf-8"
    line_end: Literal["crlf", "lf"] = "crlf"


class FileDropSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """*name* may have {document}, {key}, {sequence}, {id} and {writer}; *marker* has {name}. *replace*: a later version
    may take the place of a file that this writer wrote. Without *csv* a file holds the document as JSON."""

    directory: str
    name: str = "{document}-{key}-{sequence}.json"
    marker: str | None = None
    replace: bool = False
    csv: CsvSettings | None = None


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    """*digest* is of the content; *before* what the file held that is replaced, and *held* its digest."""

    name: str
    temporary: str
    digest: str = ""
    before: bytes | None = None
    held: str = ""
    marker: str = ""


class FileDropWriter:
    def __init__(self, settings: FileDropSettings, context: WriterContext) -> None:
        check_template(context.name, settings.name, replace=settings.replace)
        if settings.marker is not None and ("{name}" not in settings.marker or settings.marker == "{name}"):
            raise ConfigError(f"writer {context.name}: 'marker' needs {{name}} and more", hint="marker: '{name}.done'")
        if settings.csv is not None:
            _check_encoding(context.name, settings.csv.encoding)
        self._settings, self._context = settings, context
        self._directory = Path(settings.directory)

    # --- before

    def prepare(self, jobs: Sequence[Job]) -> list[bytes | Verdict]:
        try:
            return [self._prepared(job) for job in jobs]
        except OSError as error:
            raise self._unavailable(error) from error

    def _prepared(self, job: Job) -> bytes | Verdict:
        if job.undo is not None:
            return self._prepared_undo(job, msgspec.msgpack.decode(job.undo, type=_Note))
        try:
            content = self._content(job)
        except Rejected as error:
            return rejected(error.code, str(error))
        name = self._name(job)
        target, digest = self._directory / name, _digest(content)
        before: bytes | None = None
        if self._settings.replace and (held := _digest_of(target)):
            if self._ours(name) != held:
                return _there(target) if held == digest else conflict(f"{name} is there, not as this writer left it")
            if target.stat().st_size > KEPT_BYTES:
                return conflict(f"{name} is larger than {KEPT_BYTES} bytes, too large to be kept for an undo")
            before = target.read_bytes()
        note = _Note(
            name=name, temporary=_temporary(job.id), digest=digest, before=before, marker=self._marker(name),
            held=_digest(before) if before is not None else "",
        )  # fmt: skip
        write_synced(self._directory / note.temporary, content)
        if note.marker:
            write_synced(self._directory / _marking(note.temporary), b"")
        return msgspec.msgpack.encode(note)

    def _prepared_undo(self, job: Job, of: _Note) -> bytes | Verdict:
        if _digest_of(self._directory / of.name) != of.digest:
            return conflict(f"{of.name}: {_GONE}")
        note = _Note(name=of.name, temporary=_temporary(job.id), digest=of.held, held=of.digest, marker=of.marker)
        if of.before is not None:
            write_synced(self._directory / note.temporary, of.before)
        return msgspec.msgpack.encode(note)

    # --- the deed

    def apply(self, jobs: Sequence[Job]) -> list[Verdict]:
        try:
            verdicts = [self._undone(job) if job.undo is not None else self._applied(job) for job in jobs]
            sync_directory(self._directory)
        except OSError as error:
            raise self._unavailable(error) from error
        return verdicts

    def _applied(self, job: Job) -> Verdict:
        note = msgspec.msgpack.decode(job.note or b"", type=_Note)
        temporary, target = self._directory / note.temporary, self._directory / note.name
        if temporary.exists() and not self._moved(note, temporary, target):
            temporary.unlink()
            (self._directory / _marking(note.temporary)).unlink(missing_ok=True)
            if _digest_of(target) == note.digest:  # written by us, before this agent lost what it knew
                return _there(target, job.note)
            return conflict(f"{note.name} is there already, and is not ours")
        if note.marker and (self._directory / _marking(note.temporary)).exists():
            move_over(self._directory / _marking(note.temporary), self._directory / note.marker)
        remember = ((note.name, note.digest.encode()),) if self._settings.replace else ()
        return Verdict("applied", place=str(target), note=job.note, remember=remember)

    def _moved(self, note: _Note, temporary: Path, target: Path) -> bool:
        if not note.held:
            return move_new(temporary, target)
        if _digest_of(target) not in ("", note.held):
            return False
        move_over(temporary, target)
        return True

    def _undone(self, job: Job) -> Verdict:
        """The file as it was before. What is there is looked at again: a crash may have come after the deed."""
        note = msgspec.msgpack.decode(job.note or b"", type=_Note)
        temporary, target = self._directory / note.temporary, self._directory / note.name
        held = _digest_of(target)
        if held == note.held:
            if note.digest:
                move_over(temporary, target)
            else:
                target.unlink()
        elif held != note.digest or temporary.exists():
            temporary.unlink(missing_ok=True)
            return conflict(f"{note.name}: {_GONE}")
        if note.marker and not note.digest:
            (self._directory / note.marker).unlink(missing_ok=True)
        what = "as it was before" if note.digest else "taken away"
        remember = ((note.name, note.digest.encode() or None),) if self._settings.replace else ()
        return Verdict("applied", place=f"{target} {what}", remember=remember)

    # --- the rest

    def check(self) -> Iterator[Finding]:
        probe = self._directory / ".crossdock-check.tmp"
        try:
            write_synced(probe, b"")
            probe.unlink()
        except OSError as error:
            hint = "does it exist, and may the agent's account write there?"
            yield Finding("directory", ok=False, detail=f"{self._directory}: {error.strerror}", hint=hint)
        else:
            yield Finding("directory", ok=True, detail=f"{self._directory} can be written")

    def close(self) -> None:
        """Nothing is held."""

    def _content(self, job: Job) -> bytes:
        how = self._settings.csv
        return job.payload if how is None else _rows(how, documents.decoded(job.payload))

    def _name(self, job: Job) -> str:
        values = {
            "document": job.document, "key": job.key, "sequence": f"{job.version:012d}", "id": job.id.hex(),
            "writer": self._context.name,
        }  # fmt: skip
        return file_name(self._settings.name, values)

    def _marker(self, name: str) -> str:
        return self._settings.marker.replace("{name}", name) if self._settings.marker else ""

    def _ours(self, name: str) -> str:
        known = self._context.recall(name)
        return known.decode() if known is not None else ""

    def _unavailable(self, error: OSError) -> WriterUnavailable:
        return WriterUnavailable(
            f"writer {self._context.name}: {self._directory} cannot be written: {error.strerror or error}",
            hint="is it there, is the disk full, may the agent's account write to it?",
        )


def _rows(how: CsvSettings, document: dict[str, object]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=how.delimiter, lineterminator="\r\n" if how.line_end == "crlf" else "\n")
    if how.header:
        writer.writerow(how.columns)
    if how.each is None:
        writer.writerow(documents.values(document, how.columns))
    else:
        for line in documents.lines(document, how.each):
            writer.writerow(documents.values(line, how.columns, document))
    try:
        return out.getvalue().encode(how.encoding)
    except UnicodeEncodeError as error:
        raise Rejected("encoding", f"{error.object[error.start]!r} has no place in {how.encoding}") from error


def _check_encoding(writer: str, name: str) -> None:
    try:
        codecs.lookup(name)
    except LookupError as error:
        raise ConfigError(
            f"writer {writer}: encoding {name!r} is not known", hint="utf-8, cp1252, cp850 ..."
        ) from error


def _temporary(id_: bytes) -> str:
    return f".crossdock-{id_.hex()}.tmp"


def _marking(temporary: str) -> str:
    return temporary.replace(".tmp", ".marker.tmp")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(path: Path) -> str:
    """Of what the file holds; "" when there is none. Raises OSError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _there(target: Path, note: bytes | None = None) -> Verdict:
    return Verdict("applied", place=f"{target}, which was there already", note=note)


def _create(settings: FileDropSettings, context: WriterContext) -> Writer:
    return FileDropWriter(settings, context)


register("file_drop", FileDropSettings, _create)
