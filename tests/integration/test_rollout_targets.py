"""What a rollout means for the work in the centre: which revision maps, routes, serves sinks and is offered."""

import asyncio
import datetime as dt
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossdock import siteconfig
from crossdock.errors import ConfigError
from crossdock.v1 import link_pb2
from crossdock_controller.authority import Authority
from crossdock_controller.commands.drift import drift
from crossdock_controller.config.tree import digest
from crossdock_controller.dispatch import Dispatcher, SinkDef
from crossdock_controller.effective import Effective
from crossdock_controller.fleet import Caller, Fleet
from crossdock_controller.normalize import Normalizer
from crossdock_controller.offers import Offers
from crossdock_controller.rollouts import model
from crossdock_controller.rollouts.conductor import take
from crossdock_controller.rollouts.decide import decide
from crossdock_controller.rollouts.observe import observe
from crossdock_controller.sinks.base import Sink
from crossdock_controller.store import agents, connection, faults, gauges, revisions, rollouts, sightings, targets
from crossdock_controller.store.targets import Targets
from support.dispatch_process import Definition as Plain
from support.pipeline import Box, FakeRuntime, FakeSink, wait_for
from support.trees import small_tree

PLAN = model.text(model.Plan((model.Wave("canary", "atl1", ("atl1",)),), 10.0, 10.0))


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


def roll(box: Box, tree: Mapping[str, str] | None = None) -> int:
    """The next revision, in waves."""
    base = revisions.head_number(box.db)
    return revisions.append(
        box.db, tree or {}, hash_=digest(tree or {}), author="test", message="", now_us=2,
        also=lambda number: rollouts.begin(box.db, number, base, PLAN, model.text(model.Progress()), 2),
    )  # fmt: skip


def offer(box: Box, revision: int, *sites: str) -> None:
    with connection.transaction(box.db):
        targets.add(box.db, sites, revision)


def end(box: Box, state: str) -> None:
    row = rollouts.live(box.db)
    assert row is not None
    with connection.transaction(box.db):
        assert rollouts.change(box.db, row, state=state, progress=row.progress, why="", evidence="[]")
        targets.clear(box.db)


def normalized_by(box: Box) -> list[int]:
    return [r for (r,) in box.db.execute("SELECT revision FROM inputs ORDER BY id")]


def test_the_head_is_what_is_in_force_until_the_rollout_is_complete(box: Box) -> None:
    assert roll(box) == 2
    assert revisions.head_number(box.db) == 1
    assert targets.read(box.db) == Targets(1)
    offer(box, 2, "atl1")
    assert targets.read(box.db) == Targets(1, 2, frozenset({"atl1"}))
    with pytest.raises(ConfigError, match="revision 2 is being rolled out"):
        box.apply()
    end(box, "reverted")
    assert targets.read(box.db) == Targets(1)
    assert box.apply() == 3
    assert revisions.head_number(box.db) == 3
    roll(box)
    end(box, "complete")
    assert revisions.head_number(box.db) == 4


def test_who_saw_a_rollout_at_another_step_changes_nothing(box: Box) -> None:
    roll(box)
    seen = rollouts.live(box.db)
    assert seen is not None
    change: dict[str, Any] = {"progress": seen.progress, "why": "", "evidence": "[]"}
    with connection.transaction(box.db):
        assert rollouts.change(box.db, seen, state="held", **change)
        assert not rollouts.change(box.db, seen, state="complete", **change)
    assert revisions.head_number(box.db) == 1


def test_records_of_a_site_are_mapped_and_routed_by_the_revision_it_is_to_run(box: Box) -> None:
    made = {n: FakeRuntime(f"sink-{n}").numbered(n) for n in (1, 2)}
    worker = Normalizer(box.data, lambda _tree, number: made[number])

    def send(key: str) -> None:
        box.send(f"{key};a")
        wait_for(lambda: worker.step() or len(normalized_by(box)) == int(key), "it is normalized")

    send("1")
    roll(box)
    time.sleep(0.3)  # a look at the targets is due
    send("2")
    offer(box, 2, "atl1")
    time.sleep(0.3)
    send("3")
    offer(box, 2, "rtm1")
    end(box, "reverted")
    time.sleep(0.3)
    send("4")
    worker.close()
    assert normalized_by(box) == [1, 1, 2, 1]
    routed = box.db.execute("SELECT s.name FROM deliveries d JOIN sinks s ON s.id = d.sink_id ORDER BY event_seq")
    assert [name for (name,) in routed] == ["sink-1", "sink-1", "sink-2", "sink-1"]


class Definition(Plain):
    """One sink of a revision: equal to one of the same *version*."""

    kind = "fake"

    def __init__(self, version: int) -> None:
        self.version = version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Definition) and other.version == self.version

    __hash__ = None  # type: ignore[assignment]


class WithSinks:
    def __init__(self, number: int, sinks: dict[str, SinkDef]) -> None:
        self.number = number
        self.sinks: Mapping[str, SinkDef] = sinks


def test_a_new_sink_is_served_while_the_rollout_runs_and_a_changed_or_removed_one_changes_at_its_end(box: Box) -> None:
    made = {
        1: WithSinks(1, {"kept": Definition(1), "changed": Definition(1), "removed": Definition(1)}),
        2: WithSinks(2, {"kept": Definition(1), "changed": Definition(2), "added": Definition(2)}),
    }
    opened: list[tuple[str, int]] = []

    def open_sink(name: str, definition: Any) -> tuple[Sink, int]:
        opened.append((name, definition.version))
        return FakeSink(), 10

    dispatcher = Dispatcher(box.data, lambda _tree, number: made[number], open_sink)

    def served(wanted: set[tuple[str, int]]) -> None:
        def reached() -> bool:
            dispatcher.tick()
            return {(n, s.definition.version) for n, s in dispatcher._served.items()} == wanted  # type: ignore[attr-defined]

        wait_for(reached, f"these are served: {wanted}")

    try:
        served({("kept", 1), ("changed", 1), ("removed", 1)})
        roll(box)
        offer(box, 2, "atl1")
        served({("kept", 1), ("changed", 1), ("removed", 1), ("added", 2)})
        end(box, "complete")
        served({("kept", 1), ("changed", 2), ("added", 2)})
        wait_for(lambda: len(opened) == 5, "each is opened")
        assert sorted(opened) == [("added", 2), ("changed", 1), ("changed", 2), ("kept", 1), ("removed", 1)]
    finally:
        dispatcher.close()


def test_each_site_is_offered_its_part_of_what_it_is_to_run_and_a_lower_number_when_it_is_taken_back() -> None:
    offers = Offers(lambda config, signer: signer.encode() + config[:1])
    old, new = small_tree(), small_tree(sites__rtm1=None)
    found = Targets(1, 2, frozenset({"atl1"}))
    assert offers.unread(found) == [1, 2]
    offers.take(found, {1: old, 2: new}, 600.0)
    assert [offers.of(site, "ca").revision for site in ("atl1", "rtm1")] == [2, 1]  # type: ignore[union-attr]
    offered = offers.of("atl1", "ca")
    assert offered is not None
    assert offered.hash == siteconfig.digest(offered.config)
    assert offers.of("atl1", "ca") is offered, "compiled once"
    assert offers.of("new1", "ca") is None
    assert [offers.of(site, "ca").hold_seconds for site in ("atl1", "rtm1")] == [600, 0]  # type: ignore[union-attr]
    back = Targets(1)
    assert offers.unread(back) == []
    offers.take(back, {})
    assert offers.of("atl1", "ca").revision == 1  # type: ignore[union-attr]


def test_a_revision_that_this_release_cannot_read_leaves_every_site_with_what_it_had() -> None:
    offers = Offers(lambda _config, _signer: b"")
    offers.take(Targets(1), {1: small_tree()})
    offers.take(Targets(2), {2: {"sites/atl1.yaml": "site: atl1\nnonsense: 1\n"}})
    assert offers.of("atl1", "ca").revision == 1  # type: ignore[union-attr]
    assert offers.unread(Targets(2)) == [], "it is not tried again and again"
    rolling = Targets(1, 2, frozenset({"atl1"}))
    offers.take(rolling, {})
    assert offers.of("atl1", "ca") is None
    assert offers.of("rtm1", "ca").revision == 1  # type: ignore[union-attr]


def test_counts_since_a_moment_are_those_of_what_came_after_it(box: Box) -> None:
    box.send("1;a", "2;bad")
    box.normalize()
    box.db.execute("UPDATE inputs SET normalized_us = 1000")
    box.db.execute("UPDATE dead_letters SET created_us = 1000")
    mark = gauges.now(box.db)
    assert gauges.at(box.db, 1001) == mark
    assert gauges.at(box.db, 1000) == gauges.Mark(0, 0)
    assert gauges.since(box.db, mark) == []
    box.send("3;bad", "4;bad", "5;a")
    box.normalize()
    (found,) = gauges.since(box.db, mark)
    assert (found.site, found.agent, found.source, found.records, found.dead) == ("atl1", "a1", "wms", 3, 2)
    assert found.reason == "bad_text in TEXT", "no value of a record"
    (whole,) = gauges.since(box.db, gauges.Mark(0, 0))
    assert (whole.records, whole.dead) == (5, 3)


def rolled(box: Box) -> model.Rollout:
    row = rollouts.live(box.db) or rollouts.newest(box.db)
    assert row is not None
    return model.of_row(row)


def enrolled(box: Box) -> None:
    """Agent a1 of atl1, whose records the box sends."""
    agents.record_enrolled(
        box.db, "a1", "atl1", host="", platform="", version="", expires_us=0, now_us=1
    )  # fmt: skip


def test_records_are_counted_for_the_wave_that_is_judged_by_them_and_not_for_a_rollout_that_ended(box: Box) -> None:
    enrolled(box)
    box.send("1;bad", "2;a")
    box.normalize()
    roll(box)
    seen = observe(box.db, rolled(box), time.time_ns() // 1000, 0)
    assert seen.agents[0].hour == {"wms": model.Rates(2, 1, 0)}, "the hour before the wave that may begin"
    step = decide(rolled(box), seen)
    assert step is not None
    row = rollouts.live(box.db)
    assert row is not None
    with connection.transaction(box.db):
        assert take(box.db, row, step, "controller", 5)
    box.send("3;bad", "4;bad", "5;a")
    box.normalize()
    (agent,) = observe(box.db, rolled(box), time.time_ns() // 1000, 0).agents
    assert agent.counts == {"wms": model.Counts(3, 2, 0, "bad_text in TEXT")}
    end(box, "complete")
    (agent,) = observe(box.db, rolled(box), time.time_ns() // 1000, 0).agents
    assert agent.counts == {}


def test_a_step_is_stored_whole_or_not_at_all(box: Box) -> None:
    """Its entry in the audit log cannot be written: neither is its state, nor a site's target."""
    enrolled(box)
    roll(box)
    row = rollouts.live(box.db)
    assert row is not None
    step = decide(rolled(box), observe(box.db, rolled(box), 10, 0))
    assert step is not None
    assert step.offer == ("atl1",)
    box.db.execute("ALTER TABLE audit RENAME TO audit_elsewhere")
    with pytest.raises(sqlite3.OperationalError), connection.transaction(box.db):
        take(box.db, row, step, "controller", 10)
    box.db.execute("ALTER TABLE audit_elsewhere RENAME TO audit")
    assert rollouts.live(box.db) == row
    assert targets.read(box.db) == Targets(1)
    with connection.transaction(box.db):
        assert take(box.db, row, step, "controller", 10)
        assert not take(box.db, row, step, "controller", 10), "nobody takes it a second time"
    assert targets.read(box.db) == Targets(1, 2, frozenset({"atl1"}))


def test_drift_says_who_runs_something_else_since_when_and_the_reason_it_gave(box: Box) -> None:
    second, now = 1_000_000, 5_000 * 1_000_000
    for name in ("well", "refused", "away", "other", "slow", "new"):
        agents.record_enrolled(
            box.db, name, name, host="", platform="", version="", expires_us=0, now_us=1
        )  # fmt: skip
        if name != "new":
            agents.record_hello(box.db, name, host="", platform="", version="", revision=1, now_us=2 * second)
            sightings.greeted(box.db, name, b"i", (0, ""), 2 * second)
            sightings.offered(box.db, name, 1, "right", 3 * second)
    sightings.runs(box.db, "well", 1, "right", 4 * second)
    sightings.answered(box.db, "refused", 1, "failed", "no table", ("line",), 4 * second)
    agents.record_disconnected(box.db, "away")
    sightings.runs(box.db, "other", 1, "wrong", 6 * second)
    found = {d.agent: d for d in drift(box.data, now)}
    assert {name: d.kind for name, d in found.items()} == {
        "refused": "refused", "away": "offline", "other": "other", "slow": "behind",
    }  # fmt: skip
    assert (found["refused"].reason, found["refused"].log, found["refused"].since_us) == (
        "no table",
        ("line",),
        3 * second,
    )
    assert (found["other"].since_us, found["other"].effective) == (6 * second, 1)
    assert found["slow"].desired == 1


def test_a_heartbeat_says_what_runs_once_and_never_over_a_later_word(box: Box) -> None:
    agents.record_enrolled(box.db, "atl1", "atl1", host="", platform="", version="", expires_us=0, now_us=1)
    effective = Effective()
    beat = link_pb2.Heartbeat(revision=4, config_hash="four")
    assert effective.change("atl1", link_pb2.Heartbeat(revision=4), 10) is None, "an older release does not say"
    change = effective.change("atl1", beat, 10)
    assert change is not None
    change(box.db)
    assert effective.change("atl1", beat, 20) is None
    effective.answered("atl1", 30)
    assert effective.change("atl1", link_pb2.Heartbeat(revision=3, config_hash="three"), 25) is None
    row = agents.get(box.db, "atl1")
    assert row is not None
    assert row.revision == 4
    assert sightings.list_all(box.db)["atl1"].effective_hash == "four"


def test_what_an_agent_runs_is_recorded_with_the_next_heartbeat_when_the_disk_was_full(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be judged, until it connects again, by a revision that it ran before."""

    async def heartbeats() -> None:
        fleet = Fleet(box.data.state, Authority.open(tmp_path / "authority"), dt.timedelta(days=1))
        beat = link_pb2.Heartbeat(revision=4, config_hash="four")
        with monkeypatch.context() as full:
            full.setattr(agents, "record_effective", fails)
            fleet.heartbeat(Caller("atl1", "atl1"), beat)
            await fleet.refresh()
        assert "atl1" not in sightings.list_all(box.db)
        fleet.heartbeat(Caller("atl1", "atl1"), beat)
        await fleet.refresh()
        fleet.close()

    def fails(*_: object) -> None:
        raise faults.StoreFull("there is no room")

    asyncio.run(heartbeats())
    assert sightings.list_all(box.db)["atl1"].effective == 4


def test_a_rollout_comes_back_from_the_store_as_it_was() -> None:
    before = {"x": model.Before(connected=True, starts=2)}
    rollout = model.Rollout(
        5, 4, "rolling", model.Plan((model.Wave("a", "10%", ("x", "y")),), 2.0, 3.0),
        model.Progress((model.Begun(1, 2, 3, before, {}, without={"y": "away"}),)),
        "why", ("line",), 1, 2,
    )  # fmt: skip
    row = rollouts.RolloutRow(
        5, 4, "rolling", 7, model.text(rollout.plan), model.text(rollout.progress), "why", model.text(("line",)), 1, 2
    )
    assert model.of_row(row) == rollout
    assert msgspec.json.decode(row.evidence) == ["line"]
