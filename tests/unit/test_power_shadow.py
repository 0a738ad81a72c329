"""The power cut itself: what a process synced is there afterwards, what it only wrote is not."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chaos import power
from chaos.points import Event, Machine, Point
from chaos.power import Shadow
from chaos.shim import Shim
from crossdock_controller.authority import Authority

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the shim is loaded by LD_PRELOAD")

PRELUDE = """
import os, pathlib, sqlite3
def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
"""


class Disk:
    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.root.mkdir()
        (self.root / "old.txt").write_text("old")
        self._shim = Shim(directory / "shim")
        self._shadow = Shadow(directory / "shadow", self.root)
        self.machine = Machine(self._shim, "agent", self.root, self._shadow.directory)

    def run(self, program: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + program],
            cwd=self.root, env={**os.environ, **self.machine.environment()}, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode

    def cut(self, outcome: str) -> dict[str, str]:
        self._shadow.restore(outcome)
        return {p.name: p.read_text() for p in self.root.iterdir()}

    def close(self) -> None:
        self.machine.close()
        self._shim.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("outcome", power.OUTCOMES)
def test_what_was_written_after_the_last_sync_is_gone(disk: Disk, outcome: str) -> None:
    assert not disk.run(
        "f = open('old.txt', 'w'); f.write('new'); f.flush(); sync('old.txt'); f.write('er'); f.close()"
    )
    assert disk.cut(outcome) == {"old.txt": "new"}


def test_a_new_name_counts_once_its_directory_was_synced(disk: Disk) -> None:
    program = "pathlib.Path('new.txt').write_text('n'); sync('new.txt')"
    assert not disk.run(program)
    assert disk.cut("strict") == {"old.txt": "old"}
    assert not disk.run(program + "; sync(os.getcwd())")
    assert disk.cut("strict") == {"old.txt": "old", "new.txt": "n"}


def test_a_rename_without_a_sync_may_be_undone_or_stay(disk: Disk) -> None:
    assert not disk.run("pathlib.Path('x').write_text('x'); sync('x'); os.replace('x', 'old.txt')")
    assert disk.cut("strict") == {"old.txt": "old"}
    assert not disk.run("pathlib.Path('x').write_text('x'); sync('x'); os.replace('x', 'old.txt')")
    assert disk.cut("named") == {"old.txt": "x"}


def test_a_name_whose_content_was_never_synced_may_be_empty(disk: Disk) -> None:
    """The file that so many programs leave after a power cut."""
    assert not disk.run("pathlib.Path('x').write_text('x'); os.replace('x', 'old.txt')")
    assert disk.cut("named") == {"old.txt": ""}


@pytest.mark.parametrize(("synchronous", "rows"), [("FULL", 2), ("NORMAL", 0)])
def test_a_commit_of_sqlite_is_kept_if_it_was_synced(disk: Disk, synchronous: str, rows: int) -> None:
    assert not disk.run(
        "db = sqlite3.connect('a.db', isolation_level=None); db.execute('PRAGMA journal_mode = WAL');"
        "db.execute('CREATE TABLE t (x)'); db.execute('PRAGMA wal_checkpoint');"
        f"db.execute('PRAGMA synchronous = {synchronous}');"
        "db.execute('INSERT INTO t VALUES (1)'); db.execute('INSERT INTO t VALUES (2)'); os._exit(0)"
    )
    disk._shadow.restore("strict")
    with closing(sqlite3.connect(disk.root / "a.db")) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (rows,)


@pytest.mark.parametrize(("moment", "kept"), [("before", "old"), ("after", "new")])
def test_the_current_fails_before_or_after_a_sync(disk: Disk, moment: str, kept: str) -> None:
    disk.machine.die_at(Point(Event("agent", "sync", "old.txt", 1), moment), cut=True)
    assert disk.run("pathlib.Path('old.txt').write_text('new'); sync('old.txt'); print('alive')") == -9
    assert disk.machine.died()
    assert disk.cut("strict")["old.txt"] == kept


def test_a_process_dies_once_and_its_successor_goes_on(disk: Disk) -> None:
    disk.machine.die_at(Point(Event("agent", "write", "a#.txt", 2), "before"))
    program = "[pathlib.Path(f'a{i}.txt').write_text('x') for i in range(3)]"
    assert disk.run(program) == -9
    assert sorted(p.name for p in disk.root.iterdir() if p.read_text() == "x") == ["a0.txt"]
    assert disk.run(program) == 0
    assert [e.ordinal for e in disk.machine.events()] == [1, 2, 3, 4, 5]


def test_the_authority_is_still_there_after_a_power_cut(disk: Disk) -> None:
    """Without it every agent that was enrolled meanwhile would have to enrol anew."""
    assert not disk.run(
        "from crossdock_controller.authority import Authority; Authority.open(pathlib.Path('authority').absolute())"
    )
    disk._shadow.restore("strict")
    kept = {p.name: p.stat().st_size > 0 for p in (disk.root / "authority").iterdir()}
    assert kept == {"ca.key": True, "ca.pem": True}


ROTATION = """
import datetime
from crossdock_controller.authority import Authority
authority, now = Authority.open(pathlib.Path('authority').absolute()), datetime.datetime.now(datetime.UTC)
steps = [
    lambda: authority.added(*authority.prepared(now)), authority.issuing, authority.switched,
    lambda: authority.retired(authority.states[0].fingerprint, 1),
]
for step in steps[:{steps}]:
    step()
os._exit(0)
"""


@pytest.mark.parametrize("outcome", power.OUTCOMES)
@pytest.mark.parametrize(
    ("steps", "words"),
    [(1, ["issuing, serving", "trusted"]), (3, ["trusted", "issuing, serving"]), (4, ["retired", "issuing, serving"])],
    ids=["add", "switch", "retire"],
)
def test_a_phase_of_replacing_the_authority_that_was_reported_done_outlives_a_power_cut(
    disk: Disk, steps: int, words: list[str], outcome: str
) -> None:
    assert not disk.run(ROTATION.format(steps=steps))
    disk._shadow.restore(outcome)
    authority = Authority.open(disk.root / "authority")
    assert [state.word for state in authority.states] == words
    assert len(authority.bundle_fingerprints) == (1 if steps == 4 else 2)


SINK = """
from crossdock_controller.sinks.base import Outgoing, SinkContext
from crossdock_controller.sinks.file import FileSettings, FileSink
sink = FileSink(FileSettings(directory="out"), SinkContext(name="s", secret=str, base_directory=os.getcwd()))
sink.write([Outgoing(event_id=bytes(16), document="SalesOrder", key="1", sequence=1, body=b"{}", attempt=1)])
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_file_of_the_file_sink_is_there_once_after_a_power_cut(disk: Disk, moment: str) -> None:
    """Its ledger may say that a file was published only when that file would be found again."""
    disk.machine.die_at(Point(Event("agent", "sync", "out", 1), moment), cut=True)
    assert disk.run(SINK) == -9
    disk._shadow.restore("strict")
    disk.machine.thaw()
    assert disk.run(SINK) == 0
    assert len(list((disk.root / "out").glob("*.jsonl"))) == 1
