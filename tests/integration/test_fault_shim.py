"""Each fault of the shim is met by a child Python process, in SQLite, in the interpreter and in gRPC alike."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import shim as shim_module
from chaos.shim import Shim
from support.gateway import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="LD_PRELOAD is the Linux way")

LOOP = """
import sys
for line in sys.stdin:
    try:
        print(repr(eval(line)), flush=True)
    except Exception as error:
        print(type(error).__name__, getattr(error, "errno", None), str(error).replace("\\n", " "), flush=True)
"""


class Child:
    """A Python process that evaluates an expression a line."""

    def __init__(self, shim: Shim, name: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOOP, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **shim.environment(name)},
        )  # fmt: skip
        self.run("exec('import datetime, os, pathlib, shutil, sqlite3, threading, time')")

    def run(self, expression: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    with Shim(tmp_path / "shim") as made:
        yield made


@pytest.fixture
def child(shim: Shim) -> Iterator[Child]:
    made = Child(shim, "agent")
    yield made
    made.close()


def clocks(child: Child) -> tuple[float, float]:
    wall, monotonic = child.run("time.time()"), child.run("time.monotonic()")
    return float(wall), float(monotonic)


def test_the_wall_clock_moves_both_ways_and_the_monotonic_clock_does_not(shim: Shim, child: Child) -> None:
    wall, monotonic = clocks(child)
    for hours in (5, -7.25):
        shim.set("agent", clock_offset_seconds=hours * 3600)
        later, still = clocks(child)
        assert later - wall == pytest.approx(hours * 3600, abs=600)
        assert 0 <= still - monotonic < 600
        in_sqlite = float(child.run("sqlite3.connect(':memory:').execute(\"SELECT unixepoch('now')\").fetchone()[0]"))
        assert in_sqlite == pytest.approx(later, abs=600)
        assert float(child.run("datetime.datetime.now().timestamp()")) == pytest.approx(later, abs=600)
    shim.set("agent")
    assert clocks(child)[0] - wall == pytest.approx(0, abs=600)


def test_a_wait_lasts_as_long_as_before_under_a_moved_clock(shim: Shim, child: Child) -> None:
    """gRPC waits until moments of the wall clock: a step of hours must not make it sleep for hours, or spin."""
    child.run("exec('import grpc')")
    for hours in (100, -100):
        shim.set("agent", clock_offset_seconds=hours * 3600)
        assert child.run("threading.Event().wait(0.05)") == "False"
        assert "DEADLINE" in child.run(
            "grpc.insecure_channel('127.0.0.1:9').unary_unary('/a/b')(b'', timeout=0.2, wait_for_ready=True)"
        )


@pytest.mark.parametrize(("name", "number"), [("ENOSPC", 28), ("EIO", 5)])
def test_calls_on_matching_files_fail_and_on_others_do_not(
    shim: Shim, child: Child, tmp_path: Path, name: str, number: int
) -> None:
    (tmp_path / "full.txt").write_text("old")
    shim.set("agent", errno_name=name, path_contains="full")
    calls = [
        "os.write(os.open('{p}', os.O_WRONLY), b'new')",
        "os.pwrite(os.open('{p}', os.O_WRONLY), b'new', 0)",
        "os.pwritev(os.open('{p}', os.O_WRONLY), [b'new'], 0)",
        "os.fsync(os.open('{p}', os.O_WRONLY))",
        "os.fdatasync(os.open('{p}', os.O_WRONLY))",
        "os.ftruncate(os.open('{p}', os.O_WRONLY), 0)",
        "shutil.copyfile('/proc/self/exe', '{p}-copy')",
        "os.rename('{p}', '{p}-elsewhere')",
        "os.replace('{p}', '{p}-elsewhere')",
    ]
    for call in calls:
        assert f" {number} " in child.run(call.format(p=tmp_path / "full.txt")), call
    removed = child.run(f"os.unlink('{tmp_path / 'full.txt'}')")
    assert removed.startswith("OSError 5") if name == "EIO" else removed == "None"
    assert shim.hits("agent") >= len(calls)
    assert child.run(f"pathlib.Path('{tmp_path / 'roomy.txt'}').write_text('new')") == "3"
    shim.set("agent")
    assert child.run(f"pathlib.Path('{tmp_path / 'full.txt'}').write_text('after')") == "5"


def test_a_commit_of_sqlite_fails_and_the_next_one_works(shim: Shim, child: Child, tmp_path: Path) -> None:
    child.run(f"exec(\"db = sqlite3.connect('{tmp_path / 'outbox.db'}', isolation_level=None)\", globals())")
    child.run("db.execute('PRAGMA journal_mode = WAL').fetchall()")
    child.run("db.execute('CREATE TABLE t (x)')")
    shim.set("agent", errno_name="ENOSPC", path_contains="outbox.db")
    assert "full" in child.run("db.execute('INSERT INTO t VALUES (1)')")
    shim.set("agent", errno_name="EIO", path_contains="outbox.db-wal")
    assert "I/O error" in child.run("db.execute('INSERT INTO t VALUES (2)')")
    shim.set("agent")
    child.run("db.execute('INSERT INTO t VALUES (3)')")
    assert child.run("db.execute('SELECT x FROM t').fetchall()") == "[(3,)]"


def test_a_role_listens_to_its_own_name_and_to_its_familys(shim: Shim) -> None:
    parent, normalize = Child(shim, "controller"), Child(shim, "controller", "--role", "normalize")
    shim.set("controller-normalize", clock_offset_seconds=50_000)
    assert float(normalize.run("time.time()")) - float(parent.run("time.time()")) > 40_000
    shim.set("controller", clock_offset_seconds=50_000)
    wait_until(lambda: float(normalize.run("time.time()")) - float(parent.run("time.time()")) > 40_000, "it adds up")
    for made in (parent, normalize):
        made.close()


def test_a_missing_compiler_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shim_module, "_BUILD", tmp_path)
    monkeypatch.setattr(shim_module.shutil, "which", lambda _name: None)
    with pytest.raises(RuntimeError, match="install gcc and libc6-dev"):
        shim_module.library()
