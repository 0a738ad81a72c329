"""The four things a site can limit, each with the state it needs. Pure: time and measurements come in.

Bytes on the line are counted as they are sent, so their limit holds exactly. CPU time and bytes on the disk are
measured afterwards, so a piece of work may run into debt, which is made up for by waiting before the next one.
"""

from __future__ import annotations

from crossdock_agent.limits.bucket import Meter, SharedBucket
from crossdock_agent.limits.windows import Ruling, Windows

LOOK_SECONDS = 1.0  # the longest wait: then it is asked again, because limits, windows and lanes change meanwhile
RECENT_SECONDS = 2.0  # what held something back so lately holds it back now, to a person
STEP_SECONDS = 0.25  # a critical source, or the sending, in debt of CPU or disk waits no longer before a batch
MEMORY_BASE_BYTES = 56 * 10**6  # of an agent that holds nothing
MEMORY_PARTS = 4  # of the memory above it: what waits for its commit, and what is under way, have one each
MIN_PART_BYTES = 512 * 1024
WRITE_FACTOR = 2  # a batch is written to SQLite's log, and from there to its file


class Held:
    """Since when and for how long something was made to wait."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._until = float("-inf")

    def note(self, wait: float, now: float) -> float:
        """*wait*, as it may be waited: no longer than until the next look."""
        wait = min(wait, LOOK_SECONDS)
        if wait > 0:
            self.seconds += max(0.0, now + wait - max(now, self._until))
            self._until = max(self._until, now + wait)
        return wait

    def is_recent(self, now: float) -> bool:
        return now < self._until + RECENT_SECONDS


class BandwidthLimit:
    """Bytes sent."""

    def __init__(self, windows: Windows, now: float, wall_us: int) -> None:
        self.held = Held()
        self.meter = Meter()
        self.total = 0
        self._windows = windows
        self._looked_at = now
        self.ruling = windows.at(wall_us)
        self._bucket = SharedBucket(self.ruling.rate, now)

    def look(self, now: float, wall_us: int) -> Ruling:
        """Which window holds is asked of the wall once a second."""
        if not 0 <= now - self._looked_at < LOOK_SECONDS:
            self._looked_at = now
            self.ruling = self._windows.at(wall_us)
            self._bucket.set_rate(self.ruling.rate, now)
        self.meter.note(self.total, now)
        return self.ruling

    def rule(self, windows: Windows, now: float, wall_us: int) -> None:
        """Other windows from now on; what was taken stays taken."""
        self._windows = windows
        self._looked_at = float("-inf")
        self.look(now, wall_us)

    def wait(self, lane: str, now: float) -> float:
        return self.held.note(self._bucket.wait(lane, now), now)

    def room(self, lane: str, now: float) -> float:
        return self._bucket.room(lane, now)

    def take(self, lane: str, size: int, now: float) -> None:
        self.total += size
        self._bucket.take(size, now, lane)


class MeasuredLimit:
    """CPU seconds or bytes written: *total* is what was used so far, by a measurement that only grows."""

    def __init__(self, rate: float, total: float, now: float) -> None:
        self.held = Held()
        self.meter = Meter()
        self.total = total
        self.rate = rate
        self._bucket = SharedBucket(rate, now)
        self.meter.note(total, now)

    def measured(self, total: float, now: float) -> None:
        self._bucket.take(max(0.0, total - self.total), now)
        self.total = max(self.total, total)
        self.meter.note(self.total, now)

    def wait(self, lane: str, now: float) -> float:
        wait = self._bucket.wait(lane, now)
        return self.held.note(min(wait, STEP_SECONDS) if lane == "critical" else wait, now)


class MemoryLimit:
    """Resident memory against a ceiling. Nothing is killed: above it, what is not critical goes on in smaller steps."""

    FIRST_SECONDS, LAST_SECONDS = 0.1, LOOK_SECONDS

    def __init__(self, ceiling: int) -> None:
        self.held = Held()
        self.ceiling = ceiling
        self.resident = 0
        self._over_since: float | None = None
        self._pause = 0.0

    @property
    def part_bytes(self) -> int:
        """What the commits may hold, and what may be under way."""
        return max(MIN_PART_BYTES, (self.ceiling - MEMORY_BASE_BYTES) // MEMORY_PARTS)

    @property
    def is_over(self) -> bool:
        return self.resident > self.ceiling

    def seconds_over(self, now: float) -> float:
        """For how long it has been over the ceiling without a break."""
        return now - self._over_since if self._over_since is not None else 0.0

    def measured(self, resident: int, now: float) -> None:
        """Called once a look: pauses grow while it is over the ceiling, and shrink afterwards."""
        self.resident = resident
        self._over_since = (self._over_since or now) if self.is_over else None
        if self.is_over:
            self._pause = min(self.LAST_SECONDS, max(self.FIRST_SECONDS, self._pause * 2))
        else:
            self._pause = self._pause / 2 if self._pause > self.FIRST_SECONDS else 0.0

    def wait_to_read(self, lane: str, now: float) -> float:
        return self.held.note(self._pause if lane != "critical" else 0.0, now)

    def wait_to_send(self, lane: str, under_way: int) -> float:
        """Until something under way was acknowledged, which is told; this is only the next look."""
        part = self.part_bytes * (2 if lane == "critical" else 1)
        return LOOK_SECONDS if under_way >= part else 0.0
