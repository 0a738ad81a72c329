"""What a whole agent may use of its host and its line: the site's `limits`, as they travel. A byte a second is a byte
of batches; hours are those of the site's zone, written as quiet hours are. What is left out is not limited.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from crossdock import quiet

MIN_BYTES_PER_SECOND = 1000  # less would hold one batch back for minutes
MIN_MEMORY_BYTES = 64 * 10**6  # an agent with nothing to do is nearly as large

Rate = Annotated[int, msgspec.Meta(ge=MIN_BYTES_PER_SECOND)]


class BandwidthWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """*limit* holds in *hours*, in place of the default; None: unlimited."""

    hours: str
    limit: Rate | None

    def __post_init__(self) -> None:
        quiet.parse(self.hours)


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Bytes a second that the uplink sends. The first of *windows* that lasts counts, else *default*."""

    default: Rate | None = None
    windows: tuple[BandwidthWindow, ...] = ()

    def __post_init__(self) -> None:
        if self.default is None and all(window.limit is None for window in self.windows):
            raise ValueError("bandwidth limits nothing; give it a 'default', or a limit in 'windows'")


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """*disk* is bytes written a second, *disk_idle* the lowest I/O class, *cpu_percent* of one core, *memory* bytes."""

    bandwidth: Bandwidth | None = None
    disk: Rate | None = None
    disk_idle: bool = False
    cpu_percent: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None
    memory: Annotated[int, msgspec.Meta(ge=MIN_MEMORY_BYTES)] | None = None

    @property
    def goes_by_the_clock(self) -> bool:
        """Whether the zone of the site matters to it."""
        return self.bandwidth is not None and bool(self.bandwidth.windows)
