"""A restore makes a controller's data what a backup holds, deletes nothing, and lets nobody in who was put out."""

import json
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from crossdock.errors import ConfigError, Corrupt, Refused, Retryable
from crossdock.lifecycle import Stop
from crossdock.lock import SingleInstance
from crossdock_controller.authority import Authority
from crossdock_controller.commands import backup, enrolment, fleet, people, restore
from crossdock_controller.paths import DataDirectory
from crossdock_controller.processes import ControllerSettings, run_controller
from crossdock_controller.store import (
    agents,
    audit,
    certificates,
    connection,
    copies,
    events,
    facts,
    revocations,
    rollouts,
    strangers,
    tokens,
)
from crossdock_controller.store.certificates import Certificate
from crossdock_controller.store.intake import IntakeReader
from support.store_site import enrol, made, normalize

MADE_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000


def quiet(_what: str, _done: int, _of: int) -> None:
    """Nobody looks at the progress."""


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    return made(tmp_path / "data")


@pytest.fixture
def saved(data: DataDirectory, tmp_path: Path) -> Path:
    backup.create(data, tmp_path / "backup", MADE_US, quiet)
    return tmp_path / "backup"


def restored(data: DataDirectory, saved: Path, *, replace: bool = False, after_us: int = HOUR_US) -> restore.Restored:
    return restore.restore(data, saved, MADE_US + after_us, quiet, replace=replace)


def content(root: Path) -> dict[str, bytes]:
    """Everything but locks, and the logs that SQLite folds into its files when they are closed."""
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and p.suffix not in {".lock", ".db-wal", ".db-shm"}]
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def test_an_empty_directory_becomes_the_controllers_data(data: DataDirectory, saved: Path, tmp_path: Path) -> None:
    new = DataDirectory(tmp_path / "elsewhere" / "new")
    done = restored(new, saved)
    assert [a.agent for a in done.agents] == ["atl1", "rtm1"]
    assert done.replaced == ""
    assert Authority.open(new.authority).fingerprint == Authority.open(data.authority).fingerprint
    reader = IntakeReader(new.intake)
    assert [b.sequence for b in reader.batches(1, 1, 100)] == list(range(1, 21))
    reader.close()
    with closing(connection.connect(new.state)) as db:
        assert agents.active(db) == {"atl1": "atl1", "rtm1": "rtm1"}
        assert facts.store_id(db).hex() == done.store
        assert facts.restored(db) == (MADE_US + HOUR_US, MADE_US)
        with closing(connection.connect(data.state)) as old:
            assert facts.store_id(old) != facts.store_id(db)
    assert sorted(p.name for p in new.root.iterdir()) == [
        "addresses.json", "authority", "controller.lock", "intake.db", "state.db",
    ]  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes; the directory's owner is who made it")
def test_only_its_owner_can_read_what_was_restored(saved: Path, tmp_path: Path) -> None:
    new = DataDirectory(tmp_path / "new")
    restored(new, saved)
    files = [p for p in new.root.rglob("*") if p.is_file() and p.name != "controller.lock"]
    assert {stat.S_IMODE(p.stat().st_mode) for p in files} == {0o600}


def test_events_go_on_far_beyond_any_number_that_was_given_since(data: DataDirectory, saved: Path) -> None:
    with closing(connection.connect(data.state)) as db:
        before = events.next_seq(db)
    done = restored(data, saved, replace=True)
    with closing(connection.connect(data.state)) as db:
        assert events.next_seq(db) == done.before_event + 1 >= before + copies.JUMP
        normalize(db, 13)
        assert db.execute("SELECT max(seq) FROM events").fetchone() == (done.before_event + 1,)


def test_after_a_longer_time_events_go_on_further(data: DataDirectory, saved: Path, tmp_path: Path) -> None:
    week = restored(DataDirectory(tmp_path / "week"), saved, after_us=7 * 24 * HOUR_US)
    assert week.before_event > 7 * 86_400 * copies.JUMP_PER_SECOND
    with closing(connection.connect(data.state)) as db:
        db.execute("UPDATE sqlite_sequence SET seq = 5000000000 WHERE name = 'events'")
    assert restored(data, saved, replace=True).before_event == 5_000_000_000  # known from the store that is replaced


def test_a_store_without_an_event_is_restored_too(tmp_path: Path) -> None:
    data = made(tmp_path / "data")
    with closing(connection.connect(data.state)) as db:
        db.execute("DELETE FROM events")
        db.execute("DELETE FROM sqlite_sequence WHERE name = 'events'")
    backup.create(data, tmp_path / "b", MADE_US, quiet)
    restored(data, tmp_path / "b", replace=True)
    with closing(connection.connect(data.state)) as db:
        assert events.next_seq(db) == copies.JUMP + 1


def test_join_tokens_of_the_backup_are_worth_nothing(data: DataDirectory, saved: Path) -> None:
    with closing(connection.connect(data.state)) as db:
        assert tokens.take(db, "hash", 5)
    restored(data, saved, replace=True)
    with closing(connection.connect(data.state)) as db:
        assert not tokens.take(db, "hash", 5)


def test_a_rollout_of_the_backup_is_paused_until_a_person_has_looked(data: DataDirectory, tmp_path: Path) -> None:
    """It may have been halted since, and must not begin its next wave by itself."""
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        rollouts.begin(db, 7, 1, "{}", "{}", 1)
    backup.create(data, tmp_path / "backup", MADE_US, quiet)
    restored(data, tmp_path / "backup", replace=True)
    with closing(connection.connect(data.state)) as db:
        live = rollouts.live(db)
        last = audit.entries(db, action="backup.restore")[0]
    assert live is not None
    assert (live.revision, live.state, live.steps) == (7, "held", 1)
    assert json.loads(last.details)["rollouts_paused"] == [7]


def test_data_that_is_there_is_refused_or_set_aside_never_deleted(data: DataDirectory, saved: Path) -> None:
    before = content(data.root)
    with pytest.raises(ConfigError, match="holds a controller's data already"):
        restored(data, saved)
    assert content(data.root) == before
    done = restored(data, saved, replace=True)
    assert content(Path(done.replaced)) == before


def test_a_running_controller_is_not_restored_under_its_feet(
    data: DataDirectory, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "LOCK_SECONDS", 0.0)
    before = content(data.root)
    with SingleInstance(data.lock), pytest.raises(Refused, match="in use"):
        restored(data, saved, replace=True)
    assert content(data.root) == before


def test_a_backup_that_is_not_sound_changes_nothing(data: DataDirectory, saved: Path) -> None:
    (saved / "intake.db").write_bytes(b"x" * (saved / "intake.db").stat().st_size)
    before = content(data.root)
    with pytest.raises(Corrupt, match=r"intake\.db is not what was written"):
        restored(data, saved, replace=True)
    assert content(data.root) == before


def test_a_restore_that_would_not_fit_is_not_begun(
    data: DataDirectory, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = restore.shutil.disk_usage(saved)
    monkeypatch.setattr(restore.shutil, "disk_usage", lambda _path: usage._replace(free=10))
    with pytest.raises(Retryable, match="10 are free"):
        restored(data, saved, replace=True)


def test_a_revocation_since_the_backup_outlives_it_where_it_can_be_read(data: DataDirectory, saved: Path) -> None:
    with closing(connection.connect(data.state)) as db:
        agents.revoke(db, "rtm1")
        enrol(db, "ldn1")
        enrol(db, "osl1")
        agents.revoke(db, "osl1")
    done = restored(data, saved, replace=True)
    assert done.known_since
    assert done.revoked_again == ["rtm1"]
    assert [a.agent for a in done.unknown] == ["ldn1"]
    with closing(connection.connect(data.state)) as db:
        assert agents.active(db) == {"atl1": "atl1"}


def test_a_certificate_that_was_void_stays_void_also_where_its_agent_enrolled_anew_since(
    data: DataDirectory, tmp_path: Path
) -> None:
    stolen = Certificate("stolen", "atl1", "ca", "key", MADE_US - HOUR_US, MADE_US + 9 * HOUR_US, how="enrol")
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        certificates.record(db, stolen)
    backup.create(data, tmp_path / "backup", MADE_US, quiet)
    enrolment.revoke(data, "atl1", MADE_US + 5, by="local:test", because="stolen")
    with closing(connection.connect(data.state)) as db:
        enrol(db, "atl1")
    restored(data, tmp_path / "backup", replace=True)
    with closing(connection.connect(data.state)) as db:
        assert "atl1" in agents.active(db)
        found = revocations.voiding(db, stolen)
        assert found is not None
        assert (found.at_us, found.because) == (MADE_US + 5, "stolen")
        assert revocations.voiding(db, replace(stolen, serial="new", issued_us=MADE_US + 6)) is None


def test_who_was_disabled_or_removed_since_the_backup_is_let_in_by_nobodys_restore(
    data: DataDirectory, tmp_path: Path
) -> None:
    """API tokens are void after a restore; who signs in at the company's issuer has none."""
    for name in ("anna", "bert", "carl"):
        people.add_user(data, name, "admin", ["all"], f"{name}@example.com", by="local:test", now_us=1)
    backup.create(data, tmp_path / "backup", MADE_US, quiet)
    people.disable_user(data, "anna", by="local:test", now_us=2)
    people.remove_user(data, "bert", by="local:test", now_us=2)
    done = restored(data, tmp_path / "backup", replace=True)
    assert done.disabled_again == ["anna", "bert"]
    assert {user.name for user in people.list_users(data, 3) if not user.disabled} == {"carl"}


def test_the_users_of_another_controllers_backup_are_not_judged_by_those_that_are_here(
    data: DataDirectory, tmp_path: Path
) -> None:
    people.add_user(data, "anna", "admin", ["all"], by="local:test", now_us=1)
    backup.create(data, tmp_path / "backup", MADE_US, quiet)
    fresh = made(tmp_path / "fresh")
    done = restored(fresh, tmp_path / "backup", replace=True)
    assert done.disabled_again == []
    assert [user.disabled for user in people.list_users(fresh, 3)] == [False]


def test_a_replaced_store_that_cannot_be_read_is_in_nobodys_way(data: DataDirectory, saved: Path) -> None:
    data.state.write_bytes(b"not a database" * 1000)
    done = restored(data, saved, replace=True)
    assert not done.known_since
    assert (Path(done.replaced) / "state.db").read_bytes().startswith(b"not a database")


class Cut(BaseException):
    """The process ends here: nothing of ours runs after it."""


def cut_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], bool]:
    """Before the rename number *step*; the result says whether it was reached."""
    rename, count = Path.rename, [0]

    def counting(self: Path, target: Path) -> Path:
        count[0] += 1
        if count[0] == step:
            raise Cut
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", counting)
    return lambda: count[0] >= step


def test_a_restore_cut_between_any_two_renames_starts_no_controller_and_is_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = made(tmp_path / "source")
    backup.create(source, tmp_path / "b", MADE_US, quiet)
    reached, step = True, 0
    while reached:
        step += 1
        data = made(tmp_path / f"data{step}")
        fingerprint = Authority.open(data.authority).fingerprint
        enrolment.revoke(data, "rtm1", MADE_US, by="local:test")
        with monkeypatch.context() as patch:
            was_reached = cut_at(patch, step)
            with suppress(Cut):
                restored(data, tmp_path / "b", replace=True)
            reached = was_reached()
        if not reached:
            break
        with pytest.raises(ConfigError, match="was interrupted"):
            run_controller(ControllerSettings(data.root), Stop())
        done = restored(data, tmp_path / "b", after_us=2 * HOUR_US)  # --replace is not needed again
        assert Authority.open(data.authority).fingerprint == Authority.open(source.authority).fingerprint
        assert not data.restoring.exists()
        kept = [p for p in data.root.glob("replaced-*/authority") if Authority.open(p).fingerprint == fingerprint]
        assert len(kept) == 1, "the old authority is set aside, whenever it was cut"
        assert list(data.root.glob("replaced-*/state.db"))
        with closing(connection.connect(data.state)) as db:
            assert agents.active(db) == {"atl1": "atl1"}, "rtm1 was revoked since the backup"
        assert done.agents
    assert step > 8


def test_an_agent_enrolled_after_the_backup_is_let_in_by_a_person_and_only_if_it_has_knocked(
    data: DataDirectory, saved: Path
) -> None:
    restored(data, saved, replace=True)
    with pytest.raises(ConfigError, match="no unknown agent 'ldn1'"):
        fleet.adopt(data, "ldn1", "", 9, by="local:ann")
    with closing(connection.connect(data.state)) as db:
        strangers.note(db, "ldn1", "ipv4:10.0.0.9:1", 7)
        strangers.note(db, "ldn1", "ipv4:10.0.0.9:2", 8)
        strangers.note(db, "atl1", "ipv4:10.0.0.1:2", 8)  # on the list: not a stranger
    shown = {a.agent: a for a in fleet.agents(data, 9)}
    assert shown["ldn1"].state == "unknown"
    assert shown["ldn1"].host == "ipv4:10.0.0.9:2"
    with pytest.raises(ConfigError, match="cannot be a name"):
        fleet.adopt(data, "ldn1", "No Site", 9, by="local:ann")
    assert fleet.adopt(data, "ldn1", "london", 9, by="local:ann") == "london"
    shown = {a.agent: a for a in fleet.agents(data, 9)}
    assert (shown["ldn1"].state, shown["ldn1"].site) == ("enrolled", "london")
    with pytest.raises(ConfigError, match="is on the list"):
        fleet.adopt(data, "ldn1", "", 9, by="local:ann")
    enrolment.revoke(data, "ldn1", MADE_US, by="local:test")
    with pytest.raises(ConfigError, match="is on the list"):
        fleet.adopt(data, "ldn1", "", 9, by="local:ann")


def test_the_restored_files_are_sound_for_sqlite(data: DataDirectory, saved: Path) -> None:
    restored(data, saved, replace=True)
    for path in (data.state, data.intake):
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
