"""Whole files that appear in a directory. A file is taken once, when it is complete, and touched only after the
acknowledgement.

Files are taken in order among those that are complete in one pass; one that is still being written holds up no other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from loguru import logger
from msgspec import Meta, Struct, msgpack

from crossdock.codec import MAX_RAW_BYTES
from crossdock.errors import ConfigError, SourceUnavailable
from crossdock_agent.drops import afterwards, checks
from crossdock_agent.drops.handles import open_shared
from crossdock_agent.drops.identity import Interrupted, Signature, content_hash, fingerprint, head, is_exact, signature
from crossdock_agent.drops.judge import Judge, What
from crossdock_agent.drops.listing import Found, Listing, display, unavailable
from crossdock_agent.drops.reading import GONE, REPLACED, Reading, abandoned, duplicate
from crossdock_agent.drops.settle import Settling
from crossdock_agent.drops.state import InProgress, Ledger, Token
from crossdock_agent.framing import DEFAULT_MAX_RECORD_BYTES, FixedWidth, Format, format_name
from crossdock_agent.sources.base import Draft, Finding, SourceContext, register

_MAX_RECORD = Meta(ge=64 * 1024, le=MAX_RAW_BYTES, description="a longer record is set aside; reading goes on after it")


class FileDropSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    directory: Annotated[str, Meta(min_length=1, description="where the files appear")]
    format: Format
    pattern: Annotated[str, Meta(min_length=1, description="file names to take: *, ? and [..]")] = "*"
    ignore: Annotated[tuple[str, ...], Meta(description="file names never to take")] = ("*.tmp", "*.part", ".*")
    recursive: Annotated[bool, Meta(description="directories below as well")] = False
    settle_seconds: Annotated[float, Meta(ge=0, description="unchanged this long: complete; 0: at first sight")] = 2.0
    order: Annotated[Literal["name", "time"], Meta(description="which of several complete files comes first")] = "name"
    afterwards: Annotated[
        Literal["leave", "archive", "delete"], Meta(description="what to do with a file once the controller has it")
    ] = "leave"
    archive_directory: Annotated[str, Meta(description="<directory>/archive unless given")] | None = None
    duplicates: Annotated[
        Literal["skip", "take"], Meta(description="what to do with content that was taken before, under any name")
    ] = "skip"
    max_record_bytes: Annotated[int, _MAX_RECORD] = DEFAULT_MAX_RECORD_BYTES
    poll_seconds: Annotated[float, Meta(ge=0.05, description="between two looks when nothing announces a file")] = 1.0

    def __post_init__(self) -> None:
        if set(self.pattern) & set("/\\"):
            raise ValueError(
                f"pattern {self.pattern!r} holds a slash; it is for file names, 'recursive' for directories"
            )
        if isinstance(self.format, FixedWidth) and (self.format.record_bytes or 0) > self.max_record_bytes:
            raise ValueError("'record_bytes' is over 'max_record_bytes'")


class FileDrop:
    def __init__(self, settings: FileDropSettings, context: SourceContext) -> None:
        self._settings = settings
        self._context = context
        self._directory = Path(settings.directory)
        self._archive = Path(settings.archive_directory) if settings.archive_directory else self._directory / "archive"
        if self._archive.absolute() == self._directory.absolute():
            raise ConfigError(
                f"source {context.name}: archive_directory is the directory itself, {self._archive}",
                hint="archived files would be found again; name another directory",
            )
        self._listing = Listing(
            self._directory, settings.pattern, settings.ignore, self._archive, recursive=settings.recursive
        )
        self._settling = Settling(settings.settle_seconds, context.monotonic)
        self._ledger = Ledger(context.memory)
        self._judge = Judge(self._ledger, context.stop, settings.duplicates == "take")
        self._known: dict[str, Signature | None] = {}  # files as they were taken, by name; None: looked up, not taken
        self._complained: set[str] = set()
        self._log = logger.bind(source=context.name)

    def read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        state = InProgress.decode(checkpoint)
        found = list(self._listing.files())
        yield from self._gone(state, {item.name for item in found})
        try:
            for item in self._complete(found, state):
                if self._context.stop.is_set():
                    return
                yield from self._take(item, state)
        except Interrupted:
            return

    def release(self, token: bytes) -> None:
        """Archive or delete the file the token names, if it is there and still what was read.

        If it is not, it is left for the next pass to judge. Raises SourceUnavailable when it cannot be done now.
        """
        due = msgpack.decode(token, type=Token)
        path = self._directory / os.fsdecode(due.name)
        try:
            self._release(due, path)
        except Interrupted:
            raise SourceUnavailable(f"{display(str(path))} is not yet released: the agent stops") from None
        except OSError as error:
            what = f"{display(str(path))} was read, but the agent cannot {self._settings.afterwards} it"
            raise SourceUnavailable(
                f"{what}: {error.strerror or error}",
                hint="is it open in another program, or may the agent's account not move it? It is tried again",
            ) from error

    def check(self) -> Iterator[Finding]:
        archive = self._archive if self._settings.afterwards == "archive" else None
        deletes = self._settings.afterwards == "delete"
        return checks.findings(self._listing, self._settings.format, archive=archive, deletes=deletes)

    def watch(self) -> list[Path]:
        return [self._directory]

    def poll_seconds(self) -> float:
        return self._settings.poll_seconds

    def close(self) -> None:
        """Nothing is held open between two drafts of different files."""

    # --- one pass

    def _gone(self, state: InProgress, present: set[str]) -> Iterator[Draft]:
        """Ends the units of files that vanished half read. One that merely no longer matches stays begun."""
        for name, work in list(state.items()):
            if name not in present and not os.path.lexists(self._directory / name):
                self._log.bind(file=display(name), record=work.record).warning("file vanished before it was read whole")
                yield abandoned(work, state, format_name(self._settings.format), GONE)

    def _complete(self, found: list[Found], state: InProgress) -> list[Found]:
        """Files to take now, those already begun first."""
        names = {item.name for item in found}
        self._settling.keep_only(names)
        self._known = {name: seen for name, seen in self._known.items() if name in names}
        open_ones = [item for item in found if not self._is_taken(item, state)]
        looks = [(item, self._look(item)) for item in open_ones]
        ready = [item for item, look in looks if look and self._settling.settled(item.name, (item.signature, look))]
        self._context.counters.set("files_waiting", len(open_ones) - len(ready))
        self._context.counters.set("files_unreadable", sum(look is None for _, look in looks))
        by_time = self._settings.order == "time"
        return sorted(
            ready, key=lambda item: (item.name not in state, item.signature.mtime_ns if by_time else 0, item.name)
        )

    def _is_taken(self, item: Found, state: InProgress) -> bool:
        if item.name not in self._known:
            self._known[item.name] = self._ledger.signature(item.name)
        return self._known[item.name] == item.signature and item.name not in state

    def _look(self, item: Found) -> bytes | None:
        """Hash of the first bytes; None when the file cannot be opened: a writer holds it, or rights are missing."""
        try:
            with open_shared(item.path) as file:
                return head(file)
        except OSError as error:
            if item.name not in self._complained:
                self._complained.add(item.name)
                self._log.bind(file=display(item.name)).info("file cannot be opened yet: {}", error.strerror or error)
            return None

    def _take(self, item: Found, state: InProgress) -> Iterator[Draft]:
        settings, release = self._settings, self._settings.afterwards != "leave"
        skips = settings.duplicates == "skip"
        begun = state.get(item.name)
        try:
            with open_shared(item.path) as file:
                stat = os.fstat(file.fileno())
                if signature(stat) != item.signature:
                    self._settling.forget(item.name)
                    return
                verdict = self._judge.judge(item.name, file, stat, begun)
                if begun and not (verdict.goes_on and verdict.work.unit == begun.unit):
                    self._log.bind(file=display(item.name)).warning("file was replaced before it was read whole")
                    yield abandoned(begun, state, format_name(settings.format), REPLACED)
                if verdict.what is What.KNOWN and not release:
                    self._known[item.name] = item.signature
                    return
                reading = None
                if verdict.what is What.READ:
                    reading = Reading(file, stat, verdict.work, state, settings.format, settings.max_record_bytes)
                    yield from reading.drafts(self._context.stop)
        except (FileNotFoundError, PermissionError):  # gone or locked since we looked: the next pass sees
            return
        except OSError as error:
            raise unavailable(item.path, error) from error
        self._known.pop(item.name, None)  # the ledger says whether what follows was kept
        if reading is not None:
            yield from reading.ending(release=release, duplicates_matter=skips)
            return
        self._context.counters.add("duplicates_skipped")
        self._log.bind(file=display(item.name)).info("file skipped, its content was taken before")
        yield duplicate(verdict, stat, state, settings.format, release=release)

    # --- after the acknowledgement

    def _release(self, due: Token, path: Path) -> None:
        action = self._settings.afterwards
        if action == "leave":
            return
        try:
            with open_shared(path) as file:
                seen = os.fstat(file.fileno())
                same = self._is_same(file, seen, due)
        except FileNotFoundError:
            if self._directory.is_dir():
                return  # done before, or taken away
            raise
        if not same:
            self._log.bind(file=display(path.name)).info("file changed since it was read; left for the next pass")
        elif action == "delete":
            afterwards.delete(path)
        else:
            afterwards.archive(path, seen, self._archive / os.fsdecode(due.name), self._context.wall_us())

    def _is_same(self, file: Any, seen: os.stat_result, due: Token) -> bool:
        """By content; where samples do not prove it, by the time as well, or else by all of the content."""
        if seen.st_size != due.size or fingerprint(file, due.size) != due.fingerprint:
            return False
        if seen.st_mtime_ns == due.mtime_ns:
            return True
        if self._settings.duplicates == "take":
            return False
        if is_exact(due.size):
            return True
        return bool(due.content) and content_hash(file, due.size, self._context.stop) == due.content


def _create(settings: FileDropSettings, context: SourceContext) -> FileDrop:
    return FileDrop(settings, context)


register("file_drop", FileDropSettings, _create)
