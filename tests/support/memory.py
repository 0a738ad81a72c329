"""How much Python memory a piece of work takes at its height."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def allocated_at_most(limit_bytes: int, beside: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Fails when more than *limit_bytes* were allocated at once inside, beyond what stood before and what *beside* says
    the test itself holds at the end."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1] - beside()
    finally:
        tracemalloc.stop()
    assert peak <= limit_bytes, f"{peak:,} bytes were allocated at once, the limit is {limit_bytes:,}"
