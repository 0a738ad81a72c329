"""One sink's line, driven by a test: what is due now is sent when the test says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from crossdock_controller.judging import Policy
from crossdock_controller.line import Line
from crossdock_controller.store import sinks
from support.pipeline import Box, FakeSink


@contextmanager
def line(box: Box, sink: FakeSink, name: str = "finance") -> Iterator[Callable[[], None]]:
    """Delivers what is due at the sink *name* whenever it is called."""
    number = sinks.sink_id(box.db, name)
    cursor = sinks.claim(box.db, number, "me", time.time_ns() // 1000)
    assert cursor is not None
    served = Line(box.db, number, name, sink, 100, "me", cursor, Policy())

    def deliver() -> None:
        while served.step():
            pass

    yield deliver
    served.save()
