"""What was promised for after the acknowledgement: a file is archived, moved or deleted, and its marker before it.

Only a file that is still what was read; any other is left for the next pass to judge. Doing it twice does no harm.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from loguru import logger

from crossdock.lifecycle import Stop
from crossdock_agent.drops import afterwards
from crossdock_agent.drops.handles import open_shared
from crossdock_agent.drops.identity import content_hash, fingerprint, is_exact, signature
from crossdock_agent.drops.markers import Markers
from crossdock_agent.drops.state import Token

Action = Literal["leave", "archive", "move", "delete"]


@dataclass(frozen=True, slots=True)
class Releasing:
    """*target* is the directory for `archive` and `move`, for a file taken at a moment (microseconds since the epoch).

    That moment is the token's: a second attempt, after midnight, goes to the same place."""

    directory: Path
    action: Action
    target: Callable[[int], Path]
    markers: Markers | None
    duplicates_taken: bool
    stop: Stop

    def release(self, due: Token, path: Path, now_us: int) -> None:
        """Raises OSError, Interrupted."""
        if self.action == "leave":
            return
        try:
            with open_shared(path) as file:
                seen = os.fstat(file.fileno())
                same = self._is_same(file, seen, due) and signature(path.stat()) == signature(
                    seen
                )  # hashing takes time
        except FileNotFoundError:
            if self.directory.is_dir():
                return  # done before, or taken away
            raise
        if not same:
            logger.bind(file=path.name).info("file changed since it was read; left for the next pass")
            return
        name = os.fsdecode(due.name)
        if self.markers is not None:
            self._marker(self.markers.of(name), due, now_us)
        if self.action == "delete":
            afterwards.delete(path)
        else:
            afterwards.move(path, seen, self._to(name, due, now_us), now_us)

    def _marker(self, name: str, due: Token, now_us: int) -> None:
        path = self.directory / name
        try:
            seen = path.stat()
        except FileNotFoundError:  # moved before the crash that made this a second time
            return
        if self.action == "delete":
            afterwards.delete(path)
        else:
            afterwards.move(path, seen, self._to(name, due, now_us), now_us)

    def _to(self, name: str, due: Token, now_us: int) -> Path:
        return self.target(due.taken_us or now_us) / name

    def _is_same(self, file: BinaryIO, seen: os.stat_result, due: Token) -> bool:
        """By content; where samples do not prove it, by the time as well, or else by all of the content."""
        if seen.st_size != due.size or fingerprint(file, due.size) != due.fingerprint:
            return False
        if seen.st_mtime_ns == due.mtime_ns:
            return True
        if self.duplicates_taken:
            return False
        if is_exact(due.size):
            return True
        return bool(due.content) and content_hash(file, due.size, self.stop) == due.content
