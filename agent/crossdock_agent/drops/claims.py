"""Two agents at one directory: a file belongs to whoever renames it into a directory of its own first.

A rename is atomic on every file system and share, and only one of two succeeds; a lock file or a lease would need
clocks that agree. What is claimed stays claimed: an agent that dies finds its files again when it is back, and a person
may move them out of its directory before.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from loguru import logger

from crossdock_agent.drops.listing import CLAIMS, Found, Listing, display, look


class Claims:
    """The directory of this machine's claims for *source* below *root*."""

    def __init__(self, root: Path, source: str, host: str = "") -> None:
        owner = re.sub(r"[^A-Za-z0-9.-]", "_", f"{host or platform.node()}-{source}")
        self.directory = root / f"{CLAIMS}{owner}"
        self._listing = Listing(self.directory, "*", (), None, recursive=True)

    def names(self) -> list[str]:
        """Raises SourceUnavailable."""
        return self._listing.names().files if self.directory.is_dir() else []

    def location(self, name: str) -> str:
        return self._listing.location(name)

    def find(self, name: str) -> Found | None:
        return self._listing.find(name)

    def claim(self, item: Found) -> Found | None:
        """*item* as ours; None when another was faster, or when it changed meanwhile and must settle again.

        Raises OSError when it cannot be renamed now.
        """
        target = self.location(item.name)
        if os.path.lexists(target):  # an earlier file of this name, not yet released
            return None
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(item.location, target)  # noqa: PTH104 - not replace: on Windows it must not overwrite
        except FileNotFoundError:
            logger.bind(file=display(item.name)).debug("another agent has claimed the file")
            return None
        found = look(item.name, target)
        before = item.signature
        if found is None or (found.signature.size, found.signature.mtime_ns) != (before.size, before.mtime_ns):
            return None
        return found
