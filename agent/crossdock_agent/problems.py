"""What is wrong right now, in sentences for a person: in `status`, in every heartbeat, gone when mended."""

from __future__ import annotations

import threading

from loguru import logger

from crossdock.errors import CrossdockError
from crossdock.redaction import KNOWN


def explain(error: CrossdockError) -> str:
    """What a command says when it ends by *error*: what happened, and what to do next."""
    return f"Error: {error.message}" + (f"\n  Next: {error.hint}" if error.hint else "")


class Problems:
    """Sentences by a stable key, so that the part that raised one can replace or clear it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, str] = {}

    def report(self, key: str, sentence: str) -> None:
        sentence = KNOWN.clean(sentence)  # it travels to the centre
        with self._lock:
            new = self._open.get(key) != sentence
            self._open[key] = sentence
        if new:
            logger.bind(problem=key).error("{}", sentence)

    def clear(self, key: str) -> None:
        with self._lock:
            gone = self._open.pop(key, None)
        if gone is not None:
            logger.bind(problem=key).info("no longer: {}", gone)

    def sentences(self) -> list[str]:
        with self._lock:
            return list(self._open.values())
