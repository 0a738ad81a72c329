"""A new configuration is the last good one only after its hold (LESSONS rows 26 and 27)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from crossdock import siteconfig
from crossdock.errors import ConfigError
from crossdock.retry import Backoff
from crossdock.siteconfig import SourceConfig
from crossdock_agent import candidate, health, pump, pumps, streams
from crossdock_agent.candidate import MAX_CRASHES, Candidate, Probation, read_candidate
from crossdock_agent.configuration import read_last_good
from support import sources
from support.agents import RunningAgent, eventually, helpers_in_process, site_config
from support.controller import FakeController
from support.processes import Process
from support.sources import config, reel

QUICK = Backoff(first_seconds=0.05, max_seconds=0.2)
TESTS = Path(__file__).parents[1]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "RETRY", QUICK)
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


def last_good(state: Path) -> int:
    kept = read_last_good(state / "last-good.json")
    return kept.revision if kept is not None else 0


def crash(how: str, **more: str) -> SourceConfig:
    return SourceConfig(name="erp", kind="crash", settings={"how": how, **more})


class Service:
    """The agent as a service manager runs it: started again whenever it ends."""

    def __init__(self, state: Path) -> None:
        arguments = [sys.executable, "-m", "support.crashing_agent", "run", "--state", str(state)]
        env = {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
        self.process = Process("agent", arguments, state.parent, env)
        self.ends: list[int] = []

    def __enter__(self) -> Service:
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()

    def tend(self) -> None:
        """Start it again if it has ended."""
        if self.process.code is not None:
            self.ends.append(self.process.code)
            self.process.stop()
            self.process.start()


def failures(controller: FakeController, revision: int) -> list[str]:
    return [r.config.reason for r in controller.reports if r.config.revision == revision and r.config.state == "failed"]


# --- in one process


@pytest.mark.usefixtures("quick")
def test_a_new_configuration_runs_at_once_and_is_the_last_good_one_only_after_its_hold(
    controller: FakeController, state: Path
) -> None:
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: (1, "applied") in controller.statuses(), "it runs")
        eventually(lambda: last_good(state) == 1 and read_candidate(state) is None, "its hold is over")
        eventually(lambda: (s := agent.status()) and not s.on_probation, "the status says so")
        controller.offer(site_config(2, config("wms", batch=2)), 2, hold_seconds=3600)
        controller.wait(lambda: (2, "applied") in controller.statuses(), "the next one runs")
        eventually(lambda: (s := agent.status()) and s.revision == 2 and s.on_probation, "the status says so")
        assert last_good(state) == 1
        assert (left := read_candidate(state)) is not None
        assert left.revision == 2


@pytest.mark.usefixtures("quick")
def test_a_plain_stop_in_the_hold_is_no_crash_and_the_hold_goes_on_without_the_controller(
    controller: FakeController, state: Path
) -> None:
    controller.offer(site_config(1, config("wms")), 1, hold_seconds=3600)
    for _ in range(MAX_CRASHES + 2):
        with RunningAgent(state) as agent:
            eventually(lambda a=agent: (s := a.status()) and s.revision == 1, "it runs")  # type: ignore[misc]
        left = read_candidate(state)
        assert left is not None
        assert (left.crashes, left.stopped) == (0, True)
        controller.stop()
    assert last_good(state) == 0


@pytest.mark.usefixtures("quick")
def test_a_source_that_fails_by_its_settings_within_the_hold_takes_the_configuration_back(
    controller: FakeController, state: Path
) -> None:
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        eventually(lambda: last_good(state) == 1, "revision 1 is good")
        controller.offer(site_config(2, config("wms", batch=2)), 2, hold_seconds=3600)
        controller.wait(lambda: (2, "applied") in controller.statuses(), "revision 2 runs, its first pass was well")
        reel("wms").failure = ConfigError("column SHIP_TS is not there", hint="see the table")
        controller.wait(lambda: (2, "failed") in controller.statuses(), "it is taken back")
        reel("wms").failure = None
        assert "SHIP_TS" in failures(controller, 2)[0]
        told = next(r.config for r in controller.reports if r.config.state == "failed")
        assert any("configuration applied revision=2" in line for line in told.log)
        eventually(lambda: (s := agent.status()) and s.revision == 1, "revision 1 runs again")
        reel("wms").lines = [b"one", b"two"]
        controller.wait(lambda: sum(map(len, controller.stored.values())) >= 1, "it is read")
        controller.cut()  # the controller offers it again to whoever greets with another hash
        controller.wait(lambda: len(failures(controller, 2)) >= 2, "it is refused without being run")
        assert "taken back" in agent.problems()
        controller.offer(site_config(3, config("wms", batch=2)), 3)
        controller.wait(lambda: (3, "applied") in controller.statuses(), "another revision is another matter")
        eventually(lambda: agent.problems() == "", "and nothing is told any more")
        eventually(lambda: last_good(state) == 3, "it is good")
    assert controller.statuses().count((2, "applied")) == 1


@pytest.mark.usefixtures("quick")
def test_a_source_that_cannot_be_reached_in_the_hold_is_no_fault_of_the_configuration(
    controller: FakeController, state: Path
) -> None:
    from crossdock.errors import SourceUnavailable

    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state):
        controller.wait(lambda: (1, "applied") in controller.statuses(), "it runs")
        reel("wms").failure = SourceUnavailable("the share is away")
        eventually(lambda: last_good(state) == 1, "it is kept all the same")
    assert failures(controller, 1) == []


@pytest.mark.usefixtures("quick")
def test_an_offer_that_is_refused_leaves_the_hold_of_the_one_before(controller: FakeController, state: Path) -> None:
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state):
        controller.wait(lambda: (1, "applied") in controller.statuses(), "it runs")
        controller.offer(site_config(2, config("wms", tape="wrong")), 2)
        controller.wait(lambda: (2, "failed") in controller.statuses(), "the broken one is refused")
        eventually(lambda: last_good(state) == 1, "and the first one becomes good")


@pytest.mark.usefixtures("quick")
def test_going_back_to_the_last_good_configuration_needs_no_hold(controller: FakeController, state: Path) -> None:
    first = site_config(1, config("wms"))
    controller.offer(first, 1)
    with RunningAgent(state):
        eventually(lambda: last_good(state) == 1, "revision 1 is good")
        controller.offer(site_config(2, config("wms", batch=2)), 2, hold_seconds=3600)
        controller.wait(lambda: (2, "applied") in controller.statuses(), "revision 2 runs")
        controller.offer(first, 1, hold_seconds=3600)
        controller.wait(lambda: controller.statuses()[-1] == (1, "applied"), "revision 1 runs again")
        eventually(lambda: read_candidate(state) is None, "nothing is on probation")
        assert last_good(state) == 1


# --- real processes


def test_a_configuration_that_crashes_the_agent_gives_way_to_the_last_good_one_and_the_reason_is_told(
    controller: FakeController, state: Path
) -> None:
    (state / "secrets").mkdir()
    (state / "secrets" / "erp").write_text("canary-4711", "utf-8")
    (state / "secrets" / "erp").chmod(0o600)
    controller.offer(site_config(1, crash("none")), 1, hold_seconds=1)
    with Service(state) as service:
        eventually(lambda: last_good(state) == 1, "revision 1 is good")
        controller.offer(site_config(2, crash("segv", secret="secret:erp")), 2, hold_seconds=3600)

        def told() -> bool:
            service.tend()
            return bool(failures(controller, 2))

        eventually(told, "the failure is reported", 100)
        report = next(r.config for r in controller.reports if r.config.state == "failed")
        assert f"the agent ended {MAX_CRASHES} times" in report.reason
        assert any("the driver is loaded with ***" in line for line in report.log), list(report.log)
        assert any("Segmentation fault" in line for line in report.log), list(report.log)
        assert len(service.ends) == MAX_CRASHES
        heartbeats = len(controller.reports)
        controller.wait(
            lambda: any(r.heartbeat.revision == 1 for r in controller.reports[heartbeats:]), "revision 1 runs"
        )
        assert last_good(state) == 1
        controller.offer(site_config(2, crash("segv", secret="secret:erp")), 2)
        controller.wait(lambda: len(failures(controller, 2)) >= 2, "the same is not run again")
        assert service.process.alive()
        controller.offer(site_config(3, crash("none")), 3, hold_seconds=1)
        eventually(lambda: last_good(state) == 3, "another revision is")
    assert b"canary-4711" not in b"".join(r.SerializeToString() for r in controller.reports)
    for file in state.rglob("*"):
        if file.is_file() and file.parent.name != "secrets":
            assert b"canary-4711" not in file.read_bytes(), file


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX")
def test_a_first_configuration_that_gets_the_agent_killed_rests_and_a_restart_by_hand_tries_it_again(
    controller: FakeController, state: Path
) -> None:
    controller.offer(site_config(1, crash("kill")), 1, hold_seconds=3600)
    with Service(state) as service:

        def told() -> bool:
            service.tend()
            return bool(failures(controller, 1))

        eventually(told, "the failure is reported", 100)
        assert service.process.alive()
        assert last_good(state) == 0
        ended = len(service.ends)
        assert "no other to run" in failures(controller, 1)[0]
        service.process.stop()  # by hand: somebody has mended the driver, or thinks so
        service.process.start()
        eventually(lambda: service.process.code is not None, "it is tried again", 60)
        assert len(service.ends) == ended


@pytest.mark.usefixtures("quick")
def test_a_first_configuration_that_rested_is_tried_again_by_itself_and_can_become_good(
    controller: FakeController, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever killed the agent again and again may have been something else: a site must not stay idle for that."""
    monkeypatch.setattr(candidate, "REST_SECONDS", 0.5)
    data = site_config(1, config("wms"))
    left = Candidate(revision=1, hash=siteconfig.digest(data), config=data, hold_seconds=1.0, crashes=MAX_CRASHES - 1)
    (state / "candidate.json").write_bytes(msgspec.json.encode(left))
    (state / "outbox.db").touch()
    controller.offer(data, 1)
    with RunningAgent(state):
        controller.wait(lambda: failures(controller, 1), "the failure is reported")
        controller.wait(lambda: controller.statuses()[-1] == (1, "applied"), "it is tried again")
        eventually(lambda: last_good(state) == 1, "it is good")
    assert Candidate(revision=1, hash="", config=b"", hold_seconds=1, crashes=4).rest_seconds == 1.0
    assert Candidate(revision=1, hash="", config=b"", hold_seconds=1, crashes=90).rest_seconds == 3600.0


@pytest.mark.usefixtures("quick")
def test_a_crash_while_it_rests_makes_the_rest_no_longer(controller: FakeController, state: Path) -> None:
    data = site_config(1, config("wms"))
    left = Candidate(revision=1, hash=siteconfig.digest(data), config=data, hold_seconds=1.0, crashes=MAX_CRASHES - 1)
    (state / "candidate.json").write_bytes(msgspec.json.encode(left))
    for _ in range(3):
        probation = Probation(state)
        assert probation.found("") is None
        assert probation.resting is not None
        assert probation.resting.crashes == MAX_CRASHES
    probation.stopped()
    assert (found := Probation(state).found("")) is not None
    assert found.crashes == 0


def test_an_empty_configuration_stops_nothing(controller: FakeController, state: Path) -> None:
    """LESSONS row 28, with a real process."""
    controller.offer(site_config(1, crash("none")), 1, hold_seconds=1)
    with Service(state) as service:
        eventually(lambda: last_good(state) == 1, "revision 1 is good")
        controller.offer(site_config(2), 2)
        controller.wait(lambda: (2, "failed") in controller.statuses(), "it is refused")
        assert "no source" in failures(controller, 2)[0]
        assert "stop_all" in failures(controller, 2)[0]
        heard = len(controller.reports)
        controller.wait(
            lambda: any(
                r.heartbeat.revision == 1 and [s.source for s in r.heartbeat.sources] == ["erp"]
                for r in controller.reports[heard:]
            ),
            "revision 1 runs on",
        )  # fmt: skip
        assert service.process.alive()
    assert last_good(state) == 1


def test_a_crash_between_keeping_a_configuration_and_ending_its_probation_leaves_it_good(tmp_path: Path) -> None:
    data = site_config(1, config("wms"))
    left = Candidate(revision=1, hash=siteconfig.digest(data), config=data, hold_seconds=1.0, crashes=MAX_CRASHES - 1)
    (tmp_path / "candidate.json").write_bytes(msgspec.json.encode(left))
    probation = Probation(tmp_path)
    assert probation.found(left.hash) is None
    assert probation.refusal is None
    assert read_candidate(tmp_path) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"revision": "x"}', b"\xff\xfe"])
def test_damaged_files_of_a_probation_are_passed_over(tmp_path: Path, damage: bytes) -> None:
    for name in ("candidate.json", "refused.json"):
        (tmp_path / name).write_bytes(damage)
    probation = Probation(tmp_path)
    assert probation.refusal is None
    assert probation.found("") is None
