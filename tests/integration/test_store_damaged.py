"""A damaged store is recognised, nothing goes on with half of it, and the operator is told what to do."""

import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from crossdock.lifecycle import Stop
from crossdock_controller import exits
from crossdock_controller.commands.storage import storage
from crossdock_controller.dispatch import Dispatcher
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import connection, faults
from crossdock_controller.store.checkup import check_at_start, problems
from support import orders
from support.dispatch_process import Runtime as SinkRuntime
from support.gateway import wait_until
from support.pipeline import Box, FakeSink
from support.processes import Process, command


def filled(root: Path) -> DataDirectory:
    """A store with some thousand records, whole and checkpointed."""
    box = Box(root)
    for n in range(20):
        box.send(*(f"K{n}-{i};{'text' * 20}" for i in range(200)))
    box.normalize()
    box.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    box.close()
    return box.data


def page_of(path: Path, name: str) -> tuple[int, int]:
    """(offset, length) of the first page of a table or index."""
    with closing(sqlite3.connect(path)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
    return (root - 1) * size, size


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip_page_of(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        offset, size = page_of(path, name)
        with path.open("rb") as file:
            file.seek(offset)
            page = file.read(size)
        overwrite(path, offset, bytes(byte ^ 0xFF for byte in page))

    return damage


def cut_in_half(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


DAMAGES = {
    "header": lambda path: overwrite(path, 0, b"\x00" * 16),
    "schema": lambda path: overwrite(path, 100, b"\xff" * 64),
    "half of it": cut_in_half,
    "checkpoints": flip_page_of("normalizer_checkpoints"),
    "cursors": flip_page_of("sink_cursors"),
    "holder": flip_page_of("holder"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_start_finds_damage_of_what_decides_all_the_rest(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    data = filled(tmp_path)
    check_at_start(data.state, data.intake)
    damage(data.state)
    with pytest.raises(faults.StoreDamaged, match=r"state\.db is damaged: .*restore the data directory"):
        check_at_start(data.state, data.intake)


def test_a_damaged_intake_is_found_at_the_start_too(tmp_path: Path) -> None:
    data = filled(tmp_path)
    flip_page_of("streams")(data.intake)
    with pytest.raises(faults.StoreDamaged, match=r"intake\.db is damaged"):
        check_at_start(data.state, data.intake)


def test_the_whole_check_finds_what_the_start_does_not_look_at(tmp_path: Path) -> None:
    data = filled(tmp_path)
    assert list(problems(data.state)) == []
    flip_page_of("events_key")(data.state)
    check_at_start(data.state, data.intake)
    assert list(problems(data.state))
    done = subprocess.run(
        [command("crossdock"), "controller", "check", "--data", str(data.root)],
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == exits.DAMAGED
    assert f"{data.intake}: ok" in done.stdout
    assert "crossdock restore DIR" in done.stdout


def test_a_damaged_file_ends_the_start_with_its_own_exit_code_and_status_says_it_first(tmp_path: Path) -> None:
    data = filled(tmp_path)
    DAMAGES["header"](data.intake)
    done = subprocess.run(
        run_arguments(data.root),
        capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == exits.DAMAGED
    assert "intake.db is damaged" in done.stderr
    assert "restore the data directory" in done.stderr
    assert "Traceback" not in done.stderr
    DAMAGES["header"](data.state)
    assert storage(data, time.time_ns() // 1000).state == "damaged"
    done = subprocess.run(
        [command("crossdock"), "status", "--data", str(data.root)], capture_output=True, encoding="utf-8", check=False
    )
    assert done.stdout.splitlines()[0].split()[:2] == ["store", "damaged"]
    assert done.returncode == exits.DAMAGED


@pytest.mark.timeout(180)
def test_damage_that_a_worker_meets_ends_the_whole_controller_and_nothing_goes_on_half(tmp_path: Path) -> None:
    """A page of the event log is wrong: found by the first round that touches it, in another process."""
    box = Box(tmp_path / "controller")
    box.apply(orders.tree())
    orders.Orders(box).send_many(1, 100)
    box.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    box.close()
    flip_page_of("events_id")(box.data.state)
    check_at_start(box.data.state, box.data.intake)
    process = Process("controller", run_arguments(box.data.root), tmp_path).start()
    try:
        wait_until(lambda: not process.alive(), "the controller ends by itself", 90)
    finally:
        process.stop()
    log = process.tail(400)
    assert process.code == exits.DAMAGED, log
    assert "state.db is damaged" in log
    assert "restore the data directory from its last backup" in log
    assert log.count("worker is up") == 2, log
    assert orders.delivered(box.data.root) == []


def test_a_document_whose_bytes_were_flipped_ends_the_dispatcher_and_is_not_sent(tmp_path: Path) -> None:
    data = filled(tmp_path)
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        chunk = db.execute("SELECT data FROM bodies WHERE id = 1").fetchone()[0]
        middle = len(chunk) // 2
        flipped = chunk[:middle] + bytes([chunk[middle] ^ 1]) + chunk[middle + 1 :]
        db.execute("UPDATE bodies SET data = ? WHERE id = 1", (flipped,))
    sink = FakeSink()
    dispatcher = Dispatcher(data, lambda _tree, _number: SinkRuntime("finance"), lambda _name, _of: (sink, 50))
    with pytest.raises(faults.StoreDamaged, match="chunk 1 of document bodies is damaged"):
        dispatcher.run(Stop())
    dispatcher.close()
    assert sink.calls == []


def run_arguments(root: Path) -> list[str]:
    listen = ["--listen", "127.0.0.1:0", "--enroll-listen", "127.0.0.1:0", "--api-listen", "none"]
    return [command("crossdock"), "controller", "run", "--data", str(root), *listen]
