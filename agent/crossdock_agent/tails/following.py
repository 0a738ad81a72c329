"""One pass over all files of a source: what is new in each, in the order of their generations, in fair turns.

A successor is begun only when the generation before it is finished: rotated away, read to its end and quiet, or gone.
It does not wait for ever: names may only look like rotation.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from loguru import logger
from msgspec.structs import replace

from crossdock_agent.drops.listing import display, unavailable
from crossdock_agent.framing import Run
from crossdock_agent.sources.base import Draft, SourceContext
from crossdock_agent.tails import drafting
from crossdock_agent.tails.folder import Folder
from crossdock_agent.tails.live import Tail
from crossdock_agent.tails.losses import Losses
from crossdock_agent.tails.matching import Match, Seen
from crossdock_agent.tails.opening import DAMAGED, Opened, opened
from crossdock_agent.tails.prints import head_of, print_of
from crossdock_agent.tails.state import Book
from crossdock_agent.tails.turns import Tailed, Turn, counted_to

_HOLD = 6  # times rotated_seconds: how long a successor waits at most
_CHEAP_BYTES = 1024 * 1024  # up to here it costs nothing to read a record without an end anew at each look


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings, as `sources.file_tail` describes them."""

    format: Tailed
    format_name: str
    pattern: str
    by_time: bool
    from_end: bool
    takes_partial: bool
    partial_seconds: float
    rotated_seconds: float
    idle_closes_seconds: float
    turn_bytes: int
    max_record_bytes: int


class Following:
    def __init__(self, rules: Rules, folder: Folder, context: SourceContext) -> None:
        self._rules = rules
        self._folder = folder
        self._context = context
        self._format = rules.format_name
        self._book = Book(context.memory)
        self._match = Match(self._book, rules.format.scanner(), context.name, rules.rotated_seconds)
        self._losses = Losses(
            self._book, self._match, self._format, rules.rotated_seconds, rules.partial_seconds, context.counters
        )
        self._whole = True
        self._now = 0.0
        self._packed_ahead: dict[str, list[Seen]] = {}  # not begun yet, by family
        self._patience: dict[str, int] = {}  # sizes to wait for, by name
        self._log = logger.bind(source=context.name)

    def drafts(self, checkpoint: bytes | None) -> Iterator[Draft]:
        """One pass. Raises SourceUnavailable, Corrupt."""
        if refused := self._book.take_back(checkpoint):
            self._match.doubt(refused)
        if self._book.load(checkpoint):
            self._match.forget()
        self._now = self._context.monotonic()
        self._look()
        if checkpoint is None and self._rules.from_end:
            yield self._beginning()
            return
        for draft, what in self._losses.found(self._now, whole=self._whole):
            yield draft
            self._log.bind(file=draft.header.origin.name, record=draft.header.origin.first_record).warning(what)
        self._count()
        yield from self._rounds()
        self._count()

    # --- what there is

    def _look(self) -> None:
        found, changed = self._folder.look(self._match.followed())
        self._match.look(found, changed, self._now)
        self._whole = changed is None
        for seen in self._match.scope:
            tail = self._tail(seen)
            if tail is not None and self._match.places.get(tail.unit) is seen:
                inode, size = (tail.inode, tail.size) if seen.packed else (seen.inode, seen.size)
                self._book.see(tail, os.fsencode(seen.name), inode, size)
        self._packed_ahead = {}
        for seen in self._match.scope:
            if seen.unit is None and seen.packed and seen.readable and not seen.damaged:
                self._packed_ahead.setdefault(seen.rotation.family, []).append(seen)
        if len(self._match.places) < len(self._book.live):
            self._folder.doubt()

    def _tail(self, seen: Seen) -> Tail | None:
        return self._book.live.get(seen.unit)

    def _is_rotated(self, seen: Seen) -> bool:
        tail = self._tail(seen)
        renamed = tail is not None and os.fsencode(seen.name) != tail.born
        older = seen.rotation.rank < self._match.newest[seen.rotation.family].rotation.rank
        return renamed or older or not self._folder.logs.is_named(seen.name)

    def _quiet(self, seen: Seen, seconds: float) -> bool:
        return self._now - seen.changed_at >= seconds

    # --- turns

    def _rounds(self) -> Iterator[Draft]:
        """Turns, until no file has anything more that was there when the pass began."""
        jobs = sorted(filter(self._is_due, self._match.scope), key=self._order)
        while jobs:
            left: list[Seen] = []
            for seen in jobs:
                if self._context.stop.is_set():
                    return
                if self._is_held(seen) or (yield from self._turn(seen)):
                    left.append(seen)
            if len(left) == len(jobs) and all(map(self._is_held, left)):
                return
            jobs = left

    def _order(self, seen: Seen) -> tuple[object, ...]:
        """Log by log; those of its generations that are begun already are the older ones."""
        family, rank = seen.rotation
        time = self._match.newest[family].signature.mtime_ns if self._rules.by_time else 0
        return (time, family, seen.unit is None, rank, seen.name)

    def _is_due(self, seen: Seen) -> bool:
        if not seen.readable or seen.again or (seen.damaged and not self._quiet(seen, self._rules.partial_seconds)):
            return False
        tail = self._tail(seen)
        if seen.unit is not None and (tail is None or self._match.places.get(seen.unit) is not seen):
            return False
        if seen.packed or self._is_final(seen):
            return self._is_final(seen)
        if tail is not None and self._idles(tail, seen):
            return True
        return seen.waits < 0 and seen.size > (tail.end if tail else 0) and self._is_worth_a_turn(seen)

    def _is_final(self, seen: Seen) -> bool:
        return self._finishes(seen) or self._takes_partial(seen)

    def _finishes(self, seen: Seen) -> bool:
        rotated = seen.packed or self._is_rotated(seen)
        return rotated and self._quiet(seen, self._rules.rotated_seconds)

    def _is_worth_a_turn(self, seen: Seen) -> bool:
        """Not one that would only look again for the end of a record far over the limit, from its beginning."""
        return seen.size >= self._patience.get(seen.name, 0) or self._quiet(seen, self._rules.partial_seconds)

    def _takes_partial(self, seen: Seen) -> bool:
        rules, tail = self._rules, self._tail(seen)
        news = seen.waits > 0 and (tail is None or seen.size > tail.end)
        return rules.takes_partial and news and self._quiet(seen, rules.partial_seconds)

    def _idles(self, tail: Tail, seen: Seen) -> bool:
        return tail.open and self._quiet(seen, self._rules.idle_closes_seconds)

    def _is_held(self, seen: Seen) -> bool:
        if seen.unit is not None or self._now - seen.since > _HOLD * self._rules.rotated_seconds:
            return False
        family, rank = seen.rotation
        for tail in self._book.live.of_family(family):
            place = self._match.places.get(tail.unit)
            if place is None or place.rotation.rank < rank:
                return True
        ahead = self._packed_ahead.get(family, ())
        return any(other.unit is None and other.rotation.rank < rank for other in ahead)

    def _turn(self, seen: Seen) -> Generator[Draft, None, bool]:
        """Whether there is more of what the pass began with."""
        try:
            with opened(seen.found) as source:
                return (yield from self._read(seen, source))
        except DAMAGED as error:
            self._log.bind(file=display(seen.name)).info("packed file cannot be read to its end yet: {}", error)
            if seen.damaged:
                yield self._losses.damaged(self._tail(seen), seen)
            seen.damaged, seen.again = not seen.damaged, False
        except (FileNotFoundError, PermissionError):  # renamed or locked since the look: the next one sees
            seen.again = True
        except OSError as error:
            raise unavailable(seen.found.path, error) from error
        return False

    def _read(self, seen: Seen, source: Opened) -> Generator[Draft, None, bool]:
        rules, tail = self._rules, self._tail(seen)
        seen.again = True  # until it is read as judged
        if tail is not None and not self._match.fits(tail, seen, source):
            return False
        tail = tail or self._born(seen, source)
        if not tail.counted and not (tail := self._counted(tail, source)):
            return False
        if tail.taken:
            tail = replace(tail, head=head_of(source.file, rules.format.scanner()))
        final = self._is_final(seen) and (source.packed or source.size == seen.size)
        turn = Turn(source, tail.position, tail.prefix_bytes, rules.format, rules.max_record_bytes)
        last = yield from self._all_but_last(seen, tail, turn, final=final)
        if turn.changed:
            if last is not None:
                yield self._records(seen, *last)
            return False
        seen.again = False
        seen.waits = -1 if turn.more else turn.waits
        self._patience.pop(seen.name, None)
        if turn.waits > max(rules.max_record_bytes, _CHEAP_BYTES):
            self._patience[seen.name] = seen.size + turn.waits
        finished = final and not turn.more and self._finishes(seen)
        closes = finished or (not turn.more and rules.idle_closes_seconds == 0)
        if last is not None:
            after, run, prefix = last
            yield self._records(seen, replace(after, open=not closes, finished=finished), run, prefix)
        elif finished:
            yield self._close(seen, _nothing_more(tail, turn), turn.prefix)
        elif not turn.more and self._idles(tail, seen):
            yield self._close(seen, replace(tail, open=False), turn.prefix)
        return turn.more

    def _all_but_last(
        self, seen: Seen, tail: Tail, turn: Turn, *, final: bool
    ) -> Generator[Draft, None, tuple[Tail, Run, bytes] | None]:
        """Gives the last run back: only behind it is known whether the unit ends there."""
        end, turn_bytes = (None, 2**63) if seen.packed else (seen.size, self._rules.turn_bytes)
        held: tuple[Tail, Run, bytes] | None = None
        try:
            for run in turn.runs(end, self._context.stop, final=final, turn_bytes=turn_bytes):
                if held is not None:
                    yield self._records(seen, *held)
                held = (_after(tail, run, turn, seen), run, turn.prefix)
        except DAMAGED:
            if held is not None:
                yield self._records(seen, *held)
            raise
        return held

    def _records(self, seen: Seen, after: Tail, run: Run, prefix: bytes) -> Draft:
        seen.unit = after.unit
        seen.grown = seen.grown and not after.finished
        self._match.places[after.unit] = seen
        return drafting.records(self._book, after, run, prefix, self._format)

    def _close(self, seen: Seen, after: Tail, prefix: bytes) -> Draft:
        seen.unit = after.unit
        seen.grown = seen.grown and not after.finished
        return drafting.closing(self._book, after, prefix, self._format)

    # --- births

    def _born(self, seen: Seen, source: Opened) -> Tail:
        head = head_of(source.file, self._rules.format.scanner())
        unit = self._book.new_unit(seen.rotation.family, head)
        name = os.fsencode(seen.name)
        return Tail(unit, name, name, head, b"", b"", source.inode, seen.size)

    def _counted(self, tail: Tail, source: Opened) -> Tail | None:
        """*tail* with its place among the records of its file; None when the stop came or the file changed."""
        rules = self._rules
        turn = counted_to(source, tail.offset, rules.format, rules.max_record_bytes, self._context.stop)
        if turn.more or turn.changed:
            return None
        return replace(
            tail, counted=True, prefix_bytes=len(turn.prefix), **turn.at._asdict(),
            **dict(zip(("mark", "seam"), turn.print_at(turn.at.offset), strict=True)),
        )  # fmt: skip

    def _beginning(self) -> Draft:
        """At the very first look: all there is was read, whatever it is."""
        tails: list[Tail] = []
        skipped: Counter[bytes] = Counter()
        for seen in self._match.files.values():
            if not seen.readable or not seen.head:
                continue
            try:
                with opened(seen.found) as source:
                    size = source.size if source.packed else seen.size
                    mark, seam = print_of(source.file, size)
            except (OSError, *DAMAGED):
                continue
            unit = self._book.new_unit(seen.rotation.family, seen.head, skipped[seen.head])
            skipped[seen.head] += 1
            name = os.fsencode(seen.name)
            tail = Tail(unit, name, name, seen.head, mark, seam, seen.inode, size, offset=size)
            tails.append(replace(tail, finished=True, counted=False))
            seen.unit = unit
        return drafting.beginning(self._book, tails, self._rules.pattern, self._format)

    def _count(self) -> None:
        counters, files = self._context.counters, self._match.scope
        behind = sum(max(0, tail.size - tail.end) for tail in self._book.live.values())
        counters.set("files_open", len(self._book.live))
        counters.set("bytes_behind", behind + sum(max(0, seen.size) for seen in files if seen.unit is None))
        counters.set("files_unreadable", sum(not seen.readable or seen.damaged for seen in files))
        counters.set("partial_lines_waiting", sum(seen.waits > 0 and self._match.is_open(seen) for seen in files))


def _after(tail: Tail, run: Run, turn: Turn, seen: Seen) -> Tail:
    """*tail* behind *run*: at its end, or at a last line that was taken without its newline and is read again if it
    grows."""
    at = run.loose or run.end
    mark, seam = turn.print_at(run.end.offset)
    return replace(
        tail, prefix_bytes=len(turn.prefix), **at._asdict(), taken=run.end.offset if run.loose else 0,
        mark=mark, seam=seam, size=max(tail.size, seen.size), open=True, finished=False,
    )  # fmt: skip


def _nothing_more(tail: Tail, turn: Turn) -> Tail:
    """*tail* finished, without records since; a file of nothing but a header stands behind it."""
    if not tail.offset and not tail.taken:
        prefix = turn.prefix
        mark, seam = turn.print_at(len(prefix))
        lines = 1 + prefix.count(b"\n")
        tail = replace(tail, prefix_bytes=len(prefix), offset=len(prefix), line=lines, mark=mark, seam=seam)
    return replace(tail, open=False, finished=True)
