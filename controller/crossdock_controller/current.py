"""The revision in force, loaded when it changed. One that does not load is reported, and the last good one stays."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from loguru import logger

from crossdock.errors import CrossdockError
from crossdock_controller.store import revisions

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
        self._runtime: R | None = None
        self._seen = 0
        self._looked_at = float("-inf")

    def get(self) -> R | None:
        """The runtime in force, None before the first `apply`. Looks for a newer one a few times a second at most."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            if revisions.head_number(self._db) != self._seen:
                self._load()
        return self._runtime

    def _load(self) -> None:
        number = revisions.head_number(self._db)
        self._seen = number
        try:
            tree = revisions.tree(self._db, number)
            if tree is None:
                return
            self._runtime = self._build(tree, number)
        except CrossdockError as error:
            logger.bind(revision=number).error("revision cannot be loaded, the last good one stays in force: {}", error)
            return
        logger.bind(revision=number).info("revision loaded")
