"""Which files there are now, without looking at ten thousand old ones each time.

A whole look lists the directory. Between two, only files that are being followed are asked for their size, as long as
the directory says that no name in it changed. That is a hint and no more: at the latest after RELIST_SECONDS, and
whenever a followed file is not what it was, the look is a whole one.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from crossdock_agent.drops.identity import signature
from crossdock_agent.drops.listing import Found, Listing, unavailable
from crossdock_agent.tails.names import rotation

RELIST_SECONDS = 10.0
TRUST_SECONDS = 2.0  # so long after a change a directory's time may not show the next one: it is coarse


class Folder:
    def __init__(
        self, root: Path, pattern: str, ignore: Sequence[str], monotonic: Callable[[], float], *, recursive: bool
    ) -> None:
        self.root = root
        # Rotated files of a log belong to it whatever the pattern says of their ending.
        self.listing = Listing(root, pattern + "*", ignore, root / ".crossdock-none", recursive=recursive)
        self._pattern = os.path.normcase(pattern)
        self._monotonic = monotonic
        self._recursive = recursive
        self._found: dict[str, Found] = {}
        self._wanted: dict[str, bool] = {}
        self._stamp: tuple[int, int] | None = None
        self._changed_at = self._listed_at = float("-inf")

    def look(self, followed: Collection[str]) -> tuple[dict[str, Found], set[str] | None]:
        """Files by name, and those of *followed* that changed since the last look; None: all were looked at.

        Raises SourceUnavailable.
        """
        changed = self._refresh(followed) if self._is_quiet() else None
        if changed is None:
            self._list()
        return self._found, changed

    def doubt(self) -> None:
        """The next look is to be a whole one."""
        self._listed_at = float("-inf")

    def is_named(self, name: str) -> bool:
        """Whether *name* itself matches; else it is followed as a rotated file of one that does."""
        return fnmatch.fnmatchcase(os.path.normcase(name.rpartition("/")[2]), self._pattern)

    def _is_wanted(self, name: str) -> bool:
        if name not in self._wanted:
            self._wanted[name] = self.is_named(name) or self.is_named(rotation(name).family)
        return self._wanted[name]

    def _is_quiet(self) -> bool:
        now = self._monotonic()
        try:
            stat = self.root.stat()
        except OSError as error:
            raise unavailable(self.root, error) from error
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp != self._stamp:
            self._stamp, self._changed_at = stamp, now
        quiet = now - self._changed_at >= TRUST_SECONDS and self._listed_at >= self._changed_at + TRUST_SECONDS
        return quiet and now - self._listed_at < RELIST_SECONDS and not self._recursive

    def _refresh(self, followed: Collection[str]) -> set[str] | None:
        """None when a followed file is gone, so that only a whole look can tell."""
        changed = set()
        for name in followed:
            before = self._found.get(name)
            if before is None:
                return None
            try:
                now = signature(os.stat(before.location))  # noqa: PTH116 - runs for each followed file at each pass
            except OSError:
                return None
            if now != before.signature:
                self._found[name] = Found(name, before.location, now)
                changed.add(name)
        return changed

    def _list(self) -> None:
        self._found = {found.name: found for found in self.listing.files() if self._is_wanted(found.name)}
        self._wanted = {name: wanted for name, wanted in self._wanted.items() if name in self._found or not wanted}
        self._listed_at = self._monotonic()
