"""Which files there are now, without looking at ten thousand old ones each time.

A whole look lists the directory. Between two, only files that are being followed are asked for their size, as long as
the directory says that no name in it changed. That is a hint and no more: at the latest after RELIST_SECONDS, and
whenever a followed file is not what it was, the look is a whole one.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from crossdock_agent.drops.identity import Signature, signature
from crossdock_agent.drops.listing import Found, Listing, unavailable
from crossdock_agent.drops.patterns import globbed
from crossdock_agent.tails.names import is_packed, rotation

RELIST_SECONDS = 10.0
TRUST_SECONDS = 2.0  # so long after a change a directory's time may not show the next one: it is coarse


class Logs(Listing):
    """Files whose name matches *pattern*, and rotated ones of those, whatever the pattern says of their ending."""

    def __init__(
        self, root: Path, pattern: str, ignore: Sequence[str], *, recursive: bool, packed: bool = True
    ) -> None:
        super().__init__(root, _with_rotated(pattern), ignore, root / ".crossdock-none", recursive=recursive)
        self.pattern = pattern
        self._normal = os.path.normcase(globbed(pattern))
        self._packed = packed
        self._known: dict[str, bool] = {}

    def files(self) -> Iterator[Found]:
        """By name, each file under one of its names only. Raises SourceUnavailable."""
        seen: set[Signature] = set()
        before, self._known = self._known, {}
        for found in super().files():
            name = found.name
            wanted = self._known[name] = before[name] if name in before else self._is_wanted(name)
            if wanted and (found.signature not in seen or not found.signature.inode):
                seen.add(found.signature)
                yield found

    def is_named(self, name: str) -> bool:
        """Whether *name* itself matches; else it is followed as a rotated file of one that does."""
        return fnmatch.fnmatchcase(os.path.normcase(name.rpartition("/")[2]), self._normal)

    def _is_wanted(self, name: str) -> bool:
        return (self._packed or not is_packed(name)) and (self.is_named(name) or self.is_named(rotation(name).family))


def _with_rotated(pattern: str) -> str:
    """A pattern that `app.log.1` and `app-2026-11-26.log` match when *pattern* is `app.log`."""
    stem = pattern.rpartition(".")[0] or pattern
    if stem.endswith("*"):  # `**` means directories to a listing
        stem = pattern
    return stem if stem.endswith("*") else stem + "*"


class Folder:
    def __init__(self, logs: Logs, monotonic: Callable[[], float], *, recursive: bool) -> None:
        self.root = logs.root
        self.logs = logs
        self._monotonic = monotonic
        self._recursive = recursive
        self._found: dict[str, Found] = {}
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
        self._found = {found.name: found for found in self.logs.files()}
        self._listed_at = self._monotonic()
