"""The service manager hears READY before anything slow (LESSONS row 35), on Linux and on Windows."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from crossdock.errors import ConfigError, CrossdockError
from crossdock.lifecycle import Stop
from crossdock.service import Notifier, running
from crossdock_agent import winservice
from crossdock_agent.winservice import Manager, Service, Status
from support.agents import eventually, site_config
from support.controller import FakeController
from support.migration_process import make
from support.processes import Process, command

TESTS = Path(__file__).parents[1]
NEEDS_SOCKET = pytest.mark.skipif(not hasattr(socket, "AF_UNIX") or os.name == "nt", reason="sd_notify is of Linux")


class ServiceManager:
    """What listens at NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(0.2)
        self.address = address
        self.heard: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def __enter__(self) -> ServiceManager:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        self._socket.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                self.heard += self._socket.recv(65536).decode().splitlines()
            except TimeoutError:
                continue


@pytest.fixture
def controller() -> Iterator[FakeController]:
    fake = FakeController().start()
    yield fake
    fake.stop()


@NEEDS_SOCKET
def test_ready_comes_before_a_slow_migration_of_the_outbox_is_over(controller: FakeController, tmp_path: Path) -> None:
    """A real process, a real socket, an outbox of an earlier release."""
    state, until = tmp_path / "state", tmp_path / "go"
    controller.identity(state)
    make((TESTS / "released" / "outbox-1.sql").read_text("utf-8"), state / "outbox.db")
    controller.offer(site_config(1, stop_all=True), 1)
    arguments = [sys.executable, "-m", "support.slow_opening", "run", "--state", str(state)]
    with ServiceManager(str(tmp_path / "notify")) as manager:
        env = {
            "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]), "SLOW_UNTIL": str(until),
            "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000",
        }  # fmt: skip
        agent = Process("agent", arguments, tmp_path, env).start()
        try:
            eventually((tmp_path / "migrating").exists, "the migration is under way", 60)
            eventually(lambda: "READY=1" in manager.heard, "it is ready all the same")
            eventually(lambda: manager.heard.count("WATCHDOG=1") >= 2, "and gives signs of life")
            assert controller.reports == []
            assert "STATUS=opening the outbox" in manager.heard
            until.touch()
            controller.wait(lambda: any(r.heartbeat.revision == 1 for r in controller.reports), "it runs")
            assert "STATUS=agent atl1 at site atl1 runs" in manager.heard
            assert "STOPPING=1" not in manager.heard
        finally:
            agent.stop()
        assert agent.code == 0, agent.tail()
        eventually(lambda: manager.heard.count("STOPPING=1") == 1, "it says that it stops")
        with closing(sqlite3.connect(state / "outbox.db")) as db:
            assert db.execute("PRAGMA user_version").fetchone()[0] > 1


@NEEDS_SOCKET
def test_a_stop_during_the_migration_is_told_at_once_and_leaves_a_whole_outbox(
    controller: FakeController, tmp_path: Path
) -> None:
    state, until = tmp_path / "state", tmp_path / "go"
    controller.identity(state)
    make((TESTS / "released" / "outbox-1.sql").read_text("utf-8"), state / "outbox.db")
    arguments = [sys.executable, "-m", "support.slow_opening", "run", "--state", str(state)]
    with ServiceManager(str(tmp_path / "notify")) as manager:
        env = {
            "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]), "SLOW_UNTIL": str(until),
            "NOTIFY_SOCKET": manager.address,
        }  # fmt: skip
        agent = Process("agent", arguments, tmp_path, env).start()
        try:
            eventually((tmp_path / "migrating").exists, "the migration is under way", 60)
            os.kill(agent.pid, signal.SIGTERM)
            eventually(lambda: "STOPPING=1" in manager.heard, "it says that it stops")
            until.touch()
            eventually(lambda: agent.code is not None, "it ends", 60)
        finally:
            until.touch()
            agent.stop()
        assert agent.code == 0, agent.tail()
        with closing(sqlite3.connect(state / "outbox.db")) as db:
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


@NEEDS_SOCKET
def test_an_agent_that_cannot_start_never_says_ready(tmp_path: Path) -> None:
    with ServiceManager(str(tmp_path / "notify")) as manager:
        run = [command("crossdock-agent"), "run", "--state", str(tmp_path / "state")]
        agent = Process("agent", run, tmp_path, {"NOTIFY_SOCKET": manager.address}).start()
        try:
            eventually(lambda: agent.code is not None, "it ends", 60)
        finally:
            agent.stop()
        assert agent.code == 1
        assert manager.heard == []


@NEEDS_SOCKET
def test_the_controller_says_ready_and_stopping(tmp_path: Path) -> None:
    from support.processes import Centre

    with ServiceManager(str(tmp_path / "notify")) as manager:
        with Centre(tmp_path / "centre", env={"NOTIFY_SOCKET": manager.address}):
            assert manager.heard[:2] == ["READY=1", "STATUS=opening the stores"]
        eventually(lambda: "STOPPING=1" in manager.heard, "it says that it stops")


@NEEDS_SOCKET
def test_an_abstract_socket_is_reached_and_a_manager_that_is_gone_harms_nobody(tmp_path: Path) -> None:
    stop = Stop()
    with ServiceManager("\0crossdock-test-" + str(os.getpid())) as manager:
        notifier = Notifier.of({"NOTIFY_SOCKET": "@" + manager.address[1:]})
        with running(stop, "busy", notifier):
            eventually(lambda: manager.heard == ["READY=1", "STATUS=busy"], "it is told")
            stop.set()
            stop.set()
        eventually(lambda: manager.heard.count("STOPPING=1") == 1, "once")
    with running(Stop(), "busy", Notifier(str(tmp_path / "nobody"))) as notifier:
        notifier.status("nobody hears it")


def test_a_watchdog_that_is_meant_for_another_process_is_not_fed() -> None:
    assert Notifier.of({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_seconds == 2.0
    assert Notifier.of({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}).watchdog_seconds == 0.0
    assert Notifier.of({"WATCHDOG_USEC": "2000000"}).watchdog_seconds == 2.0
    assert Notifier.of({}).watchdog_seconds == 0.0


# --- Windows, by its three functions


class Windows:
    """The Service Control Manager as far as a service sees it: it calls main on one thread, the handler on another."""

    def __init__(self, *, refuses: int = 0) -> None:
        self.told: list[tuple[int, int, int, int]] = []  # state, accepts, exit code, specific exit code
        self.handler: object = None
        self._refuses = refuses

    def manager(self) -> Manager:
        return Manager(self.dispatch, self.register, self.set_status, lambda: self._refuses)

    def dispatch(self, table) -> int:  # type: ignore[no-untyped-def]
        if self._refuses:
            return 0
        assert table[0].name == winservice.NAME
        assert table[1].name is None
        assert not table[1].main
        thread = threading.Thread(target=table[0].main, args=(0, None))
        thread.start()
        thread.join()
        return 1

    def register(self, name: str, handler, _context) -> int:  # type: ignore[no-untyped-def]
        assert name == winservice.NAME
        self.handler = handler
        return 42

    def set_status(self, handle: int, pointer) -> int:  # type: ignore[no-untyped-def]
        assert handle == 42
        status: Status = pointer.contents
        assert status.type == winservice.OWN_PROCESS
        self.told.append((status.state, status.accepts, status.exit_code, status.specific_exit_code))
        return 1

    def control(self, code: int) -> int:
        return self.handler(code, 0, None, None)  # type: ignore[operator, no-any-return]


def test_a_windows_service_is_running_before_its_work_begins_and_stops_when_told() -> None:
    windows = Windows()
    begun = threading.Event()
    told_before: list[object] = []

    def work(stop: Stop) -> None:
        told_before.extend(windows.told)
        begun.set()
        assert stop.wait(60)

    thread = threading.Thread(target=Service(windows.manager(), work).run)
    thread.start()
    assert begun.wait(60)
    accepts = winservice.ACCEPT_STOP_AND_SHUTDOWN
    assert told_before == [(winservice.RUNNING, accepts, 0, 0)]
    assert windows.control(winservice.CONTROL_INTERROGATE) == winservice.NO_ERROR
    assert windows.control(99) == winservice.NOT_IMPLEMENTED
    assert windows.control(winservice.CONTROL_STOP) == winservice.NO_ERROR
    thread.join(60)
    assert windows.told == [
        (winservice.RUNNING, accepts, 0, 0), (winservice.RUNNING, accepts, 0, 0), (winservice.STOP_PENDING, 0, 0, 0),
        (winservice.STOPPED, 0, 0, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(("error", "code"), [(ConfigError("no identity"), 1), (RuntimeError("a bug"), 2)])
def test_a_windows_service_that_fails_tells_the_manager_a_code_so_that_it_is_started_again(
    error: Exception, code: int
) -> None:
    windows = Windows()

    def work(_stop: Stop) -> None:
        raise error

    Service(windows.manager(), work).run()
    assert windows.told[-1] == (winservice.STOPPED, 0, winservice.SERVICE_SPECIFIC, code)


def test_the_services_command_given_by_hand_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="for the Service Control Manager") as caught:
        Service(Windows(refuses=winservice.NOT_FROM_THE_MANAGER).manager(), lambda _stop: None).run()
    assert "sc start crossdock-agent" in caught.value.hint
    with pytest.raises(CrossdockError, match="error 5"):
        Service(Windows(refuses=5).manager(), lambda _stop: None).run()


def test_the_structures_are_as_large_as_windows_wants_them() -> None:
    assert ctypes.sizeof(Status) == 28
    assert ctypes.sizeof(winservice.TableEntry) == 2 * ctypes.sizeof(ctypes.c_void_p)
