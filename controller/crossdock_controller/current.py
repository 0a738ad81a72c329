"""The revision in force, and beside it the one that is being rolled out; loaded when they changed. One that does not
load is reported, and the last good one stays.

A site is worked for by the revision it is to run: what its agents read and how it is mapped and routed change together.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from loguru import logger

from crossdock.errors import CrossdockError
from crossdock_controller.store import revisions, targets
from crossdock_controller.store.targets import Targets

LOOK_SECONDS = 0.2


class Revision(Protocol):
    @property
    def number(self) -> int: ...


R = TypeVar("R", bound=Revision)


class Current(Generic[R]):
    """*build* makes a runtime of (tree, number); it raises ConfigError for a tree this release does not accept."""

    def __init__(self, db: sqlite3.Connection, build: Callable[[Mapping[str, str], int], R]) -> None:
        self._db = db
        self._build = build
        self._in_force: R | None = None
        self._rolling: R | None = None
        self._targets = Targets(0)
        self._looked_at = float("-inf")

    def get(self) -> R | None:
        """The runtime in force, None before the first `apply`. Looks for a newer one a few times a second at most."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            found = targets.read(self._db)
            if found != self._targets:
                self._follow(found)
        return self._in_force

    @property
    def rolling(self) -> R | None:
        """The runtime that is being rolled out, None when none is. As of the last `get`."""
        return self._rolling

    def at(self, site: str) -> R | None:
        """The runtime that *site* is to run, as of the last `get`."""
        return self._rolling if self._rolling is not None and site in self._targets.sites else self._in_force

    def _follow(self, found: Targets) -> None:
        """Take *found* up. A rollout that completes is known already, and is not built a second time."""
        known = {r.number: r for r in (self._in_force, self._rolling) if r is not None}
        if found.in_force != self._targets.in_force:
            self._in_force = self._loaded(found.in_force, known) or self._in_force
        if found.rolling != self._targets.rolling:
            self._rolling = self._loaded(found.rolling, known) if found.rolling else None
        self._targets = found

    def _loaded(self, number: int, known: Mapping[int, R]) -> R | None:
        if number in known:
            return known[number]
        try:
            tree = revisions.tree(self._db, number)
            if tree is None:
                return None
            runtime = self._build(tree, number)
        except CrossdockError as error:
            logger.bind(revision=number).error("revision cannot be loaded, the last good one stays in force: {}", error)
            return None
        logger.bind(revision=number).info("revision loaded")
        return runtime
