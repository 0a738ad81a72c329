"""When a site that was given a revision is ill. Everything is judged by change: what was so before its wave is not held
against the revision, and a count below its minimum says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

SHORTEST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """*grace_seconds* are what an agent may be away, and a source may fail, before that is an illness."""

    grace_seconds: float = 30.0
    apply_seconds: float = 300.0  # a connected agent has answered an offer by then
    restarts: int = 3  # processes of one agent since its wave began
    dead_records: int = 5  # fewer records set aside since the wave began say nothing
    dead_share: float = 0.05  # of the records decided since then ...
    dead_factor: float = 3.0  # ... and so many times the share of the hour before
    dead_deliveries: int = 5  # fewer deliveries given up since the wave began say nothing
    dead_deliveries_factor: float = 3.0  # so many times what the hour before lets expect
    lag_seconds: float = 300.0  # the oldest record in an outbox ...
    lag_factor: float = 3.0  # ... and so many times as old as the oldest was when the wave began
    pending_records: int = 10_000  # records of a source that wait in the outbox ...
    pending_factor: float = 10.0  # ... and so many times those when the wave began
    revert_seconds: float = 300.0  # how long a revert waits for a site's word

    def within(self, hold_seconds: float) -> Thresholds:
        """No grace is longer than the hold: who says a short one wants to hear soon."""
        return replace(self, grace_seconds=max(SHORTEST_SECONDS, min(self.grace_seconds, hold_seconds)))


DEFAULTS = Thresholds()
