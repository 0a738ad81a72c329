"""One governor for the whole agent: what a site's `limits` say, asked before sending and before each batch read.

Without limits every question is answered at once. With them the answer is how long to wait, at most until the next
look, so that a change of the configuration or of the window reaches everybody within a second, on streams that stay up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from crossdock.limits import Limits
from crossdock.v1.link_pb2 import LimitHealth
from crossdock_agent.limits import report, usage
from crossdock_agent.limits.gate import ENOUGH
from crossdock_agent.limits.resources import (
    LOOK_SECONDS,
    STEP_SECONDS,
    WRITE_FACTOR,
    BandwidthLimit,
    MeasuredLimit,
    MemoryLimit,
)
from crossdock_agent.limits.rules import Rules

DISK_LOOK_SECONDS = 0.1
TRIM_SECONDS = 5.0
COMPLAIN_SECONDS = 60.0  # over the ceiling of the memory, although little is held
STROKE_SECONDS = 0.5  # of the disk's rate
AHEAD_BYTES = 48 * 1024 * 1024  # counted and not yet seen: what SQLite's log holds, and what waits for its commit
BATCH_OVERHEAD_BYTES = 80  # names, sequence and frames around a batch on the wire, as measured ...
FRAMED_BYTES = 600  # ... and a byte for each so many: TLS records and HTTP/2 frames


def _wall_us() -> int:
    return time.time_ns() // 1000


def _nothing(*_: object) -> None:
    return


@dataclass(frozen=True, slots=True)
class Machine:
    """What a governor measures and does; tests bring their own."""

    monotonic: Callable[[], float] = time.monotonic
    wall_us: Callable[[], int] = _wall_us
    cpu: Callable[[], float] = usage.cpu_seconds
    written: Callable[[], int | None] = usage.written_bytes
    resident: Callable[[], int | None] = usage.resident_bytes
    trim: Callable[[], None] = _nothing
    disk_idle: Callable[[bool], None] = _nothing


def on_the_wire(size: int) -> int:
    """Bytes that a batch of *size* sealed bytes takes up on the line."""
    return size + BATCH_OVERHEAD_BYTES + size // FRAMED_BYTES


class Governor:
    """A `Gate`. Everything here may be called from any thread."""

    def __init__(self, machine: Machine = Machine()) -> None:
        self._machine = machine
        self._lock = threading.Lock()
        self._limits = Limits()
        self._bandwidth: BandwidthLimit | None = None
        self._cpu: MeasuredLimit | None = None
        self._disk: MeasuredLimit | None = None
        self._memory: MemoryLimit | None = None
        self._is_open = True  # nothing is limited
        self._written = self._ahead = 0  # bytes: measured at the last look, and counted before they were written
        self._disk_looked_at = self._memory_looked_at = self._trimmed_at = float("-inf")

    def use(self, rules: Rules) -> None:
        """From now on. What did not change keeps its state: a debt is not forgiven by a new revision."""
        machine, before, limits = self._machine, self._limits, rules.limits
        now, wall_us = machine.monotonic(), machine.wall_us()
        with self._lock:
            if limits.bandwidth != before.bandwidth or limits.goes_by_the_clock:
                self._bandwidth = self._bandwidth_of(rules, now, wall_us)
            if limits.cpu_percent != before.cpu_percent:
                share = limits.cpu_percent
                self._cpu = MeasuredLimit(share / 100, machine.cpu(), now) if share is not None else None
            if limits.disk != before.disk:
                self._disk = MeasuredLimit(limits.disk, 0, now) if limits.disk is not None else None
                self._written, self._ahead = machine.written() or 0, 0
            if limits.memory != before.memory:
                self._memory = MemoryLimit(limits.memory) if limits.memory is not None else None
            self._limits = limits
            self._is_open = (self._bandwidth or self._cpu or self._disk or self._memory) is None
        if limits.disk_idle != before.disk_idle:
            machine.disk_idle(limits.disk_idle)

    def _bandwidth_of(self, rules: Rules, now: float, wall_us: int) -> BandwidthLimit | None:
        if rules.windows is None:
            return None
        if self._bandwidth is not None:
            self._bandwidth.rule(rules.windows, now, wall_us)
            return self._bandwidth
        return BandwidthLimit(rules.windows, now, wall_us)

    @property
    def queue_bytes(self) -> int | None:
        """What batches may hold of memory while they wait for their commit; None: as ever."""
        with self._lock:
            return self._memory.part_bytes if self._memory is not None else None

    @property
    def stroke_bytes(self) -> int | None:
        """What may be written to the disk at one stroke, so that no second is far above the others; None: as ever."""
        with self._lock:
            return int(self._disk.rate * STROKE_SECONDS) if self._disk is not None else None

    # --- asked by the uplink

    def send_wait(self, lane: str, under_way: int) -> float:
        if self._is_open:
            return 0.0
        now, wall_us = self._machine.monotonic(), self._machine.wall_us()
        with self._lock:
            # in small steps, however many sources want the same: what is read must be able to leave
            wait = min(self._wait_for_cpu(lane, now), STEP_SECONDS)
            if self._bandwidth is not None:
                self._bandwidth.look(now, wall_us)
                wait = max(wait, self._bandwidth.wait(lane, now))
            if self._memory is not None:
                wait = max(wait, self._memory.wait_to_send(lane, under_way))
            return wait

    def send_room(self, lane: str) -> int:
        if self._bandwidth is None:
            return ENOUGH
        with self._lock:
            bandwidth = self._bandwidth
            room = bandwidth.room(lane, self._machine.monotonic()) if bandwidth is not None else ENOUGH
            return max(1, int(min(room, ENOUGH)))

    def sent(self, lane: str, size: int) -> None:
        if self._bandwidth is not None:
            with self._lock:
                if self._bandwidth is not None:
                    self._bandwidth.take(lane, on_the_wire(size), self._machine.monotonic())

    # --- asked by the pumps

    def read_wait(self, lane: str) -> tuple[float, str]:
        if self._is_open:
            return 0.0, ""
        now = self._machine.monotonic()
        with self._lock:
            waits = [(self._wait_for_cpu(lane, now), "cpu")]
            if self._disk is not None:
                self._look_at_disk(self._disk, now)
                waits.append((self._disk.wait(lane, now), "disk"))
            if self._memory is not None:
                self._look_at_memory(self._memory, now)
                waits.append((self._memory.wait_to_read(lane, now), "memory"))
            seconds, resource = max(waits)
            return (seconds, resource) if seconds > 0 else (0.0, "")

    def appended(self, size: int) -> None:
        if self._disk is not None:
            with self._lock:
                if self._disk is not None:
                    self._ahead = min(self._ahead + size * WRITE_FACTOR, AHEAD_BYTES)
                    self._disk.measured(self._disk.total + size * WRITE_FACTOR, self._machine.monotonic())

    def _wait_for_cpu(self, lane: str, now: float) -> float:
        if self._cpu is None:
            return 0.0
        self._cpu.measured(self._machine.cpu(), now)
        return self._cpu.wait(lane, now)

    def _look_at_disk(self, disk: MeasuredLimit, now: float) -> None:
        """What was appended is counted at once. The system writes the first half of it soon, and the second when SQLite
        has enough for its file; what it writes beyond that is counted when it is seen."""
        if 0 <= now - self._disk_looked_at < DISK_LOOK_SECONDS:
            return
        self._disk_looked_at = now
        written = self._machine.written()
        if written is None:
            return
        self._ahead -= written - self._written
        self._written = written
        if self._ahead < 0:
            disk.measured(disk.total - self._ahead, now)
            self._ahead = 0

    def _look_at_memory(self, memory: MemoryLimit, now: float) -> None:
        if 0 <= now - self._memory_looked_at < LOOK_SECONDS:
            return
        self._memory_looked_at = now
        resident = self._machine.resident() or 0
        if resident > memory.ceiling and not 0 <= now - self._trimmed_at < TRIM_SECONDS:
            self._trimmed_at = now
            self._machine.trim()
            resident = self._machine.resident() or 0
        memory.measured(resident, now)

    # --- shown to people

    def complaints(self) -> list[str]:
        """What a person should change: a limit that cannot be kept by waiting."""
        with self._lock:
            memory = self._memory
            if memory is None or memory.seconds_over(self._machine.monotonic()) < COMPLAIN_SECONDS:
                return []
            return [report.too_little_memory(memory)]

    def health(self, outbox_bytes: int) -> list[LimitHealth]:
        """What is limited, what was used of it over the last seconds, and what it holds back."""
        if self._is_open:
            return []
        now, wall_us = self._machine.monotonic(), self._machine.wall_us()
        found = []
        with self._lock:
            if self._bandwidth is not None:
                found.append(report.bandwidth(self._bandwidth, now, wall_us, outbox_bytes))
            if self._cpu is not None:
                self._cpu.measured(self._machine.cpu(), now)
                found.append(report.cpu(self._cpu, now))
            if self._disk is not None:
                self._look_at_disk(self._disk, now)
                found.append(report.disk(self._disk, now))
            if self._memory is not None:
                self._look_at_memory(self._memory, now)
                found.append(report.memory(self._memory, now))
        return found
