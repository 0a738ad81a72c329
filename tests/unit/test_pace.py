"""Heartbeats: close together for a small fleet, a bounded number a second for a large one."""

import pytest

from crossdock_controller.pace import HEARTBEATS_PER_SECOND, RAREST_SECONDS, heartbeat_seconds, silent_seconds


@pytest.mark.parametrize(("agents", "seconds"), [(0, 5), (1, 5), (500, 5), (501, 6), (1000, 10), (100_000, 60)])
def test_the_interval_grows_with_the_fleet(agents: int, seconds: int) -> None:
    assert heartbeat_seconds(agents) == seconds


def test_a_fleet_sends_no_more_than_the_bound_and_is_silent_only_after_several_intervals() -> None:
    for agents in range(1, HEARTBEATS_PER_SECOND * RAREST_SECONDS):
        assert agents / heartbeat_seconds(agents) <= HEARTBEATS_PER_SECOND
        assert silent_seconds(agents) > 3 * heartbeat_seconds(agents)
