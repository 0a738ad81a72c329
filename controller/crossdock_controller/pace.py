"""How often agents report. A small fleet is looked at closely; a large one shares a number of heartbeats a second."""

from __future__ import annotations

HEARTBEATS_PER_SECOND = 100
CLOSEST_SECONDS = 5
RAREST_SECONDS = 60


def heartbeat_seconds(agents: int) -> int:
    """Between the heartbeats of each of *agents*: 5 up to 500 of them, 10 for 1,000, never more than 60."""
    return min(RAREST_SECONDS, max(CLOSEST_SECONDS, -(-agents // HEARTBEATS_PER_SECOND)))


def silent_seconds(agents: int) -> int:
    """After so long without a word one of *agents* is called silent: three heartbeats missed, and a little patience."""
    return 4 * heartbeat_seconds(agents)
