"""Whether a file is complete: it rests, its marker is there, and on Windows no program has it open for writing.

Each of these is asked for in the settings; what is asked for must all hold. Nobody's timestamp is believed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from loguru import logger

from crossdock_agent.drops.handles import is_held, open_shared
from crossdock_agent.drops.identity import head, packed
from crossdock_agent.drops.listing import Found, Names, display
from crossdock_agent.drops.markers import Markers, Overdue
from crossdock_agent.drops.settle import Settling
from crossdock_agent.sources.base import SourceContext


class Readiness:
    """One pass: `begin` with what lies there, `is_ready` for each file in turn, `count` at its end."""

    def __init__(
        self,
        context: SourceContext,
        settle_seconds: float,
        markers: Markers | None,
        pattern: str,
        open_alone: Callable[[Path], BinaryIO] | None,
    ) -> None:
        self._source = context.name
        self._counters = context.counters
        self._at_once = settle_seconds == 0
        self._settling = Settling(settle_seconds, context.monotonic)
        self._markers = markers
        self._is_ours = markers.belongs(pattern) if markers else None
        self._open_alone = open_alone
        self._orphans = Overdue("marker without its file", context.monotonic)
        self._unmarked = Overdue("file without its marker", context.monotonic)
        self._present_markers: set[str] = set()
        self._waiting = self._unreadable = 0
        self._without_marker: list[str] = []
        self._complained: set[str] = set()

    def begin(self, names: Names) -> None:
        self._present_markers = names.markers
        self._waiting = self._unreadable = 0
        self._without_marker = []
        present = set(names.files)
        self._settling.keep_only(present)
        self._complained &= present
        if self._markers is not None:
            expected = {self._markers.comparable(self._markers.of(name)) for name in names.files}
            orphans = (name for name in names.markers - expected if self._is_ours and self._is_ours(name))
            self._counters.set("markers_without_file", self._orphans.count(orphans, self._source))

    def is_ready(self, item: Found) -> bool:
        try:
            if self._has_marker(item) and self._has_settled(item) and not is_held(item.path, self._open_alone):
                return True
        except FileNotFoundError:
            return False
        except OSError as error:
            self.unreadable(item.name, error)
            return False
        self._waiting += 1
        return False

    def forget(self, name: str) -> None:
        """It was taken, or it changed under our eyes: its time begins anew."""
        self._settling.forget(name)

    def unreadable(self, name: str, error: OSError) -> None:
        """A writer lets nobody in, or rights are missing: it is tried again at each pass."""
        self._waiting += 1
        self._unreadable += 1
        if name not in self._complained:
            self._complained.add(name)
            log = logger.bind(source=self._source, file=display(name))
            log.info("file cannot be opened yet: {}", error.strerror or error)

    def count(self) -> None:
        self._counters.set("files_waiting", self._waiting)
        self._counters.set("files_unreadable", self._unreadable)
        if self._markers is not None:
            self._counters.set("files_without_marker", self._unmarked.count(self._without_marker, self._source))

    def _has_marker(self, item: Found) -> bool:
        if self._markers is None:
            return True
        if self._markers.comparable(self._markers.of(item.name)) in self._present_markers:
            return True
        self._without_marker.append(item.name)
        return False

    def _has_settled(self, item: Found) -> bool:
        """Raises OSError. A file is opened only when it is new, was changed, or its time is up."""
        if self._at_once:
            return True
        seen = packed(item.signature)
        if self._settling.waits(item.name, seen):
            return False
        with open_shared(item.path) as file:
            return self._settling.settled(item.name, seen + head(file))
