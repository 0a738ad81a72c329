"""What the centre foretells of an outbox: by the agent's own words, and without them by what it last said."""

import datetime as dt
import json
from typing import Any

from crossdock_controller.cli.fleet import forecast_of, share_of
from crossdock_controller.commands.fleet import AgentView, judged
from crossdock_controller.commands.status import _full
from crossdock_controller.store.agents import AgentRow

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000
GB = 10**9


def view(*, connected: bool, seen_hours_ago: float = 0.0, offset_us: int = 0, **outbox: int | None) -> AgentView:
    values: dict[str, Any] = {
        "batches": 1, "records": 1, "bytes": 2 * GB, "limit_bytes": 10 * GB, "disk_free_bytes": 50 * GB,
        "oldest_us": NOW - HOUR, **outbox,
    }  # fmt: skip
    health = {"clock_offset_us": offset_us, "outbox": values, "problems": ["one of its own"]}
    row = AgentRow(
        "atl1", "atl1", "active", 1, "host", "linux", "1", NOW - int(seen_hours_ago * HOUR), connected, 1, 1,
        "applied", "", json.dumps(health), NOW + HOUR,
    )  # fmt: skip
    return judged([row], NOW)[0]


def test_a_connected_agents_forecast_is_told_by_our_clock() -> None:
    offset = int(dt.timedelta(minutes=10).total_seconds() * 1e6)
    agent = view(connected=True, offset_us=offset, fills_at_us=NOW + 5 * HOUR + offset)
    assert forecast_of(agent, NOW) == "full in 5 h"
    assert share_of(agent.outbox) == "20%"
    assert forecast_of(view(connected=True, drained_at_us=NOW + HOUR // 2), NOW) == "drained in 30 min"
    assert forecast_of(view(connected=True), NOW) == "-"


def test_of_an_agent_that_is_away_the_centre_reckons_by_what_it_last_read() -> None:
    agent = view(connected=False, seen_hours_ago=10, in_bytes_per_hour=GB // 10)
    assert forecast_of(agent, NOW) == "full in 2 d 22 h", "80 h of room, 10 of them gone"
    assert "its outbox is full in about 70 h, then its sources stop reading and keep their data" in _full(agent, NOW)
    late = view(connected=False, seen_hours_ago=100, in_bytes_per_hour=GB // 10)
    assert forecast_of(late, NOW) == "full 20 h ago"


def test_what_is_not_known_or_far_off_is_not_foretold() -> None:
    assert forecast_of(view(connected=False, seen_hours_ago=10), NOW) == "-"
    slow = view(connected=False, seen_hours_ago=10, in_bytes_per_hour=1000)
    assert (forecast_of(slow, NOW), _full(slow, NOW)) == ("-", "")
    later = view(connected=False, in_bytes_per_hour=GB // 20)
    assert (forecast_of(later, NOW), _full(later, NOW)) == ("full in 6 d 16 h", "")


def test_the_agents_own_sentences_are_passed_on() -> None:
    assert view(connected=True).own_problems == ["one of its own"]
