"""A site's `limits` in a tree: refused with file, line and path; shown in a plan; sent to the agent; told to people."""

from __future__ import annotations

import msgspec
import pytest

from crossdock import limits, siteconfig
from crossdock.errors import ConfigError
from crossdock.v1 import link_pb2
from crossdock_controller.commands import fleet as commands
from crossdock_controller.config import words
from crossdock_controller.config.compile import site_config
from crossdock_controller.config.diff import plan
from crossdock_controller.config.load import inspect, load
from crossdock_controller.fleet import health_of
from crossdock_controller.store.agents import AgentRow
from support.trees import small_tree

SITE = "sites/atl1.yaml"


def tree(more: str) -> dict[str, str]:
    changed = small_tree()
    changed[SITE] += more
    return changed


LINE = len(small_tree()[SITE].splitlines()) + 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("limits: {bandwith: 5}", "limits.bandwith: unknown key 'bandwith' (did you mean 'bandwidth'?)"),
        ("limits: {bandwidth: 2 MB/s}", "limits.bandwidth: must be a mapping"),
        ("limits: {bandwidth: {}}", "limits.bandwidth: bandwidth limits nothing (give it a 'default', or a limit"),
        ("limits: {bandwidth: {default: 2 MB}}", "limits.bandwidth.default: is not a rate (write it like '256 KB/s'"),
        ("limits: {bandwidth: {default: 10}}", "limits.bandwidth.default: must be at least 1000"),
        ("limits: {bandwidth: {default: unlimited}}", "limits.bandwidth.default: is not a rate"),
        ("limits: {bandwidth: {windows: [{hours: noon, limit: 9 KB/s}]}}", "limits.bandwidth.windows[0].hours: 'noon'"),
        ("limits: {bandwidth: {windows: [{hours: '8:00-9:00'}]}}", "limits.bandwidth.windows[0]: 'limit' is missing"),
        ("limits: {bandwidth: {windows: [{hours: '8:00-9:00', limit: unlimited}]}}", "limits.bandwidth: bandwidth"),
        ("limits: {disk: 5 parsec/s}", "limits.disk: is not a rate"),
        ("limits: {cpu_percent: 0}", "limits.cpu_percent: must be more than 0"),
        ("limits: {cpu_percent: 101}", "limits.cpu_percent: must be at most 100"),
        ("limits: {memory: 10 MB}", "limits.memory: must be at least 64000000"),
        ("limits: {disk_idle: 1}", "limits.disk_idle: must be true or false"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_line_and_path(more: str, said: str) -> None:
    loaded, problems = inspect(tree(more + "\n"))
    assert loaded is None
    texts = [p.text() for p in problems]
    assert len(texts) == 1, texts
    assert texts[0].startswith(f"{SITE}:{LINE}: {said}"), texts[0]


LIMITS = """\
limits:
  bandwidth:
    default: 2 MB/s
    windows:
      - {hours: "mon-fri 08:00-18:00", limit: 256 KB/s}
      - {hours: "22:00-04:00", limit: unlimited}
  disk: 5 MB/s
  cpu_percent: 25
  memory: 200 MiB
"""


def test_the_agent_gets_what_was_written_and_the_zone_of_its_site() -> None:
    config = siteconfig.decode(site_config(load(tree(LIMITS)), "atl1", 3))
    assert config.zone == "America/New_York"
    assert config.limits == limits.Limits(
        bandwidth=limits.Bandwidth(
            default=2_000_000,
            windows=(
                limits.BandwidthWindow(hours="mon-fri 08:00-18:00", limit=256_000),
                limits.BandwidthWindow(hours="22:00-04:00", limit=None),
            ),
        ),
        disk=5_000_000,
        cpu_percent=25,
        memory=200 * 2**20,
    )


@pytest.mark.parametrize("more", ["", "limits: {}\n", "limits: {disk_idle: false}\n"])
def test_a_site_that_limits_nothing_gets_nothing_that_an_older_agent_would_refuse(more: str) -> None:
    plain = msgspec.json.decode(site_config(load(tree(more)), "atl1", 3))
    assert "limits" not in plain
    assert "zone" not in plain


def test_limits_without_windows_need_no_zone() -> None:
    assert "zone" not in msgspec.json.decode(site_config(load(tree("limits: {cpu_percent: 5}\n")), "atl1", 3))


def test_a_plan_shows_what_changes_at_the_site() -> None:
    text = words.text(plan(small_tree(), tree(LIMITS)))
    assert "limits.cpu_percent set to 25" in text
    assert "limits.bandwidth.default set to 2000000" in text
    assert "limits.disk 5000000 → 6000000" in words.text(plan(tree(LIMITS), tree(LIMITS.replace("5 MB/s", "6 MB/s"))))


@pytest.mark.parametrize(
    "given",
    [
        {"cpu_percent": 0},
        {"bandwidth": {}},
        {"bandwidth": {"default": 10}},
        {"bandwidth": {"windows": [{"hours": "noon", "limit": 5000}]}},
        {"memory": 1},
        {"discs": 5},
    ],
)
def test_the_agent_refuses_it_alone_as_well(given: dict[str, object]) -> None:
    source = {"name": "x", "kind": "tape"}
    with pytest.raises(ConfigError, match="limits"):
        siteconfig.decode(msgspec.json.encode({"site": "a", "revision": 1, "sources": [source], "limits": given}))


def test_what_a_heartbeat_says_of_its_limits_is_a_sentence_at_the_centre() -> None:
    beat = link_pb2.Heartbeat(
        clock_us=5,
        limits=[
            link_pb2.LimitHealth(
                resource="bandwidth", limit="256 KB/s (mon-fri 08:00-18:00)", used="255 KB/s", throttling=True,
                waiting_bytes=12_345_678, throttled_seconds=90,
            ),
            link_pb2.LimitHealth(resource="cpu", limit="25 % of a core", used="3 % of a core"),
        ],
        sources=[link_pb2.SourceHealth(source="wms", state="throttled", throttled_by="cpu")],
    )  # fmt: skip
    (view,) = commands.judged([row(msgspec.json.encode(health_of(beat, 5)).decode())], 5)
    assert [limit.throttling for limit in view.limits] == [True, False]
    assert view.sources[0].throttled_by == "cpu"
    assert view.limits[0].sentence == (
        "throttled by bandwidth: 255 KB/s of 256 KB/s (mon-fri 08:00-18:00), 12.3 MB wait in the outbox"
    )
    assert view.problems == []  # it is meant to be so


def test_what_an_agent_of_an_older_release_said_is_still_read() -> None:
    old = msgspec.json.decode(msgspec.json.encode(health_of(link_pb2.Heartbeat(sources=[link_pb2.SourceHealth()]), 5)))
    del old["limits"], old["sources"][0]["throttled_by"]
    (view,) = commands.judged([row(msgspec.json.encode(old).decode())], 5)
    assert view.limits == []
    assert view.sources[0].throttled_by == ""


def row(health: str) -> AgentRow:
    return AgentRow("atl1", "atl1", "active", 1, "h", "p", "1", 5, True, 1, 1, "applied", "", health, 0)
