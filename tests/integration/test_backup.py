"""A backup is a moment of a running store, whole and proved, or it is not there."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossdock.errors import ConfigError, Corrupt, CrossdockError, Refused, Retryable
from crossdock.lock import SingleInstance
from crossdock_controller.commands import backup
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import connection, copies, schema
from crossdock_controller.store.intake import IntakeReader, IntakeWriter
from support.gateway import wait_until
from support.store_site import EPOCH, incoming, made, normalize


def quiet(_what: str, _done: int, _of: int) -> None:
    """Nobody looks at the progress."""


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    return made(tmp_path / "data")


def taken(data: DataDirectory, target: Path) -> backup.Manifest:
    return backup.create(data, target, 1_700_000_000_000_000, quiet)


def test_a_backup_holds_both_files_the_authority_and_what_is_in_them(data: DataDirectory, tmp_path: Path) -> None:
    manifest = taken(data, tmp_path / "b")
    assert backup.verify(tmp_path / "b", quiet) == manifest
    assert manifest.intake.counts == {"streams": 1, "batches": 20, "received": 20, "records": 60}
    assert manifest.state.counts["agents"] == 2
    assert (manifest.state.schema, len(manifest.store)) == (schema.HEAD, 32)
    assert {a.agent for a in manifest.agents} == {"atl1", "rtm1"}
    assert (tmp_path / "b/authority/ca.key").read_bytes() == (data.authority / "ca.key").read_bytes()
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == [
        "addresses.json", "authority", "intake.db", "manifest.json", "state.db",
    ]  # fmt: skip
    reader = IntakeReader(tmp_path / "b/intake.db")
    assert [b.sequence for b in reader.batches(1, 1, 100)] == list(range(1, 21))
    reader.close()


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes; the directory's owner is who made it")
def test_only_its_owner_can_read_a_backup(data: DataDirectory, tmp_path: Path) -> None:
    taken(data, tmp_path / "b")
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "b", *(tmp_path / "b").rglob("*"))}
    assert set(modes.values()) == {0o600, 0o700}
    assert all(mode == 0o600 for path, mode in modes.items() if path.is_file())


def test_a_backup_of_a_store_that_is_written_to_is_one_moment_and_holds_nobody_up(
    data: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of the copy waits until a batch more is stored and normalized: no step sees the same store."""
    monkeypatch.setattr(copies, "STEP_BYTES", 16 * 1024)
    writer, at = IntakeWriter(data.intake), [20]
    state = connection.connect(data.state)
    steps: list[str] = []

    def write_between(what: str, done: int, of: int) -> None:
        if not what.startswith("copying") or done >= of:
            return
        steps.append(what)
        at[0] += 1
        assert writer.commit([incoming(at[0])], 2_000_000)[0].state == "stored"
        normalize(state, at[0])

    manifest = backup.create(data, tmp_path / "b", 1, write_between)
    assert len({*steps}) == 2
    assert len(steps) > 4
    assert 20 <= manifest.intake.counts["received"] < at[0]
    assert copies.uncovered(tmp_path / "b/state.db", tmp_path / "b/intake.db") == []
    state.close()
    writer.close()


def test_a_state_that_goes_on_from_batches_the_intake_lacks_is_no_backup(data: DataDirectory, tmp_path: Path) -> None:
    with closing(connection.connect(data.state)) as db:
        normalize(db, 25)  # as if the intake had been copied first
    with pytest.raises(Corrupt, match="normalized up to batch 25, the intake ends at 20"):
        taken(data, tmp_path / "b")
    with closing(connection.connect(data.state)) as db:
        normalize(db, 5)
    with closing(sqlite3.connect(data.intake)) as log:
        log.execute("DELETE FROM batches WHERE sequence IN (9, 10)")
        log.commit()
    with pytest.raises(Corrupt, match="2 batches from 6 on are missing"):
        taken(data, tmp_path / "b")
    assert list(tmp_path.glob("b*")) == []


def test_nothing_is_purged_from_the_intake_while_a_backup_is_taken(data: DataDirectory) -> None:
    import asyncio
    import datetime as dt

    from crossdock_controller.retention import Retention

    writer = IntakeWriter(data.intake)
    retention = Retention(data, dt.timedelta(0))

    async def here(call: Callable[[], int]) -> int:
        return call()

    with SingleInstance(data.backup_lock):
        asyncio.run(retention.step(writer, here))
        assert writer._db.execute("SELECT count(*) FROM batches").fetchone() == (20,)
    asyncio.run(retention.step(writer, here))
    assert writer._db.execute("SELECT count(*) FROM batches").fetchone() == (8,)
    writer.close()


def test_a_backup_never_replaces_anything_and_two_are_not_taken_at_once(data: DataDirectory, tmp_path: Path) -> None:
    taken(data, tmp_path / "b")
    with pytest.raises(ConfigError, match="exists already"):
        taken(data, tmp_path / "b")
    (tmp_path / "empty").mkdir()
    taken(data, tmp_path / "empty")
    with SingleInstance(data.backup_lock), pytest.raises(Refused, match="in use"):
        taken(data, tmp_path / "c")


def test_a_backup_that_would_not_fit_is_not_begun(
    data: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(backup.shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    with pytest.raises(Retryable, match="1000 are free"):
        taken(data, tmp_path / "b")
    assert list(tmp_path.glob("b*")) == []


def test_a_backup_that_is_killed_leaves_none_and_the_next_one_is_whole(data: DataDirectory, tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from crossdock_controller.commands import backup;"
        "from crossdock_controller.paths import DataDirectory\n"
        "def die(what, done, of):\n"
        "    if what == 'copying intake.db': os.kill(os.getpid(), signal.SIGTERM if os.name == 'nt' else 9)\n"
        f"backup.create(DataDirectory(Path({str(data.root)!r})), Path({str(tmp_path / 'b')!r}), 1, die)"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode != 0
    assert os.name == "nt" or killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "b").exists()
    assert (tmp_path / "b.partial").exists()
    with pytest.raises(ConfigError, match="not a backup"):
        backup.verify(tmp_path / "b.partial", quiet)
    taken(data, tmp_path / "b")
    assert not (tmp_path / "b.partial").exists()


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)


def change_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = msgspec.json.decode(path.read_bytes())
    change(manifest)
    path.write_bytes(msgspec.json.encode(manifest))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda b: flip(b / "intake.db", 20_000), "intake.db is not what was written"),
        (lambda b: flip(b / "state.db", 9_000), "state.db is not what was written"),
        (lambda b: flip(b / "authority/ca.key", 60), "ca.key is not what was written"),
        (lambda b: (b / "state.db").unlink(), "state.db is missing"),
        (lambda b: os.truncate(b / "intake.db", 16_384), "intake.db has 16384 bytes"),
        (lambda b: (b / "manifest.json").write_text("{"), "cannot be read"),
        (lambda b: (b / "manifest.json").unlink(), "not a backup"),
        (lambda b: change_manifest(b / "manifest.json", lambda m: m.update(format=2)), "later release"),
        (lambda b: change_manifest(b / "manifest.json", lambda m: m["state"].update(schema="9999")), "does not know"),
        (lambda b: change_manifest(b / "manifest.json", lambda m: m["intake"].update(schema="99")), "does not know"),
        (
            lambda b: change_manifest(b / "manifest.json", lambda m: m["state"]["counts"].update(agents=7)),
            "7 were noted",
        ),
    ],
)
def test_a_backup_that_is_not_what_was_written_is_no_backup(
    data: DataDirectory, tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    taken(data, tmp_path / "b")
    damage(tmp_path / "b")
    with pytest.raises(CrossdockError, match=said):
        backup.verify(tmp_path / "b", quiet)


@pytest.mark.parametrize("where", ["the root of an index", "a page nothing counts", "the bytes of a batch"])
def test_a_damaged_store_is_found_when_it_is_backed_up(data: DataDirectory, tmp_path: Path, where: str) -> None:
    """The sum of the copy fits, for it is of what was copied: the content itself must be judged."""
    with closing(sqlite3.connect(data.intake)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (page,) = db.execute("PRAGMA page_size").fetchone()
        name = "batches_received" if where == "the root of an index" else "sqlite_autoindex_batches_1"
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        (sealed,) = db.execute("SELECT sealed FROM batches WHERE sequence = 7").fetchone()
    place = data.intake.read_bytes().index(sealed) + 50 if where == "the bytes of a batch" else (root - 1) * page + 3
    flip(data.intake, place)
    with pytest.raises(Corrupt, match="damaged"):
        taken(data, tmp_path / "b")
    assert list(tmp_path.glob("b*")) == []


def test_a_backup_copied_elsewhere_is_verified_without_writing_to_it(data: DataDirectory, tmp_path: Path) -> None:
    taken(data, tmp_path / "b")
    before = sorted(p.name for p in (tmp_path / "b").rglob("*"))
    backup.verify(tmp_path / "b", quiet)
    assert sorted(p.name for p in (tmp_path / "b").rglob("*")) == before


def test_writers_go_on_from_other_threads_during_a_backup(data: DataDirectory, tmp_path: Path) -> None:
    writer, done, stored = IntakeWriter(data.intake), threading.Event(), [20]

    def write() -> None:
        while not done.is_set():
            stored[0] += 1
            assert writer.commit([incoming(stored[0], size=50_000)], 2_000_000)[0].state == "stored"

    thread = threading.Thread(target=write)
    thread.start()
    wait_until(lambda: stored[0] > 60, "there is something to copy")
    manifests = [taken(data, tmp_path / f"b{i}") for i in range(3)]
    done.set()
    thread.join()
    writer.close()
    received = [m.intake.counts["received"] for m in manifests]
    assert received == sorted(received)
    assert received[0] < received[-1]
    assert EPOCH
