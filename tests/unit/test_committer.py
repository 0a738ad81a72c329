"""Group commit as the streams meet it."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import Retryable
from crossdock_controller.committer import Committer
from crossdock_controller.store.intake import Incoming, Stored


class FailingWriter:
    """An intake whose disk takes nothing."""

    path = Path("intake.db")

    def commit(self, incoming: Sequence[Incoming], now_us: int) -> list[Stored]:
        raise sqlite3.OperationalError("disk I/O error")

    def close(self) -> None:
        """Nothing is open."""


def incoming(sequence: int) -> Incoming:
    return Incoming("a", "s", "wms", bytes(16), sequence, "standard", 1, b"c", b"sealed", 0)


async def refused_and_left() -> list[dict[str, Any]]:
    """A stream's batches in a commit that fails; it hears of the first and is gone. What the loop complains of."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    committer = Committer(FailingWriter(), lambda: None)  # type: ignore[arg-type]
    running = asyncio.create_task(committer.run())
    batches = [committer.submit(incoming(n)) for n in (1, 2, 3)]
    with pytest.raises(Retryable):
        await batches[0]
    assert all(b.done() for b in batches)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    batches.clear()
    gc.collect()
    committer.close()
    return complaints


def test_batches_of_a_stream_that_ended_at_its_first_refusal_leave_no_complaint_behind() -> None:
    assert asyncio.run(refused_and_left()) == []
