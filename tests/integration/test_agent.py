"""The whole agent against a controller that a test commands: configuration, backpressure, damage, restarts."""

import datetime as dt
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from crossdock.codec import open_sealed
from crossdock.errors import ConfigError, Refused, SourceUnavailable
from crossdock.retry import Backoff
from crossdock.siteconfig import OutboxConfig, SourceConfig
from crossdock.v1 import link_pb2
from crossdock_agent import health, pump, pumps, releases, streams
from crossdock_agent.changelog import changelog
from crossdock_agent.configuration import read_current
from crossdock_agent.outbox import inspect
from crossdock_agent.status import SourceStatus
from support import sources
from support.agents import RunningAgent, eventually, helpers_in_process, site_config
from support.controller import FakeController
from support.sources import config, reel

QUICK = Backoff(first_seconds=0.05, max_seconds=0.2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "RETRY", QUICK)
    monkeypatch.setattr(releases, "RETRY", QUICK)
    monkeypatch.setattr(health, "WRITE_SECONDS", 0.05)
    monkeypatch.setattr(pumps, "HOLD_SECONDS", 1.0)
    monkeypatch.setattr(streams.Stream.__init__, "__defaults__", (QUICK,))
    helpers_in_process(monkeypatch)
    sources.install()


@pytest.fixture
def controller() -> Iterator[FakeController]:
    fake = FakeController().start()
    yield fake
    fake.stop()


@pytest.fixture
def state(controller: FakeController, tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    controller.identity(directory)
    return directory


def received(controller: FakeController, source: str) -> list[bytes]:
    """The lines stored of *source*, over all epochs."""
    batches = [b for (name, _), kept in controller.stored.items() if name == source for b in kept]
    return [line for batch in batches for line in open_sealed(batch.sealed)[1].split(b"\n")]


def sources_of(agent: RunningAgent) -> list[SourceStatus]:
    status = agent.status()
    return status.sources if status is not None else []


def lines(count: int, word: str = "line") -> list[bytes]:
    return [f"{word} {i}".encode() for i in range(count)]


def test_a_configuration_starts_collection_and_every_record_arrives_once(
    controller: FakeController, state: Path
) -> None:
    reel("wms").lines = lines(25)
    controller.offer(site_config(1, config("wms", batch=3)), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 25, "all lines arrived")
        assert received(controller, "wms") == lines(25)
        reel("wms").lines += lines(5, "more")
        controller.wait(lambda: len(received(controller, "wms")) == 30, "the new lines arrived")
        controller.wait(lambda: controller.statuses() == [(1, "applying"), (1, "applied")], "it is reported")
        eventually(lambda: (s := agent.status()) and s.outbox_batches == 0 and s.link == "connected", "all is well")
        batch = controller.stored[next(iter(controller.stored))][0]
        header, _ = open_sealed(batch.sealed)
        assert header.revision == 1
        assert header.read_at_us > 0
    hello = controller.reports[0].hello
    assert hello.protocol == 1
    assert hello.wants_checkpoints
    assert len(hello.instance) == 16


def test_a_fresh_agent_reads_nothing_before_the_welcome_and_then_from_the_controllers_checkpoint(
    controller: FakeController, state: Path
) -> None:
    reel("wms").lines = lines(10)
    epoch = b"earlier epoch..."
    controller.welcome.checkpoints.add(source="wms", epoch=epoch, sequence=3, checkpoint=b"7")
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state):
        controller.wait(lambda: len(received(controller, "wms")) == 3, "the rest arrived")
        assert received(controller, "wms") == lines(10)[7:]
        assert controller.sequences("wms") == [1, 2, 3]


def test_an_agent_that_lost_its_outbox_carries_on_where_the_controller_was(
    controller: FakeController, state: Path
) -> None:
    reel("wms").lines = lines(10)
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 10, "all lines arrived")
    for file in state.glob("outbox.db*"):
        file.unlink()
    ((_, epoch),) = list(controller.stored)
    controller.welcome.checkpoints.add(source="wms", epoch=epoch, sequence=10, checkpoint=b"10")
    controller.stop()
    reel("wms").lines += lines(3, "more")
    passes = reel("wms").passes
    with RunningAgent(state) as agent:
        eventually(lambda: (s := agent.status()) and s.link_error, "it runs without the controller")
        assert reel("wms").passes == passes  # its last good configuration waits for the checkpoints
        controller.start()
        controller.wait(lambda: len(received(controller, "wms")) == 13, "the new lines arrived")
        assert received(controller, "wms") == lines(10) + lines(3, "more")


def test_the_last_good_configuration_runs_without_the_controller_and_the_backlog_follows(
    controller: FakeController, state: Path
) -> None:
    reel("wms").lines = lines(5)
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 5, "all lines are read")
        eventually(lambda: inspect(agent.settings.outbox_path)[0] == 0, "all is acknowledged")  # a status may be older
    controller.stop()
    reel("wms").lines += lines(5, "offline")
    with RunningAgent(state) as agent:
        eventually(lambda: (s := agent.status()) and s.outbox_records == 5, "the lines are in the outbox")
        controller.start()
        controller.wait(lambda: len(received(controller, "wms")) == 10, "the backlog arrived")
        assert controller.sequences("wms") == list(range(1, 11))


def test_an_unchanged_source_runs_on_a_changed_one_restarts_and_a_removed_one_stops(
    controller: FakeController, state: Path
) -> None:
    controller.offer(site_config(1, config("same"), config("changes"), config("goes")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: (1, "applied") in controller.statuses(), "revision 1 runs")
        controller.offer(site_config(2, config("same"), config("changes", version=2), config("comes")), 2)
        controller.wait(lambda: (2, "applied") in controller.statuses(), "revision 2 runs")
        assert (reel("same").started, reel("same").closed) == (1, 0)
        assert (reel("changes").started, reel("changes").closed) == (2, 1)
        assert (reel("goes").started, reel("goes").closed) == (1, 1)
        eventually(
            lambda: (s := agent.status()) and [x.source for x in s.sources] == ["changes", "comes", "same"],
            "three sources run",
        )
        reel("same").lines = lines(1)
        controller.wait(lambda: received(controller, "same"), "it still reads")
        (batches,) = [kept for (name, _), kept in controller.stored.items() if name == "same"]
        assert open_sealed(batches[0].sealed)[0].revision == 2


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (site_config(2, config("wms", tape="wrong")), "there is no tape"),
        (site_config(2, config("wms", no_such_setting=1)), "no_such_setting"),
        (site_config(2), "no source"),
        (site_config(2, config("wms"), site="other"), "for site other"),
        (b"not json", "cannot be read"),
        (site_config(2, config("wms")).replace(b'"tape",', b'"tape","quiet":["noon"],', 1), "not an hour to an hour"),
        (site_config(2, config("wms")).replace(b'"tape",', b'"tape","schedule":{"cron":"* *"},', 1), "has 2 fields"),
    ],
)
def test_a_broken_revision_is_refused_with_its_reason_and_the_last_good_one_runs_on(
    controller: FakeController, state: Path, broken: bytes, reason: str
) -> None:
    good = site_config(1, config("wms"))
    controller.offer(good, 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: (1, "applied") in controller.statuses(), "revision 1 runs")
        controller.offer(broken, 2)
        controller.wait(lambda: (2, "failed") in controller.statuses(), "the refusal is reported")
        failed = next(r.config for r in controller.reports if r.config.state == "failed")
        assert reason in failed.reason
        reel("wms").lines = lines(3)
        controller.wait(lambda: len(received(controller, "wms")) == 3, "collection went on")
        assert reel("wms").closed == 0
        eventually(lambda: "configuration 2 was not applied" in agent.problems(), "a person is told")
    kept = read_current(agent.settings.config_path)
    assert kept is not None
    assert kept.config == good


def test_a_revision_of_another_signer_is_refused(controller: FakeController, state: Path) -> None:
    stranger = FakeController()
    forged = site_config(1, config("wms"))
    controller.offer(forged, 1, stranger.authority.sign(forged))
    with RunningAgent(state):
        controller.wait(lambda: (1, "failed") in controller.statuses(), "the refusal is reported")
    assert "not signed" in controller.reports[-1].config.reason or any(
        "not signed" in r.config.reason for r in controller.reports
    )


def test_a_revision_whose_first_pass_shows_wrong_settings_is_taken_back(
    controller: FakeController, state: Path
) -> None:
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: (1, "applied") in controller.statuses(), "revision 1 runs")
        reel("other").failure = ConfigError("column SHIP_TS is not there", hint="see the table")
        controller.offer(site_config(2, config("wms", tape="other")), 2)
        controller.wait(lambda: (2, "failed") in controller.statuses(), "the refusal is reported")
        assert any("SHIP_TS" in r.config.reason for r in controller.reports)
        reel("wms").lines = lines(3)
        controller.wait(lambda: len(received(controller, "wms")) == 3, "the old settings run again")
    kept = read_current(agent.settings.config_path)
    assert kept is not None
    assert kept.revision == 1


def test_a_source_whose_change_log_is_still_to_be_installed_is_applied_so_that_it_can_be(
    controller: FakeController, state: Path, tmp_path: Path
) -> None:
    """`changelog SOURCE --install` goes by the configuration that runs: a refused one would have no such source."""
    db = sqlite3.connect(tmp_path / "erp.db")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
    db.execute("INSERT INTO t VALUES (1, 'a')")
    db.commit()
    db.close()
    table = {
        "connection": {"sqlite": str(tmp_path / "erp.db")}, "table": "t", "mode": "change_log", "key": ["id"],
        "poll_seconds": 0.05,
    }  # fmt: skip
    controller.offer(site_config(1, SourceConfig(name="erp", kind="sql_table", settings=table)), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: {(1, "applied"), (1, "failed")} & set(controller.statuses()), "the agent has answered")
        assert (1, "applied") in controller.statuses()
        eventually(lambda: "--install" in "".join(s.hint for s in sources_of(agent)), "a person is told")
        said = list(changelog(agent.settings, "erp", "install", discard=False, confirm=lambda _: True))
        assert said[-1] == "the change log of t is installed"
        controller.wait(lambda: any(name == "erp" for name, _ in controller.stored), "it is read by itself")


def test_stop_all_stops_on_purpose(controller: FakeController, state: Path) -> None:
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state):
        controller.wait(lambda: (1, "applied") in controller.statuses(), "revision 1 runs")
        controller.offer(site_config(2, stop_all=True), 2)
        controller.wait(lambda: (2, "applied") in controller.statuses(), "revision 2 runs")
        assert reel("wms").closed == 1


def test_a_full_outbox_blocks_reading_and_reading_goes_on_when_there_is_space(
    controller: FakeController, state: Path
) -> None:
    controller.acknowledging.clear()
    tape = [random.randbytes(3000).replace(b"\n", b" ") for _ in range(40)]
    reel("wms").lines = list(tape)
    limits = OutboxConfig(max_bytes=30_000, min_free_disk_bytes=0)
    controller.offer(site_config(1, config("wms"), outbox=limits), 1)
    with RunningAgent(state) as agent:

        def blocked() -> bool:  # a status counts the outbox a moment before it asks the sources
            status = agent.status()
            return bool(
                status and status.sources and status.sources[0].state == "blocked" and status.outbox_bytes > 20_000
            )

        eventually(blocked, "it is blocked")
        status = agent.status()
        assert status is not None
        assert 20_000 < status.outbox_bytes <= 30_000
        assert "reading stops" in status.sources[0].error
        controller.acknowledging.set()
        controller.wait(lambda: len(received(controller, "wms")) >= 40, "everything arrived")
        assert received(controller, "wms") == tape
        eventually(lambda: (s := agent.status()) and not s.sources[0].error, "the block is over")


def test_a_failing_source_is_tried_again_and_the_others_run(controller: FakeController, state: Path) -> None:
    reel("erp").failure = SourceUnavailable("server ERP01 does not answer", hint="is it running?")
    reel("wms").lines = lines(3)
    controller.offer(site_config(1, config("wms"), config("erp")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 3, "the other source runs")
        eventually(
            lambda: (s := agent.status()) and [(x.state, x.error, x.hint) for x in s.sources if x.source == "erp"]
            == [("failing", "server ERP01 does not answer", "is it running?")],
            "the failure shows",
        )  # fmt: skip
        controller.wait(
            lambda: any(h.error for r in controller.reports for h in r.heartbeat.sources), "the heartbeat says so"
        )
        reel("erp").lines = lines(2)
        reel("erp").failure = None
        controller.wait(lambda: len(received(controller, "erp")) == 2, "it recovered")
        eventually(lambda: (s := agent.status()) and not any(x.error for x in s.sources), "the failure is gone")


def test_a_source_with_a_bug_is_restarted_and_the_others_run(controller: FakeController, state: Path) -> None:
    reel("erp").failure = ZeroDivisionError("a bug")  # type: ignore[assignment]
    reel("wms").lines = lines(3)
    controller.offer(site_config(1, config("wms"), config("erp")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 3, "the other source runs")
        eventually(lambda: (s := agent.status()) and any("a bug" in x.error for x in s.sources), "the failure shows")
        reel("erp").lines = lines(2)
        reel("erp").failure = None
        controller.wait(lambda: len(received(controller, "erp")) == 2, "it recovered")


def test_nothing_is_released_before_the_acknowledgement_and_a_failing_release_does_not_stop_reading(
    controller: FakeController, state: Path
) -> None:
    controller.acknowledging.clear()
    reel("wms").lines = lines(3)
    reel("wms").release_failure = PermissionError("the archive folder is locked")
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: controller.received, "a batch was sent")
        assert not threading.Event().wait(0.3)
        assert reel("wms").released == []
        controller.acknowledging.set()
        eventually(
            lambda: (s := agent.status()) and s.sources[0].counters.get("releases_waiting") == 3, "releases fail"
        )
        reel("wms").lines += lines(2, "more")
        controller.wait(lambda: len(received(controller, "wms")) == 5, "reading went on")
        reel("wms").release_failure = None
        eventually(
            lambda: sorted(reel("wms").released) == [b"1", b"2", b"3", b"4", b"5"], "all are released in the end"
        )
        eventually(lambda: (s := agent.status()) and s.sources[0].counters["releases_waiting"] == 0, "none waits")


def test_a_source_recalls_what_it_handed_over_even_before_the_commit(controller: FakeController, state: Path) -> None:
    reel("wms").lines = lines(30)
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state):
        controller.wait(lambda: len(received(controller, "wms")) == 30, "all lines arrived")
        eventually(lambda: len(reel("wms").remember) == 30, "the pass ended")
        assert reel("wms").remember == [b"taken"] * 30


def test_a_damaged_outbox_is_set_aside_while_running_and_nothing_is_lost(
    controller: FakeController, state: Path
) -> None:
    controller.acknowledging.clear()
    tape = [b"%d " % i + b"A" * 20_000 for i in range(10)]
    reel("wms").lines = list(tape)
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        eventually(lambda: (s := agent.status()) and s.outbox_records == 10, "all is in the outbox")
    path = agent.settings.outbox_path
    data = bytearray(path.read_bytes())
    marks = [i for i in range(len(data) - 4) if data[i : i + 4] == b"CDB1"]
    assert len(marks) == 10
    data[marks[4] + 60] ^= 0xFF  # inside one sealed batch: only its checksum can tell
    path.write_bytes(data)
    # what this controller stored so far and would say at a welcome
    for (name, epoch), kept in controller.stored.items():
        last = open_sealed(kept[-1].sealed)[0]
        controller.welcome.checkpoints.add(
            source=name, epoch=epoch, sequence=kept[-1].sequence, checkpoint=last.checkpoint
        )
    controller.acknowledging.set()
    with RunningAgent(state) as agent:
        eventually(lambda: set(received(controller, "wms")) == set(tape), "every line arrived")
        eventually(lambda: "a damaged outbox was set aside" in agent.problems(), "a person is told")
    assert len(list(state.glob("outbox.db.corrupt-*"))) >= 1


def test_an_outbox_restored_from_an_older_copy_is_given_up_before_anything_is_sent(
    controller: FakeController, state: Path
) -> None:
    reel("wms").lines = lines(5)
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 5, "five have arrived")
        eventually(lambda: agent.holds() == 0, "and are acknowledged")
    shutil.copy(agent.settings.outbox_path, state.parent / "backup.db")
    reel("wms").lines += lines(5, "later")
    with RunningAgent(state):
        controller.wait(lambda: len(received(controller, "wms")) == 10, "ten arrived")
    for leftover in state.glob("outbox.db*"):
        leftover.unlink()
    shutil.copy(state.parent / "backup.db", agent.settings.outbox_path)
    ((_, epoch),) = list(controller.stored)
    controller.welcome.checkpoints.add(source="wms", epoch=epoch, sequence=10, checkpoint=b"10")
    reel("wms").lines += lines(5, "last")
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 15, "the new lines arrived")
        assert received(controller, "wms") == lines(5) + lines(5, "later") + lines(5, "last")
        eventually(lambda: "restored from a backup" in agent.problems(), "a person is told")


def test_a_restored_outbox_is_recognised_though_sources_read_and_the_agent_restarted_before_the_controller_came_back(
    controller: FakeController, state: Path
) -> None:
    """What is read before the welcome must not make the copy look as far as the controller is: it would take the new
    batches for those it has."""
    reel("wms").lines = lines(5)
    controller.offer(site_config(1, config("wms", batch=2)), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 5, "five have arrived")
        eventually(lambda: agent.holds() == 0, "and are acknowledged")
    shutil.copy(agent.settings.outbox_path, state.parent / "backup.db")
    with RunningAgent(state):
        for more in range(5):  # a batch each
            reel("wms").lines.append(b"later %d" % more)
            controller.wait(lambda: len(received(controller, "wms")) == 6 + more, "it arrived")  # noqa: B023
    ((_, epoch),) = list(controller.stored)
    known = len(controller.stored["wms", epoch])
    for leftover in state.glob("outbox.db*"):
        leftover.unlink()
    shutil.copy(state.parent / "backup.db", agent.settings.outbox_path)
    controller.stop()
    reel("wms").lines += lines(5, "last")
    for _ in range(2):
        with RunningAgent(state) as agent:
            eventually(lambda: inspect(agent.settings.outbox_path)[0] >= known - 3, "ten lines are read again")
    controller.welcome.checkpoints.add(source="wms", epoch=epoch, sequence=known, checkpoint=b"10")
    controller.start()
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 15, "the new lines arrived")
        assert received(controller, "wms") == lines(5) + lines(5, "later") + lines(5, "last")
        eventually(lambda: "restored from a backup" in agent.problems(), "a person is told")


def test_a_restored_controller_is_given_back_what_it_had_acknowledged(controller: FakeController, state: Path) -> None:
    controller.gives_back = True
    reel("wms").lines, reel("erp").lines = lines(20), lines(8, "erp")
    controller.offer(site_config(1, config("wms"), config("erp")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 20 and len(received(controller, "erp")) == 8, "all")
        eventually(lambda: agent.holds() == 0, "all is acknowledged")
        controller.restore(wms=5, erp=8)
        controller.wait(lambda: received(controller, "wms") == lines(20), "it has everything again")
        assert received(controller, "erp") == lines(8, "erp")
        assert len({epoch for _, epoch in controller.stored}) == 1
        assert controller.sequences("wms") == list(range(1, len(controller.sequences("wms")) + 1))
        eventually(lambda: agent.holds() == 0 and agent.problems() == "", "all is acknowledged again")


def test_a_controller_restored_to_before_this_outbox_began_is_given_everything(
    controller: FakeController, state: Path
) -> None:
    """It knows an earlier epoch of the same agent, and nothing of this one: not the outbox is the old copy."""
    controller.gives_back = True
    reel("wms").lines = lines(10)
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 10, "all lines arrived")
        eventually(lambda: agent.holds() == 0, "all is acknowledged")
    controller.welcome.checkpoints.add(source="wms", epoch=b"earlier epoch...", sequence=3, checkpoint=b"3")
    controller.restore(wms=0)
    with RunningAgent(state):
        controller.wait(lambda: received(controller, "wms") == lines(10), "it has everything again")
    assert list(state.glob("outbox.db.corrupt-*")) == []


def test_a_restored_controllers_configuration_is_run_though_its_numbers_are_lower(
    controller: FakeController, state: Path
) -> None:
    controller.offer(site_config(12, config("wms", batch=2)), 12)
    with RunningAgent(state) as agent:
        eventually(lambda: (s := agent.status()) and s.revision == 12, "the newest runs")
        controller.stop()
        controller.offer(site_config(10, config("wms", batch=3)), 10)  # what its backup holds
        controller.start()
        eventually(lambda: (s := agent.status()) and s.revision == 10, "what it offers runs")
        for revision in (11, 12):  # its next ones have numbers that were there before
            controller.offer(site_config(revision, config("wms", batch=revision)), revision)
            controller.wait(lambda r=revision: controller.statuses()[-1] == (r, "applied"), "it is applied")  # type: ignore[misc]
    kept = read_current(state / "last-good.json")
    assert kept is not None
    assert kept.config == site_config(12, config("wms", batch=12))


def test_what_a_restored_controller_lacks_and_is_not_kept_any_more_is_named_and_the_rest_goes_on(
    controller: FakeController, state: Path
) -> None:
    controller.gives_back = True
    none_kept = OutboxConfig(min_free_disk_bytes=0, keep_acknowledged_hours=0)
    reel("wms").lines = lines(10)
    controller.offer(site_config(1, config("wms", batch=1), outbox=none_kept), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 10, "all lines arrived")
        eventually(lambda: agent.holds() == 0, "all is acknowledged")
        controller.restore(wms=4)
        eventually(lambda: "source wms: batches 5 to 10" in agent.problems(), "the loss is named")
        reel("wms").lines += lines(3, "more")
        controller.wait(lambda: len(received(controller, "wms")) == 7, "collection goes on")
        assert received(controller, "wms") == lines(4) + lines(3, "more")
        assert controller.sequences("wms") == [1, 2, 3, 4, 1, 2, 3]
        controller.wait(
            lambda: any("batches 5 to 10" in p for r in controller.reports for p in r.heartbeat.problems),
            "the controller hears of the loss",
        )
    with RunningAgent(state) as agent:  # it is not forgotten with the process
        eventually(lambda: "source wms: batches 5 to 10" in agent.problems(), "the loss is still named")


def test_the_certificate_is_renewed_at_two_thirds_of_its_life_and_both_streams_take_it_up(
    controller: FakeController, state: Path
) -> None:
    store = controller.identity(state)
    old = store.current()
    aged = msgspec.structs.replace(old, issued_us=old.issued_us - 7_200_000_000)  # two of three hours are gone
    store.save(aged, store.key())
    reel("wms").lines = lines(3)
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        controller.wait(
            lambda: any(r.WhichOneof("kind") == "certificate_request" for r in controller.reports), "it asks"
        )
        request = next(r.certificate_request for r in controller.reports if r.certificate_request.csr)
        issued = controller.authority.for_request(request.csr, "atl1", dt.timedelta(hours=5))
        hellos = sum(r.WhichOneof("kind") == "hello" for r in controller.reports)
        controller.send(
            link_pb2.Directive(
                certificate=link_pb2.CertificateIssued(certificate=issued, ca_bundle=controller.authority.bundle)
            )
        )
        controller.wait(
            lambda: sum(r.WhichOneof("kind") == "hello" for r in controller.reports) > hellos, "it connects anew"
        )
        reel("wms").lines += lines(3, "after")
        controller.wait(lambda: len(received(controller, "wms")) == 6, "data flows on")
        status = agent.status()
        assert status is not None
    renewed = msgspec.json.decode((state / "identity" / "identity.json").read_bytes())
    assert renewed["expires_us"] > old.expires_us
    assert [p.name for p in (state / "identity").glob("key-*.pem")] == [renewed["key_file"]]
    assert os.name == "nt" or (state / "identity" / renewed["key_file"]).stat().st_mode & 0o077 == 0


def test_a_second_agent_on_one_state_directory_is_refused(controller: FakeController, state: Path) -> None:
    with RunningAgent(state) as agent:
        eventually(agent.status, "it runs")
        with pytest.raises(Refused, match="in use by another process"), RunningAgent(state):
            pass


_RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from support import sources
from support.sources import reel
sources.install()
reel("wms").lines = [b"line %d" % i for i in range(3000)]
from crossdock_agent import app
from crossdock_agent.settings import Settings
app.run(Settings(state=sys.argv[1]))
"""


def test_every_line_arrives_once_though_the_agent_is_killed_again_and_again(
    controller: FakeController, state: Path
) -> None:
    controller.offer(site_config(1, config("wms", batch=2)), 1)
    rng = random.Random(3)
    arguments = [sys.executable, "-c", _RUN, str(state), str(Path(__file__).parents[1])]
    kills = 0
    while len(received(controller, "wms")) < 3000:
        before = len(received(controller, "wms"))
        child = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        try:
            controller.wait(lambda b=before: len(received(controller, "wms")) > b, "it makes progress")  # type: ignore[misc]
            if kills < 5:
                threading.Event().wait(rng.random() * 0.1)  # the moment of the kill is what varies
            else:
                controller.wait(lambda: len(received(controller, "wms")) >= 3000, "the rest arrived")
        finally:
            child.kill()
            child.wait()
        kills += 1
    assert received(controller, "wms") == [b"line %d" % i for i in range(3000)]
    assert inspect(state / "outbox.db") is not None
    assert kills >= 3
