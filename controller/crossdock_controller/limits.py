"""How many files this process may hold open: a connected agent takes two of them, one for each of its connections."""

from __future__ import annotations

import sys

from loguru import logger

FILES_PER_AGENT = 3  # two connections, and a third while one is replaced
FILES_BESIDE = 200  # databases, listeners, pipes, libraries


def raise_open_files() -> int | None:
    """Raise the limit as far as we may; what it is then, None where the system sets none (Windows)."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # macOS refuses what its kernel setting does not allow
        logger.bind(limit=soft).warning("the limit of open files stays where it is: {}", error)
        return soft
    return None if hard == resource.RLIM_INFINITY else hard


class OpenFiles:
    """Says once, for each size the fleet outgrew, that *limit* is too low for it."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._said = 0

    def check(self, agents: int) -> None:
        needed = agents * FILES_PER_AGENT + FILES_BESIDE
        if self._limit is None or needed <= self._limit or agents <= self._said:
            return
        self._said = agents * 2
        logger.bind(agents=agents, limit=self._limit, needed=needed).error(
            "not all agents can be connected at once: raise the limit of open files (LimitNOFILE=, ulimit -Hn) to {}",
            needed,
        )
