"""Files through a real pump into a real outbox: many, huge beside small, against a full disk, without any event."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from crossdock.codec import open_sealed
from crossdock.siteconfig import OutboxConfig, SourceConfig
from crossdock_agent import pump as pump_module
from crossdock_agent.hints import Hints
from crossdock_agent.outbox import Outbox
from crossdock_agent.pump import Clock, Pump, wall_us
from crossdock_agent.pumps import build_source
from support.agents import eventually
from support.memory import allocated_at_most

CSV = {"kind": "csv", "delimiter": ";"}
HEADER = b"NO;TEXT\n"
ROOMY = OutboxConfig(min_free_disk_bytes=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pump_module, "BUSY_GAP_SECONDS", 0.0)
    monkeypatch.setattr(pump_module, "BLOCKED_SECONDS", 0.02)
    logger.disable("crossdock_agent.pump")  # a line a file: thousands, kept by pytest
    yield
    logger.enable("crossdock_agent.pump")


@contextmanager
def pumping(outbox: Outbox, name: str, directory: Path, later_us: int = 0, **settings: Any) -> Iterator[Pump]:
    values = {"directory": str(directory), "settle_seconds": 0, "poll_seconds": 0.05, "format": CSV, **settings}
    config = SourceConfig(name=name, kind="file_drop", lane="standard", settings=values)
    pump = Pump(
        config, 1, outbox, str, build_source, random.Random(1), clock=Clock(wall_us=lambda: wall_us() + later_us)
    )
    pump.start()
    try:
        yield pump
    finally:
        assert pump.stop()


def taken(outbox: Outbox, name: str) -> list[tuple[str, bytes]]:
    """(file, payload) of what is in the outbox, in order."""
    found = []
    after = 0
    while page := outbox.page(name, after, 1024 * 1024):
        for batch in page:
            header, payload = open_sealed(batch.sealed)
            found.append((header.origin.name, payload))
        after = page[-1].sequence
    return found


def last(outbox: Outbox, name: str) -> int:
    at = outbox.positions().get(name)
    return at.last_sequence if at else 0


def put(path: Path, text: str) -> None:
    part = path.with_suffix(".tmp")
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(HEADER + text.encode() + b"\n")
    part.rename(path)


def test_thousands_of_small_files_are_taken_in_one_pass_in_order_with_flat_memory(tmp_path: Path) -> None:
    names = [f"{i:05}.csv" for i in range(2000)]
    for name in names:
        put(tmp_path / "drop" / name, f"{name};x")
    with Outbox(tmp_path / "outbox.db", ROOMY) as outbox:
        with allocated_at_most(3 * 1024 * 1024), pumping(outbox, "many", tmp_path / "drop") as pump:
            assert pump.settled.wait(60)
        assert [name for name, _ in taken(outbox, "many")] == names


def test_a_small_sources_file_is_in_the_outbox_while_a_huge_one_is_still_being_read(tmp_path: Path) -> None:
    block = b"".join(b"%09d;%s\n" % (i, b"x" * 190) for i in range(5000))
    (tmp_path / "huge").mkdir()
    with (tmp_path / "huge" / "a.csv").open("wb") as file:
        file.write(HEADER)
        for _ in range(150):
            file.write(block)
    put(tmp_path / "small" / "b.csv", "1;x")
    with Outbox(tmp_path / "outbox.db", ROOMY) as outbox:
        begun, seen = threading.Event(), threading.Event()
        huge_then: list[int] = []

        def committed() -> None:
            if last(outbox, "huge"):
                begun.set()
            if last(outbox, "small") and not seen.is_set():
                huge_then.append(last(outbox, "huge"))
                seen.set()

        outbox.subscribe(committed)
        with pumping(outbox, "huge", tmp_path / "huge") as huge:
            assert begun.wait(60)
            with pumping(outbox, "small", tmp_path / "small"):
                assert seen.wait(60)
            assert huge.settled.wait(60)
        assert huge.progress.records == 150 * 5000
        assert 0 < huge_then[0] < last(outbox, "huge")


def test_a_full_outbox_leaves_the_files_where_they_are_and_takes_them_in_order_when_there_is_room(
    tmp_path: Path,
) -> None:
    """The controller is away for days: nothing is dropped, and what came meanwhile follows in order."""
    rng = random.Random(7)
    drop = tmp_path / "drop"
    for i in range(40):
        put(drop / f"{i:03}.csv", f"{i};{rng.randbytes(4000).hex()}")
    small = OutboxConfig(max_bytes=40_000, min_free_disk_bytes=0)
    with Outbox(tmp_path / "outbox.db", small) as outbox, pumping(outbox, "drop", drop, afterwards="delete") as pump:
        eventually(lambda: pump.progress.state == "blocked", "the outbox is full")
        assert len(list(drop.glob("*.csv"))) == 40
        names: list[str] = []
        while len(names) < 40:
            eventually(lambda: outbox.page("drop", len(names), 1), "more was read")
            (batch,) = outbox.page("drop", len(names), 1)
            names.append(open_sealed(batch.sealed)[0].origin.name)
            outbox.acknowledge("drop", outbox.epoch, batch.sequence)
        assert names == [f"{i:03}.csv" for i in range(40)]
        eventually(lambda: not list(drop.glob("*.csv")), "all files are deleted")


def test_a_source_stopped_again_and_again_takes_each_file_once_and_in_order(tmp_path: Path) -> None:
    """The outbox as it is on disk in the middle of a pass is all that is left each time."""
    drop, names = tmp_path / "drop", [f"{i:04}.csv" for i in range(1500)]
    for name in names:
        put(drop / name, f"{name};x")
    reached = [0]
    while reached[-1] < len(names):
        with Outbox(tmp_path / "outbox.db", ROOMY) as outbox, pumping(outbox, "drop", drop):
            eventually(lambda: last(outbox, "drop") > reached[-1], "one more is taken")
        with Outbox(tmp_path / "outbox.db", ROOMY) as outbox:
            reached.append(last(outbox, "drop"))
            assert [name for name, _ in taken(outbox, "drop")] == names[: reached[-1]]
    assert len(reached) > 2


@pytest.mark.parametrize("observer", ["silent", "broken"])
def test_without_any_file_event_new_files_are_found_all_the_same(
    tmp_path: Path, monkeypatch: Any, observer: str
) -> None:
    """SMB and NFS send none; an observer may fail to start at all."""
    from watchdog.observers import Observer

    def schedule(*_: Any, **__: Any) -> object:
        if observer == "broken":
            raise OSError(28, "inotify watch limit reached")
        return object()

    monkeypatch.setattr(Observer, "schedule", schedule)
    woken: list[int] = []
    (tmp_path / "drop").mkdir()
    with (
        Hints() as hints,
        Outbox(tmp_path / "outbox.db", ROOMY) as outbox,
        pumping(outbox, "drop", tmp_path / "drop") as pump,
    ):
        hints.watch("drop", pump.source.watch(), lambda: woken.append(1))
        assert pump.settled.wait(60)
        put(tmp_path / "drop" / "a.csv", "1;x")
        eventually(lambda: last(outbox, "drop") == 1, "the file is taken")
        assert not woken


def test_a_directory_that_is_away_fails_the_source_with_a_next_step_and_it_recovers_by_itself(
    tmp_path: Path, monkeypatch: Any
) -> None:
    from crossdock.retry import Backoff

    monkeypatch.setattr(pump_module, "RETRY", Backoff(first_seconds=0.02, max_seconds=0.05))
    put(tmp_path / "drop" / "a.csv", "1;x")
    with Outbox(tmp_path / "outbox.db", ROOMY) as outbox, pumping(outbox, "drop", tmp_path / "drop") as pump:
        eventually(lambda: last(outbox, "drop") == 1, "the first file is taken")
        (tmp_path / "drop").rename(tmp_path / "away")
        eventually(lambda: pump.progress.state == "failing", "the source fails")
        assert "mount the share" in pump.progress.hint
        put(tmp_path / "away" / "b.csv", "2;x")
        (tmp_path / "away").rename(tmp_path / "drop")
        eventually(lambda: last(outbox, "drop") == 2, "what came meanwhile is taken")
        assert [name for name, _ in taken(outbox, "drop")] == ["a.csv", "b.csv"]
        eventually(lambda: pump.progress.state == "waiting" and not pump.progress.error, "the error is gone")


def test_outdated_rows_leave_the_outbox_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("crossdock_agent.sources.file_drop.CLEAR_EVERY", 1)
    drop = tmp_path / "drop"
    with Outbox(tmp_path / "outbox.db", ROOMY) as outbox:
        for later_us in (0, 500 * 86_400 * 1_000_000):
            for i in range(50):
                put(drop / f"{i:03}-{later_us}.csv", f"{i}{later_us};x")
            with pumping(outbox, "drop", drop, later_us) as pump:
                assert pump.settled.wait(60)
            assert len(outbox.ledger("drop", "", 1000)) == 100
            for path in drop.glob("*.csv"):
                path.unlink()


def test_many_files_due_at_once_are_released_without_a_pass_for_each_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossdock_agent.releases.PIECE", 10)
    drop = tmp_path / "drop"
    for i in range(300):
        put(drop / f"{i:03}.csv", f"{i};x")
    with (
        Outbox(tmp_path / "outbox.db", ROOMY) as outbox,
        pumping(outbox, "drop", drop, afterwards="delete", poll_seconds=60.0) as pump,
    ):
        assert pump.settled.wait(60)
        passes: list[int] = []
        read = pump._pass
        monkeypatch.setattr(pump, "_pass", lambda stop: (passes.append(1), read(stop)))
        outbox.acknowledge("drop", outbox.epoch, 300)
        eventually(lambda: not list(drop.glob("*.csv")), "all files are deleted")
        assert not passes
