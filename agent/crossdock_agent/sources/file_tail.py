"""Files that are only ever appended to, read as they grow, through every kind of rotation.

A generation (a file from its birth until it is rotated away, emptied or deleted) is a unit: its records are numbered
from its first, whatever name it has by then. Nothing is held open between two turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, cast

from msgspec import Meta, Struct

from crossdock.codec import MAX_RAW_BYTES
from crossdock_agent.drops import checks
from crossdock_agent.drops.handles import verbatim
from crossdock_agent.drops.patterns import Pattern
from crossdock_agent.framing import DEFAULT_MAX_RECORD_BYTES, FixedWidth, Format, format_name
from crossdock_agent.sources.base import Draft, Finding, SourceContext, register
from crossdock_agent.tails.folder import Folder, Logs
from crossdock_agent.tails.following import Following, Rules
from crossdock_agent.tails.turns import Tailed

TAILED = ("csv", "fixed", "jsonl", "lines")  # formats whose records end where they end, whatever follows
_MAX_RECORD = Meta(ge=64 * 1024, le=MAX_RAW_BYTES, description="a longer record is set aside; reading goes on after it")


class FileTailSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    directory: Annotated[str, Meta(min_length=1, description="where the files are")]
    format: Format
    pattern: Annotated[
        str, Meta(min_length=1, description="file names to follow: *, ? and [..], dates as {yyyy}; rotated too")
    ] = "*"
    ignore: Annotated[tuple[str, ...], Meta(description="file names never to take")] = ("*.tmp", "*.part", ".*")
    recursive: Annotated[bool, Meta(description="directories below as well")] = False
    start: Annotated[
        Literal["beginning", "end"], Meta(description="where files that are there at the very first look are begun")
    ] = "beginning"
    order: Annotated[Literal["name", "time"], Meta(description="which of several files comes first")] = "name"
    unfinished_line: Annotated[
        Literal["wait", "take"], Meta(description="a last line without newline, after partial_seconds")
    ] = "wait"
    partial_seconds: Annotated[float, Meta(ge=0, description="how long a last line without newline waits")] = 60.0
    rotated_seconds: Annotated[
        float, Meta(ge=0, description="unchanged this long: a rotated file is finished, a missing one is gone")
    ] = 5.0
    idle_closes_seconds: Annotated[
        float, Meta(ge=0, description="after so much quiet open groups end; 0: whenever all there is was read")
    ] = 60.0
    turn_bytes: Annotated[
        int, Meta(ge=1024 * 1024, description="read of one file before the others have their turn")
    ] = 64 * 1024 * 1024
    max_record_bytes: Annotated[int, _MAX_RECORD] = DEFAULT_MAX_RECORD_BYTES
    poll_seconds: Annotated[float, Meta(ge=0.05, description="between two looks when nothing announces a change")] = 1.0

    def __post_init__(self) -> None:
        if set(self.pattern) & set("/\\"):
            raise ValueError(
                f"pattern {self.pattern!r} holds a slash; it is for file names, 'recursive' for directories"
            )
        Pattern(self.pattern)
        if format_name(self.format) not in TAILED:
            raise ValueError(
                f"format {format_name(self.format)!r} cannot be tailed, because a record may only be known to be whole "
                f"when the file is; {', '.join(TAILED)} can, for others use kind file_drop"
            )
        if isinstance(self.format, FixedWidth) and (self.format.record_bytes or 0) > self.max_record_bytes:
            raise ValueError("'record_bytes' is over 'max_record_bytes'")


class FileTail:
    def __init__(self, settings: FileTailSettings, context: SourceContext) -> None:
        self._settings = settings
        directory = Path(verbatim(settings.directory))
        logs = Logs(directory, settings.pattern, settings.ignore, recursive=settings.recursive)
        self._folder = Folder(logs, context.monotonic, recursive=settings.recursive)
        rules = Rules(
            format=cast(Tailed, settings.format),
            format_name=format_name(settings.format),
            pattern=settings.pattern,
            by_time=settings.order == "time",
            from_end=settings.start == "end",
            takes_partial=settings.unfinished_line == "take",
            partial_seconds=settings.partial_seconds,
            rotated_seconds=settings.rotated_seconds,
            idle_closes_seconds=settings.idle_closes_seconds,
            turn_bytes=settings.turn_bytes,
            max_record_bytes=settings.max_record_bytes,
        )
        self._following = Following(rules, self._folder, context)

    def read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        return self._following.drafts(checkpoint)

    def release(self, token: bytes) -> None:
        """Nothing is ever done to a file that is followed."""

    def check(self) -> Iterator[Finding]:
        settings, root = self._settings, self._folder.root
        logs = Logs(root, settings.pattern, settings.ignore, recursive=settings.recursive, packed=False)
        return checks.findings(logs, settings.format, archive=None, deletes=False)

    def watch(self) -> list[Path]:
        return [Path(self._settings.directory)]

    def poll_seconds(self) -> float:
        return self._settings.poll_seconds

    def close(self) -> None:
        """Nothing is held open between two turns."""


def _create(settings: FileTailSettings, context: SourceContext) -> FileTail:
    return FileTail(settings, context)


register("file_tail", FileTailSettings, _create)
