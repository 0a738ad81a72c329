"""An outbox file damaged in every way: set aside, told by name, read again from what the controller has."""

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossdock.codec import open_sealed
from crossdock.retry import Backoff
from crossdock_agent import health, pump, pumps, streams
from crossdock_agent.outbox import schema
from support import sources
from support.agents import RunningAgent, eventually, helpers_in_process, site_config
from support.controller import FakeController
from support.processes import command
from support.sources import config, reel
from support.sources import lines_that_do_not_compress as lines

QUICK = Backoff(first_seconds=0.05, max_seconds=0.2)
PAGE = schema.PAGE_BYTES


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeController]:
    monkeypatch.setattr(pump, "RETRY", QUICK)
    monkeypatch.setattr(health, "WRITE_SECONDS", 0.05)
    monkeypatch.setattr(health, "TRIM_SECONDS", 0.1)
    monkeypatch.setattr(pumps, "HOLD_SECONDS", 1.0)
    monkeypatch.setattr(streams.Stream.__init__, "__defaults__", (QUICK,))
    helpers_in_process(monkeypatch)
    sources.install()
    fake = FakeController().start()
    yield fake
    fake.stop()


def received(controller: FakeController, source: str) -> list[bytes]:
    """The lines stored of *source*, over all epochs."""
    batches = [b for (name, _), kept in controller.stored.items() if name == source for b in kept]
    return [line for batch in batches for line in open_sealed(batch.sealed)[1].split(b"\n")]


def note_checkpoints(controller: FakeController) -> None:
    """What this controller stored so far is what it would say at a welcome: of each source, its newest epoch."""
    del controller.welcome.checkpoints[:]
    newest = {name: (epoch, kept) for (name, epoch), kept in controller.stored.items()}
    for name, (epoch, kept) in newest.items():
        last = open_sealed(kept[-1].sealed)[0]
        controller.welcome.checkpoints.add(
            source=name, epoch=epoch, sequence=kept[-1].sequence, checkpoint=last.checkpoint
        )


def flip_payload(path: Path) -> None:
    data = bytearray(path.read_bytes())
    marks = [i for i in range(len(data) - 4) if data[i : i + 4] == b"CDB1"]
    data[marks[len(marks) // 2] + 200] ^= 0x10
    path.write_bytes(data)


def flip_pages(path: Path) -> None:
    """A bit in the head of every page from the second on: b-tree, page map and free pages alike."""
    data = bytearray(path.read_bytes())
    rng = random.Random(1)
    for page in range(1, len(data) // PAGE):
        data[page * PAGE + rng.randrange(12)] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def wreck_header(path: Path) -> None:
    path.write_bytes(random.Random(2).randbytes(100) + path.read_bytes()[100:])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [flip_payload, flip_pages, wreck_header, truncate, empty, make_directory])
def test_a_damaged_outbox_is_set_aside_and_told_by_name_and_every_line_arrives(
    controller: FakeController, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    state = tmp_path / "state"
    controller.identity(state)
    tape = lines(12)
    reel("wms").lines = tape[:4]
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        controller.wait(lambda: len(received(controller, "wms")) == 4, "four have arrived")
        eventually(lambda: agent.holds() == 0, "and acknowledged")
        controller.stop()
        reel("wms").lines = list(tape)
        eventually(lambda: (s := agent.status()) and s.outbox_records == 8, "eight wait")
    damage(agent.settings.outbox_path)
    note_checkpoints(controller)
    controller.start()
    with RunningAgent(state) as agent:
        controller.wait(lambda: set(received(controller, "wms")) == set(tape), "every line arrived")
        eventually(lambda: "was set aside as" in agent.problems(), "a person is told")
        eventually(lambda: (s := agent.status()) and s.outbox_records == 0, "the agent runs on")
        said = agent.problems()
    got = received(controller, "wms")
    order = [got.index(line) for line in tape]
    assert order == sorted(order), "the first time that each came, they came in order"
    (aside,) = [p for p in state.glob("outbox.db.corrupt-*") if p.name.endswith("Z")]
    assert str(aside) in said
    if damage is flip_payload:
        assert "not acknowledged were the batches wms 5 to 12 (8 records)" in said
    else:
        assert "what it held cannot be told" in said or "wms 5 to 12 (8 records)" in said
    assert "keep the file until 'crossdock account' agrees, then delete it" in said

    note_checkpoints(controller)
    with RunningAgent(state) as agent:  # a restart does not forget it ...
        eventually(lambda: str(aside) in agent.problems(), "it is told again")
        controller.wait(lambda: any(str(aside) in p for r in controller.reports for p in r.heartbeat.problems), "there")
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()  # ... a person does
        eventually(lambda: agent.status() and not agent.problems(), "the question is closed")


def test_a_log_that_lost_its_end_is_an_older_outbox_and_loses_nothing(
    controller: FakeController, tmp_path: Path
) -> None:
    """A flipped bit in SQLite's WAL ends it there without a word: commits are gone that the controller has."""
    state = tmp_path / "state"
    controller.identity(state)
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state):
        controller.wait(lambda: (1, "applied") in controller.statuses(), "the outbox is there")
    reel("wms").lines = lines(6)
    with RunningAgent(state):
        controller.wait(lambda: len(received(controller, "wms")) == 6, "six have arrived, so they were committed")
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("outbox.db", "outbox.db-wal"):  # as a power cut leaves them
            shutil.copy(state / name, copy / name)
    log = bytearray((copy / "outbox.db-wal").read_bytes())
    log[32 + 24 + 100] ^= 0x40  # in the page of its first frame
    for leftover in state.glob("outbox.db*"):
        leftover.unlink()
    shutil.copy(copy / "outbox.db", state)
    (state / "outbox.db-wal").write_bytes(log)
    note_checkpoints(controller)
    reel("wms").lines += [b"last"]
    with RunningAgent(state) as agent:
        controller.wait(lambda: b"last" in received(controller, "wms"), "the new line arrived")
        assert sorted(received(controller, "wms")) == sorted(reel("wms").lines), "and none came twice"
        eventually(lambda: "was set aside as" in agent.problems(), "a person is told")


def test_what_a_damaged_outbox_held_can_be_got_out_of_it(controller: FakeController, tmp_path: Path) -> None:
    state = tmp_path / "state"
    controller.identity(state)
    tape = lines(8)
    reel("wms").lines = list(tape)
    controller.acknowledging.clear()
    controller.offer(site_config(1, config("wms")), 1)
    with RunningAgent(state) as agent:
        eventually(lambda: (s := agent.status()) and s.outbox_records == 8, "eight wait")
    flip_payload(agent.settings.outbox_path)
    aside = state / "outbox.db.corrupt-20261126T190000.000001Z"
    agent.settings.outbox_path.rename(aside)
    done = subprocess.run(
        [command("crossdock-agent"), "salvage", str(aside), "--to", str(tmp_path / "out")],
        capture_output=True, encoding="utf-8", check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "wms: 7 of 8 batches, 7 of 8 records" in done.stdout
    assert "1 records of damaged batches are lost" in done.stdout
    written = [p.read_bytes() for p in sorted((tmp_path / "out" / "wms").iterdir())]
    assert len(written) == 7
    assert written == [line for line in tape if line in written], "whole, and in order"
