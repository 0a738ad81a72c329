"""Whole files that appear in a directory. A file is taken once, when it is complete, and touched only after the
acknowledgement.

Files are taken in order among those that are complete in one pass; one that is still being written holds up no other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from loguru import logger
from msgspec import Meta, Struct

from crossdock.codec import MAX_RAW_BYTES
from crossdock.errors import ConfigError, SourceUnavailable
from crossdock_agent.drops import checks
from crossdock_agent.drops.claims import Claims
from crossdock_agent.drops.handles import open_alone, open_shared, verbatim
from crossdock_agent.drops.identity import Interrupted, packed
from crossdock_agent.drops.judge import Judge
from crossdock_agent.drops.listing import Found, Listing, display, unavailable
from crossdock_agent.drops.markers import Markers
from crossdock_agent.drops.patterns import Pattern, dated, undated
from crossdock_agent.drops.reading import GONE, How, abandoned
from crossdock_agent.drops.ready import Readiness
from crossdock_agent.drops.releasing import Releasing
from crossdock_agent.drops.state import InProgress, Ledger, Token
from crossdock_agent.drops.taking import Taking, Unpacking
from crossdock_agent.framing import DEFAULT_MAX_RECORD_BYTES, FixedWidth, Format, format_name
from crossdock_agent.sources.base import Draft, Finding, SourceContext, register

REST_RATIO = 10  # listing a directory takes at most this part of the time: a huge one is looked at less often ...
MAX_REST_SECONDS = 30.0  # ... but never more rarely than so
CLEAR_EVERY = 64  # files taken between two looks for outdated ledger rows
_NAMESAKE = "an earlier file of this name is still claimed; is it acknowledged, or was it set aside unread?"
_DAY_US = 24 * 3600 * 1_000_000

_MAX_RECORD = Meta(ge=64 * 1024, le=MAX_RAW_BYTES, description="a longer record is set aside; reading goes on after it")


class FileDropSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    directory: Annotated[str, Meta(min_length=1, description="where the files appear")]
    format: Format
    pattern: Annotated[
        str, Meta(min_length=1, description="files to take: *, ? and [..]; folders before / and dates as {yyyy}/{mm}")
    ] = "*"
    ignore: Annotated[tuple[str, ...], Meta(description="file names never to take")] = ("*.tmp", "*.part", ".*")
    recursive: Annotated[bool, Meta(description="directories below as well")] = False
    settle_seconds: Annotated[float, Meta(ge=0, description="unchanged this long: complete; 0: at first sight")] = 2.0
    marker: (
        Annotated[str, Meta(description="a file is taken only with this beside it: {name}.done, {stem}.ctl")] | None
    ) = None
    exclusive: Annotated[bool, Meta(description="Windows: only when no program has it open for writing")] = False
    claim: Annotated[bool, Meta(description="several agents share the directory: rename a file before reading it")] = (
        False
    )
    order: Annotated[Literal["name", "time"], Meta(description="which of several complete files comes first")] = "name"
    unpack: Annotated[
        Literal["none", "gzip", "zip", "suffix"], Meta(description="how files are packed; suffix: by .gz and .zip")
    ] = "none"
    members: Annotated[str, Meta(min_length=1, description="files in a zip archive to take: *, ? and [..]")] = "*"
    max_unpacked_bytes: Annotated[int, Meta(ge=1, description="an archive that unpacks to more is refused")] = (
        10 * 2**30
    )
    afterwards: Annotated[
        Literal["leave", "archive", "move", "delete"],
        Meta(description="what to do with a file once the controller has it"),
    ] = "leave"
    archive_directory: (
        Annotated[str, Meta(description="<directory>/archive unless given; dates as {yyyy}/{mm}/{dd}")] | None
    ) = None
    move_directory: Annotated[str, Meta(description="where 'move' puts files; dates as {yyyy}/{mm}")] | None = None
    zone: Annotated[str, Meta(description="of dates in archive_directory and move_directory")] = "UTC"
    duplicates: Annotated[
        Literal["skip", "take"], Meta(description="what to do with content that was taken before, under any name")
    ] = "skip"
    duplicates_days: Annotated[int, Meta(ge=1, description="how long content is known as taken before")] = 400
    max_record_bytes: Annotated[int, _MAX_RECORD] = DEFAULT_MAX_RECORD_BYTES
    poll_seconds: Annotated[float, Meta(ge=0.05, description="between two looks when nothing announces a file")] = 1.0

    def __post_init__(self) -> None:
        Pattern(self.pattern)
        if self.marker is not None:
            Markers(self.marker)
        if isinstance(self.format, FixedWidth) and (self.format.record_bytes or 0) > self.max_record_bytes:
            raise ValueError("'record_bytes' is over 'max_record_bytes'")
        if (self.afterwards == "move") != (self.move_directory is not None):
            raise ValueError("'move_directory' says where 'afterwards: move' puts files: give both or neither")
        if self.claim and self.afterwards == "leave":
            raise ValueError("'claim' takes files away from the directory; say with 'afterwards' where they go then")
        if self.claim and self.marker:
            raise ValueError("'claim' and 'marker' exclude each other: only one agent can see a marker go")
        try:
            zone = ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"zone {self.zone!r} is unknown; an IANA name such as Europe/Berlin") from error
        dated(self.move_directory or self.archive_directory or "", 0, zone)

    def target(self, taken_us: int) -> Path:
        """Where a file taken then goes afterwards."""
        given = self.move_directory or self.archive_directory
        if given:
            return Path(verbatim(dated(given, taken_us, ZoneInfo(self.zone))))
        return Path(verbatim(self.directory)) / "archive"  # braces in it are no tokens

    @property
    def target_root(self) -> Path | None:
        """The directory, without a date, that holds whatever was moved; None where nothing is."""
        if self.afterwards not in ("archive", "move"):
            return None
        given = self.move_directory or self.archive_directory
        return undated(Path(verbatim(given))) if given else self.target(0)


class FileDrop:
    def __init__(self, settings: FileDropSettings, context: SourceContext) -> None:
        self._settings = settings
        self._context = context
        self._directory = Path(verbatim(settings.directory))
        never = settings.target_root
        if never is not None and never.absolute() == self._directory.absolute():
            name = "move_directory" if settings.move_directory else "archive_directory"
            raise ConfigError(
                f"source {context.name}: {name} is the directory itself, {never}",
                hint="files put there would be found again; name another directory",
            )
        markers = Markers(settings.marker) if settings.marker else None
        self._listing = Listing(
            self._directory, settings.pattern, settings.ignore, never, recursive=settings.recursive, markers=markers
        )
        opener = open_alone if settings.exclusive else None
        self._ready = Readiness(context, settings.settle_seconds, markers, Pattern(settings.pattern).file_name, opener)
        self._ledger = Ledger(context.memory, settings.duplicates_days * _DAY_US)
        self._judge = Judge(self._ledger, context.stop, settings.duplicates == "take")
        self._how = How(
            settings.format, settings.max_record_bytes, settings.afterwards != "leave", settings.afterwards == "delete",
            settings.duplicates == "skip", context.stop, context.wall_us,
        )  # fmt: skip
        self._unpacking = Unpacking(
            settings.unpack, settings.members, settings.order == "time", settings.max_unpacked_bytes
        )
        self._releasing = Releasing(
            self._directory, settings.afterwards, settings.target, markers, settings.duplicates == "take", context.stop
        )  # fmt: skip
        self._claims = Claims(self._directory, context.name) if settings.claim else None
        self._known: dict[str, bytes | None] = {}  # signatures of files taken, by name; None: looked up, not taken
        self._troubled: set[str] = set()  # names of files of which something could not be read
        self._rest_until = 0.0
        self._taken = 0
        self._log = logger.bind(source=context.name)

    def read(self, checkpoint: bytes | None) -> Iterator[Draft]:
        """Nothing while the directory rests after a long listing, unless a file is begun."""
        state = InProgress.decode(checkpoint)
        if not state and self._context.monotonic() < self._rest_until:
            return
        names = self._list()
        present = set(names)
        self._troubled &= present
        for name in [name for name in self._known if name not in present]:
            del self._known[name]
        yield from self._gone(state, present)
        try:
            for draft in self._pass(names, state):
                yield self._cleared(draft, present)
        except Interrupted:
            return

    def release(self, token: bytes) -> None:
        """Archive, move or delete the file the token names, if it is there and still what was read.

        If it is not, it is left for the next pass to judge. Raises SourceUnavailable when it cannot be done now,
        Corrupt when the token is of a source of another kind.
        """
        due = Token.decode(token)
        path = Path(self._location(os.fsdecode(due.name)))
        try:
            self._releasing.release(due, path, self._context.wall_us())
        except Interrupted:
            raise SourceUnavailable(f"{display(str(path))} is not yet released: the agent stops") from None
        except OSError as error:
            what = f"{display(str(path))} was read, but the agent cannot {self._settings.afterwards} it"
            raise SourceUnavailable(
                f"{what}: {error.strerror or error}",
                hint="is it open in another program, or may the agent's account not move it? It is tried again",
            ) from error

    def check(self) -> Iterator[Finding]:
        settings = self._settings
        yield from checks.findings(
            self._listing,
            settings.format,
            unpacking=self._unpacking,
            archive=settings.target_root,
            deletes=settings.afterwards == "delete",
        )
        if settings.exclusive and open_alone is None:
            yield checks.EXCLUSIVE_MEANS_NOTHING

    def watch(self) -> list[Path]:
        return [Path(self._settings.directory)]

    def poll_seconds(self) -> float:
        return self._settings.poll_seconds

    def close(self) -> None:
        """Nothing is held open between two drafts of different files."""

    # --- one pass

    def _list(self) -> list[str]:
        """Names in the order in which they are taken."""
        began = self._context.monotonic()
        names = self._listing.names()
        if self._claims is not None:
            names.files = sorted({*names.files, *self._claims.names()})
        order = names.files
        if self._settings.order == "time":
            found = (self._find(name) for name in order)
            order = [name for _, name in sorted((f.signature.mtime_ns, f.name) for f in found if f)]
        now = self._context.monotonic()
        self._rest_until = now + min(REST_RATIO * (now - began), MAX_REST_SECONDS)
        self._ready.begin(names)
        return order

    def _gone(self, state: InProgress, present: set[str]) -> Iterator[Draft]:
        """Ends the units of files that vanished half read. One that merely no longer matches stays begun."""
        for name, work in list(state.items()):
            if name not in present and not os.path.lexists(self._location(name)):
                self._log.bind(file=display(name), record=work.record).warning("file vanished before it was read whole")
                yield abandoned(work, state, format_name(self._settings.format), GONE)

    def _pass(self, names: list[str], state: InProgress) -> Iterator[Draft]:
        """Files begun first, then the others; last those that broke a pass off, which one of them would do again."""
        begun = [name for name in names if name in state]
        first = set(begun)
        order = [*begun, *(name for name in names if name not in first)]
        if self._troubled:
            order.sort(key=self._troubled.__contains__)
        try:
            for name in order:
                if self._context.stop.is_set():
                    return
                found = self._find(name)
                if found is None or self._is_taken(found, state):
                    self._ready.forget(name)
                    if found is not None and self._is_claimed(found) and self._listing.find(name) is not None:
                        self._ready.unreadable(name, FileExistsError(0, _NAMESAKE))
                elif self._ready.is_ready(found) and (ours := self._claimed(found)):
                    yield from self._take(ours, state)
        finally:
            self._ready.count()

    def _location(self, name: str) -> str:
        return (self._claims or self._listing).location(name)

    def _find(self, name: str) -> Found | None:
        ours = self._claims.find(name) if self._claims is not None else None
        return ours or self._listing.find(name)

    def _is_claimed(self, item: Found) -> bool:
        return self._claims is not None and item.location == self._claims.location(item.name)

    def _claimed(self, item: Found) -> Found | None:
        if self._claims is None or self._is_claimed(item):
            return item
        try:
            return self._claims.claim(item)
        except OSError as error:
            self._ready.unreadable(item.name, error)
            return None

    def _is_taken(self, item: Found, state: InProgress) -> bool:
        if item.name not in self._known:
            taken = self._ledger.signature(item.name)
            self._known[item.name] = packed(taken) if taken else None
        return self._known[item.name] == packed(item.signature) and item.name not in state

    def _take(self, item: Found, state: InProgress) -> Iterator[Draft]:
        taking = Taking(item, state, self._how, self._unpacking, self._judge, self._context.counters)
        try:
            file = open_shared(item.path)
        except FileNotFoundError:  # since we looked: the next pass sees
            return
        except OSError as error:
            self._ready.unreadable(item.name, error)
            return
        try:
            with file:
                yield from taking.drafts(file)
        except PermissionError as error:  # a part of it is locked
            self._ready.unreadable(item.name, error)
            return
        except OSError as error:
            self._troubled.add(item.name)
            raise unavailable(item.path, error) from error
        self._troubled.discard(item.name)
        if taking.changed:
            self._ready.forget(item.name)
        if taking.same:
            self._known[item.name] = packed(item.signature)
            return
        self._known.pop(item.name, None)  # the ledger says whether what follows was kept
        yield from taking.ending()

    def _cleared(self, draft: Draft, present: set[str]) -> Draft:
        """With what the ledger need not hold any longer, every so many files."""
        if not draft.remember:
            return draft
        self._taken += 1
        if self._taken % CLEAR_EVERY:
            return draft
        kept = {key for key, _ in draft.remember}
        outdated = self._ledger.outdated(present, self._context.wall_us())
        return replace(draft, remember=(*draft.remember, *((key, None) for key, _ in outdated if key not in kept)))


def _create(settings: FileDropSettings, context: SourceContext) -> FileDrop:
    return FileDrop(settings, context)


register("file_drop", FileDropSettings, _create)
