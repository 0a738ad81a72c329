"""A backup carries every certificate authority, also in the middle of a replacement, and a restore gives them back."""

import time
from contextlib import closing
from pathlib import Path

import pytest

from crossdock.errors import Corrupt
from crossdock_controller import heads
from crossdock_controller.authority import Authority
from crossdock_controller.commands import audit, authorities, backup, restore
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import audit as audit_store
from crossdock_controller.store import connection
from support.store_site import made

STEPS = (authorities.add, authorities.issue, authorities.switch)


def quiet(_what: str, _done: int, _of: int) -> None:
    """Nobody looks at the progress."""


def rotated(data: DataDirectory, steps: int) -> Authority:
    for step in STEPS[:steps]:
        step(data, time.time_ns() // 1000, "local:test")
    return Authority.open(data.authority)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_what_was_backed_up_in_any_phase_goes_on_in_it(tmp_path: Path, steps: int) -> None:
    data = made(tmp_path / "data")
    before = rotated(data, steps)
    backup.create(data, tmp_path / "b", 1, quiet)
    new = DataDirectory(tmp_path / "new")
    restore.restore(new, tmp_path / "b", 2, quiet, replace=False)
    after = Authority.open(new.authority)
    assert after.states == before.states
    assert (after.bundle, after.anchor, after.issuer) == (before.bundle, before.anchor, before.issuer)
    for step in STEPS[steps:]:
        step(new, time.time_ns() // 1000, "local:test")
    assert [s.word for s in Authority.open(new.authority).states] == ["trusted", "issuing, serving"]


def test_the_key_of_a_retired_authority_is_in_no_backup_made_since(tmp_path: Path) -> None:
    data = made(tmp_path / "data")
    old = rotated(data, 3).states[0].fingerprint
    authorities.retire(data, old, time.time_ns() // 1000, "local:test", force=True)
    manifest = backup.create(data, tmp_path / "b", 1, quiet)
    names = {file.name for file in manifest.files}
    assert "authority/ca.pem" in names
    assert "authority/ca.key" not in names
    assert [s.word for s in Authority.open(tmp_path / "b" / "authority").states] == ["retired", "issuing, serving"]


def taken_over(data: DataDirectory, directory: Path, second: int = 1) -> restore.Restored:
    return restore.restore(data, directory, second * 1_000_000, quiet, replace=True)


def test_a_restore_does_not_go_back_behind_what_agents_have_followed(tmp_path: Path) -> None:
    data = made(tmp_path / "data")
    backup.create(data, tmp_path / "b", 1, quiet)
    old = rotated(data, 3).states[0].fingerprint
    authorities.retire(data, old, time.time_ns() // 1000, "local:test", force=True)
    before = Authority.open(data.authority)
    assert taken_over(data, tmp_path / "b").authorities_kept
    after = Authority.open(data.authority)
    assert (after.states, after.bundle) == (before.states, before.bundle)
    assert not (data.authority / "ca.key").exists(), "what was retired stays so: its key may have been stolen"
    backup.create(data, tmp_path / "b2", 3, quiet)
    assert not taken_over(data, tmp_path / "b2", second=2).authorities_kept, "there is nothing that the backup lacks"


def test_authorities_that_are_damaged_or_of_another_controller_are_not_kept(tmp_path: Path) -> None:
    data, other = made(tmp_path / "data"), made(tmp_path / "other")
    backup.create(data, tmp_path / "b", 1, quiet)
    fingerprint = rotated(data, 3).states[0].fingerprint
    rotated(other, 3)
    assert not taken_over(other, tmp_path / "b").authorities_kept
    (data.authority / "ca.key").write_bytes(b"noise")
    assert not taken_over(data, tmp_path / "b").authorities_kept
    for restored in (data, other):
        assert [s.fingerprint for s in Authority.open(restored.authority).states] == [fingerprint]


def test_a_restore_interrupted_after_the_authorities_were_set_aside_keeps_them_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made(tmp_path / "data")
    backup.create(data, tmp_path / "b", 1, quiet)
    before = rotated(data, 2).states
    real, calls = Path.rename, []

    def rename(path: Path, target: Path) -> Path:
        calls.append(path.name)
        if path.parent.name == "restoring.partial":
            raise OSError("the machine was switched off")
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(OSError, match="switched off"):
            taken_over(data, tmp_path / "b")
    assert "authority" in calls, "it was set aside"
    assert taken_over(data, tmp_path / "b").authorities_kept
    assert Authority.open(data.authority).states == before


def test_a_backup_that_lacks_one_authority_is_not_sound(tmp_path: Path) -> None:
    data = made(tmp_path / "data")
    rotated(data, 1)
    backup.create(data, tmp_path / "b", 1, quiet)
    (newer,) = (tmp_path / "b" / "authority").glob("ca-*.key")
    newer.unlink()
    with pytest.raises(Corrupt, match=newer.name):
        backup.verify(tmp_path / "b", quiet)


def test_what_a_retired_authority_signed_of_the_audit_log_still_vouches_for_it(tmp_path: Path) -> None:
    data = made(tmp_path / "data")
    old = Authority.open(data.authority).fingerprint

    def head() -> None:
        with closing(connection.connect(data.state)) as db:
            heads.append(data.audit_heads, Authority.open(data.authority), *audit_store.head(db), 1)

    for step in STEPS:
        step(data, time.time_ns() // 1000, "local:test")
        head()
    authorities.retire(data, old, time.time_ns() // 1000, "local:test", force=True)
    head()
    said = audit.audit_verify(data)
    assert (said.sound, said.heads, said.foreign) == (True, 4, 0)
