"""Schedule, quiet hours and budget in a tree: refused with file, line and path; shown in a plan; sent to the agent."""

from __future__ import annotations

import msgspec
import pytest

from crossdock import siteconfig
from crossdock.errors import ConfigError
from crossdock_controller.config import words
from crossdock_controller.config.compile import site_config
from crossdock_controller.config.diff import plan
from crossdock_controller.config.load import inspect, load
from support.trees import small_tree

LINES = 7  # of the source without what is tested


def tree(more: str) -> dict[str, str]:
    changed = small_tree()
    changed["sources/shipments.yaml"] += more
    return changed


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("schedule: {cron: '61 * * * *'}", "8: schedule.cron: minute '61' is not a number from 0 to 59 (five fields:"),
        ("schedule: {cron: '0 0 1 * mon'}", "8: schedule.cron: '0 0 1 * mon' limits both day and weekday"),
        ("schedule:\n  cron: '0 6 * *'", "9: schedule.cron: '0 6 * *' has 4 fields"),
        ("schedule: {cron: '0 6 * * *', every_seconds: 5}", "8: schedule: schedule needs either 'every_seconds' or"),
        ("schedule: {jitter_seconds: 5}", "8: schedule: schedule needs either 'every_seconds' or 'cron'"),
        ("schedule: {every_seconds: 0}", "8: schedule.every_seconds: must be at least 0.05"),
        ("schedule: {every_seconds: 10, jitter_seconds: 6}", "8: schedule: 'jitter_seconds' 6.0 is over half of"),
        ("schedule: {evry_seconds: 10}", "8: schedule.evry_seconds: unknown key 'evry_seconds' (did you mean"),
        ("schedule: 30", "8: schedule: must be a mapping"),
        ("quiet:\n  - '12:00-13:30'\n  - 'noon'", "10: quiet[1]: 'noon' is not an hour to an hour (write it like"),
        ("quiet: ['mo 12:00-13:00']", "8: quiet[0]: 'mo 12:00-13:00' has no day 'mo' (days are mon, tue"),
        ("quiet: ['00:00-24:00']", "8: quiet: every minute of the week is quiet (leave some to read in"),
        ("quiet: '12:00-13:30'", "8: quiet: must be a list"),
        ("budget: {max_mb_per_second: 0}", "8: budget.max_mb_per_second: must be more than 0"),
        ("budget: {cpu_percent: 101}", "8: budget.cpu_percent: must be at most 100"),
        ("budget: {max_rows_per_poll: 1.5}", "8: budget.max_rows_per_poll: must be a"),
        ("budget: {max_mb: 5}", "8: budget.max_mb: unknown key 'max_mb'"),
        ("bugdet: {cpu_percent: 5}", "8: bugdet: unknown key 'bugdet' (did you mean 'budget'?"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line_and_path(more: str, said: str) -> None:
    loaded, problems = inspect(tree(more + "\n"))
    assert loaded is None
    texts = [p.text() for p in problems]
    assert len(texts) == 1, texts
    assert texts[0].startswith(f"sources/shipments.yaml:{said}"), texts[0]


POLITE = """\
schedule: {cron: "*/15 6-20 * * mon-fri", jitter_seconds: 60}
quiet: ["12:00-13:30", mon-fri 06:00-09:00]
budget: {max_mb_per_second: 5, max_rows_per_poll: 20000, cpu_percent: 25}
"""


def test_the_agent_gets_what_was_written_and_the_zone_of_its_site() -> None:
    compiled = site_config(load(tree(POLITE)), "atl1", 3)
    config = siteconfig.decode(compiled)
    (source,) = config.sources
    assert config.zone == "America/New_York"
    assert source.schedule == siteconfig.Schedule(cron="*/15 6-20 * * mon-fri", jitter_seconds=60)
    assert source.quiet == ("12:00-13:30", "mon-fri 06:00-09:00")
    assert source.budget == siteconfig.Budget(max_mb_per_second=5, max_rows_per_poll=20_000, cpu_percent=25)
    assert "quiet" not in source.settings


def test_a_site_that_uses_none_of_it_gets_nothing_that_an_older_agent_would_refuse() -> None:
    plain = msgspec.json.decode(site_config(load(small_tree()), "atl1", 3))
    assert "zone" not in plain
    assert set(plain["sources"][0]) == {"name", "kind", "lane", "settings"}
    every = msgspec.json.decode(site_config(load(tree("schedule: {every_seconds: 5}\n")), "atl1", 3))
    assert "zone" not in every


def test_a_plan_shows_what_changes_at_each_site() -> None:
    text = words.text(plan(small_tree(), tree(POLITE)))
    assert "schedule.cron set to */15 6-20 * * mon-fri" in text
    assert 'quiet set to ["12:00-13:30","mon-fri 06:00-09:00"]' in text
    assert "budget.cpu_percent set to 25" in text
    text = words.text(plan(tree(POLITE), tree(POLITE.replace("60}", "90}"))))
    assert "schedule.jitter_seconds 60.0 → 90.0" in text


@pytest.mark.parametrize(
    "source",
    [
        {"schedule": {"cron": "61 * * * *"}},
        {"schedule": {}},
        {"schedule": {"every_seconds": 10, "jitter_seconds": 6}},
        {"quiet": ["noon"]},
        {"quiet": ["00:00-24:00"]},
        {"budget": {"cpu_percent": 0}},
        {"budget": {"max_rows": 5}},
    ],
)
def test_the_agent_refuses_it_alone_as_well(source: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="sources"):
        siteconfig.decode(
            msgspec.json.encode({"site": "a", "revision": 1, "sources": [{"name": "x", "kind": "tape", **source}]})
        )
