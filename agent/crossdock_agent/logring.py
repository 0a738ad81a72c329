"""The last lines of this process's log, in memory and cleaned of secrets: for a failure's report and for `logs`.

Bounded twice, by lines and by their length: it is a few hundred kilobytes at most, whatever is logged.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loguru import logger

from crossdock.redaction import Redactor

if TYPE_CHECKING:
    from loguru import Message

LINES = 1000
LINE_CHARACTERS = 400
FORMAT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level: <7} {message} {extra[fields]}"


@dataclass(frozen=True, slots=True)
class Line:
    """*at_us* is the moment it was logged, microseconds UTC; *text* has no line end and no secret."""

    at_us: int
    level: str
    text: str


class LogRing:
    """Attach it after the log was configured: that removes all sinks."""

    def __init__(self, redactor: Redactor, lines: int = LINES) -> None:
        self._redactor = redactor
        self._lines: deque[Line] = deque(maxlen=lines)
        self._lock = threading.Lock()
        self._sink: int | None = None
        self._listener: Callable[[Line], None] | None = None

    def attach(self, level: str = "INFO") -> None:
        """Again after the log was configured anew."""
        self.detach()
        self._sink = logger.add(self._write, level=level, format=FORMAT, diagnose=False, backtrace=False)

    def __enter__(self) -> LogRing:
        self.attach()
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def detach(self) -> None:
        if self._sink is not None:
            with suppress(ValueError):  # the log was configured anew since: that removed it
                logger.remove(self._sink)
            self._sink = None

    def listen(self, listener: Callable[[Line], None] | None) -> None:
        """Hand each line to *listener* from now on; None ends that. It must not log."""
        self._listener = listener

    def last(self, count: int) -> list[str]:
        """The newest *count* lines, oldest first."""
        with self._lock:
            return [line.text for line in list(self._lines)[-count:]] if count > 0 else []

    def since(self, at_us: int) -> list[Line]:
        """The lines logged at *at_us* or later, as far as they are still known, oldest first."""
        with self._lock:
            return [line for line in self._lines if line.at_us >= at_us]

    def _write(self, message: Message) -> None:
        record = message.record
        at_us = int(record["time"].timestamp() * 1e6)
        text = self._redactor.clean(str(message).rstrip())
        for part in text.splitlines():  # a traceback is many
            line = Line(at_us, record["level"].name, part.rstrip()[:LINE_CHARACTERS])
            with self._lock:
                self._lines.append(line)
            if self._listener is not None:
                self._listener(line)
