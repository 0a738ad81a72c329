"""Two controllers on one store, by mistake: the second refuses, or the first is fenced off. Real processes."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from crossdock.errors import Refused
from crossdock_controller import exits, holding, machine
from crossdock_controller.dispatch import Dispatcher
from crossdock_controller.holding import Holding, clear_way, look
from crossdock_controller.normalize import Normalizer
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import connection, holder
from crossdock_controller.store.holder import Holder, HolderLost
from support.dispatch_process import Runtime as SinkRuntime
from support.gateway import running_gateway, wait_until
from support.orders import Orders, delivered, tree
from support.pipeline import Box, FakeRuntime, FakeSink
from support.processes import Process, command


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "controller")
    yield box
    box.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts `crossdock controller run` on a directory; all are ended."""
    started: list[Process] = []

    def run(root: Path, *arguments: str) -> Process:
        listen = ["--listen", "127.0.0.1:0", "--enroll-listen", "127.0.0.1:0", "--api-listen", "none"]
        base = [command("crossdock"), "controller", "run", "--data", str(root), *listen, *arguments]
        process = Process(f"controller-{len(started)}", base, tmp_path).start()
        started.append(process)
        return process

    yield run
    for process in started:
        if process.alive():
            os.kill(process.pid, signal.SIGCONT)
        process.stop()


def up(process: Process) -> None:
    wait_until(lambda: "controller is up" in process.tail(100) or not process.alive(), "the controller is up", 120)
    assert process.alive(), process.tail()


def ended(process: Process) -> int | None:
    wait_until(lambda: not process.alive(), "the controller ends", 120)
    return process.code


def held(box: Box) -> Holding:
    return Holding(box.data, look(box.data), 0)


def by(box: Box, holding_: Holding) -> DataDirectory:
    return DataDirectory(box.data.root, holding_.id)


# --- the fence


def test_a_writer_whose_store_was_taken_over_writes_nothing_more(box: Box) -> None:
    first = held(box)
    box.writer.held_by(first.id)
    box.send("K1;text")
    with closing(connection.connect(box.data.state, fence=first.id)) as old:
        held(box)
        with pytest.raises(HolderLost, match="has taken over this store"), connection.transaction(old):
            raise AssertionError("the transaction began")
        assert not old.in_transaction
    with pytest.raises(HolderLost):
        box.send("K2;text")
    with pytest.raises(HolderLost):
        box.writer.purge(2**62, {1: 1})
    assert box.account().received == 1


def test_a_normalizer_that_was_stopped_while_another_took_over_writes_no_round(box: Box) -> None:
    first = held(box)
    box.send("K1;text")
    old = Normalizer(by(box, first), lambda _tree, number: FakeRuntime().numbered(number))
    held(box)
    with pytest.raises(HolderLost):
        old.step()
    old.close()
    assert box.db.execute("SELECT count(*) FROM events").fetchone() == (0,)
    box.normalize()
    assert box.account().balanced


def test_a_dispatcher_that_was_stopped_while_another_took_over_sends_nothing_more(box: Box) -> None:
    first = held(box)
    box.send(*(f"K{i};text" for i in range(20)))
    box.normalize(FakeRuntime("finance"))
    old_sink, new_sink = FakeSink(), FakeSink()
    old = Dispatcher(by(box, first), lambda _t, _n: SinkRuntime("finance"), lambda _n, _d: (old_sink, 5))
    second = held(box)
    from crossdock.lifecycle import Stop

    with pytest.raises(HolderLost):
        old.run(Stop())
    old.close()
    assert old_sink.calls == []
    new = Dispatcher(by(box, second), lambda _t, _n: SinkRuntime("finance"), lambda _n, _d: (new_sink, 5))
    new.tick()
    wait_until(lambda: box.account().pending == 0, "the new one delivers")
    new.close()
    assert len(new_sink.keys()) == 20


def test_leases_of_a_fenced_worker_are_free_at_once(box: Box) -> None:
    first = held(box)
    box.send("K1;text")
    old = Normalizer(by(box, first), lambda _tree, number: FakeRuntime().numbered(number))
    old.step()
    box.send("K2;text")
    second = held(box)
    new = Normalizer(by(box, second), lambda _tree, number: FakeRuntime().numbered(number))
    assert new.step()
    new.close()
    old.close()
    assert box.account().waiting == 0


def test_of_two_that_saw_the_same_holder_one_takes_the_store(box: Box) -> None:
    seen = look(box.data)
    Holding(box.data, seen, 0)
    with pytest.raises(HolderLost, match="just now"):
        Holding(box.data, seen, 0)


# --- who may start


def stranger(box: Box, **changes: object) -> None:
    """As if the store had been held by another, who did not give it back."""
    held(box)
    with connection.transaction(box.db):
        found = holder.read(box.db)
        assert found is not None
        box.db.execute("DELETE FROM holder")
        holder.take(box.db, replace(found, **changes), None)  # type: ignore[arg-type]


def never(_seconds: float) -> None:
    raise AssertionError("it waited")


def test_a_holder_that_gave_the_store_back_is_not_waited_for(box: Box) -> None:
    held(box).release()
    assert clear_way(box.data, take_over=False, wait=never).any is not None


def test_a_holder_whose_process_is_gone_is_not_waited_for(box: Box) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    stranger(box, pid=gone.pid)
    clear_way(box.data, take_over=False, wait=never)


def test_a_holder_that_shows_signs_of_life_refuses_the_second_with_host_pid_and_next_step(box: Box) -> None:
    stranger(box, pid=os.getppid(), machine="another container")
    seen = look(box.data).state
    assert seen is not None

    def beat(_seconds: float) -> None:
        with connection.transaction(box.db):
            holder.beat(box.db, seen.id, time.time_ns() // 1000)

    with pytest.raises(
        Refused, match=rf"in use by a controller at {machine.host()} \(pid {os.getppid()}, since .*--take-over"
    ):
        clear_way(box.data, take_over=False, wait=beat)


def test_a_silent_holder_is_watched_by_our_clock_and_then_replaced(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger(box, pid=os.getppid(), machine="another container", beat_us=2**62)  # a clock far ahead of ours
    monkeypatch.setattr(holding, "WATCH_SECONDS", 0.6)
    waits: list[float] = []
    seen = clear_way(box.data, take_over=False, wait=lambda s: (waits.append(s), time.sleep(s)))
    assert len(waits) >= 2
    Holding(box.data, seen, 0)


@pytest.mark.parametrize("change", [{"host": "other-host"}, {"file": "1"}], ids=["another host", "another file"])
def test_a_copy_of_a_store_that_was_not_given_back_needs_a_person(box: Box, change: dict[str, object]) -> None:
    stranger(box, **change)
    with pytest.raises(Refused, match=r"not given back; .*leave it alone.*--take-over"):
        clear_way(box.data, take_over=False, wait=never)
    Holding(box.data, clear_way(box.data, take_over=True, wait=never), 0)


# --- real processes


@pytest.mark.timeout(300)
def test_a_start_on_a_moved_store_that_died_between_its_two_files_shuts_nobody_out(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(box).release()
    moved = DataDirectory(tmp_path / "moved")
    shutil.copytree(box.data.root, moved.root)
    take = holder.take

    def state_alone(db: sqlite3.Connection, new: Holder, seen: Holder | None) -> Holder:
        if new.place == str(moved.intake):
            raise KeyboardInterrupt  # stands for a kill: nothing of ours runs after it
        return take(db, new, seen)

    with monkeypatch.context() as patch:
        patch.setattr(holder, "take", state_alone)
        with pytest.raises(KeyboardInterrupt):
            Holding(moved, look(moved), 0)
    assert clear_way(moved, take_over=False, wait=lambda _seconds: True) == look(moved)


def test_a_second_process_on_the_same_directory_is_refused_by_name(box: Box, start: Callable[..., Process]) -> None:
    first = start(box.data.root)
    up(first)
    second = start(box.data.root)
    assert ended(second) == 1
    assert f"in use by a controller at {socket.gethostname()} (pid {first.pid}" in second.tail()
    assert first.alive()


@pytest.mark.timeout(300)
def test_a_second_process_is_refused_although_the_lock_file_was_deleted(
    box: Box, start: Callable[..., Process]
) -> None:
    first = start(box.data.root)
    up(first)
    box.data.lock.unlink()
    second = start(box.data.root)
    assert ended(second) == 1
    assert f"(pid {first.pid}" in second.tail()
    assert "--take-over" in second.tail()
    assert "watching for signs of life" in second.tail()


@pytest.mark.timeout(400)
def test_a_stopped_controller_that_was_taken_over_writes_nothing_after_it_wakes_and_ends(
    box: Box, start: Callable[..., Process]
) -> None:
    """SIGSTOP of the first with its workers, takeover by the second, SIGCONT: the first ends with its own code."""
    box.apply(tree())
    first = start(box.data.root)
    up(first)
    wait_until(lambda: first.tail(200).count("worker is up") == 2, "its workers are up")
    stop_between_transactions(first, box)
    orders = Orders(box)
    numbers = orders.send_many(1, 500)
    box.data.lock.unlink()
    second = start(box.data.root, "--take-over")
    up(second)
    wait_until(lambda: len(delivered(box.data.root)) == 500, "the second delivers")
    stop_tree(first, signal.SIGCONT)
    assert ended(first) == exits.TAKEN
    assert "has taken over" in first.tail(60)
    numbers += orders.send_many(501, 500)
    wait_until(lambda: len(delivered(box.data.root)) == 1_000, "the second goes on")
    assert second.alive()
    assert delivered(box.data.root) == numbers
    wait_until(lambda: box.account("orders").delivered == 1_000, "all is on record")
    assert box.account("orders").balanced


@pytest.mark.timeout(300)
def test_a_copy_of_the_directory_of_a_running_controller_refuses_to_start(
    box: Box, tmp_path: Path, start: Callable[..., Process]
) -> None:
    first = start(box.data.root)
    up(first)
    copy = tmp_path / "copy"
    shutil.copytree(box.data.root, copy)
    second = start(copy)
    assert ended(second) == 1
    assert "it was copied or restored" in second.tail()
    assert "leave it alone" in second.tail()


@pytest.mark.timeout(300)
def test_a_killed_controller_is_followed_by_the_next_without_waiting(box: Box, start: Callable[..., Process]) -> None:
    first = start(box.data.root)
    up(first)
    first.kill()
    second = start(box.data.root)
    up(second)
    assert "watching for signs of life" not in second.tail(100)


def test_a_restart_in_one_process_gives_the_store_back_and_takes_it_again(tmp_path: Path) -> None:
    for generation in (1, 2):
        with running_gateway(tmp_path / "controller") as gateway:
            found = look(gateway.data)
            assert found.state is not None
            assert found.intake is not None
            assert (found.state.generation, found.intake.generation) == (generation, generation)
            assert not found.state.released_us
    after = look(DataDirectory(tmp_path / "controller")).state
    assert after is not None
    assert after.released_us


def stop_between_transactions(process: Process, box: Box) -> None:
    """One that is stopped within a transaction keeps the store locked for everybody: that is SQLite's own fence."""

    def is_free(path: Path) -> bool:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as db:
            try:
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            db.execute("ROLLBACK")
            return True

    def stopped() -> bool:
        stop_tree(process, signal.SIGSTOP)
        if is_free(box.data.state) and is_free(box.data.intake):
            return True
        stop_tree(process, signal.SIGCONT)
        return False

    wait_until(stopped, "it is stopped between two transactions")


def stop_tree(process: Process, number: int) -> None:
    import psutil

    for child in psutil.Process(process.pid).children(recursive=True):
        os.kill(child.pid, number)
    os.kill(process.pid, number)
