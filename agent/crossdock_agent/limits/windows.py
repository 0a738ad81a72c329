"""Which bandwidth holds at a moment, by the clock on the wall of the site. Pure: the time comes in.

A wall clock that somebody sets changes which window holds, and never how much a window lets through: every window has
a rate, and rates go by a clock that cannot be set. At a change to or from summer time hours are what the wall shows:
a window in the doubled hour lasts through both, one in the skipped hour does not come.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from crossdock import limits, quiet
from crossdock_agent.timetable import zone_of


@dataclass(frozen=True, slots=True)
class Ruling:
    """What holds now: *rate* in bytes a second, None: unlimited; *hours* of the window, empty for the default."""

    rate: int | None
    hours: str = ""


class Windows:
    """Raises ConfigError when this machine does not know *zone*."""

    def __init__(self, bandwidth: limits.Bandwidth, zone: str) -> None:
        self._default = Ruling(bandwidth.default)
        self._zone = zone_of("limits", zone) if bandwidth.windows else None
        self._windows = [(quiet.parse(w.hours), Ruling(w.limit, w.hours)) for w in bandwidth.windows]

    def at(self, wall_us: int) -> Ruling:
        """The first window that lasts at *wall_us*, else the default."""
        if self._zone is None:
            return self._default
        local = datetime.fromtimestamp(wall_us / 1e6, self._zone).replace(tzinfo=None)
        return next((ruling for hours, ruling in self._windows if hours.left(local)), self._default)
