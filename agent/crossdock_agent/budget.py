"""How much a source may use: bytes and CPU by token buckets, rows by counting. Pure: time comes in, waits go out.

The pump asks before it appends a batch and again after it; what it is told to wait, it waits between two drafts, where
a source holds nothing that anybody needs.
"""

from __future__ import annotations

from crossdock import siteconfig
from crossdock.codec import TARGET_RAW_BYTES
from crossdock_agent.limits.bucket import Bucket

MEGABYTE = 1_000_000
CPU_BURST_SECONDS = 0.25  # of CPU time: a short pass is not slowed at all


class Throttle:
    """A source's budget. *now* is monotonic seconds, *cpu* the CPU seconds of the source's thread so far."""

    def __init__(self, budget: siteconfig.Budget | None, now: float) -> None:
        budget = budget or siteconfig.Budget()
        rate, percent = budget.max_mb_per_second, budget.cpu_percent
        self._bytes = Bucket(rate * MEGABYTE, TARGET_RAW_BYTES, now) if rate is not None else None
        self._cpu = Bucket(percent / 100, CPU_BURST_SECONDS, now) if percent is not None else None
        self._cpu_seen: float | None = None
        self._max_rows = budget.max_rows_per_poll
        self._rows = 0

    @property
    def counts_cpu(self) -> bool:
        return self._cpu is not None

    def begin_pass(self) -> None:
        self._rows = 0

    def before(self, size: int, now: float) -> float:
        """Seconds to wait before a batch of *size* bytes is taken."""
        return self._bytes.wait(size, now) if self._bytes is not None else 0.0

    def took(self, size: int, rows: int, now: float) -> None:
        self._rows += rows
        if self._bytes is not None:
            self._bytes.take(size, now)

    def worked(self, cpu: float, now: float) -> float:
        """Seconds to wait for the CPU time used since it was last asked. *cpu* is per thread: a new one starts anew."""
        if self._cpu is None:
            return 0.0
        used = cpu - self._cpu_seen if self._cpu_seen is not None else 0.0
        self._cpu_seen = cpu
        self._cpu.take(max(0.0, used), now)
        return self._cpu.wait(0.0, now)

    @property
    def is_enough(self) -> bool:
        """Whether this pass has read all that one may."""
        return self._max_rows is not None and self._rows >= self._max_rows
